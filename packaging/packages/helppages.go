package packages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/anchorhold/anchorhold/agent/cli/manual"
)

// helped are the programs whose page is the help that they print, and the word that asks for it.
var helped = []struct {
	ask string
	manual.Program
}{
	{"help", manual.Program{Name: "anchorhold-agent", Section: "8", Short: "the Anchorhold agent of a confidential VM",
		Files: []string{"/etc/anchorhold/agent.yaml", "/run/anchorhold/agent.sock", "/var/lib/anchorhold/agent", "/usr/share/doc/anchorhold/operations.md"}, See: []string{"anchorhold(1)", "anchorhold-worker(8)"}}},
	{"help", manual.Program{Name: "anchorhold-worker", Section: "8", Short: "one task of the Anchorhold agent", See: []string{"anchorhold-agent(8)"}}},
	{"help", manual.Program{Name: "anchorhold-broker", Section: "8", Short: "the Anchorhold key broker",
		Files: []string{"/etc/anchorhold/broker.yaml", "/run/anchorhold-broker/operator.sock", "/var/lib/anchorhold/broker", "/usr/share/doc/anchorhold/operations.md"}, See: []string{"anchorhold(1)"}}},
	{"help", manual.Program{Name: "anchorhold-aggregator", Section: "8", Short: "the Anchorhold aggregator of federated rounds",
		Files: []string{"/etc/anchorhold/aggregator.yaml", "/run/anchorhold-aggregator/admin.sock", "/var/lib/anchorhold/aggregator", "/usr/share/doc/anchorhold/operations.md"}, See: []string{"anchorhold(1)"}}},
	{"--help", manual.Program{Name: "anchorhold-verify", Section: "1", Short: "verify proofs of inference and of gradient bounds", See: []string{"anchorhold(1)"}}},
	{"--help", manual.Program{Name: "anchorhold-image", Section: "1", Short: "make a guest image, the same bytes from the same inputs",
		Files: []string{"/usr/lib/anchorhold/anchorhold-initrd", "/usr/share/doc/anchorhold/image.md"}, See: []string{"anchorhold-measure(1)", "mmdebstrap(1)"}}},
	{"--help", manual.Program{Name: "anchorhold-measure", Section: "1", Short: "compute what guests of an image will measure",
		Files: []string{"/usr/share/doc/anchorhold/measure.md"}, See: []string{"anchorhold(1)", "anchorhold-image(1)"}}},
}

// HelpPages asks the programs in a directory, which this machine can run, for their help, and
// returns what a release ships of it: manual pages below man/ and completions of shells below
// completions/.
func HelpPages(ctx context.Context, bin, version string) (map[string][]byte, error) {
	pages := map[string][]byte{}
	for _, prog := range helped {
		help, err := exec.CommandContext(ctx, filepath.Join(bin, prog.Name), prog.ask).Output()
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", prog.Name, prog.ask, err)
		}
		if pages["man/"+prog.Name+"."+prog.Section], err = manual.FromHelp(prog.Program, string(help), version); err != nil {
			return nil, err
		}
	}
	cli := filepath.Join(bin, "anchorhold")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := exec.CommandContext(ctx, cli, "completion", shell).Output()
		if err != nil {
			return nil, fmt.Errorf("completion %s: %w", shell, err)
		}
		pages["completions/anchorhold."+shell] = script
	}
	dir, err := os.MkdirTemp("", "anchorhold-manual-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.CommandContext(ctx, cli, "release", "manual", dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("anchorhold release manual: %w\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		page, rerr := os.ReadFile(filepath.Join(dir, e.Name()))
		err = errors.Join(err, rerr)
		if _, twice := pages["man/"+e.Name()]; twice {
			err = errors.Join(err, fmt.Errorf("two pages are called %s", e.Name()))
		}
		pages["man/"+e.Name()] = page
	}
	return pages, err
}
