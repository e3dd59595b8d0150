package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

func newEncoder(t testing.TB, src Source, f *gguf.File, set string, threads, context int) *Encoder {
	t.Helper()
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernels.Select(set)
	if err != nil {
		t.Skip(err)
	}
	budget := arena.NewBudget(1 << 30)
	e, err := NewEncoder(Config{Source: src, Params: params, Kernels: k, Threads: threads, Budget: budget, Context: context})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	if used, want := budget.Used(), EncoderBytes(params, threads, context); used < want || used > want+64<<10 {
		t.Errorf("%d bytes are taken, %d were announced", used, want)
	}
	return e
}

func tinyEncoder(t *testing.T, architecture, set string, threads int, edit func(*gguftest.Model)) *Encoder {
	t.Helper()
	m := gguftest.Of(architecture, 5)
	if edit != nil {
		edit(m)
	}
	src, f, _ := gguftestSource(t, m)
	return newEncoder(t, src, f, set, threads, gguftest.EncoderContext)
}

// someText is a text of n tokens of a model that package gguftest makes.
func someText(n, seed int) []int32 {
	text := make([]int32, n)
	for i := range text {
		text[i] = int32(i*29+seed*7) % 59
	}
	return text
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i, v := range a {
		ab += float64(v) * float64(b[i])
		aa += float64(v) * float64(v)
		bb += float64(b[i]) * float64(b[i])
	}
	return ab / math.Sqrt(aa*bb)
}

// TestEncodersEqualLlamaCpp compares the vectors of models of random float32 weights with
// llama.cpp's, whose GELU is an approximation in float16.
func TestEncodersEqualLlamaCpp(t *testing.T) {
	first := func(m *gguftest.Model) {
		m.Set(m.Value("general.architecture").(string)+".pooling_type", uint32(2))
	}
	forms := []form{{"bert", "bert", nil}, {"bert, the first token", "bert", first}, {"nomic-bert", "nomic-bert", nil}, {"nomic-bert, the first token", "nomic-bert", first},
		{"nomic-bert with another base", "nomic-bert", func(m *gguftest.Model) { m.Set("nomic-bert.rope.freq_base", float32(50)) }},
		{"bert of 4 blocks", "bert", func(m *gguftest.Model) { *m = *gguftest.Encoder("bert", 4, 6) }},
		{"nomic-bert of 4 blocks", "nomic-bert", func(m *gguftest.Model) { *m = *gguftest.Encoder("nomic-bert", 4, 6) }}}
	text := someText(40, 1)
	models, answers := askLlamaCpp(t, forms, gguftest.Job{Embed: text, Context: gguftest.EncoderContext})
	plain := map[string][]float32{}
	for i, form := range forms {
		t.Run(strings.ReplaceAll(form.name, " ", "_"), func(t *testing.T) {
			if answers[i].Error != "" {
				t.Fatal(answers[i].Error)
			}
			src, f, _ := gguftestSource(t, models[i])
			rows, err := newEncoder(t, src, f, "auto", 1, gguftest.EncoderContext).Encode([][]int32{text})
			if err != nil {
				t.Fatal(err)
			}
			length := math.Sqrt(squaresOf(answers[i].Vector))
			worst, change := 0.0, 0.0
			for k, v := range rows[0] {
				worst = max(worst, math.Abs(float64(v)-float64(answers[i].Vector[k])/length))
				if form.edit != nil {
					change = max(change, math.Abs(float64(v-plain[form.architecture][k])))
				}
			}
			if form.edit == nil {
				plain[form.architecture] = slices.Clone(rows[0])
			}
			t.Logf("within %.2g of llama.cpp, cosine %.8f; the edit changes up to %.2g", worst, cosine(rows[0], answers[i].Vector), change)
			if !(worst < 2e-4) {
				t.Errorf("%.2g from llama.cpp", worst)
			}
			if form.edit != nil && change < 20*worst {
				t.Errorf("the test could not tell the model from one without the edit (%.2g)", change)
			}
		})
	}
}

func squaresOf(x []float32) (sum float64) {
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

// TestVectorsDoNotDependOnWhatIsBeside: the same to the last bit, alone and in a full batch, for any
// number of threads; and a long text leaves nothing behind for the next.
func TestVectorsDoNotDependOnWhatIsBeside(t *testing.T) {
	for _, architecture := range gguftest.Encoders {
		texts := [][]int32{someText(13, 1), someText(1, 2), someText(30, 3), someText(20, 4)}
		var want [][]float32
		alone := tinyEncoder(t, architecture, "auto", 1, nil)
		for _, text := range texts {
			rows, err := alone.Encode([][]int32{text})
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, slices.Clone(rows[0]))
			if n := squaresOf(rows[0]); math.Abs(n-1) > 1e-5 {
				t.Errorf("%s: a vector of length %g", architecture, math.Sqrt(n))
			}
		}
		for _, threads := range []int{1, 3} {
			e := tinyEncoder(t, architecture, "auto", threads, nil)
			for range 2 {
				rows, err := e.Encode(texts)
				if err != nil {
					t.Fatal(err)
				}
				for i := range texts {
					if !slices.Equal(rows[i], want[i]) {
						t.Errorf("%s, %d threads: text %d differs", architecture, threads, i)
					}
				}
			}
			for _, v := range e.core.scratch.x {
				if v != 0 {
					t.Fatal("the outputs of tokens are left in memory")
				}
			}
			for _, a := range e.core.scratch.attention {
				if v := slices.Concat(a.queries, a.sums, a.scores); slices.Max(v) != 0 || slices.Min(v) != 0 || slices.Max(slices.Concat(a.key, a.keys, a.vals)) != 0 {
					t.Fatal("queries, keys or values are left in memory")
				}
			}
			if slices.ContainsFunc(e.core.scratch.gate, func(v float32) bool { return v != 0 }) {
				t.Fatal("inner values are left in memory")
			}
		}
		if cosine(want[0], want[2]) > 0.9999 {
			t.Errorf("%s: two texts have one vector", architecture)
		}
		generic, err := tinyEncoder(t, architecture, "generic", 1, nil).Encode(texts)
		if err != nil {
			t.Fatal(err)
		}
		for i := range texts {
			if c := cosine(generic[i], want[i]); c < 0.999999 {
				t.Errorf("%s: text %d has cosine %g in plain Go", architecture, i, c)
			}
		}
	}
}

func TestEncoderRefusesBatchesOutOfRange(t *testing.T) {
	e := tinyEncoder(t, "bert", "auto", 1, nil)
	for name, texts := range map[string][][]int32{
		"no text": {}, "an empty text": {someText(3, 1), {}}, "a token too large": {{2, 59, 3}}, "a negative token": {{-1}},
		"a long text": {someText(gguftest.EncoderContext+1, 1)}, "two texts that are too long together": {someText(40, 1), someText(25, 1)},
	} {
		if _, err := e.Encode(texts); !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := e.Encode([][]int32{someText(40, 1), someText(24, 1)}); err != nil {
		t.Error(err)
	}
	zero := tinyEncoder(t, "bert", "auto", 1, func(m *gguftest.Model) {
		m.Values("blk.1.layer_output_norm.weight", make([]float32, gguftest.Width)...)
		m.Values("blk.1.layer_output_norm.bias", make([]float32, gguftest.Width)...)
	})
	if _, err := zero.Encode([][]int32{someText(4, 1)}); !errors.Is(err, ErrVector) {
		t.Errorf("a vector without a direction: %v", err)
	}
}

// embeddingTexts are of every length that the tokenizer and the context allow.
var embeddingTexts = []string{
	"The cat sat on the mat.", "A dog lies on the rug.", "Quarterly revenue grew by four percent.", "", "a", "Ünïcödé straße naïve café",
	"漢字かな交じり文", "привет, мир!", "SELECT * FROM users WHERE id = 1;", "unaffable antidisestablishmentarianism", "👩‍👩‍👧 🎉", "[CLS] [SEP]",
	strings.Repeat("x", 150), strings.Repeat("Machine learning is fun. ", 20), strings.Repeat("one two three four five six seven eight nine ten ", 50),
}

// TestMiniLMEqualsExactArithmetic compares all-MiniLM-L6-v2 with its published weights in exact
// arithmetic: cosine at least 0.9999.
func TestMiniLMEqualsExactArithmetic(t *testing.T) {
	longtest.Run(t, "a real model and its reference")
	path, err := gguftest.MiniLMPath()
	if err != nil {
		t.Skip(err)
	}
	answer, err := gguftest.AskMiniLM(t.Context(), gguftest.MiniLMJob{Texts: embeddingTexts, Embed: len(embeddingTexts)})
	if err != nil {
		t.Fatal(err)
	}
	src, f := fileModel(t, path, "make peers")
	e := newEncoder(t, src, f, "auto", 2, 512)
	least := 1.0
	for i, ids := range answer.IDs {
		rows, err := e.Encode([][]int32{ids})
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, len(rows[0]))
		for k, v := range answer.Embeddings[i] {
			want[k] = float32(v)
		}
		c := cosine(rows[0], want)
		if least = min(least, c); c < 0.9999 {
			t.Errorf("%.40q, %d tokens: cosine %.8f", embeddingTexts[i], len(ids), c)
		}
	}
	t.Logf("%d texts, cosine at least %.8f", len(answer.IDs), least)
}

func BenchmarkMiniLM(b *testing.B) {
	path, err := gguftest.MiniLMPath()
	if err != nil {
		b.Skip(err)
	}
	src, f := fileModel(b, path, "make peers")
	e := newEncoder(b, src, f, "auto", 1, 512)
	for _, length := range []int{16, 128, 512} {
		b.Run(fmt.Sprint(length, " tokens"), func(b *testing.B) {
			var texts [][]int32
			for range 512 / length {
				text := make([]int32, length)
				for i := range text {
					text[i] = int32(2000 + i*37%20000)
				}
				texts = append(texts, text)
			}
			for b.Loop() {
				if _, err := e.Encode(texts); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
