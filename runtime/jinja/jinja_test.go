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
	"time"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

var conversation = withTools(map[string]any{
	"messages": []any{
		map[string]any{"role": "system", "content": "  Be brief.\n"},
		map[string]any{"role": "user", "content": "Hi <|im_end|> \"quoted\""},
		map[string]any{"role": "assistant", "content": "<think>deep</think>Hello"},
		map[string]any{"role": "user", "content": "ünïcode"},
	},
	"add_generation_prompt": true,
	"bos_token":             "<s>",
	"eos_token":             "</s>",
})

// tools is a list of two functions, whose keys are in no alphabetical order.
const tools = `[{"type": "function", "function": {"name": "weather", "description": "It's <b>warm</b> & \"wet\"\\n日本", "parameters": {"type": "object",
	"properties": {"place": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["place"], "limit": 3.5, "none": null, "strict": true, "empty": {}, "list": []}}},
	{"type": "function", "function": {"name": "time", "parameters": {"zone": 1e-7, "a": -0.0, "b": 1e22, "c": 100000.0}}}]`

// withTools adds the tools to variables.
func withTools(variables map[string]any) map[string]any {
	var err error
	if variables["tools"], err = ParseJSON([]byte(tools)); err != nil {
		panic(err) // a mistake of the test
	}
	return variables
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
	{"tojson", "{% for t in tools %}{{ t | tojson }}\n{% endfor %}{{ [] | tojson }}{{ {} | tojson }}{{ 'é\"<' | tojson }}{{ none | tojson }}{{ [1, true, -2] | tojson }}",
		`{"type": "function", "function": {"name": "weather", "description": "It's <b>warm</b> & \"wet\"\\n日本", "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["place"], "limit": 3.5, "none": null, "strict": true, "empty": {}, "list": []}}}` + "\n" +
			`{"type": "function", "function": {"name": "time", "parameters": {"zone": 1e-07, "a": -0.0, "b": 1e+22, "c": 100000.0}}}` + "\n" + `[]{}"é\"<"null[1, true, -2]`},
	{"tojson with an indent", "{{ {'a': [1, {'b': []}], 'c': {}} | tojson(indent=4) }}", "{\n    \"a\": [\n        1,\n        {\n            \"b\": []\n        }\n    ],\n    \"c\": {}\n}"},
	{"mappings", "{% set d = {'b': 1, 'a': {'c': 2}} %}{{ d.b }}{{ d['a'].c }}{{ d | length }}{{ 'a' in d }}{{ d.get('x', 7) }}{{ d.get('x') }}{% for k, v in d.items() %}{{ k }}{{ v is mapping }}{% endfor %}{% for k in d %}{{ k }}{% endfor %}{{ d.keys() | list == ['b', 'a'] }}{{ {'a':{'b':1}} == {'a':{'b':1}}}}", "122True7NonebFalseaTruebaTrueTrue"},
	{"loops over pairs", "{% for k, v in tools[0].function.parameters.properties | items %}{{ loop.index }}{{ k }}:{{ v.type }} {% endfor %}", "1place:string 2days:array "},
	{"loops with conditions", "{% for m in messages if m.role == 'user' %}{{ loop.index }}/{{ loop.length }}{{ m.role }};{% else %}none{% endfor %}{% for m in messages if m.role == 'x' %}{% else %}none{% endfor %}", "1/2user;2/2user;none"},
	{"macros", "{% macro f(a, b='B', c=a) %}[{{ a }}{{ b }}{{ c }}{{ x }}]{% endmacro %}{% set x = 1 %}{{ f(1) }}{{ f(1, 2) }}{{ f(b=3, a=4) }}{% set t = f('q') %}{{ t | length }}{{ f() }}", "[1B11][1211][4341]6[B1]"},
	{"macros that call themselves", "{% macro down(n) %}{{ n }}{% if n > 0 %}{{ down(n - 1) }}{% endif %}{% endmacro %}{{ down(3) }}", "3210"},
	{"macros see no loops", "{% macro f() %}{{ m is defined }}{{ loop is defined }}{{ bos_token }}{% endmacro %}{% for m in [1] %}{{ f() }}{% endfor %}", "FalseFalse<s>"},
	{"what macros set stays there", "{% macro f() %}{% set x = 2 %}{{ x }}{% endmacro %}{% set x = 1 %}{{ f() }}{{ x }}", "21"},
	{"macros change namespaces", "{% macro f(ns) %}{% set ns.n = ns.n + 1 %}{% endmacro %}{% set ns = namespace(n=0) %}{{ f(ns) }}{{ f(ns) }}{{ ns.n }}", "2"},
	{"set blocks", "{% set x %}a{{ 1 }}{% set y = 5 %}b{% endset %}[{{ x }}]{{ y is defined }}{{ x | upper }}", "[a1b]FalseA1B"},
	{"slices with steps", "{% for m in messages[::-1] %}{{ m.role }} {% endfor %}{{ [1,2,3,4][4:1:-1] == [4, 3] }}{{ [1,2,3][-9:9:2] == [1, 3] }}{{ [1,2,3][5:] == [] }}{{ [1,2,3][:-1] == [1, 2] }}", "user assistant user system TrueTrueTrueTrue"},
	{"selected", "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{% for r in messages | rejectattr('role', '==', 'user') | map(attribute='role') %}{{ r }}+{% endfor %}{{ messages | selectattr('x', 'defined') | list | length }}{{ (messages | selectattr('role', 'in', ['system']) | first).content | trim }}{% if messages | selectattr('role', 'eq', 'x') %}T{% endif %}{{ messages | selectattr('content') | list | length }}", "2system+assistant+0Be brief.T4"},
	{"lists", "{{ [3, 4] | first }}{{ [3, 4] | last }}{{ [] | first is undefined }}{{ range(3) | list == [0, 1, 2] }}{{ range(5, 1, -2) | list == [5, 3] }}{{ range(2) == [0, 1] }}{{ range(9) | length }}{% if range(0) or {}.items() %}T{% endif %}{{ [1] | list == [1] }}", "34TrueTrueTrueFalse9True"},
	{"arithmetic", "{{ 3 * 4 }}{{ -7 // 2 }}{{ 7 // -2 }}{{ 7 % -3 }}{{ 2 + 3 * 4 }}", "12-4-4-214"},
	{"more tests", "{{ 1 is number }}{{ true is number }}{{ true is integer }}{{ 1 is integer }}{{ false is boolean }}{{ messages is sequence }}{{ 'a' is sequence }}{{ missing is sequence }}{{ 1 is sequence }}", "TrueTrueFalseTrueTrueTrueTrueTrueFalse"},
	{"keys named as methods", "{% set d = {'items': 1} %}{{ d['items'] }}{{ tools[0].function.parameters.properties.days['items'].type }}", "1integer"},
	{"replacements", "{{ 'a-b-c'.replace('-', '') }}{{ 'aXbX' | replace('X', '..') }}{{ 'aa'.replace('b', 'c') }}{{ 12 | replace('1', 'é') }}{{ 'aaa'.replace('aa', 'b') }}", "abca..b..aaé2ba"},
	{"joined", "{{ ['a', 1, none] | join }}{{ ['a', 'b'] | join(', ') }}{{ [] | join('x') }}{{ tools[0] | join('+') }}{{ messages | map(attribute='role') | join('/') }}", "a1Nonea, btype+functionsystem/user/assistant/user"},
	{"selected items", "{{ ['a', 'b', ''] | reject('equalto', 'a') | list | length }}{{ ['a', '', 'b'] | select | join }}{{ [1, 2] | reject | list | length }}{{ ['a', 1] | select('string') | join }}{{ ['x', 'y'] | reject('in', ['x']) | join }}", "2ab0ay"},
	{"functions that are defined", "{{ strftime_now is defined }}{{ raise_exception is not defined }}{% if strftime_now is defined and true %}T{% endif %}{{ range is undefined }}", "TrueFalseTFalse"},
	{"today's date", "{{ strftime_now('%d %b %Y, %A %a %B %j %w %m/%y %H:%M:%S %I %p %%') }}{% set f = '%Y' ~ '!' %}{{ strftime_now(f) }}", "03 Feb 2026, Tuesday Tue February 034 2 02/26 14:05:06 02 PM %2026!"},
	{"generation", "{% set x = 1 %}{% for m in messages %}{% generation %}\n{{ m.role }}{% set x = 2 %}{{ x }}{{ loop.index }}{% endgeneration %}\n{% endfor %}{{ x }}", "system21user22assistant23user241"},
	{"slices of texts", "{{ 'aéb漢'[1:] }}{{ 'aéb漢'[:-1] }}[{{ 'ab'[2:] }}{{ 'ab'[1:0] }}{{ ''[:1] }}]{{ 'abc'[-2:9] }}{{ 'abc'[-9:2] }}{{ 'aéb'[1:2] }}{{ 'ab'[:] }}{{ 'ab'[0:2:1] }}", "éb漢aéb[]bcabéabab"},
	{"defaults of false values", "{{ '' | default('d', true) }}{{ none | default('e', true) }}{{ 'x' | default('f', true) }}[{{ '' | default('g', false) }}]{{ missing | default('h', false) }}", "dex[]h"},
	{"what is in nothing", "{{ 'a' in missing }}{{ 'a' not in missing }}", "FalseTrue"},
	{"items beside", "{% for m in messages %}{{ loop.previtem.role if loop.previtem else '-' }}{{ loop.nextitem is defined }}{% if not loop.last %}{{ loop['nextitem'].role }}{% endif %};{% endfor %}", "-Trueuser;systemTrueassistant;userTrueuser;assistantFalse;"},
	{"JSON as it is", "{{ {'a': 'é'} | tojson(ensure_ascii=False) }}{{ ['é'] | tojson(indent=1, ensure_ascii=false) }}", "{\"a\": \"é\"}[\n \"é\"\n]"},
	{"add generation prompt", "{% if add_generation_prompt and messages[-1]['role'] != 'assistant' %}go{% endif %}", "go"},
}

// today is the clock of the cases, and of jinja2's.
func today() time.Time { return time.Date(2026, 2, 3, 14, 5, 6, 0, time.UTC) }

func TestOutputs(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tmpl, err := Compile(c.source)
			if err != nil {
				t.Fatal(err)
			}
			got, err := tmpl.RenderWith(context.Background(), conversation, Options{Now: today})
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
	list, err := json.Marshal(sources)
	if err != nil {
		t.Fatal(err)
	}
	variables, err := toJSON(conversation, nil) // which keeps the order of keys
	if err != nil {
		t.Fatal(err)
	}
	out := jinja2(t, script, []byte(`{"variables": `+variables+`, "sources": `+string(list)+`}`))
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
import datetime, json, sys
from jinja2.sandbox import ImmutableSandboxedEnvironment
env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
env.filters["tojson"] = lambda x, ensure_ascii=False, indent=None: json.dumps(x, ensure_ascii=ensure_ascii, indent=indent)
env.globals["raise_exception"] = lambda text: text
env.globals["strftime_now"] = datetime.datetime(2026, 2, 3, 14, 5, 6).strftime
from jinja2 import ext, nodes
class Generation(ext.Extension):
    tags = {"generation"}
    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("render"), [], [], body).set_lineno(line)
    def render(self, caller): return caller()
env.add_extension(Generation)
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
            "missing", "bos_token", "loop.index0", "loop['revindex']", "messages|length", "m.missing", "['a','b']", "range", "tools", "tools[0].function", "tools[1]['function'].parameters", "{'k': 1, 'j': 'x'}", "f(1)", "f(x, 'c')", "messages[::-1]", "messages[1:9:2]", "bos_token[1:]", "m.content[-3:-1]", "x[:1]"])
    if k < .55: return value(d+1) + " " + r.choice(["==", "!=", "~", "+", "-", "%", "*", "//", "<", ">=", "in", "not in", "and", "or"]) + " " + value(d+1)
    if k < .65: return "(" + value(d+1) + ")"
    if k < .7: return "not " + value(d+1)
    if k < .8: return value(d+1) + " is " + r.choice(["defined", "none", "string", "mapping", "iterable", "not true", "false", "undefined", "sequence", "number", "boolean", "integer"])
    if k < .9: return value(d+1) + " | " + r.choice(["trim", "length", "upper", "lower", "string", "default('D')", "tojson", "list", "first", "last", "items | list",
        "selectattr('role', 'equalto', 'user') | list", "rejectattr('content') | list", "map(attribute='role') | list", "tojson(indent=2)",
        "replace('a', 'bb')", "default('D', true)", "join(', ')", "join", "reject('equalto', 'a') | list", "select('string') | list", "select | list"])
    if k < .95: return value(d+1) + " if " + value(d+1) + " else " + value(d+1)
    return value(d+1) + "." + r.choice(["strip()", "upper()", "startswith('a')", "split(' ')[0]", "rstrip(' x')", "replace('a', '')"])
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
        elif k < .9: s += tag("for m in " + r.choice(["messages", "messages[1:]", "['a','b']", "range(3)", "tools", "messages[::-2]"]) + r.choice(["", "", " if m", " if m.role == 'user'", " if loop is defined"])) + body(d+1) + space() + (tag("else") + body(d+1) if r.random() < .3 else "") + tag("endfor")
        elif k < .95: s += tag("for k, m in " + r.choice(["tools[0].items()", "tools[0].function | items", "{'a': 1}.items()", "messages"])) + "{{ k }}" + body(d+1) + tag("endfor")
        else: s += tag("set x") + body(d+1) + tag("endset")
        s += space()
    return s
variables, out = json.load(sys.stdin), []
for i in range(1500):
    source = "{%- set ns = namespace(v=false) %}{% macro f(a, b='B') %}" + r.choice(["{{ a }}{{ b }}", "{{ x }}", "{{ m }}{{ a | tojson }}", body(2).replace("f(", "(")]) + "{% endmacro %}" + body()
    try: out.append({"source": source, "text": env.from_string(source).render(**variables)})
    except Exception as e: out.append({"source": source, "error": str(e)})
json.dump(out, sys.stdout)
`

// TestRandomTemplatesEqualJinja2: what is rendered is what the reference renders; where that
// has an error, there is one here.
func TestRandomTemplatesEqualJinja2(t *testing.T) {
	in, err := toJSON(conversation, nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []struct{ Source, Text, Error string }
	if err := json.Unmarshal(jinja2(t, randomTemplates, []byte(in)), &list); err != nil {
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
	if same < len(list)/5 {
		t.Errorf("%d of %d templates were rendered", same, len(list))
	}
	t.Logf("%d of %d templates are rendered, and the same", same, len(list))
}

func TestUnknownConstructsRefusedByNameAtCompile(t *testing.T) {
	for source, want := range map[string]string{
		"a\n{% import 'x' %}":                                "line 2",
		"{% include 'x' %}":                                  `block "include"`,
		"{{ x | safe }}":                                     `filter "safe"`,
		"{{ x.title() }}":                                    `method "title"`,
		"{{ strftime_now }}":                                 "as a value",
		"{{ strftime_now is string }}":                       "as a value",
		"a\n{{ strftime_now('%d %e') }}":                     "line 2: strftime_now: %e",
		"{{ strftime_now('%-d') }}":                          "%-",
		"{{ strftime_now('100 %') }}":                        "ends in %",
		"{{ 'abc'[::2] }}":                                   "by steps",
		"{{ 'abc'[2::-1] }}":                                 "by steps",
		"{{ messages[::0] }}":                                "steps of 0",
		"{% generation %}x":                                  "endgeneration is missing",
		"{{ x | dictsort }}":                                 `filter "dictsort"`,
		"{% if x %}{% macro f() %}{% endmacro %}{% endif %}": "inside another block",
		"{% macro range() %}{% endmacro %}":                  `macro called "range"`,
		"{% macro f(a b) %}{% endmacro %}":                   "expected",
		"{% macro f() %}":                                    "endmacro",
		"{% set x %}a":                                       "endset",
		"{{ f(1) }}{% macro f(a) %}{% endmacro %}":           `function "f"`,
		"{% call f() %}{% endcall %}":                        `block "call"`,
		"{{ 'a' | tojson(separators=1) }}":                   "separators",
		"{{ {'a' 1} }}":                                      "expected",
		"{{ x[1:2:3:4] }}":                                   "expected",
		"{{ raise_exception(a=1) }}":                         `keyword argument "a"`,
		"{{ x is divisibleby 3 }}":                           `test "divisibleby"`,
		"{{ x.__class__() }}":                                `method "__class__"`,
		"{{ loop.depth }}":                                   "loop.depth",
		"{{ 'a' | trim.upper() }}":                           `"." is not supported`,
		"{{ 'x' +}}":                                         `"}}" is not`,
		"{{ 1 < 2 < 3 }}":                                    "chained",
		"{{ 1 is string is false }}":                         "parentheses",
		"{{ 1 is string if true else 2 }}":                   "parentheses",
		"{{ a(1)(2) }}":                                      `function "a"`,
		"{% for a in x recursive %}{% endfor %}":             `"recursive"`,
		"{% if x %}":                                         "endif",
		"{% if x %}{% else %}{% else %}{% endif %}":          "endif",
		"{% endfor %}":                                       "endfor without a matching start",
		"{{ x":                                               "without a matching }}",
		"{{ 'x }}":                                           "unterminated string",
		"{{ 'x\\":                                            "unterminated string",
		`{{ '\x41' }}`:                                       "escape",
		"{# x":                                               "unterminated comment",
		"{{ x ? y }}":                                        "character",
		"{{ 99999999999999 }}":                               "too large",
		"{{ -x }}":                                           "minus",
		"{{ namespace(1) }}":                                 "keyword",
		"{{ 'a'.split(maxsplit=1) }}":                        "maxsplit",
		"{{ a.1 }}":                                          "name",
		"{{ [1 2] }}":                                        "expected",
		strings.Repeat("{% if 1 %}", 100):                    "levels deep",
		"{{ " + strings.Repeat("(", 100) + strings.Repeat(")", 100) + " }}": "levels deep",
		"{{ " + strings.Repeat("not ", 100) + "1}}":                         "levels deep",
		strings.Repeat("x", MaxSourceBytes+1):                               "limit",
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
	refused := map[string]string{
		"{{ messages }}":                     "cannot print",
		"{{ nothing.x }}":                    "undefined",
		"{{ 1 + 'a' }}":                      "cannot apply",
		"{{ 1 % 0 }}":                        "zero",
		"{% for x in 'abc' %}{% endfor %}":   "cannot loop",
		"{% set x.y = 1 %}":                  "not a namespace",
		"{{ 1[0] }}":                         "cannot index",
		"{{ 1[0:1] }}":                       "cannot slice",
		"{{ messages['a':] }}":               "cannot slice",
		"{% set x = 'abc' %}{{ x[::2] }}":    "by steps",
		"{{ messages[::1 - 1] }}":            "steps of 0",
		"{{ strftime_now('%' + 'Q') }}":      "%Q",
		"{{ strftime_now(1) }}":              "strftime_now of",
		"{{ 1 | tojson(2) }}":                "keywords",
		"{{ 1 | tojson(ensure_ascii=true)}}": "keywords",
		"{{ 1 | length }}":                   "length",
		"{{ 1 in 2 }}":                       "cannot look",
		"{{ (1).upper() }}":                  "cannot call",
		"{{ 'a'.split(1) }}":                 "takes only strings",
		"{{ 'a'.split('') }}":                "not empty",
		"{{ 'a'.replace('', 'b') }}":         "not empty",
		"{{ 'a' | replace('a') }}":           "not supported",
		"{{ 'a'.replace('a', 'b', 1) }}":     "takes only strings",
		"{{ ['a'] | select('x') | list }}":   "not supported",
		"{{ ['a'] | select(1) | list }}":     "a test named by",
		"{{ 'a' | join }}":                   "cannot go through",
		"{{ [messages] | join }}":            "cannot print",
		"{{ 'a'.upper('b') }}":               "not supported",
		"{{ 'a' | trim('b') }}":              "not supported",
		"{{ raise_exception() }}":            "one argument",
		double:                               "bytes",
	}
	if longtest.All() { // it takes seconds to reach the limit
		refused[nested] = "steps"
	}
	for source, want := range refused {
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

// TestComparisonsAreCharged: shared lists have exponentially many members, and a test of each item of
// a list against all of another is one expression.
func TestComparisonsAreCharged(t *testing.T) {
	grown := func(times, by string) string {
		return "{% set n = namespace(x=[1], y=[1]) %}{% for i in range(" + times + ") %}{% set n.x = [n.x" + by + "] %}{% set n.y = [n.y" + strings.ReplaceAll(by, "x", "y") + "] %}{% endfor %}"
	}
	for source, want := range map[string]string{
		grown("40", ", n.x") + "{{ n.x == n.y }}":                                           "steps",
		grown("40", ", n.x") + "{{ n.x in [n.y] }}":                                         "steps",
		grown("40", ", n.x") + "{{ [n.x] | select('ne', n.y) | list }}":                     "steps",
		grown("1000", "") + "{{ n.x == n.y }}":                                              "levels deep",
		grown("1000", "") + "{{ {'a': n.x} == {'a': n.y} }}":                                "levels deep",
		"{% set r = range(65536) | list %}{{ r | reject('in', r[:1] + ['x'] + r) | list }}": "steps",
	} {
		tmpl, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if out, err := tmpl.Render(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.90s: got %.40q and %v, want %q", source, out, err, want)
		}
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

// TestTextsWithoutPartsAreGuarded: each text that a template took parts of goes through Guard, with the
// text itself once.
func TestTextsWithoutPartsAreGuarded(t *testing.T) {
	for source, want := range map[string]string{
		"{{ 'a-b-c'.replace('-', '') }}":                "[a-b-c>abc]",
		"{{ 'a-b' | replace('-', '+') }}":               "[a-b>a+b]",
		"{{ 'a-b-c'.split('-') | join('') }}":           "[a-b-c>a][>b][>c]",
		"{{ 'abc'[1:] }}{{ 'abc'[:9] }}":                "[abc>bc]abc",
		"{{ 'xxa'.lstrip('x') }}{{ 'ax'.strip('xy') }}": "[xxa>a][ax>a]",
		"{{ 'a'.replace('x', '') }}{{ 'a'.split('x')[0] }}{{ 'a '.strip() }}{{ '\\na'.lstrip('\\n ') }}{{ 'a'.strip('x') }}": "aaaaa",
	} {
		tmpl, err := Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		guard := func(before, after string) (string, error) { return "[" + before + ">" + after + "]", nil }
		if got, err := tmpl.RenderWith(t.Context(), nil, Options{Guard: guard}); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", source, got, err, want)
		}
		why := errors.New("no")
		if _, err := tmpl.RenderWith(t.Context(), nil, Options{Guard: func(string, string) (string, error) { return "", why }}); strings.Contains(want, "[") != errors.Is(err, why) {
			t.Errorf("%s: %v", source, err)
		}
	}
}
