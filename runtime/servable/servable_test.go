package servable

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

func parse(t *testing.T, edit func(*gguftest.Model)) *gguf.File {
	t.Helper()
	m := gguftest.New(1)
	if edit != nil {
		edit(m)
	}
	b, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestDocumentListsEveryKey: docs/models.md shows what is made of each key.
func TestDocumentListsEveryKey(t *testing.T) {
	var b strings.Builder
	b.WriteString("| key | use |\n|---|---|\n")
	type space struct {
		space   string
		entries table
	}
	spaces := []space{{"general.", general}, {"ARCHITECTURE.", ofEvery}}
	for _, a := range ofArchitecture {
		spaces = append(spaces, space{a.name + ".", a.keys})
	}
	for _, table := range append(spaces, space{"tokenizer.", ofTokenizer}, space{"", ofFile}) {
		entries := map[string]entry{}
		for _, e := range table.entries {
			if _, twice := entries[e.name]; twice {
				t.Errorf("%s%s is in its table twice", table.space, e.name)
			}
			entries[e.name] = e.entry
		}
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			e := entries[name]
			if e.what == "" {
				t.Errorf("%s%s: the table does not say how it is used", table.space, name)
			}
			fmt.Fprintf(&b, "| `%s%s` | %s |\n", table.space, name, e.what)
		}
	}
	const path = "../../docs/models.md"
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), "<!-- keys -->\n")
	old, after, ok2 := strings.Cut(rest, "<!-- end of keys -->")
	switch {
	case !ok || !ok2:
		t.Errorf("%s has no part keys", path)
	case old == b.String():
	case os.Getenv("UPDATE") == "":
		t.Errorf("%s is stale in its part keys: UPDATE=1 go test ./runtime/servable", path)
	default:
		if err := os.WriteFile(path, []byte(before+"<!-- keys -->\n"+b.String()+"<!-- end of keys -->"+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingUnknownPasses: a key that no table has is a finding in every namespace that
// readers of GGUF use, and so is a tensor under a name that is nearly right.
func TestNothingUnknownPasses(t *testing.T) {
	for _, space := range slices.Concat(closed, architectures) {
		key := space + ".something_new"
		f := parse(t, func(m *gguftest.Model) { m.Set(key, true) })
		if got := Header(f); len(got) != 1 || got[0].Code != CodeKeyUnknown || got[0].Name != key {
			t.Errorf("%s: %+v", key, got)
		}
	}
	for _, name := range []string{"blk.0.attn_q", "blk.0.attn_q.weight.1", "blk.00.attn_q.weight", "blk.+0.attn_q.weight", "blk.2.attn_q.weight", "BLK.0.attn_q.weight",
		"token_embd.weight.0", "rope_freqs", "blk.0.rope_freqs.weight", "output", "model.embed_tokens.weight", "attn_q.weight"} {
		f := parse(t, func(m *gguftest.Model) { m.Matrix(name, gguftest.Width, gguftest.Width) })
		if got := Header(f); len(got) != 1 || got[0].Code != CodeTensor || got[0].Name != name {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestEveryRuleRefusesAnotherType: a value of a type that the rule does not read is never
// taken for the one that is meant.
func TestEveryRuleRefusesAnotherType(t *testing.T) {
	spaces := map[string]table{"general.": general, "llama.": ofEvery, "tokenizer.": ofTokenizer, "": ofFile}
	for _, a := range ofArchitecture {
		spaces[a.name+"."] = slices.Concat(spaces[a.name+"."], a.keys)
	}
	for space, table := range spaces {
		for _, e := range table {
			if e.rule == nil || strings.HasSuffix(e.name, "*") {
				continue
			}
			key := space + e.name
			architecture := strings.TrimSuffix(space, ".")
			f := parse(t, func(m *gguftest.Model) {
				if slices.Contains(served, architecture) {
					*m = *gguftest.Of(architecture, 1)
				}
				m.Set(key, []float32{1, 2})
			})
			if got := Header(f); !slices.ContainsFunc(got, func(f Finding) bool { return f.Name == key && f.Code == CodeKeyValue }) {
				t.Errorf("%s as a list: %+v", key, got)
			}
		}
	}
}

func TestErrorNamesFindingsAndBoundsThem(t *testing.T) {
	if Refuse(nil) != nil {
		t.Error("no findings are an error")
	}
	var many []Finding
	for i := range 20 {
		many = append(many, Finding{Code: CodeTensor, Name: fmt.Sprint("tensor", i), Count: 1 + i%2, Detail: "x"})
	}
	err := Refuse(many)
	if text := err.Error(); !strings.HasPrefix(text, Reason+": ") || !strings.Contains(text, "tensor7 (2 of them)") || strings.Contains(text, "tensor8") || !strings.Contains(text, "and 12 more") {
		t.Errorf("%v", err)
	}
}

// TestSeveralThingsAreAllNamed at once, so that a publisher does not find them one by one.
func TestSeveralThingsAreAllNamed(t *testing.T) {
	r := Check(parse(t, func(m *gguftest.Model) {
		m.Set("llama.logit_scale", float32(2))
		m.Set("llama.something", uint32(1))
		m.Set("tokenizer.ggml.pre", "none")
		m.Set("tokenizer.chat_template", "{% import 'x' %}")
		m.Vector("output_norm.bias", gguftest.Width, 0)
		m.Unset("blk.0.attn_k.weight")
		m.Retype("blk.1.attn_q.weight", 40)
	}))
	var codes []Code
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	slices.Sort(codes)
	want := []Code{CodeKeyUnknown, CodeKeyValue, CodeTemplate, CodeTensorGone, CodeTensorType, CodeTensor, CodeTokenizer}
	slices.Sort(want)
	if !slices.Equal(codes, want) {
		t.Errorf("%v, want %v", codes, want)
	}
}
