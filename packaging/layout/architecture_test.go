package layout

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The table of docs/architecture.md lies between these lines.
const (
	tableBegin = "<!-- packages: written by UPDATE=1 go test ./packaging/layout -run TestArchitecturePage, or make docs -->\n"
	tableEnd   = "<!-- end of packages -->\n"
)

// described is one package as the table shows it.
type described struct {
	purpose string
	imports map[string]bool // of ours, from the root
}

// describe reads every package of ours, with the imports that any build has.
func describe(t *testing.T) map[string]described {
	t.Helper()
	all := map[string]described{}
	for _, tags := range []string{"", "release", "softtee", "oracle"} {
		for _, p := range goList(t, "-tags="+tags, "./...") {
			self := strings.TrimPrefix(p.ImportPath, module+"/")
			if len(p.GoFiles) == 0 {
				continue
			}
			d, seen := all[self]
			if !seen {
				d = described{purpose(p.Doc), map[string]bool{}}
			}
			for _, imp := range p.Imports {
				if to, ours := strings.CutPrefix(imp, module+"/"); ours {
					d.imports[to] = true
				}
			}
			all[self] = d
		}
	}
	return all
}

// purpose is the first sentence of a package comment without the words that every one has.
func purpose(synopsis string) string {
	s := strings.TrimSuffix(strings.TrimSpace(synopsis), ".")
	if rest, found := strings.CutPrefix(s, "Package "); found {
		_, s, _ = strings.Cut(rest, " ")
	} else if rest, found := strings.CutPrefix(s, "Command "); found {
		_, s, _ = strings.Cut(rest, " ")
	}
	s = strings.TrimPrefix(s, "is ")
	return strings.ReplaceAll(s, "|", `\|`)
}

// shortest gives each package the shortest end of its path that no other package has.
func shortest(packages []string) map[string]string {
	names := map[string]string{}
	for _, p := range packages {
		name, dir := path.Base(p), path.Dir(p)
		for ambiguous(name, p, packages) && dir != "." {
			name, dir = path.Base(dir)+"/"+name, path.Dir(dir)
		}
		names[p] = name
	}
	return names
}

func ambiguous(name, of string, packages []string) bool {
	return slices.ContainsFunc(packages, func(p string) bool { return p != of && (p == name || strings.HasSuffix(p, "/"+name)) })
}

// packageTable is the table, one row for each package in the order of their paths.
func packageTable(all map[string]described) string {
	order := slices.Sorted(maps.Keys(all))
	names := shortest(order)
	var b strings.Builder
	b.WriteString("| package | purpose | imports of ours |\n|---|---|---|\n")
	for _, p := range order {
		var imports []string
		for to := range all[p].imports {
			imports = append(imports, names[to])
		}
		slices.Sort(imports)
		list := strings.Join(imports, ", ")
		if list == "" {
			list = "-"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p, all[p].purpose, list)
	}
	return b.String()
}

// TestArchitecturePage: the table of packages in docs/architecture.md is that of the code.
func TestArchitecturePage(t *testing.T) {
	file := filepath.Join("..", "..", "docs", "architecture.md")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(raw), tableBegin)
	have, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has no lines %q and %q", file, tableBegin, tableEnd)
	}
	want := packageTable(describe(t))
	if have == want {
		return
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for line := range strings.Lines(want) {
		if !strings.Contains(have, line) {
			t.Errorf("the table lacks %s", line)
		}
	}
	t.Errorf("the table of %s is stale: make docs", file)
}

func TestArchitectureTableSaysWhatIsThere(t *testing.T) {
	all := map[string]described{
		"crypto/seal": {purpose("Package seal is one thing."), map[string]bool{"crypto/buf": true, "agent/buf": true}},
		"crypto/buf":  {purpose("Package buf holds a | b."), nil},
		"agent/buf":   {purpose(""), nil},
	}
	want := "| package | purpose | imports of ours |\n|---|---|---|\n| `agent/buf` |  | - |\n| `crypto/buf` | holds a \\| b | - |\n| `crypto/seal` | one thing | agent/buf, crypto/buf |\n"
	if got := packageTable(all); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
