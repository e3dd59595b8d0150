package jinja

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var conversation = map[string]any{
	"messages": []any{
		map[string]any{"role": "system", "content": "  Be brief.\n"},
		map[string]any{"role": "user", "content": "Hi <|im_end|> \"quoted\""},
		map[string]any{"role": "assistant", "content": "<think>deep</think>Hello"},
		map[string]any{"role": "user", "content": "ünïcode"},
	},
	"add_generation_prompt": true,
	"bos_token":             "<s>",
	"eos_token":             "</s>",
}

// cases are templates whose outputs a second implementation confirms in
// TestOutputsEqualJinja2.
var cases = []struct{ name, source, want string }{
	{"text", "plain", "plain"},
	{"last newline is dropped", "plain\n\n", "plain\n"},
	{"comment", "a{# gone #}b{#- gone -#} c", "abc"},
	{"output", "{{ bos_token }}{{ 1 }}{{ true }}{{ none }}{{ nothing }}", "<s>1TrueNone"},
	{"escapes", `{{ 'a\n\t\'\"\\' + "b" }}`, "a\n\t'\"\\b"},
	{"closing in string", "{{ '}}' ~ '%}' }}", "}}%}"},
	{"block newline", "a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc"},
	{"dash", "a  \n {%- if true -%} \n b {%- endif -%} c", "abc"},
	{"dash output", "a  {{- 'x' -}}  b", "axb"},
	{"keep newline after output", "{{ 'x' }}\n  {{ 'y' }}\n{% if true %}z{% endif %}", "x\n  y\nz"},
	{"plus keeps indentation", "a\n  {%+ if true %}b{% endif %}", "a\n  b"},
	{"indentation after text stays", "x  {% if true %}y{% endif %}", "x  y"},
	{"tag after tag", "{% if true %}\n  {% if true %}\n  x{% endif %}{% endif %}", "  x"},
	{"tag after output", "{{ 'a' }}  {% if true %}b{% endif %}", "a  b"},
	{"for", "{% for m in messages %}{{ loop.index }}/{{ loop.length }}{{ loop.index0 }}{% if loop.first %}F{% endif %}{% if loop.last %}L{% endif %}:{{ m.role }};{% endfor %}", "1/40F:system;2/41:user;3/42:assistant;4/43L:user;"},
	{"else", "{% if messages[0].role == 'user' %}u{% elif messages[0]['role'] == 'system' %}s{% else %}e{% endif %}{% if false %}{% else %}E{% endif %}", "sE"},
	{"set", "{% set x = 1 %}{% if true %}{% set x = x + 1 %}{% endif %}{% for m in messages %}{% set x = 9 %}{% endfor %}{{ x }}", "2"},
	{"set in one round", "{% set x = 0 %}{% for m in messages %}{{ x }}{% set x = 5 %}{{ x }}{% endfor %}{{ x }}", "050505050"},
	{"namespace", "{% set ns = namespace(n=0, seen=false) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.n = ns.n + 1 %}{% set ns.seen = true %}{% endif %}{% endfor %}{{ ns.n }}{{ ns.seen }}", "2True"},
	{"slices", "{% for m in messages[1:] %}{{ m.role[0:1] if false else loop.index }}{% endfor %}{{ messages[-1].content }}{{ messages[:2] | length }}{{ messages[1:-1]|length }}", "123ünïcode22"},
	{"filters", "[{{ messages[0].content | trim }}][{{ 'aB' | upper }}{{ 'aB'|lower }}{{ 'ünï' | length }}{{ missing | default('d') }}{{ 5 | string }}]", "[Be brief.][ABab3d5]"},
	{"methods", "{{ ' x '.strip() }}{{ 'xxay'.lstrip('x') }}{{ 'ayy'.rstrip('y') }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('ab') }}{{ messages[2]['content'].split('</think>')[-1] }}{{ 'a,b'.split(',')[0] }}", "xayaTrueFalseHelloa"},
	{"tests", "{{ x is defined }}{{ messages is defined }}{{ x is undefined }}{{ none is none }}{{ 'a' is string }}{{ messages is not string }}{{ messages[0] is mapping }}{{ messages is iterable }}{{ true is true }}{{ 1 is false }}", "FalseTrueTrueTrueTrueTrueTrueTrueTrueFalse"},
	{"operators", "{{ 1 + 2 - 1 }}{{ 7 % 3 }}{{ -1 % 3 }}{{ 1 < 2 and 2 >= 2 or x }}{{ not 1 > 2 }}{{ 'a' in 'cat' }}{{ 'role' in messages[0] }}{{ 'x' not in ['y', 'x'] }}{{ 1 == true }}{{ 'a' ~ 1 }}{{ [1] + [2] == [1, 2] }}{{ '1' != 1 }}", "212TrueTrueTrueTrueFalseTruea1TrueTrue"},
	{"or gives a value", "{{ '' or 'b' }}{{ 'a' and 'b' }}{{ 0 or none }}", "bbNone"},
	{"choose", "{{ 'y' if messages else 'n' }}{{ 'y' if false }}", "y"},
	{"empty list", "{% for x in [] %}never{% endfor %}{{ [] | length }}", "0"},
	{"precedence", "{{ 'a' + 'b' | upper }}{{ not x is defined }}{{ 1 + 1 == 2 and true }}", "aBTrueTrue"},
	{"line ends of all kinds", "a\r\nb\rc\r\n", "a\nb\nc"},
	{"comment at a line's start", "{% set x = 1 %}\n{# c #}  {% if true %}a{% endif %}\nb\n{# c #}\n  {% if true %}c{% endif %}", "  ab\nc"},
	{"plus keeps the line's end", "{% if true +%}\na{# c +#}\n{% endif %}", "\na\n"},
	{"white space beyond ASCII", "a\u2003\n{%- if true -%}\u00a0b{% endif %}\n\u2003{% if true %}c{% endif %}", "abc"},
	{"equal mappings", "{% for m in messages %}{{ m == messages[-1] }}{{ m != messages[0] }}{% endfor %}", "FalseFalseFalseTrueFalseTrueTrueTrue"},
	{"from the end", "{% for m in messages %}{{ loop.revindex }}{{ loop['revindex0'] }}{% endfor %}", "43322110"},
	{"an undefined list", "{{ x is iterable }}{{ x is mapping }}", "TrueFalse"},
	{"joined before added", "{{ 'a' ~ 1 + 'b' }}", "a1b"},
	{"add generation prompt", "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}go{% endif %}", "go"},
}

func TestOutputs(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := Compile(c.source)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.Render(context.Background(), conversation)
			if err != nil || got != c.want {
				t.Errorf("got %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestOutputsEqualJinja2 asks the reference implementation, set as model tools
// set it, for the same renderings.
func TestOutputsEqualJinja2(t *testing.T) {
	const script = `
job = json.load(sys.stdin)
json.dump([env.from_string(s).render(**job["variables"]) for s in job["sources"]], sys.stdout)
`
	sources := make([]string, len(cases))
	for i, c := range cases {
		sources[i] = c.source
	}
	job, err := json.Marshal(map[string]any{"variables": conversation, "sources": sources})
	if err != nil {
		t.Fatal(err)
	}
	out := jinja2(t, script, job)
	var want []string
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if c.want != want[i] {
			t.Errorf("%s: our expectation %q, jinja2 renders %q", c.name, c.want, want[i])
		}
	}
}

// jinja2 runs a script beside the reference implementation, env, set as model tools set it.
func jinja2(t *testing.T, script string, in []byte) []byte {
	t.Helper()
	const begin = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
`
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "zk/bin/python")
	if err := exec.CommandContext(t.Context(), python, "-c", begin).Run(); err != nil {
		t.Skip("no Python with jinja2: set ANCHORHOLD_PEERS to what .ci/peers-zk makes:", err)
	}
	cmd := exec.CommandContext(t.Context(), python, "-c", begin+script)
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// randomTemplates writes templates of random parts, with what the reference renders or with
// its error. White space and its marks stand at every tag.
const randomTemplates = `
import random
r = random.Random(7)
def space(): return r.choice(["", "", " ", "\n", "\n  ", "\t", "\r\n", "\n\n", "\u2003"])
def tag(t): return r.choice(["{%", "{%", "{%-", "{%+"]) + " " + t + " " + r.choice(["%}", "%}", "-%}", "+%}"])
def value(d=0):
    k = r.random()
    if d > 2 or k < .35:
        return r.choice(["'a'", "' b '", "1", "0", "true", "none", "messages", "messages[0]", "messages[-1]", "messages[1:]", "m", "m.content", "m['role']", "x", "ns.v",
            "missing", "bos_token", "loop.index0", "loop['revindex']", "messages|length", "m.missing", "['a','b']", "range"])
    if k < .55: return value(d+1) + " " + r.choice(["==", "!=", "~", "+", "-", "%", "<", ">=", "in", "not in", "and", "or"]) + " " + value(d+1)
    if k < .65: return "(" + value(d+1) + ")"
    if k < .7: return "not " + value(d+1)
    if k < .8: return value(d+1) + " is " + r.choice(["defined", "none", "string", "mapping", "iterable", "not true", "false", "undefined"])
    if k < .9: return value(d+1) + " | " + r.choice(["trim", "length", "upper", "lower", "string", "default('D')"])
    if k < .95: return value(d+1) + " if " + value(d+1) + " else " + value(d+1)
    return value(d+1) + "." + r.choice(["strip()", "upper()", "startswith('a')", "split(' ')[0]", "rstrip(' x')"])
def body(d=0):
    s = ""
    for _ in range(r.randint(1, 4)):
        k = r.random()
        s += space()
        if k < .2: s += r.choice(["t", "<|x|>", "a b", "é", "{"])
        elif k < .45: s += r.choice(["{{", "{{-"]) + " " + value() + " " + r.choice(["}}", "-}}"])
        elif k < .6: s += r.choice(["{#", "{#-", "{#+"]) + " c " + r.choice(["#}", "-#}", "+#}"])
        elif k < .7: s += tag("set " + r.choice(["x", "ns.v"]) + " = " + value())
        elif d > 2: s += "z"
        elif k < .85: s += tag("if " + value()) + body(d+1) + space() + tag("else") + body(d+1) + space() + tag("endif")
        else: s += tag("for m in " + r.choice(["messages", "messages[1:]", "['a','b']"])) + body(d+1) + space() + tag("endfor")
        s += space()
    return s
variables, out = json.load(sys.stdin), []
for i in range(1500):
    source = "{%- set ns = namespace(v=false) %}" + body()
    try: out.append({"source": source, "text": env.from_string(source).render(**variables)})
    except Exception as e: out.append({"source": source, "error": str(e)})
json.dump(out, sys.stdout)
`

// TestRandomTemplatesEqualJinja2: what is rendered is what the reference renders; where that
// has an error, there is one here.
func TestRandomTemplatesEqualJinja2(t *testing.T) {
	in, err := json.Marshal(conversation)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Source, Text, Error string }
	if err := json.Unmarshal(jinja2(t, randomTemplates, in), &list); err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, c := range list {
		tmpl, err := Compile(c.Source)
		if err != nil {
			continue
		}
		got, err := tmpl.Render(context.Background(), conversation)
		switch {
		case err != nil || strings.Contains(c.Text, "<class"): // a bound method or the like
		case c.Error != "" || got != c.Text:
			t.Fatalf("%q: got %q, want %q %s", c.Source, got, c.Text, c.Error)
		default:
			same++
		}
	}
	if same < len(list)/4 {
		t.Errorf("%d of %d templates were rendered", same, len(list))
	}
	t.Logf("%d of %d templates are rendered, and the same", same, len(list))
}

func TestUnknownConstructsRefusedByNameAtCompile(t *testing.T) {
	for source, want := range map[string]string{
		"{% macro f() %}{% endmacro %}":             `block "macro"`,
		"a\n{% import 'x' %}":                       "line 2",
		"{% include 'x' %}":                         `block "include"`,
		"{{ x | map('y') }}":                        `filter "map"`,
		"{{ x is divisibleby 3 }}":                  `test "divisibleby"`,
		"{{ x.__class__() }}":                       `method "__class__"`,
		"{{ strftime_now('%d') }}":                  `function "strftime_now"`,
		"{{ loop.previtem }}":                       "loop.previtem",
		"{% if range is defined %}{% endif %}":      `"range" as a value`,
		"{{ 'a' | trim.upper() }}":                  `"." is not supported`,
		"{{ 'x' +}}":                                `"}}" is not`,
		"{{ {'a': 1} }}":                            `"{"`,
		"{{ 1 < 2 < 3 }}":                           "chained",
		"{{ 1 is string is false }}":                "parentheses",
		"{{ 1 is string if true else 2 }}":          "parentheses",
		"{{ 1 * 2 }}":                               `"*"`,
		"{{ a(1)(2) }}":                             `function "a"`,
		"{{ x[::-1] }}":                             `":"`,
		"{% for a, b in x %}{% endfor %}":           `","`,
		"{% for a in x if a %}{% endfor %}":         `"if"`,
		"{% for a in x %}{% else %}{% endfor %}":    `"else"`,
		"{% for a in x recursive %}{% endfor %}":    `"recursive"`,
		"{% set x %}{% endset %}":                   `"="`,
		"{% if x %}":                                "endif",
		"{% if x %}{% else %}{% else %}{% endif %}": "endif",
		"{% endfor %}":                              "endfor without a matching start",
		"{{ x":                                      "without a matching }}",
		"{{ 'x }}":                                  "unterminated string",
		"{{ 'x\\":                                   "unterminated string",
		`{{ '\x41' }}`:                              "escape",
		"{# x":                                      "unterminated comment",
		"{{ x ? y }}":                               "character",
		"{{ 99999999999999 }}":                      "too large",
		"{{ -x }}":                                  "minus",
		"{{ namespace(1) }}":                        "keyword",
		"{{ 'a'.split(maxsplit=1) }}":               "maxsplit",
		"{{ a.1 }}":                                 "name",
		"{{ [1 2] }}":                               "expected",
		strings.Repeat("{% if 1 %}", 100):           "levels deep",
		"{{ " + strings.Repeat("(", 100) + " }}":    "levels deep",
		"{{ " + strings.Repeat("not ", 100) + "1}}": "levels deep",
		strings.Repeat("x", MaxSourceBytes+1):       "limit",
	} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: error %v does not mention %q", source, err, want)
		}
	}
}

func TestRenderRefusals(t *testing.T) {
	double := "{% set ns = namespace(x='0123456789abcdef0123456789abcdef') %}" +
		strings.Repeat("{% set ns.x = ns.x + ns.x %}", 30)
	nested := strings.Repeat("{% for m in messages %}", 12) + "x" + strings.Repeat("{% endfor %}", 12)
	for source, want := range map[string]string{
		"{{ messages }}":                   "cannot print",
		"{{ nothing.x }}":                  "undefined",
		"{{ 1 + 'a' }}":                    "cannot apply",
		"{{ 1 % 0 }}":                      "zero",
		"{% for x in 'abc' %}{% endfor %}": "cannot loop",
		"{% set x.y = 1 %}":                "not a namespace",
		"{{ 1[0] }}":                       "cannot index",
		"{{ 'abc'[0:1] }}":                 "cannot slice",
		"{{ messages['a':] }}":             "cannot slice",
		"{{ 1 | length }}":                 "length",
		"{{ 1 in 2 }}":                     "cannot look",
		"{{ (1).upper() }}":                "cannot call",
		"{{ 'a'.split(1) }}":               "takes only strings",
		"{{ 'a'.split('') }}":              "not empty",
		"{{ 'a'.upper('b') }}":             "not supported",
		"{{ 'a' | trim('b') }}":            "not supported",
		"{{ 'a' | tojson }}":               "tojson",
		"{{ raise_exception() }}":          "one argument",
		double:                             "bytes",
		nested:                             "steps",
	} {
		tmpl, err := Compile(source)
		if err != nil {
			t.Errorf("%.60q: %v", source, err)
			continue
		}
		if out, err := tmpl.Render(context.Background(), conversation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %.40q, error %v does not mention %q", source, out, err, want)
		}
	}
}

func TestRaisedErrorCarriesTheTemplatesWords(t *testing.T) {
	tmpl, err := Compile("{% if messages[0].role == 'system' %}{{ raise_exception('no ' + 'system') }}{% endif %}")
	if err != nil {
		t.Fatal(err)
	}
	_, err = tmpl.Render(context.Background(), conversation)
	var raised *RaisedError
	if !errors.As(err, &raised) || raised.Message != "no system" {
		t.Errorf("got %v", err)
	}
}

// TestRenderingEndsWithItsCall, in the middle of a loop.
func TestRenderingEndsWithItsCall(t *testing.T) {
	tmpl, err := Compile("{% for a in list %}{% for b in list %}{{ a }}{% endfor %}{% endfor %}")
	if err != nil {
		t.Fatal(err)
	}
	list := make([]any, 500)
	for i := range list {
		list[i] = "x"
	}
	if _, err := tmpl.Render(context.Background(), map[string]any{"list": list}); err != nil {
		t.Fatal(err)
	}
	why := errors.New("the client left")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := tmpl.Render(ctx, map[string]any{"list": list}); !errors.Is(err, why) {
		t.Errorf("it went on: %v", err)
	}
}
