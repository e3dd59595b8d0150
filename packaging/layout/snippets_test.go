package layout

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// snippet is a fenced block of a page.
type snippet struct {
	page           string
	line           int
	language, text string
}

func (s snippet) String() string { return fmt.Sprintf("%s:%d", s.page, s.line) }

// snippets returns the fenced blocks of a page; one that is indented, as in a list, included.
func (p page) snippets() (all []snippet) {
	open := -1
	for i, line := range p.lines {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case !fence && open >= 0:
			all[open].text += line + "\n"
		case fence && open >= 0:
			open = -1
		case fence:
			open = len(all)
			all = append(all, snippet{p.path, i + 1, language, ""})
		}
	}
	return all
}

// compileGo says why a block is not a Go program or package that compiles against this tree.
// Readers copy blocks whole, so each has its package clause and imports.
func compileGo(t *testing.T, s snippet) error {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snippet.go")
	if err := os.WriteFile(file, []byte(s.text), 0o600); err != nil {
		t.Fatal(err)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(abs, "packaging", "snippet", "snippet.go"): file}})
	if err != nil {
		t.Fatal(err)
	}
	where := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(where, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-export", "-overlay", where, "./packaging/snippet") // compiles, and does not link
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", s, err, out)
	}
	return nil
}

// parsePython says why a block is not Python.
func parsePython(s snippet) error {
	cmd := exec.Command("python3", "-c", "import ast, sys, textwrap; ast.parse(textwrap.dedent(sys.stdin.read()))")
	cmd.Stdin = strings.NewReader(s.text)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", s, err, out)
	}
	return nil
}

func TestCodeInPagesIsCode(t *testing.T) {
	_, noPython := exec.LookPath("python3")
	for _, p := range pages(t) {
		for _, s := range p.snippets() {
			var err error
			switch {
			case s.language == "go":
				err = compileGo(t, s)
			case s.language == "python" && noPython == nil:
				err = parsePython(s)
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestCodeCheckBites(t *testing.T) {
	for text, good := range map[string]bool{
		"package main\n\nimport \"github.com/anchorhold/anchorhold/crypto/identity\"\n\nfunc main() { _, _ = identity.Generate(identity.LevelEpoch) }\n": true,
		"package main\n\nimport \"github.com/anchorhold/anchorhold/crypto/identity\"\n\nfunc main() { _, _ = identity.NoSuchName() }\n":                  false,
		"identity.Generate(identity.LevelEpoch)\n": false,
	} {
		if err := compileGo(t, snippet{"x.md", 1, "go", text}); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := exec.LookPath("python3"); err == nil && parsePython(snippet{"x.md", 1, "python", "def f(:\n"}) == nil {
		t.Error("half a function is Python")
	}
	p := newPage("x.md", "a\n```go\nb\n```\n- c\n  ```python\n  d\n  ```\n")
	if got := p.snippets(); len(got) != 2 || got[0] != (snippet{"x.md", 2, "go", "b\n"}) || got[1] != (snippet{"x.md", 6, "python", "  d\n"}) {
		t.Errorf("got %q", got)
	}
}

var (
	makeForm   = regexp.MustCompile(`(?:^|&& |; |\s{2}|^- )make ([a-z][a-z-]*)`)
	spanForm   = regexp.MustCompile("`make ([a-z][a-z-]*)[^`]*`")
	targetForm = regexp.MustCompile(`(?m)^([a-z][a-z-]*):`)
)

// makeTargets are what the Makefile can make.
func makeTargets(t *testing.T) map[string]bool {
	t.Helper()
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range targetForm.FindAllStringSubmatch(string(makefile), -1) {
		found[m[1]] = true
	}
	if !found["test"] || !found["build"] {
		t.Fatalf("targets: %v", found)
	}
	return found
}

// madeBy are the targets that a page tells its reader to make, in blocks and in the text.
func (p page) madeBy() (names []string) {
	for i, line := range p.lines {
		form := spanForm
		if p.code[i] {
			form = makeForm
		}
		for _, m := range form.FindAllStringSubmatch(line, -1) {
			names = append(names, m[1])
		}
	}
	return names
}

func TestWhatPagesTellToMakeCanBeMade(t *testing.T) {
	targets, named := makeTargets(t), 0
	for _, p := range pages(t) {
		if p.path == "CHANGELOG.md" {
			continue // says what was there
		}
		for _, name := range p.madeBy() {
			if named++; !targets[name] {
				t.Errorf("%s: the Makefile has no target %s", p.path, name)
			}
		}
	}
	if named < 10 {
		t.Errorf("%d targets are named in pages", named)
	}
	p := newPage("x.md", "a `make one VERSION=1`\n```\nmake two\ncd x && make three\n```\nmake no\n")
	if got := strings.Join(p.madeBy(), " "); got != "one two three" {
		t.Errorf("got %s", got)
	}
}

// TestREADMEHasCommandsThatExist: the README's blocks are commands, and each is a target of the
// Makefile or one of the programs that it builds. .ci/run runs the targets.
func TestREADMEHasCommandsThatExist(t *testing.T) {
	targets := makeTargets(t)
	found := 0
	for _, s := range readPage(t, "README.md").snippets() {
		if s.language != "" && s.language != "sh" {
			continue // TestCodeInPagesIsCode
		}
		for line := range strings.Lines(s.text) {
			command, _, _ := strings.Cut(line, "#")
			f := strings.Fields(command)
			if len(f) == 0 {
				continue
			}
			found++
			program, built := strings.CutPrefix(f[0], "bin/")
			switch {
			case f[0] == "make" && len(f) > 1 && targets[f[1]]:
			case built && isProgram(program):
			default:
				t.Errorf("README.md: %q is neither a target of the Makefile nor one of its programs", strings.TrimSpace(line))
			}
		}
	}
	if found == 0 {
		t.Error("the README shows no command")
	}
}

func isProgram(name string) bool {
	for _, dir := range []string{"agent", "image", "keybroker"} {
		if info, err := os.Stat(filepath.Join(root, dir, "cmd", name)); err == nil && info.IsDir() {
			return true
		}
	}
	return false
}
