package model

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// form is a model of random weights, with every kind of block of its architecture.
type form struct {
	name, architecture string
	edit               func(*gguftest.Model)
}

// forms are the architectures that are served, each with the switches that its files may have.
func forms() []form {
	set := func(kvs ...any) func(*gguftest.Model) {
		return func(m *gguftest.Model) {
			for i := 0; i < len(kvs); i += 2 {
				m.Set(kvs[i].(string), kvs[i+1])
			}
		}
	}
	var list []form
	for _, a := range gguftest.Architectures {
		list = append(list, form{name: a, architecture: a})
		list = append(list, form{name: a + " with an output matrix", architecture: a, edit: func(m *gguftest.Model) { m.Matrix("output.weight", 261, gguftest.Width) }})
	}
	for _, a := range []string{"llama", "qwen2", "qwen3", "smollm3", "granite"} {
		list = append(list,
			form{name: a + " with linear scaling", architecture: a, edit: set(a+".rope.scaling.type", "linear", a+".rope.scaling.factor", float32(4))},
			form{name: a + " with yarn", architecture: a, edit: set(a+".rope.scaling.type", "yarn", a+".rope.scaling.factor", float32(4),
				a+".rope.scaling.original_context_length", uint32(24))},
			form{name: a + " with yarn and a magnitude", architecture: a, edit: set(a+".rope.scaling.type", "yarn", a+".rope.scaling.factor", float32(8),
				a+".rope.scaling.original_context_length", uint32(512), a+".rope.scaling.attn_factor", float32(0.8))},
		)
	}
	freqs := func(m *gguftest.Model) { m.Values("rope_freqs.weight", 1, 1.25, 1.5, 2, 3.7, 6, 8, 8) }
	// llama.cpp rounds contexts up to multiples of 256.
	long := func(a string, original int) func(*gguftest.Model) {
		return func(m *gguftest.Model) {
			m.Set(a+".rope.scaling.original_context_length", uint32(original))
			m.Set(a+".rope.scaling.attn_factor", float32(1.19))
			m.Values("rope_factors_short.weight", 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)
			m.Values("rope_factors_long.weight", 1, 1.5, 2, 3, 5, 8, 13, 21)
		}
	}
	for _, a := range []string{"llama", "granite"} {
		longrope := func(original int, factor float32) func(*gguftest.Model) {
			return func(m *gguftest.Model) {
				long(a, original)(m)
				m.Set(a+".rope.scaling.type", "longrope")
				if factor != 0 {
					m.Set(a+".rope.scaling.factor", factor)
				}
			}
		}
		list = append(list,
			form{name: a + " with short factors", architecture: a, edit: longrope(256, 0)},
			form{name: a + " with long factors", architecture: a, edit: longrope(32, 0)},
			form{name: a + " with long factors and a factor of all", architecture: a, edit: longrope(32, 3)},
			form{name: a + " with longrope and a factor alone", architecture: a, edit: set(a+".rope.scaling.type", "longrope", a+".rope.scaling.factor", float32(3))},
			form{name: a + " with factors of frequencies", architecture: a, edit: freqs},
		)
	}
	return append(list,
		form{name: "llama with a factor alone", architecture: "llama", edit: set("llama.rope.scaling.factor", float32(3))},
		form{name: "llama with the older name of the factor", architecture: "llama", edit: set("llama.rope.scale_linear", float32(3))},
		form{name: "gemma3 with linear scaling of global blocks", architecture: "gemma3", edit: set("gemma3.rope.scaling.type", "linear", "gemma3.rope.scaling.factor", float32(8))},
		form{name: "gemma3 with another local base", architecture: "gemma3", edit: set("gemma3.rope.freq_base_swa", float32(500))},
		form{name: "gemma3 of 62 blocks", architecture: "gemma3", edit: func(m *gguftest.Model) { m.Blocks("gemma3", 62) }},
		form{name: "phi3 with short factors", architecture: "phi3", edit: long("phi3", 256)},
		form{name: "phi3 with long factors", architecture: "phi3", edit: long("phi3", 32)},
		form{name: "phi3 with a partial rotation", architecture: "phi3", edit: set("phi3.rope.dimension_count", uint32(12))},
	)
}

// askLlamaCpp asks the same of a model of random weights of each form.
func askLlamaCpp(t *testing.T, list []form, job gguftest.Job) ([]*gguftest.Model, []gguftest.Answer) {
	t.Helper()
	dir := t.TempDir()
	jobs, models := make([]gguftest.Job, len(list)), make([]*gguftest.Model, len(list))
	for i, form := range list {
		m := gguftest.Of(form.architecture, 5)
		if form.edit != nil {
			form.edit(m)
		}
		b, err := m.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		models[i], jobs[i] = m, job
		jobs[i].File = filepath.Join(dir, fmt.Sprintf("%d.gguf", i))
		if err := os.WriteFile(jobs[i].File, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	answers, err := gguftest.AskLlamaCpp(t.Context(), jobs)
	if errors.Is(err, gguftest.ErrNoLlamaCpp) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return models, answers
}

// TestArchitecturesEqualLlamaCpp compares all logits of models of random float32 weights with
// llama.cpp's. What is left of a difference comes from keys and values kept as float16.
func TestArchitecturesEqualLlamaCpp(t *testing.T) {
	list := forms()
	tokens := someTokens(32)
	models, answers := askLlamaCpp(t, list, gguftest.Job{Tokens: tokens, Context: 64})
	plain := map[string][][]float32{}
	for i, form := range list {
		t.Run(strings.ReplaceAll(form.name, " ", "_"), func(t *testing.T) {
			if answers[i].Error != "" {
				t.Fatal(answers[i].Error)
			}
			src, f, _ := gguftestSource(t, models[i])
			engine, cache := newModel(t, src, f, "auto", 1, 64, 1)
			rows := forced(t, engine, cache, tokens, 0)
			worst, size, change := 0.0, 0.0, 0.0
			for p, row := range rows {
				for k, v := range row {
					worst = max(worst, math.Abs(float64(v-answers[i].Logits[p][k])))
					size = max(size, math.Abs(float64(v)))
					if form.edit != nil {
						change = max(change, math.Abs(float64(v-plain[form.architecture][p][k])))
					}
				}
			}
			if form.edit == nil {
				plain[form.architecture] = rows
			}
			t.Logf("within %.2g of llama.cpp, logits up to %.2g; the edit changes up to %.2g", worst, size, change)
			if !(worst < 3e-3*size) {
				t.Errorf("%.2g from llama.cpp, of logits up to %.2g", worst, size)
			}
			if form.edit != nil && change < 20*worst {
				t.Errorf("the test could not tell the model from one without the edit (%.2g)", change)
			}
		})
	}
}

// someTokens are n tokens of a model that package gguftest makes.
func someTokens(n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(i*53+7) % 256
	}
	return tokens
}
