package grammar

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// has says whether a grammar has a whole text, and checks that it is so however the text comes.
func has(t testing.TB, g *Grammar, text string) bool {
	t.Helper()
	m := begin(t, g)
	for i := range len(text) {
		ok, err := m.Allows([]byte{text[i]})
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return false
		}
		if err := m.Advance([]byte{text[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := begin(t, g).Allows([]byte(text)); err != nil || ok != (text != "") {
		t.Fatalf("%q comes byte by byte, not at once: %v", text, err)
	}
	return m.MayEnd()
}

func begin(t testing.TB, g *Grammar) *Matcher {
	t.Helper()
	m, err := g.NewMatcher()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func parse(t testing.TB, text string) *Grammar {
	t.Helper()
	g, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGrammarsHaveTheirTextsAndNoOthers(t *testing.T) {
	for _, c := range []struct {
		grammar string
		yes, no []string
	}{
		{`root ::= "a"`, []string{"a"}, []string{"", "b", "aa"}},
		{`root ::= "a" | "ab" | `, []string{"", "a", "ab"}, []string{"b", "aba"}},
		{`root ::= [a-c]+ "." [^0-9]*`, []string{"a.", "abc.xyz\u00e9"}, []string{".", "d.", "a.7"}},
		{"root ::= x{2} y{1,} z{0,2}\nx ::= \"x\"\ny ::= \"y\" # so\nz ::=\n  \"z\" | \"w\"\n", []string{"xxy", "xxyyzz", "xxyw"}, []string{"xy", "xxz", "xxyzzz"}},
		{"root ::= (\n \"a\" |\n \"b\" ) root | \"\"", []string{"", "abba"}, []string{"c", "abc"}},
		{`root ::= "(" root ")" root | ""`, []string{"", "()", "(()())()"}, []string{"(", ")", "(()"}},
		{`root ::= "\u00e9" | "\x41" | "\U0001F600" | [\n\t\]\\] | "\""`, []string{"\u00e9", "A", "\U0001F600", "\n", "]", "\\", `"`}, []string{"\xc3", "e", "a"}},
		{`root ::= .{2}`, []string{"\u20ac\u00e9", "ab", "\U0010FFFF\n"}, []string{"a", "abc", "\xff\xff", "a\xed\xa0\x80", "\xc0\x80a", "\xf4\x90\x80\x80a"}},
		{`root ::= [\u0100-\u20ac]`, []string{"\u0100", "\u0fff", "\u1000", "\u20ac"}, []string{"\u00ff", "\u20ad", "\xc4", "\xe0\x80\x80"}},
		{`root ::= a-b` + "\n" + `a-b ::= "1" a_2` + "\n" + `a_2 ::= "2" ? "3"`, []string{"13", "123"}, []string{"12"}},
		{`root ::= "a"? "a"? "a"? "aaa"`, []string{"aaa", "aaaa", "aaaaaa"}, []string{"aa", "aaaaaaa"}},
		{`root ::= "x"{,2}`, []string{"", "xx"}, []string{"xxx"}},
	} {
		g := parse(t, c.grammar)
		for _, text := range c.yes {
			if !has(t, g, text) {
				t.Errorf("%s: has not %q", c.grammar, text)
			}
		}
		for _, text := range c.no {
			if has(t, g, text) {
				t.Errorf("%s: has %q", c.grammar, text)
			}
		}
	}
}

func TestGrammarsThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		``:                                       "no rule root",
		`a ::= "x"`:                              "no rule root",
		`root ::= b`:                             `"b" is not defined`,
		`root ::= "a`:                            "does not end",
		`root ::= [a`:                            "does not end",
		`root ::= []`:                            "no characters",
		`root ::= [b-a]`:                         "down to",
		`root ::= "\q"`:                          "escape",
		`root ::= "\ud800"`:                      "escape",
		`root ::= ("a"`:                          "want )",
		`root ::= "a")`:                          "rule's end",
		`root "a"`:                               "::=",
		"root ::= \"a\"\nroot ::= \"b\"":         "twice",
		`root ::= root "a" | "a"`:                "begins with itself",
		"root ::= a root | \"x\"\na ::= \"\"":    "begins with itself",
		"root ::= a \"x\"\na ::= b\nb ::= a | ":  "begins with itself",
		`root ::= (""?)*`:                        "begins with itself",
		`root ::= "a" root`:                      "never end",
		"root ::= \"a\" | b\nb ::= \"b\" b":      "never end",
		`root ::= "a"{20000}`:                    "elements",
		`root ::= ("a"{100}){100} "b"{99999999}`: "elements",
		`root ::= "a"{2,1}`:                      "in order",
		`root ::= "a"{x}`:                        "number",
		`root ::= "a"{1`:                         "want n}",
		`root ::= <think>`:                       "tokens are not supported",
		`root ::= !<[7]>`:                        "tokens are not supported",
		`root ::= ` + strings.Repeat("(", 65) + `"a"` + strings.Repeat(")", 65): "nested",
		"root ::= \"\xff\"": "UTF-8",
		`root ::= ` + `"` + strings.Repeat("a", 1<<14) + `"`:                    "elements",
		`root ::= ` + strings.Repeat(`"a" | `, 1<<14) + `"a"`:                   "elements",
		`root ::= ((((((("a"{9}){9}){9}){9}){9}){9}){9}){99} | "b"{9999,16000}`: "elements",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrGrammar) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
	}
}

// TestMasksAreWhatEachTokenIsAllowed: the walk over the sorted vocabulary finds the tokens that
// are allowed one by one, along random answers.
func TestMasksAreWhatEachTokenIsAllowed(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var tokens [][]byte
	for b := range 256 {
		tokens = append(tokens, []byte{byte(b)})
	}
	alphabet := []string{"a", "b", `"`, "{", "}", "[", "]", ":", ",", " ", "\u00e9", "\u20ac", "1", "0", "\\"}
	for range 3000 {
		var text string
		for range 1 + rng.IntN(5) {
			text += alphabet[rng.IntN(len(alphabet))]
		}
		tokens = append(tokens, []byte(text[:1+rng.IntN(len(text))])) // some end in half a character
	}
	tokens = append(tokens, nil, []byte(strings.Repeat("a", 300)), []byte(strings.Repeat("a", 299)+"b"))
	piece := func(id int32) []byte { return tokens[id] }
	v := NewVocabulary(len(tokens), piece)
	for _, text := range []string{
		`root ::= "{" (string ":" value ("," string ":" value)*)? "}"` + "\n" + `string ::= "\"" [^"\\]* "\""` + "\n" + `value ::= string | root | [0-9]+ | "[" (value ("," value)*)? "]"`,
		`root ::= [ab]{0,40} "{" .*`, `root ::= [^\u00e9]+`,
	} {
		g := parse(t, text)
		for range 5 {
			m := begin(t, g)
			for range 40 {
				var got, want []int32
				if err := v.Each(m, func(id int32) { got = append(got, id) }); err != nil {
					t.Fatal(err)
				}
				for id := range int32(len(tokens)) {
					if ok, err := m.Allows(piece(id)); err != nil {
						t.Fatal(err)
					} else if ok {
						want = append(want, id)
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: %d tokens, want %d", text, len(got), len(want))
				}
				if len(got) == 0 {
					if !m.MayEnd() {
						t.Fatal("nothing may come, and the answer may not end")
					}
					break
				}
				if err := m.Advance(piece(got[rng.IntN(len(got))])); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestHostileGrammarsEndAtTheLimits: each makes one of the resources grow, and none computes
// for long.
func TestHostileGrammarsEndAtTheLimits(t *testing.T) {
	var many strings.Builder
	many.WriteString("root ::= ")
	for range 1100 {
		many.WriteString(`"a" [ab]* "c" | `)
	}
	for name, text := range map[string]string{
		"stacks": many.String(),
		"states": `root ::= [ab]* "a" [ab]{18}`, // as many as subsets
		"nodes":  `root ::= "a" root "b" root "c" | "a" root "d" root | "a" root | "a"`,
	} {
		m, err := parse(t, text).NewMatcher()
		rng := rand.New(rand.NewPCG(3, 4))
		for i := 0; i < 20000 && err == nil; i++ {
			piece := []byte{'a' + byte(rng.IntN(2))}
			if name == "nodes" {
				piece = []byte("a")
			}
			if len(m.nodes) > maxNodes || len(m.states) > maxStates || m.steps > maxSteps || m.work > maxWork || err == nil && m.held > maxHeld {
				t.Fatalf("%s: above a limit", name)
			}
			err = m.Advance(piece)
		}
		if name != "states" && !errors.Is(err, ErrComplex) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "states" && err != nil { // which are forgotten between tokens
			t.Errorf("%s: %v", name, err)
		}
		if name == "states" {
			long := make([]byte, 20000)
			for i := range long {
				long[i] = 'a' + byte(rng.IntN(2))
			}
			if _, err := m.Allows(long); !errors.Is(err, ErrComplex) {
				t.Errorf("states within one token: %v", err)
			}
		}
	}
}

// TestWorkIsLimitedWhereNothingIsNew: what leads to stacks that were seen before is work too, which
// every other answer waits for.
func TestWorkIsLimitedWhereNothingIsNew(t *testing.T) {
	m := begin(t, parse(t, "root ::= [a] x [a]\nx ::= "+strings.Repeat("e|", 3000)+"e\ne ::= "+strings.Repeat(`""|`, 5000)+`"b"`))
	if _, err := m.Allows([]byte("aa")); !errors.Is(err, ErrComplex) {
		t.Errorf("3000 times 5000 steps to the same stack: %v", err)
	}
}

// TestShortTextsMakeNoLargeGrammars: of many alternatives none is defined before all are read.
func TestShortTextsMakeNoLargeGrammars(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := Parse("root ::= " + strings.Repeat(`"a"{16000}|`, 1000) + `"b"`); !errors.Is(err, ErrGrammar) {
		t.Errorf("16 million elements: %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > Cost {
		t.Errorf("%d bytes until it was refused, more than %d", used, Cost)
	}
	parse(t, "root ::= "+strings.Repeat("[a]", 8000)) // a long sequence is not copied for each part
}

// TestLongAnswersTakeNoMore: lists do not grow stacks, and what is forgotten changes nothing.
func TestLongAnswersTakeNoMore(t *testing.T) {
	m := begin(t, parse(t, "root ::= \"[\" (item (\",\" item)*)? \"]\"\nitem ::= [0-9]+ | root"))
	text := "[" + strings.Repeat("12,[3],", 20000) + "7]"
	for i := range len(text) {
		if err := m.Advance([]byte{text[i]}); err != nil {
			t.Fatal(i, err)
		}
	}
	if !m.MustEnd() || len(m.nodes) > 200 {
		t.Errorf("ended %v, %d nodes", m.MustEnd(), len(m.nodes))
	}
	deep := begin(t, parse(t, "root ::= \"[\" root \"]\" | \"x\""))
	const depth = 2 * maxNodes / 5
	for _, part := range []string{strings.Repeat("[", depth), "x", strings.Repeat("]", depth)} {
		for i := range len(part) {
			if err := deep.Advance([]byte{part[i]}); err != nil {
				t.Fatal(i, err)
			}
		}
	}
	if !deep.MustEnd() {
		t.Error("as many ends as beginnings do not end it")
	}
}

func TestBytesOfCharactersAreTheirs(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	edges := []rune{0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x3ffff, 0x40000, utf8.MaxRune}
	for range 200 {
		pick := func() rune {
			r := edges[rng.IntN(len(edges))] + rune(rng.IntN(3)) - 1
			return max(0, min(r, utf8.MaxRune))
		}
		a, c := pick(), pick()
		list := []Range{{min(a, c), max(a, c)}}
		not := Complement(list)
		b, d := NewBuilder(), NewBuilder()
		g, err := b.Finish(b.Class(list...))
		h, err2 := d.Finish(d.Class(not...))
		for _, edge := range edges {
			for r := edge - 2; r <= edge+2; r++ {
				if !utf8.ValidRune(r) {
					continue
				}
				in := r >= list[0].From && r <= list[0].To
				if err == nil && has(t, g, string(r)) != in || err2 == nil && has(t, h, string(r)) == in {
					t.Fatalf("%U in %U to %U", r, list[0].From, list[0].To)
				}
			}
		}
	}
}

func FuzzParseGBNF(f *testing.F) {
	f.Add("root ::= \"a\" b* | [^x-z]{1,3}\nb ::= (\"(\" root \")\")? # so", "a((b")
	f.Fuzz(func(t *testing.T, text, answer string) {
		g, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrGrammar) {
				t.Error(err)
			}
			return
		}
		m, err := g.NewMatcher()
		for i := 0; i < len(answer) && err == nil; i++ {
			if m.Advance([]byte{answer[i]}) != nil {
				return
			}
		}
		m.MustEnd()
	})
}
