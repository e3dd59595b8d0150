package hcl

import (
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"os"
	"path/filepath"
	"testing"
)

func readShared(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{evidencetest.Dir(tb)}, elem...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
