package yaml

import (
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// The sections are those of YAML 1.2.2, https://yaml.org/spec/1.2.2/.
func TestParseReadsWhatTheSpecificationSays(t *testing.T) {
	for _, tc := range []struct{ section, text, want string }{
		{"5.4 line breaks", "a: x\r\nb: |\r\n  y\r\n  z\r\n", `{"a":"x","b":"y\nz\n"}`},
		{"5.7 escapes", `a: "\0\a\b\t\n\v\f\r\e\ \"\/\\\N\_\L\P\x41\u00e9\U0001F600"`, `{"a":"\u0000\u0007\u0008\t\n\u000b\u000c\r\u001b \"/\\\u0085\u00a0\u2028\u2029Aé😀"}`},
		{"5.7 escapes, as in JSON", `a: "\ud83d\ude00"`, `{"a":"😀"}`},
		{"6.1 indentation", "a:\n b:\n    c: 1\n    d: 2\n e: 3\n", `{"a":{"b":{"c":1,"d":2},"e":3}}`},
		{"6.2 separation", "a:\tx\nb:   y\t# z\n", `{"a":"x","b":"y"}`},
		{"6.6 comments", "# c\na: x # c\nb: y#c\n   # c\nc: '# c'\n#", `{"a":"x","b":"y#c","c":"# c"}`},
		{"7.3.1 double quotes", `"a": "x: y # z, [1] 'q'"`, `{"a":"x: y # z, [1] 'q'"}`},
		{"7.3.2 single quotes", `'it''s': 'a \n b'`, `{"it's":"a \\n b"}`},
		{"7.3.3 plain", "a: b c\nd: http://x:1/y?z#w\ne: -x\nf: it's\ng: a, [b] {c}\nh: :8443\ni: \"\"\n", `{"a":"b c","d":"http://x:1/y?z#w","e":"-x","f":"it's","g":"a, [b] {c}","h":":8443","i":""}`},
		{"7.4.1 flow sequences", "[a, [b, 'c'], \"d\", [], [x,],\n  2, # e\n  {}]", `["a",["b","c"],"d",[],["x"],2,{}]`},
		{"7.4.2 flow mappings", "{a: 1, 'b':2, \"c\": [3], d: {e: f:g},\n g: h, }", `{"a":1,"b":2,"c":[3],"d":{"e":"f:g"},"g":"h"}`},
		{"7.4 flow collections in block collections", "a: [\n  x,\n  y\n]\nb: {\n  c: d\n}\n", `{"a":["x","y"],"b":{"c":"d"}}`},
		{"8.1.1.1 indentation indicator", "a: |2\n   x\n  y\nb:\n  - |1\n    z\n", `{"a":" x\ny\n","b":[" z\n"]}`},
		{"8.1.1.2 chomping", "a: |-\n  x\n\nb: |\n  x\n\nc: |+\n  x\n\nd: >+1\n x\n\n", `{"a":"x","b":"x\n","c":"x\n\n","d":"x\n\n"}`},
		{"8.1.2 literal", "a: |\n\n  x: y\n    # z\n\n  - w\n# c\n", `{"a":"\nx: y\n  # z\n\n- w\n"}`},
		{"8.1.3 folded", "a: >\n\n  x\n  y\n\n  z\n\n\n  w\n\n", `{"a":"\nx y\nz\n\nw\n"}`},
		{"8.2.1 block sequences", "- a\n- - b\n  - c\n-\n  - d\n- e: f\n  g:\n  - h\n- \"i\"\n", `["a",["b","c"],["d"],{"e":"f","g":["h"]},"i"]`},
		{"8.2.2 block mappings", "a:\n- x\n- y\nb: \n  c : d\ne:\n  f\n", `{"a":["x","y"],"b":{"c":"d"},"e":"f"}`},
		{"8.2.3 block nodes on a line of their own", "a:\n  |\n  x\nb:\n  >-\n   y\nc:\n  [d]\ne:\n  'f'\ng:\n-\n  |\n  h\n-\n  - i\n", `{"a":"x\n","b":"y","c":["d"],"e":"f","g":["h\n",["i"]]}`},
		{"9.1 documents", "# c\n--- # c\na: 1\n... # c\n# c\n", `{"a":1}`},
		{"10.3 tag resolution", "[null, Null, ~, true, False, 0, -12, +3, 0x1F, 1.5, -.5, 2., 1.5e3, '1', yes, 1e3, 12:30, 0x, 089, 18446744073709551615, 18446744073709551616]", `[null,null,null,true,false,0,-12,3,31,1.5,-0.5,2,1500,"1","yes","1e3","12:30","0x","089",18446744073709551615,"18446744073709551616"]`},
		{"10.3 empty values", "a:\nb: {c:, d: }\ne:\n-\n- x\n", `{"a":null,"b":{"c":null,"d":null},"e":[null,"x"]}`},
	} {
		root, err := Parse([]byte(tc.text))
		if err != nil {
			t.Errorf("%s: %v", tc.section, err)
			continue
		}
		var want any
		d := json.NewDecoder(strings.NewReader(tc.want))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("%s: %v", tc.section, err)
		}
		if got := value(root); !same(got, want) {
			t.Errorf("%s: got %#v, want %s", tc.section, got, tc.want)
		}
		check(t, []byte(tc.text))
	}
}

// same compares a value with one from JSON.
func same(got, want any) bool {
	switch want := want.(type) {
	case []any:
		list, ok := got.([]any)
		for i := range list {
			ok = ok && len(list) == len(want) && same(list[i], want[i])
		}
		return ok && len(list) == len(want)
	case map[string]any:
		m, ok := got.(map[string]any)
		for k := range want {
			ok = ok && same(m[k], want[k])
		}
		return ok && len(m) == len(want)
	case json.Number:
		f, err := want.Float64()
		switch got := got.(type) {
		case uint64:
			return strconv.FormatUint(got, 10) == want.String()
		case int64:
			return strconv.FormatInt(got, 10) == want.String()
		case float64:
			return err == nil && got == f
		}
		return false
	default:
		return got == want
	}
}

func TestNodesKnowTheirPlace(t *testing.T) {
	root, err := Parse([]byte("# c\né:  [x, ü, y]\n'b':\n  - c: d\n  -\n"))
	if err != nil {
		t.Fatal(err)
	}
	first, second := root.Pairs[0], root.Pairs[1]
	for name, tc := range map[string]struct {
		n            *Node
		line, column int
	}{
		"root": {root, 2, 1}, "key": {&first.Key, 2, 1}, "flow": {&first.Value, 2, 5}, "item": {&first.Value.Items[2], 2, 12}, "quoted": {&second.Key, 3, 1},
		"list": {&second.Value, 4, 3}, "compact": {&second.Value.Items[0], 4, 5}, "value": {&second.Value.Items[0].Pairs[0].Value, 4, 8}, "nothing": {&second.Value.Items[1], 5, 3},
	} {
		if tc.n.Line != tc.line || tc.n.Column != tc.column {
			t.Errorf("%s: line %d, column %d, want %d and %d", name, tc.n.Line, tc.n.Column, tc.line, tc.column)
		}
	}
}

func TestParseRefusesAndSaysWhere(t *testing.T) {
	for _, tc := range []struct {
		text         string
		line, column int
		word         string
	}{
		// what configuration must not use
		{"a: &x y", 1, 4, "anchors"}, {"a: *x", 1, 4, "aliases"}, {"- *x", 1, 3, "aliases"}, {"&x a: b", 1, 1, "anchors"}, {"a: !!int 3", 1, 4, "tags"}, {"!x a: b", 1, 1, "tags"},
		{"<<: {a: b}", 1, 1, "merge keys"}, {"a: {<<: {b: c}}", 1, 5, "merge keys"}, {"%YAML 1.2\n---\na: b", 1, 1, "directives"},
		{"a: b\n---\nc: d", 2, 1, "several documents"}, {"a: b\n...\n---\nc: d", 3, 1, "several documents"}, {"a: b\n...\nc: d", 3, 1, "after the end"},
		{"? a\n: b", 1, 1, "plain text"}, {"[a]: b", 1, 1, "plain text"}, {"{a: b}: c", 1, 1, "plain text"}, {"{[a]: b}", 1, 2, "plain text"}, {"{? a : b}", 1, 2, "plain text"},
		{"a: 1\n'a': 2", 2, 1, "already on line 1"}, {"{a: 1, \"\\x61\": 2}", 1, 8, "already on line 1"},
		{strings.Repeat("k", maxKey+1) + ": x", 1, 1, "longer than 1024 bytes"}, {"a: 010", 1, 4, "different numbers"}, {"a: [1_000]", 1, 5, "different numbers"}, {"a: 0o17", 1, 4, "different"}, {"a: 0b1", 1, 4, "different"}, {"a: +-1", 1, 4, "different"},
		// text of several lines
		{"a: b\n  c", 2, 3, "| or >"}, {"a: b\n  c: d", 2, 3, "indented by 2, want"}, {"a: \"b\n  c\"", 1, 4, "not closed"}, {"a: 'b\n  c'", 1, 4, "not closed"}, {"a: \"b\nc: d", 1, 4, "not closed"}, {"- b\n  c", 2, 3, "indented by 2, want"},
		{"a: >\n  b\n   c\n", 3, 4, "use |"}, {"a: |\n", 1, 4, "empty"}, {"a: |\nb: c\n", 1, 4, "empty"}, {"a: |\n  b", 2, 4, "line feed"}, {"a: |\n  b\n  ", 3, 1, "spaces"}, {"a: |-\n  b \n", 1, 4, "ends with a space"}, {"a: |\n   \n  b\n", 3, 1, "more spaces"}, {"a: |\n  b\n    \n  c\n", 3, 1, "only spaces"},
		{"a: |\n  \tb\n", 2, 3, "tab"}, {"a: |0\n  b\n", 1, 5, "end of the line"}, {"a: |12\n  b\n", 1, 6, "end of the line"}, {"a: |+-\n  b\n", 1, 6, "end of the line"}, {"a: | b\n", 1, 6, "end of the line"}, {"a: |#b\n", 1, 5, "end of the line"}, {"|\n a\n", 1, 1, "want a key"},
		// indentation
		{"a:\n\tb: c", 2, 1, "tab in the indentation"}, {"a:\n  \tb: c", 2, 3, "tab in the indentation"}, {"-\ta", 1, 2, "tab after the dash"}, {"a: [b,\n\tc]", 2, 1, "tab"}, {"a: [b,\tc]", 1, 7, "tab"}, {"a\t: b", 1, 3, "tab before the colon"}, {"a: b\tc", 1, 4, "tab inside a value"}, {"a: 'b\tc'", 1, 6, "tab inside quotes"}, {"a: \"\tb\"", 1, 5, "tab inside quotes"},
		{" a: b\nc: d", 2, 1, "after the end"}, {"a:\n    b: c\n  d: e", 3, 3, "indented by 2, want"}, {"- a\n - b", 2, 2, "indented by 1"}, {"a: b\n- c", 2, 1, "list item"}, {"- a\nb: c", 2, 1, "after the end"}, {"a:\n  - b\n  c: d", 3, 3, "indented by 2, want"},
		{"a: [b,\nc]", 2, 1, "inside brackets"}, {"a:\n  b: [\n c]", 3, 2, "inside brackets"}, {"a:\n  b: [\n    c\n ]", 4, 2, "inside brackets"},
		// the rest of the line
		{"a: b: c", 1, 5, "second colon"}, {"a: - b", 1, 4, "cannot start on the line"}, {"a: 'b' c", 1, 8, "end of the line"}, {"a: 'b'#c", 1, 7, "space before the #"}, {"a: [b] c", 1, 8, "end of the line"}, {"--- a", 1, 5, "end of the line"}, {"a", 1, 2, ""}, {"a: b\nc", 2, 1, "without a key"}, {"a:b\nc: d", 2, 1, ""}, {"a: b\nc:d", 2, 1, "colon and a space"},
		{": a", 1, 1, "colon without a key"}, {"---x: 1", 1, 1, "quotes"}, {"...x: 1", 1, 1, "quotes"}, {"a: @b", 1, 4, "needs quotes"}, {"a: `b`", 1, 4, "needs quotes"}, {"a: %b", 1, 4, "needs quotes"}, {"a: ?b", 1, 4, "needs quotes"}, {"a: {b: #c\n  d:e}", 2, 3, "colon without a space"}, {"a: ]", 1, 4, "needs quotes"}, {"a: ,", 1, 4, "needs quotes"}, {"a: - ", 1, 4, "cannot start on the line"},
		// brackets
		{"a: [b", 1, 4, "never closed"}, {"a: {b: c\nd: e", 2, 1, "inside brackets"}, {"[\n---\n]", 1, 1, "never closed"}, {"a: [b}", 1, 6, "comma or ]"}, {"a: {b: c]", 1, 9, "comma or }"}, {"a: [,]", 1, 5, "want a value"}, {"a: [b,,c]", 1, 7, "want a value"}, {"a: {,}", 1, 5, "want a value"}, {"a: [b: c]", 1, 6, "braces around it"}, {"a: [- b]", 1, 5, "dash"}, {"a: {b}", 1, 5, "without a value"}, {"a: {b:c}", 1, 5, "colon without a space"}, {"a: {b: [c:d]}", 1, 9, "colon without a space"}, {"a: {b\n  : c}", 1, 5, "without a value"}, {"a: [\"b\" \"c\"]", 1, 9, "comma or ]"}, {"a: [|]", 1, 5, "needs quotes"},
		// characters
		{`a: "\q"`, 1, 5, "unknown"}, {`a: "\x4"`, 1, 5, "2 hexadecimal digits"}, {`a: "\u00g0"`, 1, 5, "4 hexadecimal digits"}, {`a: "\U00110000"`, 1, 15, "not a character"}, {`a: "\ud800"`, 1, 11, "half of a character"}, {`a: "\ud800\u0041"`, 1, 17, "half of a character"}, {`a: "\udc00\ud800"`, 1, 17, "half"}, {`a: "\`, 1, 5, "unknown"},
		{"a: b\rc: d", 1, 5, "carriage return"}, {"a: \x00", 1, 4, "U+0000"}, {"a: \u0085", 1, 4, "U+0085"}, {"a: \u2028", 1, 4, "U+2028"}, {"\ufeffa: b", 1, 1, "U+FEFF"}, {"a: \xff", 0, 0, "UTF-8"},
		{"", 0, 0, "empty"}, {"# c\n", 0, 0, "empty"}, {"---\n...\n", 0, 0, "empty"}, {strings.Repeat(" ", MaxBytes+1), 0, 0, "larger"},
	} {
		_, err := Parse([]byte(tc.text))
		if err == nil && tc.word == "" {
			continue
		}
		e, ok := err.(*Error)
		if !ok || e.Line != tc.line || e.Column != tc.column || !strings.Contains(e.Message, tc.word) {
			t.Errorf("%.60q: %v, want line %d, column %d and %q", tc.text, err, tc.line, tc.column, tc.word)
			continue
		}
		wantPlace(t, []byte(tc.text), err)
	}
}

// TestDepthIsBounded at the same depth for every kind of collection.
func TestDepthIsBounded(t *testing.T) {
	for name, of := range map[string]func(n int) string{
		"flow sequences": func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) },
		"flow mappings":  func(n int) string { return strings.Repeat("{a: ", n) + "b" + strings.Repeat("}", n) },
		"compact lists":  func(n int) string { return strings.Repeat("- ", n) + "a" },
		"block mappings": func(n int) string {
			var b strings.Builder
			for i := range n {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		},
		"block and flow": func(n int) string {
			return strings.Repeat("- ", n-n/2) + strings.Repeat("[", n/2) + strings.Repeat("]", n/2)
		},
	} {
		if _, err := Parse([]byte(of(MaxDepth))); err != nil {
			t.Errorf("%s: %d levels: %v", name, MaxDepth, err)
		}
		if _, err := Parse([]byte(of(MaxDepth + 1))); err == nil || !strings.Contains(err.Error(), "nested more than 32 levels") {
			t.Errorf("%s: %d levels: %v", name, MaxDepth+1, err)
		}
	}
}

// TestTheLargestDocumentsCostLittle: a document of a mebibyte of one kind of piece is read or
// refused within memory that its size and MaxNodes bound, and at once. What takes the square of
// its size in time would take minutes.
func TestTheLargestDocumentsCostLittle(t *testing.T) {
	fill := func(before, piece string) string {
		return before + strings.Repeat(piece, (MaxBytes-len(before))/len(piece))
	}
	var numbered strings.Builder
	for i := 0; numbered.Len() < MaxBytes-20; i++ {
		numbered.WriteString("k" + strconv.Itoa(i) + ": 1\n")
	}
	docs := map[string]string{"keys": numbered.String(), "flow keys": "{" + strings.ReplaceAll(numbered.String(), "\n", ",")}
	for _, pieces := range [][2]string{
		{"", "["}, {"", "{"}, {"", "]"}, {"", "- "}, {"", "-\n"}, {"", "? "}, {"", ": "}, {"", "\""}, {"a: \"", "x"}, {"a: '", "x"}, {"a: '", "''"}, {"a: \"", "\\n"}, {"a: \"", "\\u0000"}, {"a: \"", "\\"}, {"", " "}, {"", "\n"}, {"", "\r\n"}, {"", "\r"}, {"", "\t"}, {"a: x ", "\t"}, {"", " \n"}, {"", "#"}, {"", "# \n"}, {"a:", " #\n"},
		{"", "a"}, {"", "a:"}, {"", "a: "}, {"a: ", "a "}, {"a: ", "1"}, {"a: ", "_"}, {"a: 1", "_"}, {"a: .", "0"}, {"a: ", "+-"}, {"a: ", "é"}, {"a: |\n", "  b\n"}, {"a: >\n", "  b\n"}, {"a: >\n", "  b\n\n"}, {"a: |\n  b\n", "\n"}, {"a: |+\n  b\n", "\n"}, {"a: |\n", " \n"}, {"a: |\n  ", "b"}, {"a: |9", " "},
		{"[", "a,"}, {"[", "[],"}, {"[", "{},"}, {"[", "{a: b},"}, {"[", "a "}, {"[", "\n"}, {"[", " # c\n"}, {"[", "'',"}, {"a:\n", "- a\n"}, {"a:\n", "- - a\n"}, {"", "a: b\n"}, {"a:\n", "  b: c\n"}, {"a:\n", "- {b: c}\n"}, {"", "---\n"}, {"", "...\n"}, {"", "&"}, {"", "*"}, {"", "!"}, {"", "%"}, {"", "<<"}, {"a", " "}, {"{a", " "}, {"a: [b]", " "},
	} {
		docs[pieces[0]+pieces[1]] = fill(pieces[0], pieces[1])
	}
	for i, name := range slices.Sorted(maps.Keys(docs)) {
		if i%4 != 0 && !longtest.All() {
			continue
		}
		doc := docs[name]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, err := Parse([]byte(doc))
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 || took > 10*time.Second {
			t.Errorf("%q: %d MiB allocated in %v", name, used>>20, took)
		}
		if err != nil {
			wantPlace(t, []byte(doc), err)
		}
	}
}
