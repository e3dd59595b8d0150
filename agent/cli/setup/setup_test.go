package setup

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
)

func TestACeremonyForUpdatesBegins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceremony")
	if out, status, err := run(t, "proof", "ceremony", "begin", "--gradient", "3", "--bits", "16", "--out", dir, "--json"); status != 0 || !strings.Contains(out, "circuit") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestCommandLinesOfSetUpsThatAreWrong(t *testing.T) {
	out := filepath.Join(t.TempDir(), "keys")
	for _, command := range [][]string{{"proof", "setup"}, {"proof", "ceremony", "begin"}} {
		for name, args := range map[string][]string{
			"nothing":            {"--out", out},
			"nowhere":            {"--gradient", "3"},
			"both":               {"model.ahm", "--gradient", "3", "--out", out},
			"a model, no key":    {"model.ahm", "--out", out},
			"nine bits":          {"--gradient", "3", "--bits", "9", "--out", out},
			"fewer than none":    {"--gradient", "-1", "--out", out},
			"more than a proof":  {"--gradient", "65537", "--out", out},
			"two models":         {"a.ahm", "b.ahm", "--out", out},
			"a length in words":  {"--gradient", "three", "--out", out},
			"a flag of nobody's": {"--gradients", "3", "--out", out},
		} {
			_, status, err := run(t, append(command, args...)...)
			if err == nil || status != cli.StatusUsage {
				t.Errorf("%v, %s: status %d, %v", command, name, status, err)
			}
		}
	}
}
