package jinja

import (
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
	python := filepath.Join(os.Getenv("ANCHORHOLD_PEERS"), "venv/bin/python")
	if _, err := os.Stat(python); err != nil {
		t.Skip("no Python with jinja2: set ANCHORHOLD_PEERS to the peers' directory")
	}
	const script = `
import json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
job = json.load(sys.stdin)
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
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
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Stdin = strings.NewReader(string(job))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Skip("jinja2 is not installed beside the peers' Python:", err)
	}
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
		"{{ {'a': 1} }}":                            `"{"`,
		"{{ 1 < 2 < 3 }}":                           "chained",
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
		"{% endfor %}":                              "endfor without its beginning",
		"{{ x":                                      "without }}",
		"{{ 'x }}":                                  "string without end",
		"{{ 'x\\":                                   "string without end",
		`{{ '\x41' }}`:                              "escape",
		"{# x":                                      "comment without end",
		"{{ x ? y }}":                               "character",
		"{{ 99999999999999 }}":                      "too large",
		"{{ -x }}":                                  "minus",
		"{{ namespace(1) }}":                        "keyword",
		"{{ 'a'.split(maxsplit=1) }}":               "maxsplit",
		"{{ a.1 }}":                                 "name",
		"{{ [1 2] }}":                               "expected",
		strings.Repeat("{% if 1 %}", 100):           "nested deeper",
		"{{ " + strings.Repeat("(", 100) + " }}":    "nested deeper",
		"{{ " + strings.Repeat("not ", 100) + "1}}": "nested deeper",
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
		"{% set x.y = 1 %}":                "no namespace",
		"{{ 1[0] }}":                       "cannot index",
		"{{ 'abc'[0:1] }}":                 "cannot slice",
		"{{ messages['a':] }}":             "cannot slice",
		"{{ 1 | length }}":                 "length",
		"{{ 1 in 2 }}":                     "cannot look",
		"{{ (1).upper() }}":                "cannot call",
		"{{ 'a'.split(1) }}":               "takes strings",
		"{{ 'a'.split('') }}":              "nothing",
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
