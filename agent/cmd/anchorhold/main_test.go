package main

import (
	"io"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

// Commands make, read and send keys: keygen, seal, secret put and more.
func TestCommandLineLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error {
		return command.Main(t.Context(), []string{"keygen", "model", "--out", filepath.Join(t.TempDir(), "model.key")}, io.Discard)
	})
}
