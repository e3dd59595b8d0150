package agent

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

func TestAgentLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error { return harden(settings.Config{}) })
}
