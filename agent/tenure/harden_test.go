package tenure

import (
	"slices"
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

// TestModelsHavePartsOfOneLimit: those that are stated, and what is left for one that states none;
// what the limit does not have is refused with all figures.
func TestModelsHavePartsOfOneLimit(t *testing.T) {
	var cfg settings.Config
	cfg.Compute.TEE.MemoryLimitMB = 128
	parts := func(mb ...int) (list []int, err error) {
		cfg.Models = nil
		for i, n := range mb {
			cfg.Models = append(cfg.Models, settings.Model{Name: string(rune('a' + i)), Resource: "r", MemoryMB: n})
		}
		cfg.Secrets = []settings.Secret{{}}
		first, others, err := Apart(cfg)
		if err != nil {
			return nil, err
		}
		if len(first.Models) != 1 || len(first.Secrets) != 1 {
			t.Errorf("the first is %+v", first)
		}
		for _, c := range append([]settings.Config{first}, others...) {
			list = append(list, c.Models[0].MemoryMB)
			if len(c.Models) != 1 || c.MemoryLimit() != cfg.MemoryLimit() {
				t.Errorf("%+v", c)
			}
		}
		for _, c := range others {
			if len(c.Resources()) != 1 {
				t.Errorf("another one asks for %q", c.Resources())
			}
		}
		return list, nil
	}
	for _, c := range []struct{ states, want []int }{
		{[]int{0}, []int{0}}, {[]int{40}, []int{40}}, {[]int{0, 40}, []int{128 - 18 - 9 - 40, 40}}, {[]int{40, 61}, []int{40, 61}}, {[]int{20, 0, 30}, []int{20, 128 - 18 - 18 - 50, 30}},
	} {
		if got, err := parts(c.states...); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%v have %v, want %v: %v", c.states, got, c.want, err)
		}
	}
	for words, states := range map[string][]int{
		"1 MiB more: process and requests 27 MiB, model a 40 MiB, model b 62 MiB": {40, 62},
		"nothing is left for model b: process and requests 27 MiB, model a 101":   {101, 0},
	} {
		_, err := parts(states...)
		if reason, _ := refusal.ReasonOf(err); reason != "models-above-limit" || !strings.Contains(err.Error(), words) {
			t.Errorf("%v: %v", states, err)
		}
		if fits := Fits(cfg, 0, false); fits == nil || fits.Error() != err.Error() {
			t.Errorf("at the start: %v", fits)
		}
	}
}
