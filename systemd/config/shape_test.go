package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

type every struct {
	A int               `yaml:"a"`
	B string            `yaml:"b"`
	C bool              `yaml:"c"`
	D uint8             `yaml:"d"`
	F float64           `yaml:"f"`
	I struct{ X int }   `yaml:"i"`
	L []string          `yaml:"l"`
	M map[string]uint64 `yaml:"m"`
	O []struct{ N int } `yaml:"o"`
	P *bool             `yaml:"p"`
	S Scale             `yaml:"s"`
	T time.Time         `yaml:"t"`
	Y any               `yaml:"y"`
}

func TestDecodeAcceptsPlainValues(t *testing.T) {
	const text = "a: -3\nb: |\n  two\n  lines\nc: true\nd: 0xff\nf: 1\ni: {x: 1}\nl: [\"1\", x]\nm: {k: 18446744073709551615}\no:\n  - n: 2\np: false\ns: \"2^0\"\nt: 2026-01-02T03:04:05Z\ny: [any]\n"
	var e every
	if err := Decode([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	if e.A != -3 || e.B != "two\nlines\n" || !e.C || e.D != 255 || e.F != 1 || e.I.X != 1 || len(e.L) != 2 || e.M["k"] != 1<<64-1 || e.O[0].N != 2 || e.P == nil || *e.P || e.T.Year() != 2026 {
		t.Errorf("decoded %+v", e)
	}
}

// Keys of an inline struct stand among the others, and are as strict.
func TestDecodeReadsInlineStructs(t *testing.T) {
	type Inner struct {
		N int `yaml:"n"`
	}
	var outer struct {
		Inner `yaml:",inline"`
		M     int `yaml:"m"`
	}
	if err := Decode([]byte("n: 1\nm: 2\n"), &outer); err != nil || outer.N != 1 || outer.M != 2 {
		t.Errorf("%+v %v", outer, err)
	}
	for text, word := range map[string]string{"n: x": "whole number", "q: 1": "known keys are n, m", "inner: {n: 1}": "unknown key"} {
		if err := Decode([]byte(text), &outer); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestDecodeGuessesNothing lists what other decoders convert, round, skip or leave at
// zero without a word.
func TestDecodeGuessesNothing(t *testing.T) {
	for text, word := range map[string]string{
		"a: 3.5": "whole number", "a: 3.0": "whole number", "a: \"3\"": "whole number", "a: 010": "whole number", "a: 1_000": "whole number", "a: 0b11": "whole number",
		"a: 99999999999999999999": "", "a: 9223372036854775808": "out of range", "a: ~": "no value", "a: [1]": "got a list",
		"b: 12": "quotes", "b: true": "quotes", "b: null": "no value", "b:": "no value", "b: {x: 1}": "a mapping",
		"c: yes": "true or false", "c: \"true\"": "true or false", "c: 1": "true or false",
		"d: 256": "out of range", "d: -1": "out of range",
		"f: .nan": "finite", "f: .inf": "finite", "f: \"1\"": "finite",
		"i: 3": "want a mapping", "i: [x]": "want a mapping", "i: {y: 2}": `unknown key "y"`, "i: ~": "no value",
		"l: x": "want a list", "l: [1]": "quotes", "l: [~]": "no value",
		"m: {k: v}": "whole number", "m: {1: 2}": "plain text", "m: {k: -1}": "out of range",
		"o: [{n: x}]": "whole number", "o: [{q: 1}]": "unknown key",
		"p: 1": "true or false", "p: ~": "no value",
		"s: 2^64": "power of two", "s: 2^-1": "power of two", "s: 2^+3": "power of two", "s: 2^040": "power of two", "s: 40": "power of two", "s: [2]": "a single value",
		"t: tomorrow": "cannot parse",
		"1: 2":        "plain text", "true: 2": "plain text", "? a\n: 3": "plain text", "A: 3": "known keys are a, b",
		"- 1": "want a mapping", "3": "want a mapping", "<<: {a: 3}": "merge", "a: !!int 3": "tags",
	} {
		t.Run(text, func(t *testing.T) {
			var e every
			err := Decode([]byte(text+"\n"), &e)
			own, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(own.Message, word) || own.Line == 0 || own.Column == 0 || strings.Contains(own.Error(), "\n") {
				t.Errorf("%v, want one sentence with a place and %q", err, word)
			}
			if e.A != 0 || e.D != 0 || e.P != nil {
				t.Errorf("a refused document left %+v behind", e)
			}
		})
	}
}

func TestTextIsCheckedBeforeTheParser(t *testing.T) {
	for name, text := range map[string]string{
		"latin 1": "b: \"\xff\"\n", "nul": "b: \x00\n", "escape": "b: \x1b[31m\n", "byte order mark": "\ufeffa: 3\n",
		"flow": strings.Repeat("{a: ", 33), "lists": strings.Repeat("- ", 200), "questions": strings.Repeat("? ", 200), "indent": strings.Repeat(" ", 300) + "a: 3\n",
		"blocks": blocks(40),
	} {
		var e every
		if err := Decode([]byte(text), &e); err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v is not an *Error", name, err)
		}
	}
}

func blocks(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "y:\n")
	}
	return b.String() + strings.Repeat(" ", n) + "z: 1\n"
}

func TestTargetMustBeAPointer(t *testing.T) {
	for _, into := range []any{nil, every{}, (*every)(nil)} {
		if err := Decode([]byte("a: 3\n"), into); err == nil {
			t.Errorf("decoded into %T", into)
		}
	}
	var bad struct {
		A chan int `yaml:"a"`
	}
	if err := Decode([]byte("a: 3\n"), &bad); err == nil {
		t.Error("decoded into a channel")
	}
}

// shared finds the design input beside the checkout.
func shared(t testing.TB, path string) []byte {
	t.Helper()
	dir := os.Getenv("ANCHORHOLD_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared")
	}
	data, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Skipf("SKIPPED: the shared input %s is not beside the checkout", path)
	}
	return data
}

// template has the shape of the configuration template of docs/architecture.md, section by section.
type template struct {
	Transport struct {
		TLS struct {
			Version     string `yaml:"version"`
			KeyExchange string `yaml:"key_exchange"`
			Classical   string `yaml:"classical"`
			PostQuantum string `yaml:"post_quantum"`
			PQCFirst    *bool  `yaml:"enforce_pqc_first"`
			Fallback    string `yaml:"fallback_policy"`
		} `yaml:"tls"`
	} `yaml:"transport"`
	Compute struct {
		TEE struct {
			Provider  string   `yaml:"provider"`
			TTL       int      `yaml:"attestation_ttl_seconds"`
			MemoryMB  int      `yaml:"memory_limit_mb"`
			Whitelist []string `yaml:"measurement_whitelist"`
		} `yaml:"tee"`
	} `yaml:"compute"`
	Aggregation struct {
		Scheme    string `yaml:"scheme"`
		Library   string `yaml:"library"`
		Degree    int    `yaml:"polynomial_modulus_degree"`
		Modulus   []int  `yaml:"coefficient_modulus"`
		Scale     Scale  `yaml:"scale"`
		Threshold int    `yaml:"noise_budget_threshold"`
	} `yaml:"aggregation"`
	Verification struct {
		ZKP struct {
			Scheme  string `yaml:"scheme"`
			Mode    string `yaml:"prover_mode"`
			Workers int    `yaml:"worker_pool_size"`
			Timeout int    `yaml:"verification_timeout_ms"`
		} `yaml:"zkp"`
	} `yaml:"verification"`
}

func TestTemplateDecodes(t *testing.T) {
	var c template
	if err := Decode(shared(t, "design/template.yaml"), &c); err != nil {
		t.Fatal(err)
	}
	if c.Transport.TLS.Version != "1.3" || c.Compute.TEE.TTL != 600 || len(c.Compute.TEE.Whitelist) != 2 || c.Aggregation.Scale.Log2() != 40 || len(c.Aggregation.Modulus) != 4 || c.Verification.ZKP.Timeout != 50 {
		t.Errorf("decoded %+v", c)
	}
}

// TestEveryProblemIsSaid at once, in the document's order, up to a bound.
func TestEveryProblemIsSaid(t *testing.T) {
	var v struct {
		A int    `yaml:"a"`
		L []bool `yaml:"l"`
	}
	err := Decode([]byte("a: x\nb: 1\nl: [true, 1, 2]\n"), &v)
	if err == nil || len(strings.Split(err.Error(), "\n")) != 4 || !strings.HasPrefix(err.Error(), "line 1, column 4: ") {
		t.Errorf("%v", err)
	}
	err = Decode([]byte("l: ["+strings.Repeat("1, ", 10*maxProblems)+"1]\n"), &v)
	if err == nil || len(strings.Split(err.Error(), "\n")) != maxProblems {
		t.Errorf("%v", err)
	}
}
