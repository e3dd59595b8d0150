package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const (
	maxFileLines     = 600
	maxFunctionLines = 120
	maxMainLines     = 80
)

// source is one Go file, parsed.
type source struct {
	name  string // from the project's root
	fset  *token.FileSet
	file  *ast.File
	lines int
}

// sources walks the project's own Go files once and parses each.
var sources = sync.OnceValues(func() (all []source, err error) {
	root := filepath.Join("..", "..")
	err = filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		src, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		all = append(all, source{rel, fset, f, strings.Count(string(src), "\n")})
		return err
	})
	return all, err
})

// sourceFiles shows each of the project's own Go files.
func sourceFiles(t *testing.T, visit func(name string, fset *token.FileSet, f *ast.File, lines int)) {
	t.Helper()
	all, err := sources()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		visit(s.name, s.fset, s.file, s.lines)
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, lines int) {
		if lines > maxFileLines {
			t.Errorf("%s has %d lines; split it by idea (at most %d)", name, lines, maxFileLines)
		}
		if f.Name.Name == "main" && filepath.Base(name) == "main.go" && lines > maxMainLines {
			t.Errorf("%s has %d lines; main only parses flags, calls Run and maps the error (at most %d)", name, lines, maxMainLines)
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line; n > maxFunctionLines {
				t.Errorf("%s: %s has %d lines (at most %d)", name, fn.Name.Name, n, maxFunctionLines)
			}
		}
	})
}

func TestNoInitNoExitNoFlagOutsideMain(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		isMain := f.Name.Name == "main"
		for _, imp := range f.Imports {
			if !isMain && imp.Path.Value == `"flag"` {
				t.Errorf("%s imports flag; only main parses flags", name)
			}
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" && !strings.HasPrefix(filepath.Base(name), "cpu") {
				t.Errorf("%s has an init function; only CPU detection may", name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || isMain {
				return true
			}
			if pkg, ok := call.X.(*ast.Ident); ok && (pkg.Name == "os" && call.Sel.Name == "Exit" || pkg.Name == "log" && strings.HasPrefix(call.Sel.Name, "Fatal")) {
				t.Errorf("%s ends the process; only main may", fset.Position(n.Pos()))
			}
			return true
		})
	})
}

func TestNoSleepInTests(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		if !strings.HasSuffix(name, "_test.go") || usesSynctest(f) {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Sleep" {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s sleeps; use testing/synctest or wait for the event", fset.Position(n.Pos()))
				}
			}
			return true
		})
	})
}

func usesSynctest(f *ast.File) bool {
	for _, imp := range f.Imports {
		if imp.Path.Value == `"testing/synctest"` {
			return true
		}
	}
	return false
}

func TestExportedNamesAreDocumented(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		if strings.HasSuffix(name, "_test.go") || f.Name.Name == "main" {
			return
		}
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && exportedReceiver(d) && d.Doc == nil {
					t.Errorf("%s: %s is exported and undocumented", fset.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				undocumentedSpecs(t, fset, d)
			}
		}
	})
}

// undocumentedSpecs accepts a comment on the group, on the line above or at the end of the line.
func undocumentedSpecs(t *testing.T, fset *token.FileSet, d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
				t.Errorf("%s: type %s is exported and undocumented", fset.Position(s.Pos()), s.Name.Name)
			}
		case *ast.ValueSpec:
			for _, id := range s.Names {
				if id.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					t.Errorf("%s: %s is exported and undocumented", fset.Position(s.Pos()), id.Name)
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if idx, ok := typ.(*ast.IndexExpr); ok {
		typ = idx.X
	}
	id, ok := typ.(*ast.Ident)
	return !ok || id.IsExported()
}

// copiesKeys are the functions of the agent that copy a key buffer, each to where the lease's
// end finds the copy. Nothing else gives out copies: whoever holds one while a client, a
// worker or a disk takes its time keeps a key past the lease.
var copiesKeys = map[string]string{
	"agent/jobs/queue.go: Open":                "Holds tells of it before the file is touched, and Queue.Wipe wipes it",
	"agent/classify/classify.go: copyKey":      "Service.opening, under the lock that Wipe takes",
	"agent/jobs/session/session.go: key":       "this run's own key, which is no lease's",
	"agent/tenure/restart/restart.go: cloneOf": "a timer until the lease's or the permit's end; what is lent is a lease's, which the tenure wipes",
	"agent/secrets/store.go: Take":             "Store.Wipe, which the tenure calls at each lease's end",
}

func TestTheAgentCopiesKeysOnlyToWhereTheyAreWiped(t *testing.T) {
	found := map[string]bool{}
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		if !strings.HasPrefix(name, "agent"+string(filepath.Separator)) || strings.HasSuffix(name, "_test.go") {
			return
		}
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(fn, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || len(call.Args) != 0 {
					return true
				}
				if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Clone" {
					where := filepath.ToSlash(name) + ": " + fn.Name.Name
					if found[where] = true; copiesKeys[where] == "" {
						t.Errorf("%s copies a key: lend it with Use, or name here what wipes the copy at the lease's end", fset.Position(n.Pos()))
					}
				}
				return true
			})
		}
	})
	for where := range copiesKeys {
		if !found[where] {
			t.Errorf("%s copies no key any more: take it off the list", where)
		}
	}
}
