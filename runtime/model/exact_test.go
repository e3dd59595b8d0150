package model

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
)

// exact computes a model position by position in float64, from the file alone and
// with nothing of this package.
type exact struct {
	t       *testing.T
	f       *gguf.File
	data    []byte
	factors []float64 // of rope_freqs.weight, or nil
	shape
	architecture string // llama if empty
	keys         [][][]float64
	values       [][][]float64
}

// shape is what the keys of a file say.
type shape struct{ layers, width, heads, kvHeads, size, rotated, base int }

// ofTest is the shape of a model that gguftest.New makes.
var ofTest = shape{gguftest.Layers, gguftest.Width, gguftest.Heads, gguftest.KVHeads, gguftest.HeadSize, gguftest.HeadSize, 10000}

// start forgets all positions.
func (e *exact) start() {
	e.keys, e.values = make([][][]float64, e.layers), make([][][]float64, e.layers)
}

func (e *exact) tensor(name string) []float64 {
	t, ok := e.f.Tensor(name)
	if !ok {
		return nil
	}
	out := make([]float64, t.Elements())
	for i := range out {
		out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(e.data[e.f.DataOffset+t.Offset+4*int64(i):])))
	}
	return out
}

// product is matrix times x plus bias.
func (e *exact) product(name string, x []float64) []float64 {
	w, bias := e.tensor(name+".weight"), e.tensor(name+".bias")
	out := make([]float64, len(w)/len(x))
	for r := range out {
		for c, v := range x {
			out[r] += w[r*len(x)+c] * v
		}
		if bias != nil {
			out[r] += bias[r]
		}
	}
	return out
}

func (e *exact) norm(name string, x []float64) []float64 {
	var sum float64
	for _, v := range x {
		sum += v * v
	}
	scale := 1 / math.Sqrt(sum/float64(len(x))+float64(float32(1e-5)))
	out := make([]float64, len(x))
	for i, w := range e.tensor(name) {
		out[i] = x[i] * scale * w
	}
	return out
}

// rotate turns the pairs of each head: pair i by position / (base^(2i/rotated) factor i).
func (e *exact) rotate(x []float64, position int, base float64) {
	for at := 0; at < len(x); at += e.size {
		for i := range e.rotated / 2 {
			angle := float64(position) / math.Pow(base, float64(2*i)/float64(e.rotated))
			if e.factors != nil {
				angle /= e.factors[i]
			}
			p, q := at+2*i, at+2*i+1
			switch e.architecture {
			case "qwen2", "qwen3", "gemma3", "phi3":
				p, q = at+i, at+i+e.rotated/2
			}
			a, b := x[p], x[q]
			x[p], x[q] = a*math.Cos(angle)-b*math.Sin(angle), a*math.Sin(angle)+b*math.Cos(angle)
		}
	}
}

// heads normalizes each head, if the file has a norm for it.
func (e *exact) headNorms(name string, x []float64) []float64 {
	if e.tensor(name) == nil {
		return x
	}
	var out []float64
	for at := 0; at < len(x); at += e.size {
		out = append(out, e.norm(name, x[at:at+e.size])...)
	}
	return out
}

func (e *exact) attention(layer, position int, x []float64) []float64 {
	size, group := e.size, e.heads/e.kvHeads
	at := fmt.Sprintf("blk.%d.", layer)
	var q, k, v []float64
	if e.architecture == "phi3" {
		all := e.product(at+"attn_qkv", x)
		q, k, v = all[:e.heads*size], all[e.heads*size:(e.heads+e.kvHeads)*size], all[(e.heads+e.kvHeads)*size:]
	} else {
		q, k, v = e.product(at+"attn_q", x), e.product(at+"attn_k", x), e.product(at+"attn_v", x)
	}
	q, k = e.headNorms(at+"attn_q_norm.weight", q), e.headNorms(at+"attn_k_norm.weight", k)
	base, first, scale := float64(e.base), 0, 1/math.Sqrt(float64(size))
	if e.architecture == "gemma3" && layer%6 != 5 {
		base, first = 10000, max(0, position-gguftest.Window+1)
	}
	if e.architecture == "granite" {
		scale = e.key("attention.scale")
	}
	if e.architecture != "smollm3" || layer%4 != 3 {
		e.rotate(q, position, base)
		e.rotate(k, position, base)
	}
	e.keys[layer], e.values[layer] = append(e.keys[layer], k), append(e.values[layer], v)
	out := make([]float64, len(q))
	for h := range e.heads {
		kv := h / group * size
		var weights []float64
		var sum float64
		for _, key := range e.keys[layer][first:] {
			var dot float64
			for i := range size {
				dot += q[h*size+i] * key[kv+i]
			}
			w := math.Exp(dot * scale)
			weights, sum = append(weights, w), sum+w
		}
		for p, w := range weights {
			for i := range size {
				out[h*size+i] += w / sum * e.values[layer][first+p][kv+i]
			}
		}
	}
	return e.product(at+"attn_output", out)
}

// key is a number of the header, under the architecture's name.
func (e *exact) key(name string) float64 {
	v, ok := e.f.Float(e.architecture + "." + name)
	if !ok {
		e.t.Fatalf("%s is missing", name)
	}
	return v
}

func (e *exact) feedForward(at string, in []float64) []float64 {
	var gate, up []float64
	if e.architecture == "phi3" {
		both := e.product(at+"ffn_up", in)
		gate, up = both[:len(both)/2], both[len(both)/2:]
	} else {
		gate, up = e.product(at+"ffn_gate", in), e.product(at+"ffn_up", in)
	}
	for i, g := range gate {
		act := g / (1 + math.Exp(-g))
		if e.architecture == "gemma3" {
			act = 0.5 * g * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g)))
		}
		gate[i] = act * up[i]
	}
	return e.product(at+"ffn_down", gate)
}

// logits feeds one token.
func (e *exact) logits(token int32, position int) []float64 {
	x := e.tensor("token_embd.weight")[int(token)*e.width:][:e.width]
	embedding, residual, logit := 1.0, 1.0, 1.0
	switch e.architecture {
	case "gemma3":
		embedding = math.Sqrt(float64(e.width))
	case "granite":
		embedding, residual, logit = e.key("embedding_scale"), e.key("residual_scale"), e.key("logit_scale")
	}
	for i := range x {
		x[i] *= embedding
	}
	for layer := range e.layers {
		at := fmt.Sprintf("blk.%d.", layer)
		add := func(y []float64, norm string) {
			if e.tensor(at+norm) != nil {
				y = e.norm(at+norm, y)
			}
			for i, v := range y {
				x[i] += residual * v
			}
		}
		add(e.attention(layer, position, e.norm(at+"attn_norm.weight", x)), "post_attention_norm.weight")
		add(e.feedForward(at, e.norm(at+"ffn_norm.weight", x)), "post_ffw_norm.weight")
	}
	x = e.norm("output_norm.weight", x)
	name := "token_embd"
	if e.tensor("output.weight") != nil {
		name = "output"
	}
	out := e.product(name, x)
	for i := range out {
		out[i] /= logit
	}
	return out
}

// gguftestSource is a model of package gguftest as the engine reads it.
func gguftestSource(t *testing.T, m *gguftest.Model) (*plain, *gguf.File, []byte) {
	t.Helper()
	b, err := m.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlain()
	for _, g := range f.Tensors {
		raw := make([]byte, g.Size)
		if _, err := io.ReadFull(io.NewSectionReader(bytes.NewReader(b), f.DataOffset+g.Offset, g.Size), raw); err != nil {
			t.Fatal(err)
		}
		if err := p.add(g.Name, tileTypes[g.Type], g.Rows(), g.Columns(), raw); err != nil {
			t.Fatal(err)
		}
	}
	return p, f, b
}

// TestOptionalTensorsAreComputedWith: factors of the rotation's frequencies, biases, and an
// output matrix each give what float64 arithmetic gives, and something else than without.
func TestOptionalTensorsAreComputedWith(t *testing.T) {
	bias := func(role string, n int) func(*gguftest.Model) {
		return func(m *gguftest.Model) {
			for i := range gguftest.Layers {
				m.Vector(fmt.Sprintf("blk.%d.%s.bias", i, role), n, 0.1)
			}
		}
	}
	const narrow = gguftest.KVHeads * gguftest.HeadSize
	factors := []float32{1, 1.25, 1.5, 2, 3.7, 6, 8, 8}
	cases := []struct {
		name string
		edit func(*gguftest.Model)
	}{
		{"nothing optional", func(*gguftest.Model) {}},
		{"rope_freqs", func(m *gguftest.Model) { m.Values("rope_freqs.weight", factors...) }},
		{"attn_q.bias", bias("attn_q", gguftest.Width)},
		{"attn_k.bias", bias("attn_k", narrow)},
		{"attn_v.bias", bias("attn_v", narrow)},
		{"attn_output.bias", bias("attn_output", gguftest.Width)},
		{"ffn_gate.bias", bias("ffn_gate", gguftest.FeedForward)},
		{"ffn_up.bias", bias("ffn_up", gguftest.FeedForward)},
		{"ffn_down.bias", bias("ffn_down", gguftest.Width)},
		{"output", func(m *gguftest.Model) { m.Matrix("output.weight", 261, gguftest.Width) }},
	}
	// Another pairing of heads shows only where keys differ by head; positions past the
	// first few show the factors of the slow pairs.
	tokens := make([]int32, 40)
	for i := range tokens {
		tokens[i] = int32(i*53+7) % 256
	}
	var without [][]float64
	for _, tc := range cases {
		m := gguftest.New(3)
		tc.edit(m)
		src, f, data := gguftestSource(t, m)
		e := &exact{t: t, f: f, data: data, shape: ofTest}
		e.factors = e.tensor("rope_freqs.weight")
		for _, set := range []string{"auto", "generic"} {
			engine, cache := newModel(t, src, f, set, 2, 64, 1)
			rows := forced(t, engine, cache, tokens, 0)
			e.start()
			var all [][]float64
			var worst, change float64
			for p, token := range tokens {
				want := e.logits(token, p)
				all = append(all, want)
				for i, v := range want {
					worst = max(worst, math.Abs(v-float64(rows[p][i])))
					if without != nil {
						change = max(change, math.Abs(v-without[p][i]))
					}
				}
			}
			if without == nil {
				without = all
			}
			t.Logf("%s, %s: within %.2g of exact; it changes a logit by up to %.2g", tc.name, set, worst, change)
			if worst > 2e-3 {
				t.Errorf("%s, %s: %.2g from exact arithmetic", tc.name, set, worst)
			}
			if tc.name != "nothing optional" && change < 20*worst {
				t.Errorf("%s: the test could not tell it from a model without (%.2g)", tc.name, change)
			}
		}
	}
}

// TestShapesAreComputedAsTheKeysSay: heads that are not the width divided by their number,
// one key head for all queries, a rotation of part of a head, another base.
func TestShapesAreComputedAsTheKeysSay(t *testing.T) {
	for i, s := range []shape{
		{1, 64, 2, 1, 32, 32, 10000}, {2, 96, 4, 1, 48, 48, 500000}, {1, 128, 8, 8, 16, 16, 1000000}, {1, 64, 2, 2, 64, 64, 10000},
		{1, 64, 4, 2, 16, 8, 10000}, {2, 96, 2, 1, 48, 2, 10000}, {1, 32, 6, 3, 16, 16, 100}, {3, 160, 5, 1, 32, 20, 10000},
	} {
		m := gguftest.New(uint64(i))
		for key, v := range map[string]int{"block_count": s.layers, "embedding_length": s.width, "attention.head_count": s.heads, "attention.head_count_kv": s.kvHeads,
			"attention.key_length": s.size, "attention.value_length": s.size, "rope.dimension_count": s.rotated} {
			m.Set("llama."+key, uint32(v))
		}
		m.Set("llama.rope.freq_base", float32(s.base))
		m.Matrix("token_embd.weight", 261, s.width)
		m.Vector("output_norm.weight", s.width, 1)
		for l := range s.layers {
			at := fmt.Sprintf("blk.%d.", l)
			m.Vector(at+"attn_norm.weight", s.width, 1)
			m.Matrix(at+"attn_q.weight", s.heads*s.size, s.width)
			m.Matrix(at+"attn_k.weight", s.kvHeads*s.size, s.width)
			m.Matrix(at+"attn_v.weight", s.kvHeads*s.size, s.width)
			m.Matrix(at+"attn_output.weight", s.width, s.heads*s.size)
			m.Vector(at+"ffn_norm.weight", s.width, 1)
			m.Matrix(at+"ffn_gate.weight", gguftest.FeedForward, s.width)
			m.Matrix(at+"ffn_up.weight", gguftest.FeedForward, s.width)
			m.Matrix(at+"ffn_down.weight", s.width, gguftest.FeedForward)
		}
		src, f, data := gguftestSource(t, m)
		e := &exact{t: t, f: f, data: data, shape: s}
		for _, set := range []string{"auto", "generic"} {
			engine, cache := newModel(t, src, f, set, 2, 64, 1)
			tokens := make([]int32, 24)
			for i := range tokens {
				tokens[i] = int32(i*53+7) % 256
			}
			rows := forced(t, engine, cache, tokens, 0)
			e.start()
			var worst float64
			for p, token := range tokens {
				for k, v := range e.logits(token, p) {
					worst = max(worst, math.Abs(v-float64(rows[p][k])))
				}
			}
			if worst > 5e-3 {
				t.Errorf("%+v, %s: %.2g from exact arithmetic", s, set, worst)
			}
			t.Logf("%+v, %s: %.2g", s, set, worst)
		}
	}
}

// TestArchitecturesEqualExactArithmetic: a model of each architecture, with every kind of block
// it has, gives what float64 arithmetic gives.
func TestArchitecturesEqualExactArithmetic(t *testing.T) {
	for _, architecture := range gguftest.Architectures {
		src, f, data := gguftestSource(t, gguftest.Of(architecture, 9))
		params, err := ParseParams(f)
		if err != nil {
			t.Fatal(err)
		}
		e := &exact{t: t, f: f, data: data, architecture: architecture, shape: ofTest}
		e.layers, e.size, e.rotated, e.base = params.Layers, params.HeadSize, params.RopeDims, int(params.RopeBase)
		for _, set := range []string{"auto", "generic"} {
			engine, cache := newModel(t, src, f, set, 2, 64, 1)
			tokens := someTokens(24)
			rows := forced(t, engine, cache, tokens, 0)
			e.start()
			var worst, size float64
			for p, token := range tokens {
				for k, v := range e.logits(token, p) {
					worst, size = max(worst, math.Abs(v-float64(rows[p][k]))), max(size, math.Abs(v))
				}
			}
			t.Logf("%s, %s: within %.2g of exact, logits up to %.2g", architecture, set, worst, size)
			if !(worst < 1e-3*size) {
				t.Errorf("%s, %s: %.2g from exact arithmetic, logits up to %.2g", architecture, set, worst, size)
			}
		}
	}
}

// TestUselessFactorsAreRefused: a frequency is not divided by nothing, or by no number.
func TestUselessFactorsAreRefused(t *testing.T) {
	for name, bad := range map[string]float32{"zero": 0, "negative": -1, "not a number": float32(math.NaN()), "infinite": float32(math.Inf(1))} {
		m := gguftest.New(3)
		m.Values("rope_freqs.weight", 1, 1, 1, bad, 1, 1, 1, 1)
		src, f, _ := gguftestSource(t, m)
		params, err := ParseParams(f)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resolve(src, &params, 64); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	m := gguftest.New(3)
	m.Vector("blk.1.attn_k.bias", gguftest.Width, 0)
	src, f, _ := gguftestSource(t, m)
	params, err := ParseParams(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := resolve(src, &params, 64); err == nil {
		t.Error("a bias of another length was taken")
	}
}
