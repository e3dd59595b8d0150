package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/grammar"
)

func compile(t testing.TB, s string) *grammar.Grammar {
	t.Helper()
	g, err := Compile([]Part{{Schema: []byte(s)}})
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return g
}

// has says whether a grammar has a whole text.
func has(t testing.TB, g *grammar.Grammar, text string) bool {
	t.Helper()
	m, err := g.NewMatcher()
	if err != nil {
		t.Fatal(err)
	}
	ok, err := m.Allows([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return ok && m.Advance([]byte(text)) == nil && m.MayEnd()
}

func TestSchemasAdmit(t *testing.T) {
	for _, c := range []struct {
		schema  string
		yes, no []string
	}{
		{`true`, []string{`1`, `-0.5e+10`, `"a\n\u00e9"`, `[1, {"a": null}]`, `{}`, `true`}, []string{`01`, `.5`, `"\ud800"`, "\"\n\"", `[1,]`, `nul`, `{a:1}`, `"a`}},
		{Any, []string{`{}`, `{"a":[1,2],"b":{"c":""}}`, "{\n  \"a\": 1\n}"}, []string{`[]`, `"a"`, `{"a"}`, "{\n\n\n}"}},
		{`{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"string"},"c":{"type":"boolean"}},"required":["b"]}`,
			[]string{`{"b":""}`, `{"a":1,"b":""}`, `{"b":"","c":true}`, `{"a": 1, "b": "x", "c": false}`}, []string{`{}`, `{"a":1}`, `{"b":"","a":1}`, `{,"b":""}`, `{"b":"",}`, `{"b":"","d":1}`}},
		{`{"properties":{"a":true,"b":{"type":"null"}}}`, []string{`{}`, `{"a":1}`, `{"b":null}`, `{"a":[],"b":null}`}, []string{`{"b":1}`, `{,"b":null}`, `{"c":1}`}},
		{`{"type":"object","required":["x"],"additionalProperties":{"type":"integer"}}`, []string{`{"x":1}`}, []string{`{}`, `{"x":""}`}},
		{`{"type":"object","additionalProperties":{"type":"integer"}}`, []string{`{}`, `{"x":1,"y":2}`}, []string{`{"x":""}`}},
		{`{"type":"object","additionalProperties":false}`, []string{`{}`, `{ }`}, []string{`{"x":1}`}},
		{`{"type":"object","properties":{"a":false,"b":true}}`, []string{`{}`, `{"b":1}`}, []string{`{"a":1}`}},
		{`{"type":"array","items":{"enum":["a",1,null,{"k":[1]}]},"minItems":1,"maxItems":3}`, []string{`["a"]`, `[1,null,{"k": [1]}]`}, []string{`[]`, `["b"]`, `[1,1,1,1]`}},
		{`{"type":"array"}`, []string{`[]`, `[1,"a",[]]`}, []string{`{}`}},
		{`{"items":{"type":"null"},"minItems":2}`, []string{`[null,null]`, `[null,null,null]`}, []string{`[null]`}},
		{`{"prefixItems":[{"type":"null"},{"type":"boolean"}],"items":{"type":"integer"},"minItems":3,"maxItems":4}`, []string{`[null,true,1]`, `[null,true,1,2]`}, []string{`[null,true]`, `[null,true,1,2,3]`, `[1,true,1]`}},
		{`{"type":"array","maxItems":0}`, []string{`[]`}, []string{`[1]`}},
		{`{"type":["string","null"],"maxLength":2}`, []string{`null`, `""`, `"\u00e9\u20ac"`, `"\\\u0041"`}, []string{`"abc"`, `1`}},
		{`{"type":"string","minLength":2}`, []string{`"ab"`, `"abc"`}, []string{`"a"`, `""`}},
		{`{"const":"a\"b</x>"}`, []string{`"a\"b</x>"`}, []string{`"ab"`}},
		{`{"type":"integer","enum":[1,"a",2.0]}`, []string{`1`, `2`}, []string{`"a"`}},
		{`{"type":"integer"}`, []string{`0`, `-7`, `10`}, []string{`01`, `1.5`, `-`, `1e3`}},
		{`{"type":"integer","minimum":-3,"maximum":120}`, []string{`-3`, `-1`, `0`, `9`, `10`, `99`, `120`}, []string{`-4`, `121`, `130`, `200`, `1000`, `-0`}},
		{`{"type":"integer","exclusiveMinimum":9.5,"exclusiveMaximum":12}`, []string{`10`, `11`}, []string{`9`, `12`}},
		{`{"type":"integer","minimum":1000}`, []string{`1000`, `12345`}, []string{`999`, `0`, `-1000`}},
		{`{"type":"number","minimum":0}`, []string{`0`, `1.5e10`}, []string{`-1`}},
		{`{"anyOf":[{"type":"integer"},{"type":"string","pattern":"^a+$"}]}`, []string{`1`, `"aa"`}, []string{`""`, `"b"`, `null`}},
		{`{"oneOf":[{"type":"integer"},{"type":"null"}]}`, []string{`1`, `null`}, []string{`""`}},
		{`{"oneOf":[{"$ref":"#/$defs/a"},{"$ref":"#/$defs/b"}],"$defs":{"a":{"type":"object","properties":{"kind":{"const":"a"},"x":true},"required":["kind"]},"b":{"type":"object","properties":{"kind":{"enum":["b"]}},"required":["kind"]}}}`,
			[]string{`{"kind":"a","x":1}`, `{"kind":"b"}`}, []string{`{"kind":"b","x":1}`}},
		{`{"allOf":[{"type":"null"}]}`, []string{`null`}, []string{`1`}},
		{`{"type":"object","properties":{"v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["v","next"]}`, []string{`{"v":1,"next":{"v":2,"next":null}}`}, []string{`{"v":1,"next":2}`}},
		{`{"$ref":"#/$defs/a~1b","$defs":{"a/b":{"type":"null"}}}`, []string{`null`}, nil},
		{`{"type":"string","format":"date-time"}`, []string{`"2026-12-02T23:59:59.5+01:00"`}, []string{`"2026-13-02T23:59:59Z"`, `"2026-12-02"`}},
		{`{"type":"string","format":"uuid"}`, []string{`"01234567-89ab-cdef-0123-456789abcdef"`}, []string{`"0"`}},
		{`{"type":"string","pattern":"^(?:[A-Z]{2,3}|\\d+-\\w)\\.x?$"}`, []string{`"AB."`, `"12-a.x"`}, []string{`"A."`, `"AB"`, `"AB.y"`}},
		{`{"type":"string","pattern":"b|^c"}`, []string{`"abc"`, `"c"`, `"b"`}, []string{`"ac"`, `""`}},
		{`{"type":"string","pattern":"^[^a-z\\s]+$"}`, []string{`"A\""`, `"\\"`, "\"\u00e9\""}, []string{`"a"`, `" "`, `"\n"`}},
		{`{"type":"string","pattern":"^.\\n[\"\\\\]$"}`, []string{`"x\n\""`, `"\"\n\\"`}, []string{`"\n\n\""`, `"xn\""`}},
		{`{"type":"string","pattern":"^a{0,2}?(b|)+?$"}`, nil, nil},
	} {
		g, err := Compile([]Part{{Schema: []byte(c.schema)}})
		if c.yes == nil {
			if err == nil {
				t.Errorf("%s: a repetition of what may be empty was made", c.schema)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		for _, text := range c.yes {
			if !has(t, g, text) {
				t.Errorf("%s: has not %s", c.schema, text)
			}
		}
		for _, text := range c.no {
			if has(t, g, text) {
				t.Errorf("%s: has %s", c.schema, text)
			}
		}
	}
}

func TestSchemasRefusedByName(t *testing.T) {
	deep := strings.Repeat(`{"items":`, 300) + `true` + strings.Repeat(`}`, 300)
	var wide strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&wide, `"property number %d":{"type":"null"},`, i)
	}
	for s, want := range map[string]string{
		`1`: "object or true", `false`: "object or true", `{"type":"thing"}`: "type must be", `{"type":[]}`: "type must be", `{"type":["null","null"]}`: "type must be",
		`{"type":"object","patternProperties":{}}`: `"patternProperties"`, `{"not":{}}`: `"not"`, `{"if":{}}`: `"if"`, `{"type":"object","minProperties":1}`: `"minProperties"`,
		`{"type":"number","multipleOf":2}`: `"multipleOf"`, `{"contains":{}}`: `"contains"`, `{"brand-new":1}`: `"brand-new"`,
		`{"type":"array","uniqueItems":true}`: "uniqueItems", `{"type":"array","items":[true]}`: "object or true", `{"type":"array","minItems":3,"maxItems":2}`: "below minItems",
		`{"type":"array","minItems":-1}`: "minItems", `{"type":"array","minItems":1.5}`: "minItems", `{"prefixItems":[true],"items":false,"minItems":2}`: "minItems is above", `{"prefixItems":{}}`: "prefixItems",
		`{"type":"string","format":"email"}`: `"email"`, `{"type":"string","pattern":1}`: "pattern must", `{"type":"string","pattern":"a","maxLength":1}`: "beside a pattern",
		`{"type":"string","minLength":2,"maxLength":1}`: "below minLength", `{"type":"string","minLength":100000}`: "elements", `{"type":"string","maxLength":2000000000}`: "elements",
		`{"type":"number","minimum":1}`: "bounds of numbers", `{"type":"number","exclusiveMinimum":0}`: "bounds of numbers", `{"type":"number","maximum":1}`: "bounds of numbers", `{"type":"number","minimum":-0.5}`: "bounds of numbers",
		`{"type":"integer","minimum":"1"}`: "must be a number", `{"type":"integer","minimum":2,"maximum":1}`: "no integer", `{"type":"integer","minimum":1e300}`: "no integer",
		`{"type":"integer","minimum":` + strings.Repeat("9", 1<<15) + `}`: "64 bits", `{"const":` + strings.Repeat("9", 1<<15) + `.5}`: "64 bits", `{"$ref":"#/$defs/` + strings.Repeat("x", 1<<15) + `","$defs":{"` + strings.Repeat("x", 1<<15) + `":{"$ref":"#"}}}`: "never end",
		`{"properties":[]}`: "properties must", `{"required":"a"}`: "required must", `{"required":[1]}`: "required must", `{"type":"object","required":["a"],"additionalProperties":false}`: "must not be there",
		`{"properties":{"a":false},"required":["a"]}`: "must not be there", `{"type":"object","additionalProperties":1}`: "object or true",
		`{"$ref":"https://example.org/x"}`: "not in the document", `{"$ref":"#/nothing"}`: "not in the document", `{"$ref":"#name"}`: "not in the document", `{"$ref":7}`: "not in the document", `{"$ref":"#/$defs/a","type":"null","$defs":{"a":true}}`: "beside",
		`{"$ref":"#"}`: `"#" `, `{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}`: "never end", `{"anyOf":[]}`: "anyOf", `{"anyOf":[true],"type":"null"}`: "beside",
		`{"allOf":[true,true]}`: "allOf", `{"oneOf":[{"type":"integer"},{"type":"number"}]}`: "oneOf", `{"oneOf":[true,{"type":"null"}]}`: "oneOf", `{"enum":[]}`: "without a value", `{"type":"string","enum":[1]}`: "without a value",
		`{`: "", `{} {}`: "more than one", deep: "levels deep", `{"properties":{` + strings.TrimSuffix(wide.String(), ",") + `}}`: "elements",
		`{"enum":["` + strings.Repeat("x", 1<<15) + `"]}`:                    "elements",
		`{"anyOf":[` + strings.Repeat(`{"minLength":16000},`, 20) + `true]}`: "elements", `{"pattern":"` + strings.Repeat(`a{16000}|`, 20) + `"}`: "elements",
	} {
		_, err := Compile([]Part{{Schema: []byte(s)}})
		if !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.90s: got %.500v, want %q", s, err, want)
		}
	}
	for _, pattern := range []string{`(?=a)`, `(?!a)`, `(?<=a)`, `(?P<n>a)`, `(?i)a`, `(a)\1`, `\ba`, `\Aa`, `a\z`, `\p{L}`, `\cA`, `a**`, `a*+`, `a{2}{3}`, `a{3,2}`, `a{x}`, `a{99999}`, `a{65535,}`,
		`[`, `[]`, `[]a]`, `[^]`, `[b-a]`, `[\d-x]`, `[[:alpha:]]`, `[a&&b]`, `(a`, `a)`, `a^b`, `a$b`, `(^a)`, `(a$)`, `*a`, `+`, `\`, `\0`, `\ud800`, `[^\x00-\uffff]{99999}`,
		strings.Repeat("(", 33) + strings.Repeat(")", 33), `(a*)*`, `((((a{99}){99}){99}){99}){99}a{16000}`} {
		raw, _ := json.Marshal(map[string]string{"type": "string", "pattern": pattern})
		if _, err := Compile([]Part{{Schema: raw}}); !errors.Is(err, ErrSchema) {
			t.Errorf("pattern %.60s: %v", pattern, err)
		}
	}
}

func TestAlternativesOfPartsAreTexts(t *testing.T) {
	g, err := Compile([]Part{{Text: "<a>", Schema: []byte(`{"type":"null"}`)}, {Text: "</a>"}}, []Part{{Text: "<b>", Schema: []byte(`{"$ref":"#/$defs/x","$defs":{"x":{"const":1}}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"<a>null</a>": true, "<b>1": true, "<a>1</a>": false, "<a>null": false} {
		if has(t, g, text) != want {
			t.Errorf("%s: want %v", text, want)
		}
	}
}

// TestTextBeforeACallDoesNotBeginOne: any text, then what begins with the marker.
func TestTextBeforeACallDoesNotBeginOne(t *testing.T) {
	call := []Part{{Text: "<<a>", Schema: []byte(`{"type":"null"}`)}}
	g, err := CompileCalls("<<a>", true, call)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"<<a>null": true, "so <<<<a>null": true, "<<<a": true, "\u00e9<<\u20ac": true, "a<a>": true, "<<a>": false, "x<<<a>": false, "<<a>nul": false, "<<a>x<<a>null": false, "<<a>null.": false, "\xff": false, "x<<a>null\n<<a>null\n<<a>null": true} {
		if has(t, g, text) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
	required, err := CompileCalls("", false, call)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"<<a>null": true, "x<<a>null": false, "": false, "<<a>null\n<<a>null": false} {
		if has(t, required, text) != want {
			t.Errorf("required: %q: want %v", text, want)
		}
	}
	rng := rand.New(rand.NewPCG(9, 10))
	for range 2000 {
		var text string
		for range rng.IntN(12) {
			text += string("<<<aa>x"[rng.IntN(7)])
		}
		if has(t, g, text+".") == strings.Contains(text, "<<a>") {
			t.Fatalf("%q", text)
		}
	}
}

// randomSchema is a schema of every supported keyword.
func randomSchema(rng *rand.Rand, depth int) any {
	kinds := []string{"null", "boolean", "integer", "number", "string", "const", "enum", "object", "array", "anyOf", "map", "tuple", "any", "list of types"}
	if depth == 0 {
		kinds = kinds[:7]
	}
	sub := func() any { return randomSchema(rng, depth-1) }
	maybe := func(s map[string]any, k string, v any) {
		if rng.IntN(2) == 0 {
			s[k] = v
		}
	}
	kind := kinds[rng.IntN(len(kinds))]
	s := map[string]any{"type": kind}
	switch kind {
	case "integer":
		low := rng.IntN(400) - 200
		maybe(s, "minimum", low)
		maybe(s, "exclusiveMaximum", low+2+rng.IntN(5000))
	case "number":
		maybe(s, "minimum", 0)
	case "string":
		switch rng.IntN(4) {
		case 0:
			s["pattern"] = []string{`^[a-f]{1,4}(-\d+)?$`, `x|^\\"y`, `^\S+@\w+\.[a-z]{2,3}$`, `^[^"]*$`, `\d`, `^(ab|cd)+`, `.\.$`, `^\W\D$`}[rng.IntN(8)]
		case 1:
			s["format"] = []string{"date", "time", "date-time", "uuid"}[rng.IntN(4)]
		default:
			maybe(s, "minLength", rng.IntN(4))
			maybe(s, "maxLength", 3+rng.IntN(4))
		}
	case "const":
		return map[string]any{"const": []any{"a\"\\\n\u2028", 1.5, -3, nil, map[string]any{"k": []any{true}}}[rng.IntN(5)]}
	case "enum":
		return map[string]any{"enum": []any{"red", "green<>&", 7, nil}[:1+rng.IntN(4)]}
	case "object":
		properties, required := map[string]any{}, []string{}
		for i := range rng.IntN(5) {
			name := fmt.Sprintf("p%d\u00e9\"", i)
			properties[name] = sub()
			if rng.IntN(2) == 0 {
				required = append(required, name)
			}
		}
		s["properties"], s["required"] = properties, required
		maybe(s, "additionalProperties", false)
	case "map":
		return map[string]any{"type": "object", "additionalProperties": sub()}
	case "array":
		maybe(s, "items", sub())
		least := rng.IntN(3)
		maybe(s, "minItems", least)
		maybe(s, "maxItems", least+rng.IntN(3))
	case "tuple":
		s = map[string]any{"type": "array", "prefixItems": []any{sub(), sub()}}
		maybe(s, "items", sub())
		maybe(s, "minItems", rng.IntN(4))
		if s["items"] != nil {
			maybe(s, "maxItems", 3+rng.IntN(2))
		}
	case "anyOf":
		return map[string]any{"anyOf": []any{sub(), sub()}}
	case "any":
		return true
	case "list of types":
		s["type"] = []string{"string", "null", "integer"}[:1+rng.IntN(3)]
		maybe(s, "maxLength", 5)
		maybe(s, "maximum", 77)
	}
	maybe(s, "title", "a title")
	return s
}

// walk is a random text of a grammar, byte by byte as a model of bytes would write it; beyond
// 200 bytes it prefers to end things.
func walk(t testing.TB, rng *rand.Rand, g *grammar.Grammar) (string, bool) {
	t.Helper()
	m, err := g.NewMatcher()
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for len(text) < 4000 {
		var may []byte
		for b := range 256 {
			if ok, err := m.Allows([]byte{byte(b)}); err != nil {
				t.Fatal(err)
			} else if ok {
				may = append(may, byte(b))
			}
		}
		if m.MayEnd() && (len(may) == 0 || rng.IntN(4) == 0 || len(text) > 200) {
			return string(text), true
		}
		if len(may) == 0 {
			t.Fatalf("%q: nothing may come, and it may not end", text)
		}
		next := may[rng.IntN(len(may))]
		if i := rng.IntN(3); len(may) > 200 && i > 0 { // in a string: leave it soon
			next = "a\""[i-1]
		}
		if len(text) > 200 {
			for _, b := range []byte("}]\"n0") {
				if slices.Contains(may, b) {
					next = b
					break
				}
			}
		}
		if !slices.Contains(may, next) {
			next = may[0]
		}
		if err := m.Advance([]byte{next}); err != nil {
			t.Fatal(err)
		}
		text = append(text, next)
	}
	return "", false
}

type sample struct {
	Schema any    `json:"schema"`
	Text   string `json:"text"`
}

func samples(t testing.TB, schemas, each int) (list []sample) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range schemas {
		s := randomSchema(rng, 3)
		raw, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		g := compile(t, string(raw))
		for range each {
			if text, ok := walk(t, rng, g); ok {
				list = append(list, sample{s, text})
			}
		}
	}
	return list
}

// TestTextsAreJSON: all that random schemas make is JSON, whatever they say.
func TestTextsAreJSON(t *testing.T) {
	list := samples(t, 120, 3)
	for _, s := range list {
		if !json.Valid([]byte(s.Text)) {
			t.Fatalf("%v made %q", s.Schema, s.Text)
		}
	}
	if len(list) < 300 {
		t.Errorf("only %d texts ended", len(list))
	}
}

// TestPythonValidatesEveryText: the package jsonschema finds nothing wrong with thousands of
// texts of random schemas.
func TestPythonValidatesEveryText(t *testing.T) {
	longtest.WithoutRace(t, "it makes texts of 800 schemas")
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "clients/bin/python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("NOT TESTED against Python's jsonschema: set ANCHORHOLD_PEERS to a directory whose clients/bin/python has the package jsonschema")
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import jsonschema").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED against Python's jsonschema: %s", out)
	}
	list := samples(t, 800, 8)
	raw, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import json, sys, jsonschema
for s in json.load(sys.stdin):
    jsonschema.Draft202012Validator.check_schema(s["schema"])
    jsonschema.validate(json.loads(s["text"]), s["schema"])
`)
	cmd.Stdin = strings.NewReader(string(raw))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%d texts of 800 schemas", len(list))
}

func FuzzCompile(f *testing.F) {
	f.Add([]byte(`{"type":"object","properties":{"a":{"type":["integer","null"],"minimum":-3}},"required":["a"]}`))
	f.Add([]byte(`{"anyOf":[{"$ref":"#/$defs/x"},{"pattern":"^a[^b]{2,}\\d|c"}],"$defs":{"x":{"prefixItems":[true],"items":{"$ref":"#"}}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := Compile([]Part{{Schema: raw}})
		if err != nil {
			if !errors.Is(err, ErrSchema) {
				t.Error(err)
			}
			return
		}
		if _, err := g.NewMatcher(); err != nil && !errors.Is(err, grammar.ErrComplex) {
			t.Error(err)
		}
	})
}
