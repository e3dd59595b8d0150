package model

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// typesByTensor gives each matrix of a wide model of package gguftest another type.
var typesByTensor = map[string]gguf.Type{
	"token_embd":     gguf.Q6_K,
	"blk.0.attn_q":   gguf.Q4_K,
	"blk.0.attn_k":   gguf.Q5_0,
	"blk.0.attn_v":   gguf.Q8_0,
	"blk.0.ffn_up":   gguf.Q5_K,
	"blk.1.attn_q":   gguf.Q2_K,
	"blk.1.attn_k":   gguf.IQ4_XS,
	"blk.1.attn_v":   gguf.Q3_K,
	"blk.1.ffn_up":   gguf.MXFP4,
	"blk.0.ffn_gate": gguf.Q4_0, "blk.0.ffn_down": gguf.Q4_1, "blk.1.ffn_gate": gguf.Q5_1, "blk.1.ffn_down": gguf.IQ4_NL,
	"blk.0.attn_output": gguf.BF16, "blk.1.attn_output": gguf.F16,
}

// scaleOf is a scale, and a minimum in scales, with which random levels make weights of
// about 0.05 around 0.
func scaleOf(typ gguf.Type) (scale, minimum float64) {
	const weight = 0.05
	switch typ {
	case gguf.Q4_0:
		return weight / 5, 0
	case gguf.Q4_1:
		return weight / 5, -7.5
	case gguf.Q5_0:
		return weight / 9, 0
	case gguf.Q5_1:
		return weight / 9, -15.5
	case gguf.Q2_K:
		return weight / 8, 1.5
	case gguf.Q3_K:
		return weight / 40, 0
	case gguf.Q4_K:
		return weight / 150, 7.5
	case gguf.Q5_K:
		return weight / 300, 15.5
	case gguf.Q6_K, gguf.IQ4_XS:
		return weight / 1300, 0
	}
	return weight / 70, 0 // Q8_0, IQ4_NL
}

// randomize fills a tensor with random blocks of its type.
func randomize(t *gguf.TensorData, rng *rand.Rand) {
	for i := range t.Data {
		t.Data[i] = byte(rng.Uint32())
	}
	scale, minimum := scaleOf(t.Type)
	block, offsets, width := tileTypes[t.Type].Floats()
	for i := 0; i < len(t.Data); i += block {
		for j, at := range offsets {
			v := float32(scale)
			if block == 2 {
				v = float32(rng.NormFloat64() * 0.05)
			} else if j == 1 {
				v *= float32(minimum)
			}
			switch at := t.Data[i+at:]; {
			case width == 1:
				at[0] = 122 // 2^-6
			case t.Type == gguf.BF16:
				binary.LittleEndian.PutUint16(at, uint16(math.Float32bits(v)>>16))
			default:
				binary.LittleEndian.PutUint16(at, kernels.Float32to16(v))
			}
		}
	}
}

// unpacked is a tensor's weights as float32.
func unpacked(t *testing.T, q *gguf.TensorData) []byte {
	t.Helper()
	typ, cols, rows := tileTypes[q.Type], int(q.Dims[0]), int(q.Dims[1])
	group, row := make([]byte, kernels.TileBytes(typ, cols)), make([]float32, cols)
	size := kernels.RowBytes(typ, cols)
	var out []byte
	for r := range rows {
		if err := kernels.Pack(group, q.Data[r*size:(r+1)*size], typ, 1, cols); err != nil {
			t.Fatal(err)
		}
		if err := kernels.UnpackRow(row, group, typ, 0, cols); err != nil {
			t.Fatal(err)
		}
		for _, v := range row {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		}
	}
	return out
}

// TestEveryTypeIsComputedWith: a model of all types of matrices gives the logits that float64
// arithmetic gives on its weights as float32.
func TestEveryTypeIsComputedWith(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 42))
	quantized, plain := gguftest.New(4), gguftest.New(4)
	quantized.Wide()
	plain.Wide()
	for i := range quantized.Tensors {
		q := &quantized.Tensors[i]
		typ, ok := typesByTensor[strings.TrimSuffix(q.Name, ".weight")]
		if !ok {
			continue
		}
		quantized.Retype(q.Name, typ)
		randomize(q, rng)
		plain.Tensor(q.Name).Data = unpacked(t, q)
	}
	src, f, _ := gguftestSource(t, quantized)
	_, exactFile, data := gguftestSource(t, plain)
	e := &exact{t: t, f: exactFile, data: data, shape: shape{gguftest.Layers, 256, 4, 2, 64, 64, 10000}}
	tokens := []int32{7, 60, 113, 166, 219, 16, 69, 122, 175, 228}
	e.start()
	var want [][]float64
	for p, token := range tokens {
		want = append(want, e.logits(token, p))
	}
	for _, set := range []string{"auto", "generic"} {
		engine, cache := newModel(t, src, f, set, 2, 64, 1)
		rows := forced(t, engine, cache, tokens, 0)
		var worst, size float64
		for p := range tokens {
			for i, v := range want[p] {
				worst, size = max(worst, math.Abs(v-float64(rows[p][i]))), max(size, math.Abs(v))
			}
		}
		t.Logf("%s: within %.2g of logits up to %.2g", set, worst, size)
		if worst > 1e-3*size {
			t.Errorf("%s: %.2g from exact arithmetic", set, worst)
		}
	}
}

// TestBatchesOfAnySizeGiveTheSameBits: logits of a model of all types do not depend on how many tokens a pass has, nor
// on whether there is room for those that fill a tile.
func TestBatchesOfAnySizeGiveTheSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(43, 44))
	w := gguftest.New(4)
	w.Wide()
	for i := range w.Tensors {
		if typ, ok := typesByTensor[strings.TrimSuffix(w.Tensors[i].Name, ".weight")]; ok {
			w.Retype(w.Tensors[i].Name, typ)
			randomize(&w.Tensors[i], rng)
		}
	}
	src, f, _ := gguftestSource(t, w)
	tokens := someTokens(33)
	m, cache := newModel(t, src, f, "generic", 1, 64, 1)
	want := forced(t, m, cache, tokens, 0)
	set, err := kernels.Select("auto")
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(tokens); n++ {
		for _, room := range []int{n, 48} {
			m, err := New(Config{Source: src, Params: m.Params(), Kernels: set, Threads: 2, Budget: arena.NewBudget(1 << 30), Batch: room, Outputs: room, Context: 64})
			if err != nil {
				t.Fatal(err)
			}
			cache.Wipe(0, 0, 64)
			for i, row := range forced(t, m, cache, tokens[:n], 0) {
				if !slices.Equal(row, want[i]) {
					t.Errorf("%d tokens, room for %d: position %d differs", n, room, i)
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
