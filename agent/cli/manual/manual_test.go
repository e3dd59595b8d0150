package manual

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/spf13/cobra"
)

func tree() *cobra.Command {
	return cli.Program{Version: "v1", Commands: func(inv *cli.Invocation) []*cobra.Command {
		seal := &cobra.Command{Use: "seal FILE", Short: "Seal a file", Long: "Seals it.\n.so it is said, \\o/.\n\n  a  column\n  b  column", Example: "  anchorhold seal x --out y", Args: cobra.ExactArgs(1),
			RunE: func(*cobra.Command, []string) error { return nil }}
		seal.Flags().String("out", "", "the new file")
		return []*cobra.Command{seal, New(inv)}
	}}.Root()
}

func TestEveryCommandThatIsShownHasAPage(t *testing.T) {
	dir := t.TempDir()
	root := tree()
	root.SetArgs([]string{"manual", dir})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got, want := strings.Join(names, " "), "anchorhold-seal.1 anchorhold-version.1 anchorhold.1"; got != want {
		t.Errorf("got pages %s, want %s", got, want)
	}
	page, err := os.ReadFile(filepath.Join(dir, "anchorhold-seal.1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".TH \"ANCHORHOLD-SEAL\" 1", "anchorhold-seal \\- Seal a file", "\n\\&.so it is said, \\eo/.\n", ".nf\n  a  column\n  b  column\n.fi", "\\-\\-out string", "OPTIONS OF ALL COMMANDS", "  anchorhold seal x \\-\\-out y", "anchorhold(1)"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page has no %q:\n%s", want, page)
		}
	}
	root.SetArgs([]string{"manual", filepath.Join(dir, "missing")})
	if err := root.Execute(); err == nil {
		t.Error("a directory that does not exist is no error")
	}
}

func TestHelpOfAnotherProgramIsRefused(t *testing.T) {
	prog := Program{Name: "anchorhold-agent", Section: "8", Short: "daemon", Files: []string{"/etc/anchorhold/agent.yaml"}, See: []string{"anchorhold(1)"}}
	page, err := FromHelp(prog, "anchorhold-agent serves.\n\n  run    serve\n", "v1")
	if err != nil || !strings.Contains(string(page), ".PP\nanchorhold\\-agent serves.\n.PP\n.nf\n  run    serve\n.fi\n.SH FILES") || !strings.Contains(string(page), ".SH SEE ALSO\nanchorhold(1)") {
		t.Errorf("%v:\n%s", err, page)
	}
	for _, help := range []string{"", "unknown command\n"} {
		if page, err := FromHelp(prog, help, "v1"); err == nil {
			t.Errorf("%q: %s", help, page)
		}
	}
}
