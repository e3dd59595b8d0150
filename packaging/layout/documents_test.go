package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// page is a Markdown file, split into text and fenced blocks.
type page struct {
	path  string // from the root
	lines []string
	code  []bool // whether the line lies in a fenced block, fences included
}

var root = filepath.Join("..", "..")

func readPage(t *testing.T, path string) page {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return newPage(path, string(raw))
}

func newPage(path, text string) page {
	p := page{path: path, lines: strings.Split(text, "\n")}
	fenced := false
	for _, line := range p.lines {
		fence := strings.HasPrefix(strings.TrimSpace(line), "```")
		p.code = append(p.code, fenced || fence)
		if fence {
			fenced = !fenced
		}
	}
	return p
}

// pages returns every Markdown file of the tree.
func pages(t *testing.T) (all []page) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if rel, err := filepath.Rel(root, name); err == nil && !d.IsDir() && filepath.Ext(name) == ".md" {
			all = append(all, readPage(t, rel))
		}
		return nil
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("%d pages: %v", len(all), err)
	}
	return all
}

// link is one of a page, with its text and its target.
type link struct {
	line         int
	text, target string
}

var linkForm = regexp.MustCompile(`!?\[([^\]]*)\]\(([^)\s]+)\)`)

func (p page) links() (all []link) {
	for i, line := range p.lines {
		if p.code[i] {
			continue
		}
		for _, m := range linkForm.FindAllStringSubmatch(line, -1) {
			all = append(all, link{i + 1, m[1], m[2]})
		}
	}
	return all
}

// anchors are the headings of a page, as the forge names them in links.
func (p page) anchors() map[string]bool {
	found := map[string]bool{}
	for i, line := range p.lines {
		if heading := strings.TrimLeft(line, "#"); !p.code[i] && heading != line && strings.HasPrefix(heading, " ") {
			name := anchor(heading)
			for n := 1; found[name]; n++ {
				name = fmt.Sprintf("%s-%d", anchor(heading), n)
			}
			found[name] = true
		}
	}
	return found
}

func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(heading))
}

// checkLink says why a link leads nowhere; "" if it leads somewhere, or off this tree.
func checkLink(from, target string, read func(path string) (page, error)) string {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return ""
	}
	path, fragment, _ := strings.Cut(target, "#")
	to := from
	if path != "" {
		to = filepath.Join(filepath.Dir(from), path)
	}
	if strings.HasPrefix(to, "..") {
		return "leads out of the tree"
	}
	p, err := read(to)
	if err != nil {
		return err.Error()
	}
	if fragment != "" && !p.anchors()[fragment] {
		return "has no heading for #" + fragment
	}
	return ""
}

// fromDisk reads the target of a link; a directory is a page without headings.
func fromDisk(path string) (page, error) {
	raw, err := os.ReadFile(filepath.Join(root, path))
	if info, e := os.Stat(filepath.Join(root, path)); e == nil && info.IsDir() {
		return page{}, nil
	}
	return newPage(path, string(raw)), err
}

func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for _, l := range p.links() {
			found++
			if why := checkLink(p.path, l.target, fromDisk); why != "" {
				t.Errorf("%s:%d: %s: %s", p.path, l.line, l.target, why)
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d links were found: the search is broken", found)
	}
}

func TestLinkCheckBites(t *testing.T) {
	read := func(path string) (page, error) {
		if path != "docs/a.md" && path != "docs/b.md" {
			return page{}, fs.ErrNotExist
		}
		return newPage(path, "# One thing: `two`\n\n```\n# no heading\n```\n## One thing two\n"), nil
	}
	for target, good := range map[string]bool{
		"b.md": true, "../docs/b.md": true, "#one-thing-two": true, "b.md#one-thing-two-1": true, "https://example.org/x#y": true,
		"c.md": false, "../b.md": false, "../../docs/b.md": false, "#no-heading": false, "b.md#two": false, "b.md#one-thing-two-2": false,
	} {
		if why := checkLink("docs/a.md", target, read); (why == "") != good {
			t.Errorf("%s: %q", target, why)
		}
	}
	if got := newPage("", "see [x](y.md) and ![z](w.svg)\n```\n[a](b)\n```\n").links(); len(got) != 2 || got[1].target != "w.svg" {
		t.Errorf("links %v", got)
	}
}

// checkTables names each line that a browser shows as text although it is meant as a row: of
// a table without a line of dashes, as a blank line leaves one behind.
func checkTables(p page) (bad []int) {
	dashes := regexp.MustCompile(`^\|(\s*:?-+:?\s*\|)+$`)
	for i, line := range p.lines {
		begins := strings.HasPrefix(line, "|") && !p.code[i] && (i == 0 || !strings.HasPrefix(p.lines[i-1], "|"))
		if !begins {
			continue
		}
		if i+1 >= len(p.lines) || !dashes.MatchString(p.lines[i+1]) || cells(line) != cells(p.lines[i+1]) {
			bad = append(bad, i+1)
		}
	}
	return bad
}

// cells counts the cells of a row; a bar that is escaped divides none.
func cells(row string) int { return strings.Count(row, "|") - strings.Count(row, `\|`) }

func TestTablesAreWhole(t *testing.T) {
	for _, p := range pages(t) {
		for _, line := range checkTables(p) {
			t.Errorf("%s:%d is not part of a table: a blank line before it, or no line of dashes behind it", p.path, line)
		}
	}
	for text, good := range map[string]bool{"| a | b |\n|---|---|\n| c | d |": true, "| a |\n|---|\n| b |\n\n| c |": false, "| a | b |\n|---|\n": false, "```\n| a |\n```": true} {
		if (len(checkTables(newPage("", text))) == 0) != good {
			t.Errorf("%q", text)
		}
	}
}

// declared lists the names that a Go file declares: functions, types, variables, constants,
// and methods as Type.Method.
func declared(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names = append(names, receiver(d)+d.Name.Name)
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names = append(names, n.Name)
					}
				}
			}
		}
	}
	return names
}

// receiver is the type of a method with a dot behind it; "" for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	e := fn.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if generic, ok := e.(*ast.IndexExpr); ok {
		e = generic.X
	}
	name, ok := e.(*ast.Ident)
	if !ok {
		return "?."
	}
	return name.Name + "."
}

// TestCodeThatPagesNameExists: a link from a name to a Go file, [`Name`](path.go), promises
// that the file declares it.
func TestCodeThatPagesNameExists(t *testing.T) {
	found := 0
	for _, p := range pages(t) {
		for _, l := range p.links() {
			name, isCode := strings.CutPrefix(l.text, "`")
			if !isCode || filepath.Ext(l.target) != ".go" {
				continue
			}
			found++
			name = strings.TrimSuffix(strings.TrimSuffix(name, "`"), "()")
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.Dir(p.path), l.target), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Errorf("%s:%d: %v", p.path, l.line, err)
			} else if !slices.Contains(declared(f), name) {
				t.Errorf("%s:%d: %s declares no %s", p.path, l.line, l.target, name)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d names were found: the search is broken", found)
	}
}

// TestTestsThatPagesNameExist: a test, fuzz target or benchmark that a page names is there.
func TestTestsThatPagesNameExist(t *testing.T) {
	known := map[string]bool{}
	sourceFiles(t, func(name string, _ *token.FileSet, f *ast.File, _ int) {
		if strings.HasSuffix(name, "_test.go") {
			for _, n := range declared(f) {
				known[n] = true
			}
		}
	})
	form := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z0-9]\\w*)`")
	found := 0
	for _, p := range pages(t) {
		if p.path == "CHANGELOG.md" { // it names what was there then
			continue
		}
		for i, line := range p.lines {
			for _, m := range form.FindAllStringSubmatch(line, -1) {
				if found++; !known[m[1]] {
					t.Errorf("%s:%d names %s, which does not exist", p.path, i+1, m[1])
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d names were found: the search is broken", found)
	}
}

// TestKnownFailuresHaveTheirTests: each row of docs/known-failures.md has the next number, a
// public source, and a test of ours with the file that it is in (which
// TestCodeThatPagesNameExists looks into).
func TestKnownFailuresHaveTheirTests(t *testing.T) {
	rows := 0
	for i, line := range readPage(t, "docs/known-failures.md").lines {
		cells := strings.Split(line, " | ")
		if len(cells) < 2 || !regexp.MustCompile(`^\| [0-9]`).MatchString(line) {
			continue
		}
		rows++
		if why := checkFailure(rows, cells); why != "" {
			t.Errorf("docs/known-failures.md:%d: %s", i+1, why)
		}
	}
	if rows < 47 {
		t.Errorf("%d failures, want 47 or more: none is ever taken away", rows)
	}
	good := []string{"| 1", "a failure", "[x#1](https://example.org/1)", "[`TestX`](../x_test.go) |"}
	if why := checkFailure(1, good); why != "" {
		t.Error(why)
	}
	for at, bad := range map[int]string{0: "| 2", 2: "somewhere", 3: "[`helper`](../x_test.go) |"} {
		row := slices.Clone(good)
		row[at] = bad
		if checkFailure(1, row) == "" {
			t.Errorf("%q passes", row)
		}
	}
}

func checkFailure(number int, cells []string) string {
	switch {
	case len(cells) != 4:
		return fmt.Sprintf("%d cells, want 4", len(cells))
	case strings.TrimSpace(strings.TrimPrefix(cells[0], "|")) != fmt.Sprint(number):
		return fmt.Sprintf("got number %s, want %d", cells[0], number)
	case !strings.Contains(cells[2], "](https://"):
		return "no public source"
	case !regexp.MustCompile("\\[`(Test|Fuzz)\\w+`\\]\\(\\S+_test\\.go\\)").MatchString(cells[3]):
		return "no test with its file"
	}
	return ""
}

// hostInputs are ways in which a host hands text to a guest that no measurement covers.
var hostInputs = []string{"/proc/cmdline", "/sys/firmware", "/sys/class/dmi", "fw_cfg", "ImportCredential"}

// measuredInputs are the places that may read what the host could have written. An event log is
// evidence, which the broker replays against registers that a verified quote has. The kernel's command line is
// part of the unified kernel image, and its additions are measured; the initial RAM disk takes a root hash from it, and refuses more.
// Of the firmware's variables it lists the names, to refuse one.
var measuredInputs = map[string]string{"guest/tdx/tdx.go": `"/sys/firmware/acpi/tables"`, "image/initrd/boot.go": `os.ReadFile("/proc/cmdline")`,
	"image/initrd/variables.go": `variablesDir = "/sys/firmware/efi/efivars"`}

// TestNothingIsTakenFromTheHost: no program and no unit reads the kernel's command line,
// SMBIOS, firmware configuration or credentials that a hypervisor passes in.
func TestNothingIsTakenFromTheHost(t *testing.T) {
	check := func(name, text string) {
		for _, input := range hostInputs {
			if strings.Contains(text, input) {
				t.Errorf("%s mentions %s", name, input)
			}
		}
	}
	sourceFiles(t, func(name string, _ *token.FileSet, _ *ast.File, _ int) {
		top, _, _ := strings.Cut(filepath.ToSlash(name), "/")
		if strings.HasSuffix(name, "_test.go") || top == "packaging" {
			return
		}
		raw, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(raw)
		if exempt, is := measuredInputs[filepath.ToSlash(name)]; is {
			if !strings.Contains(text, exempt) {
				t.Errorf("%s has no %s any more; remove its exemption", name, exempt)
			}
			text = strings.Replace(text, exempt, "", 1)
		}
		check(name, text)
	})
	units, err := filepath.Glob(filepath.Join(root, "systemd", "*.service"))
	if err != nil || len(units) < 4 {
		t.Fatalf("%d units: %v", len(units), err)
	}
	inImage, err := filepath.Glob(filepath.Join(root, "image/build/guest/usr/lib/systemd/system/*/*"))
	if err != nil || len(inImage) == 0 {
		t.Fatalf("%d drop-ins of the image: %v", len(inImage), err)
	}
	units = append(units, inImage...)
	for _, unit := range units {
		raw, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		check(filepath.Base(unit), string(raw))
	}
}

// TestPackagesThatPagesNameExist: a path below one of the top folders that a page names is there.
func TestPackagesThatPagesNameExist(t *testing.T) {
	form := regexp.MustCompile("`((?:agent|crypto|guest|keybroker|packaging|runtime|systemd|docs|findings)/[A-Za-z0-9@/_.-]*)`")
	found := 0
	for _, p := range pages(t) {
		if p.path == "CHANGELOG.md" { // it names what was there then
			continue
		}
		for i, line := range p.lines {
			for _, m := range form.FindAllStringSubmatch(line, -1) {
				found++
				if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && !p.code[i] {
					t.Errorf("%s:%d names %s, which does not exist", p.path, i+1, m[1])
				}
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d names were found: the search is broken", found)
	}
}

// TestReadmeStaysShort: the first page is read whole, or not at all.
func TestReadmeStaysShort(t *testing.T) {
	if n := len(readPage(t, "README.md").lines) - 1; n > 120 {
		t.Errorf("README.md has %d lines, want at most 120: move the rest to docs/", n)
	}
}
