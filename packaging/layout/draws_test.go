package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// checkDraws finds draws that come out otherwise from run to run: those from the generator
// that math/rand seeds itself, and those of a generator that outlives a walk over a map,
// whose order is another each time. It sees what the syntax shows of one function.
func checkDraws(name string, fset *token.FileSet, f *ast.File) (bad []string) {
	if !strings.HasSuffix(name, "_test.go") || !slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return strings.HasPrefix(i.Path.Value, `"math/rand`) }) {
		return nil
	}
	report := func(n ast.Node, what string) {
		bad = append(bad, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), what))
	}
	for _, d := range f.Decls {
		outer, maps := map[string]bool{}, map[string]bool{} // generators and what holds them; maps
		ast.Inspect(d, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if s := drawing(n); s != "" && !strings.HasPrefix(s, "New") {
					report(n, "rand."+s+" draws from a generator without a seed of the test's")
				}
			case *ast.AssignStmt:
				for i := range min(len(n.Lhs), len(n.Rhs)) {
					if id, ok := n.Lhs[i].(*ast.Ident); ok {
						outer[id.Name] = holds(n.Rhs[i], outer)
						maps[id.Name] = isMap(n.Rhs[i], nil)
					}
				}
			case *ast.RangeStmt:
				if !isMap(n.X, maps) {
					return true
				}
				if holds(n.X, outer) {
					report(n, "the cases of a map share a generator: seed one for each case")
				} else if id := shared(n.Body, outer); id != nil {
					report(id, "the cases of a map share the generator "+id.Name+": seed one for each case")
				}
			}
			return true
		})
	}
	return bad
}

// drawing is the name of a function of math/rand that is called, or "".
func drawing(c *ast.CallExpr) string {
	if s, ok := c.Fun.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok && x.Name == "rand" && x.Obj == nil {
			return s.Sel.Name
		}
	}
	return ""
}

func isMap(e ast.Expr, maps map[string]bool) bool {
	switch e := e.(type) {
	case *ast.CompositeLit:
		_, ok := e.Type.(*ast.MapType)
		return ok
	case *ast.Ident:
		return maps[e.Name]
	}
	return false
}

// holds says whether a value is a generator, or draws from one later.
func holds(e ast.Expr, outer map[string]bool) bool {
	switch e := e.(type) {
	case *ast.CallExpr:
		return drawing(e) == "New"
	case *ast.Ident:
		return outer[e.Name]
	case *ast.FuncLit:
		return shared(e.Body, outer) != nil
	case *ast.KeyValueExpr:
		return holds(e.Value, outer)
	case *ast.CompositeLit:
		return slices.ContainsFunc(e.Elts, func(e ast.Expr) bool { return holds(e, outer) })
	}
	return false
}

// shared is the first use in a body of a generator from outside of it.
func shared(body *ast.BlockStmt, outer map[string]bool) (first *ast.Ident) {
	own := map[string]bool{}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && first == nil && outer[x.Name] && !own[x.Name] {
				first = x
			}
			return false
		case *ast.AssignStmt:
			for _, l := range n.Lhs {
				if id, ok := l.(*ast.Ident); ok && n.Tok == token.DEFINE {
					own[id.Name] = true
				}
			}
		case *ast.Field:
			for _, id := range n.Names {
				own[id.Name] = true
			}
		case *ast.Ident:
			if first == nil && outer[n.Name] && !own[n.Name] {
				first = n
			}
		}
		return true
	})
	return first
}

func TestDrawsInTestsAreRepeatable(t *testing.T) {
	sourceFiles(t, func(name string, fset *token.FileSet, f *ast.File, _ int) {
		for _, bad := range checkDraws(name, fset, f) {
			t.Error(bad)
		}
	})
}

func TestDrawCheckBites(t *testing.T) {
	for body, want := range map[string]int{
		`_ = rand.IntN(5)`: 1,
		`r := rand.New(rand.NewPCG(1, 2)); _ = r.IntN(5)`:                                                                    0,
		`r := rand.New(rand.NewPCG(1, 2)); for k := range map[string]int{} { f(r, k) }`:                                      1,
		`r := rand.New(rand.NewPCG(1, 2)); m := map[string]int{}; for k := range m { _, _ = k, r.IntN(5) }`:                  1,
		`r := rand.New(rand.NewPCG(1, 2)); two := func() int { return r.IntN(2) }; for range map[int]int{} { two() }`:        1,
		`r := rand.New(rand.NewPCG(1, 2)); v := func() int { return r.IntN(2) }; for range map[int]func() int{1: v} { }`:     1,
		`r := rand.New(rand.NewPCG(1, 2)); for k, v := range map[int]int{1: r.IntN(2)} { f(k, v) }`:                          0,
		`for k := range map[string]int{} { r := rand.New(rand.NewPCG(1, 2)); f(r, k) }`:                                      0,
		`r := rand.New(rand.NewPCG(1, 2)); for k := range map[int]int{} { r := rand.New(rand.NewPCG(1, 2)); _ = r.IntN(k) }`: 0,
		`r := rand.New(rand.NewPCG(1, 2)); for k := range []int{} { f(r, k) }`:                                               0,
	} {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, "x_test.go", `package p; import "math/rand/v2"; func g() { `+body+` }`, 0)
		if err != nil {
			t.Fatal(err)
		}
		if bad := checkDraws("x_test.go", fset, f); len(bad) != want {
			t.Errorf("%s: %q, want %d", body, bad, want)
		}
	}
}
