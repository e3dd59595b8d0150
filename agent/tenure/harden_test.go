package tenure

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func TestAgentLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error { return Harden(settings.Config{}) })
}

func TestALimitAboveTheUnitsIsNamed(t *testing.T) {
	var cfg settings.Config
	cfg.Compute.TEE.MemoryLimitMB = 128
	err := Fits(cfg, 127<<20, true)
	if reason, _ := refusal.ReasonOf(err); reason != "memory-limit-above-unit" {
		t.Error(err)
	}
	for _, words := range []string{"MemoryMax= to 128M", "memory_limit_mb to 127"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("%v lacks %q", err, words)
		}
	}
	if err := Fits(cfg, 128<<20, true); err != nil {
		t.Error(err)
	}
	if err := Fits(cfg, 0, false); err != nil {
		t.Error(err)
	}
}
