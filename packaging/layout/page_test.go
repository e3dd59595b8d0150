package layout

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// TestPagesAreRunWordForWord: .ci/by-hand, which CI trusts with docs/by-hand.md, fails
// where a page does.
func TestPagesAreRunWordForWord(t *testing.T) {
	longtest.Run(t, "it starts a shell for each of thirty pages")
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("python3 is not installed")
	}
	runner, err := filepath.Abs(filepath.Join("..", "..", ".ci", "by-hand"))
	if err != nil {
		t.Fatal(err)
	}
	sh := func(commands string) string { return "```sh\n" + commands + "\n```\n" }
	text := func(shown string) string { return "```text\n" + shown + "\n```\n" }
	for name, c := range map[string]struct{ page, want string }{ // want: "" if it passes
		"one shell":         {sh("cd /; a=b") + sh("pwd; echo $a") + text("/\nb"), ""},
		"what varies":       {sh("seq 5; echo took 12 s") + text("1\n...\ntook ... s"), ""},
		"nothing varies":    {sh("seq 2") + text("1\n...\n2"), ""},
		"errors included":   {sh("ls /no/such/file || true") + text("...No such file..."), ""},
		"no newline":        {sh("printf abc") + text("abc"), ""},
		"left running":      {sh("tail -f /dev/null &"), ""},
		"other output":      {sh("seq 2") + text("1\n3"), "the page shows"},
		"more output":       {sh("seq 3") + text("1\n2"), "the page shows"},
		"less output":       {sh("true") + text("1"), "the page shows"},
		"over a line's end": {sh("seq 2") + text("1...2"), "the page shows"},
		"a command fails":   {sh("false") + sh("echo not reached"), "line 1: it failed"},
		"the first fails":   {sh("false\ntrue"), "line 1: it failed"},
		"a pipe fails":      {sh("false | true"), "line 1: it failed"},
		"it never ends":     {sh("tail -f /dev/null"), "no end after 1 s"},
		"it exits":          {sh("exit 0"), "line 1: it failed"},
		"another fence":     {"```yaml\na: b\n```\n", "fenced as sh or text"},
		"no end":            {"```sh\ntrue\n", "no end"},
		"output first":      {text("1") + sh("seq 1"), "without commands"},
		"no commands":       {"words\n", "no commands"},
	} {
		page := filepath.Join(t.TempDir(), "page.md")
		if err := os.WriteFile(page, []byte(c.page), 0o600); err != nil {
			t.Fatal(err)
		}
		run := exec.Command(runner, page)
		if name == "it never ends" {
			run.Env = append(run.Environ(), "BY_HAND_SECONDS=1")
		}
		out, err := run.CombinedOutput()
		if (err == nil) != (c.want == "") || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "line 4: echo not reached") {
			t.Errorf("%s: %v, want %q:\n%s", name, err, c.want, out)
		}
	}
}
