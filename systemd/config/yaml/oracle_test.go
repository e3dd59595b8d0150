package yaml

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	oracle "github.com/goccy/go-yaml"
)

// value is what a document says, in the types that the oracle gives it.
func value(n *Node) any {
	switch n.Kind {
	case Null:
		return nil
	case Bool:
		return n.Bool()
	case Int, Float:
		return n.Number()
	case Sequence:
		list := make([]any, len(n.Items))
		for i := range n.Items {
			list[i] = value(&n.Items[i])
		}
		return list
	case Mapping:
		m := map[string]any{}
		for i := range n.Pairs {
			m[n.Pairs[i].Key.Text] = value(&n.Pairs[i].Value)
		}
		return m
	default:
		return n.Text
	}
}

// exotic says whether a tree has what the oracle's types cannot tell apart.
func exotic(n *Node) bool {
	switch n.Kind {
	case NonFinite:
		return true
	case Sequence:
		for i := range n.Items {
			if n.Items[i].Kind == Null || exotic(&n.Items[i]) {
				return true
			}
		}
	case Mapping:
		for i := range n.Pairs {
			if n.Pairs[i].Key.Kind != Text || exotic(&n.Pairs[i].Value) {
				return true
			}
		}
	}
	return false
}

// check compares the reading of a document with the oracle's and says whether it was accepted.
func check(t *testing.T, data []byte) bool {
	t.Helper()
	root, err := Parse(data)
	if err != nil {
		wantPlace(t, data, err)
		return false
	}
	var theirs any
	if err := oracle.Unmarshal(data, &theirs); err != nil {
		if exotic(root) || strings.Contains(err.Error(), "invalid number of indent") {
			return true
		}
		t.Errorf("%q is accepted, but not by the oracle: %v", data, err)
		return true
	}
	if ours := value(root); !exotic(root) && !reflect.DeepEqual(ours, theirs) {
		t.Errorf("%q\n   got %#v\noracle %#v", data, ours, theirs)
	}
	return true
}

// wantPlace fails if an error is not one sentence about a place in the document.
func wantPlace(t *testing.T, data []byte, err error) {
	t.Helper()
	e, ok := err.(*Error)
	if !ok || e.Message == "" || strings.Contains(e.Message, "\n") {
		t.Fatalf("%q: %v is not an *Error of one sentence", data, err)
	}
	lines := strings.Split(string(data), "\n")
	if e.Line < 0 || e.Line > len(lines) || e.Line > 0 && (e.Column < 1 || e.Column > len([]rune(lines[e.Line-1]))+1) {
		t.Errorf("%q: %v is outside the document", data, err)
	}
}

// The project's own documents: those in the texts and those in the programs and tests, whose
// strings are mostly no documents.
func TestTheProjectsDocumentsReadAsTheOracleDoes(t *testing.T) {
	accepted := 0
	err := filepath.WalkDir(filepath.Join("..", "..", ".."), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if entry != nil && entry.Name() == ".git" {
				return fs.SkipDir
			}
			return err
		}
		switch filepath.Ext(path) {
		case ".md":
			text, err := os.ReadFile(path)
			for i, part := range strings.Split(string(text), "```yaml\n") {
				if body, _, _ := strings.Cut(part, "```"); i > 0 && !check(t, []byte(body)) {
					_, err := Parse([]byte(body))
					t.Errorf("%s: %v in\n%s", path, err, body)
				}
			}
			return err
		case ".go":
			file, err := goparser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && len(l.Value) > 20 {
					text, _ := strconv.Unquote(l.Value)
					if check(t, []byte(text)) && strings.Contains(text, "\n") {
						accepted++
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil || accepted < 100 {
		t.Errorf("%d documents of several lines, %v", accepted, err)
	}
	t.Logf("%d documents of several lines", accepted)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"a: 1\nb: x\nl: [x]\nm: {k: 1}\no:\n  - n: 2\ns: 2^40\n", "b: |2-\n  x\n", "b: >\n  x\n  y\n", `b: "\u00e9\n"` + "\n", "b: 'it''s'\n", "l: []\nm: {}\n", "- - a\n  - b\n- c: d\n  e:\n  - f\n", "y: {a: [1, -2, 1.5, true, x],\n b: c}\n"} {
		f.Add([]byte(seed))
	}
	if data, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "shared", "design", "template.yaml")); err == nil {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

// writer writes documents at random, most of them well-formed.
type writer struct {
	strings.Builder
	*rand.Rand
}

func (w *writer) one(of ...string) string { return of[w.IntN(len(of))] }

// few returns the text once in n times.
func (w *writer) few(n int, text string) string {
	if w.IntN(n) > 0 {
		return ""
	}
	return text
}

// seldom is 1 once in n times, else 0.
func (w *writer) seldom(n int) int { return len(w.few(n, " ")) }

func (w *writer) scalar() string {
	return w.one("x", "y z", "1", "-1", "0x1f", "1.5", "-.5", "true", "~", "", "null", "'q'", "'it''s'", "' '", `"q"`, `"\n\u00e9"`, `"a # b"`, "é", "2^40", "http://x:1/", ":8443", "-x",
		"a#b", "a, b", "it's", `a"b`, "v1", "two words", "x", "plain", "99999999999999999999", "0888", "1e3", "yes", "12:30:45", "2026-01-02", ".", "+", "--", "a:b", "0", "-0", "+1", "1.", "0x", "[]", "{}", "[ ]") + w.few(15, w.one("]", "010", "1_0", "-", "<<", "@x", "?x", "a\tb", "+-1", "0b1", "---", "...", "&a x", "*a", "!t x", "\n  y"))
}

// key is the i-th of a mapping that begins with the key from.
func (w *writer) key(from, i int) string {
	keys := []string{"a", "b", "c", "d e", "é", "'q'", `"r"`, "a-b", "a.b", "e", "f", "g", "h", "i"}
	return keys[(from+i)%len(keys)] + w.few(30, w.one("x[0]", "a:b", "-a", "true", "a'", "<<", "?", "? a", "1"))
}

func (w *writer) end() string {
	return w.few(12, " ") + w.few(12, " # c") + w.few(100, "#") + w.few(60, "\t") + "\n" + w.few(12, "\n") + w.few(20, "# c\n") + w.few(20, "  # c: d\n") + w.few(40, "   \n") + w.few(200, "---\n")
}

func (w *writer) flow(depth int) string {
	gap := func() string { return w.few(3, " ") + w.few(15, "\n  ") + w.few(40, "\n") + w.few(40, " # c\n ") }
	if depth == 0 || w.IntN(3) > 0 {
		return w.scalar()
	}
	var b strings.Builder
	mapping := w.IntN(2) == 0
	b.WriteString(map[bool]string{true: "{", false: "["}[mapping] + gap())
	from := w.IntN(100)
	for i := range w.IntN(4) {
		if i > 0 {
			b.WriteString("," + gap())
		}
		if mapping {
			b.WriteString(w.key(from, i) + w.few(15, " ") + ":" + w.one(" ", " ", " ", "", "\n  "))
		}
		b.WriteString(w.flow(depth-1) + gap())
	}
	b.WriteString(w.few(10, ",") + gap() + map[bool]string{true: "}", false: "]"}[mapping != (w.IntN(40) == 0)])
	return b.String()
}

func (w *writer) text(indent int) {
	pad := strings.Repeat(" ", indent+1+w.IntN(3))
	w.WriteString(w.one("|", ">") + w.few(3, w.one("-", "+")) + w.few(8, w.one("1", "2", "3")) + w.end())
	for range 1 + w.IntN(4) {
		w.WriteString(w.few(5, "\n") + pad + w.few(20, " ") + w.few(60, "\t") + w.one("x", "y: z", "- a", "# c", "é", "'", "x\ty") + w.few(40, "\t") + w.few(12, " ") + "\n")
	}
	w.WriteString(w.few(6, "\n") + w.few(12, pad+"\n"))
}

// block writes a value after a key or a dash that is indented by indent.
func (w *writer) block(indent, depth int, compact bool) {
	switch w.IntN(8) {
	case 0, 1:
		if depth > 0 {
			w.mapping(indent, depth-1, compact)
			return
		}
	case 2, 3:
		if depth > 0 {
			w.sequence(indent, depth-1, compact)
			return
		}
	case 4:
		w.WriteString(" " + w.flow(3) + w.end())
		return
	case 5:
		w.WriteString(" ")
		w.text(indent)
		return
	}
	w.WriteString(w.few(15, w.end()+strings.Repeat(" ", indent+1)) + w.one(" ", " ", " ", "  ") + w.few(20, "\t") + w.scalar() + w.end())
}

// deeper begins a collection: on its line, or on the next.
func (w *writer) deeper(indent int, compact bool, least int) int {
	if step := least + w.IntN(3); !compact || w.IntN(2) == 0 {
		w.WriteString(w.end() + strings.Repeat(" ", max(indent+step, 0)))
		return indent + step
	}
	w.WriteString(" ")
	return indent + 2
}

func (w *writer) mapping(indent, depth int, compact bool) {
	indent = w.deeper(indent, compact, 1)
	from := w.IntN(100)
	for i := range 1 + w.IntN(3) {
		if i > 0 {
			w.WriteString(strings.Repeat(" ", indent+w.seldom(60)))
		}
		w.WriteString(w.key(from, i) + w.few(20, " ") + ":")
		w.block(indent, depth, false)
	}
}

func (w *writer) sequence(indent, depth int, compact bool) {
	least := 1
	if !compact {
		least = w.IntN(2)
	}
	indent = w.deeper(indent, compact, least)
	for i := range 1 + w.IntN(3) {
		if i > 0 {
			w.WriteString(strings.Repeat(" ", indent+w.seldom(60)))
		}
		w.WriteString("-")
		w.block(indent, depth, true)
	}
}

// TestGeneratedDocumentsReadAsTheOracleDoes compares documents made at random, and those with a
// character in a wrong place.
func TestGeneratedDocumentsReadAsTheOracleDoes(t *testing.T) {
	const n = 20000
	accepted := 0
	for i := range n {
		w := &writer{Rand: rand.New(rand.NewPCG(1, uint64(i)))}
		w.WriteString(w.few(8, "---"))
		w.mapping(-1, 3, false)
		w.WriteString(w.few(30, "...\n"))
		text := w.String()
		if i%3 == 0 {
			at, piece := w.IntN(len(text)), w.one("", "", " ", "\n", ":", "-", "\"", "'", "#", "\t", "[", "]", "{", "}", ",", "|", ">", "? ", "<<")
			text = text[:at] + piece + text[min(at+w.IntN(2), len(text)):]
		}
		if i%5 == 0 {
			text = strings.ReplaceAll(text, "\n", "\r\n")
		}
		if check(t, []byte(text)) {
			accepted++
		}
	}
	if t.Logf("%d of %d documents are accepted", accepted, n); accepted < n/4 {
		t.Errorf("only %d of %d documents are accepted", accepted, n)
	}
}
