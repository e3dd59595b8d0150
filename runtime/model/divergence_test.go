package model

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// whole computes all positions of a text at once, block by block, in plain Go: weights as float32,
// activations as float32 between products, sums in float64.
type whole struct {
	t   *testing.T
	src *plain
	p   Params
}

// each runs f for 0 to n-1 on all processors.
func each(n int, f func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wait.Wait()
}

func (w *whole) row(tensor kernels.Tensor, dst []float32, r int) {
	size := kernels.TileBytes(tensor.Type, tensor.Cols)
	group := w.src.data[tensor.ID][r/kernels.TileRows*size:][:size]
	if err := kernels.UnpackRow(dst, group, tensor.Type, r%kernels.TileRows, tensor.Cols); err != nil {
		w.t.Error(err)
	}
}

// product is the matrix times each of the vectors, plus the bias if there is one.
func (w *whole) product(name string, x [][]float32) [][]float32 {
	tensor, ok := w.src.Tensor(name + ".weight")
	if !ok || tensor.Cols != len(x[0]) {
		w.t.Fatalf("%s: %d columns for vectors of %d", name, tensor.Cols, len(x[0]))
	}
	bias := w.src.vectors[name+".bias"]
	out := make([][]float32, len(x))
	for i := range out {
		out[i] = make([]float32, tensor.Rows)
	}
	each((tensor.Rows+15)/16, func(group int) {
		weights := make([]float32, tensor.Cols)
		for r := group * 16; r < min(tensor.Rows, group*16+16); r++ {
			w.row(tensor, weights, r)
			for at := 0; at < len(x); at += 4 {
				var s [4]float64
				four := [4][]float32{x[at], x[min(at+1, len(x)-1)], x[min(at+2, len(x)-1)], x[min(at+3, len(x)-1)]}
				a, b, c, d := four[0][:len(weights)], four[1][:len(weights)], four[2][:len(weights)], four[3][:len(weights)]
				for i, v := range weights {
					v := float64(v)
					s[0] += v * float64(a[i])
					s[1] += v * float64(b[i])
					s[2] += v * float64(c[i])
					s[3] += v * float64(d[i])
				}
				for k := at; k < min(at+4, len(x)); k++ {
					out[k][r] = float32(s[k-at])
					if bias != nil {
						out[k][r] += bias[r]
					}
				}
			}
		}
	})
	return out
}

func (w *whole) norm(name string, x [][]float32) [][]float32 {
	weights := w.src.vectors[name]
	out := make([][]float32, len(x))
	for i, row := range x {
		for at := 0; at < len(row); at += len(weights) { // a head, or all
			var sum float64
			for _, v := range row[at : at+len(weights)] {
				sum += float64(v) * float64(v)
			}
			scale := 1 / math.Sqrt(sum/float64(len(weights))+float64(w.p.Epsilon))
			for k, n := range weights {
				out[i] = append(out[i], float32(float64(row[at+k])*scale*float64(n)))
			}
		}
	}
	return out
}

// optional is norm where the file has one.
func (w *whole) optional(name string, x [][]float32) [][]float32 {
	if w.src.vectors[name] == nil {
		return x
	}
	return w.norm(name, x)
}

func (w *whole) rotate(x [][]float32, base float64) {
	size, architecture := w.p.HeadSize, w.p.family.name
	for position, row := range x {
		for at := 0; at < len(row); at += size {
			for i := range size / 2 {
				p, q := at+2*i, at+2*i+1
				if architecture != "llama" {
					p, q = at+i, at+i+size/2
				}
				sin, cos := math.Sincos(float64(position) / math.Pow(base, float64(2*i)/float64(size)))
				a, b := float64(row[p]), float64(row[q])
				row[p], row[q] = float32(a*cos-b*sin), float32(a*sin+b*cos)
			}
		}
	}
}

func (w *whole) attention(layer int, x [][]float32) [][]float32 {
	at, size, group := fmt.Sprintf("blk.%d.", layer), w.p.HeadSize, w.p.Heads/w.p.KVHeads
	q, k, v := w.product(at+"attn_q", x), w.product(at+"attn_k", x), w.product(at+"attn_v", x)
	q, k = w.optional(at+"attn_q_norm.weight", q), w.optional(at+"attn_k_norm.weight", k)
	base, window := w.p.RopeBase, len(x)
	if w.p.family.name == "gemma3" && layer%6 != 5 {
		base, window = 10000, 512
	}
	w.rotate(q, base)
	w.rotate(k, base)
	out := make([][]float32, len(x))
	each(len(x), func(i int) {
		out[i] = make([]float32, w.p.Heads*size)
		for h := range w.p.Heads {
			kv, first := h/group*size, max(0, i-window+1)
			weights := make([]float64, i+1)
			most := math.Inf(-1)
			for j := first; j <= i; j++ {
				for c := range size {
					weights[j] += float64(q[i][h*size+c]) * float64(k[j][kv+c])
				}
				weights[j] /= math.Sqrt(float64(size))
				most = max(most, weights[j])
			}
			sums, total := make([]float64, size), 0.0
			for j := first; j <= i; j++ {
				e := math.Exp(weights[j] - most)
				total += e
				for c := range size {
					sums[c] += e * float64(v[j][kv+c])
				}
			}
			for c := range size {
				out[i][h*size+c] = float32(sums[c] / total)
			}
		}
	})
	return w.product(at+"attn_output", out)
}

func (w *whole) feedForward(at string, x [][]float32) [][]float32 {
	gate, up := w.product(at+"ffn_gate", x), w.product(at+"ffn_up", x)
	for i := range gate {
		for k := range gate[i] {
			g := float64(gate[i][k])
			act := g / (1 + math.Exp(-g))
			if w.p.family.name == "gemma3" {
				act = 0.5 * g * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g)))
			}
			gate[i][k] = float32(act * float64(up[i][k]))
		}
	}
	return w.product(at+"ffn_down", gate)
}

// logits are those after each token.
func (w *whole) logits(tokens []int32) [][]float32 {
	embedding, _ := w.src.Tensor("token_embd.weight")
	x := make([][]float32, len(tokens))
	for i, token := range tokens {
		x[i] = make([]float32, w.p.Width)
		w.row(embedding, x[i], int(token))
		if w.p.family.name == "gemma3" {
			for k := range x[i] {
				x[i][k] *= float32(math.Sqrt(float64(w.p.Width)))
			}
		}
	}
	add := func(y [][]float32) {
		for i := range x {
			for k, v := range y[i] {
				x[i][k] += v
			}
		}
	}
	for layer := range w.p.Layers {
		at := fmt.Sprintf("blk.%d.", layer)
		add(w.optional(at+"post_attention_norm.weight", w.attention(layer, w.norm(at+"attn_norm.weight", x))))
		add(w.optional(at+"post_ffw_norm.weight", w.feedForward(at, w.norm(at+"ffn_norm.weight", x))))
	}
	name := "token_embd"
	if _, ok := w.src.Tensor("output.weight"); ok {
		name = "output"
	}
	return w.product(name, w.norm("output_norm.weight", x))
}

// peerBatch is how many tokens llama.cpp computes at once, n_batch and n_ubatch.
const peerBatch = 512

// peerLogits has llama.cpp write the logits after each token, position by position.
func peerLogits(t *testing.T, path string, tokens []int32) io.Reader {
	t.Helper()
	out := filepath.Join(t.TempDir(), "logits")
	answers, err := gguftest.AskLlamaCpp(t.Context(), []gguftest.Job{{File: path, Tokens: tokens, Context: peerBatch, Whole: out}})
	if errors.Is(err, gguftest.ErrNoLlamaCpp) {
		t.Skip(err)
	}
	if err != nil || answers[0].Error != "" {
		t.Fatal(err, answers)
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return bufio.NewReaderSize(f, 1<<20)
}

// TestDivergenceFromExactBesideLlamaCpp: KL divergence from exact float32 arithmetic over the same
// positions of a text, ours and llama.cpp's. ANCHORHOLD_DIVERGENCE=1 takes all positions, which
// takes minutes on all processors; without it a few of each model are compared.
func TestDivergenceFromExactBesideLlamaCpp(t *testing.T) {
	longtest.Arithmetic(t, "exact arithmetic over texts")
	long := os.Getenv("ANCHORHOLD_DIVERGENCE") != ""
	text := func(name string) []int32 {
		var list struct {
			IDs []int32 `json:"ids"`
		}
		if err := json.Unmarshal(shared(t, "models/"+name+"/likelihood.json"), &list); err != nil {
			t.Fatal(err)
		}
		return list.IDs
	}
	for _, c := range []struct {
		name, file, command string
		text                func() []int32
		positions, from     int
		few                 int // positions without ANCHORHOLD_DIVERGENCE
	}{
		{"smollm2-135m", "SmolLM2-135M-Instruct.Q4_1.gguf", "make model", func() (ids []int32) {
			for _, r := range chatReferences(t) {
				ids = append(append(ids, r.IDs...), r.Greedy...)
			}
			return ids
		}, 320, 0, 32},
		{"gemma3-270m", "gemma-3-270m-q4_k_m.gguf", "make model MODEL=gemma", func() []int32 { return text("gemma3-270m") }, 320, 0, 32},
		// llama.cpp loses some nats at its first position: see compareText.
		{"qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "make model MODEL=qwen", func() []int32 { return text("qwen2.5-coder-1.5b") }, 160, 1, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			tokens := c.text()[:c.few]
			if long {
				tokens = c.text()[:c.positions]
			}
			path := cached(t, c.file)
			src, f := fileModel(t, path, c.command)
			params, err := ParseParams(f)
			if err != nil {
				t.Fatal(err)
			}
			peer := peerLogits(t, path, tokens)
			exact := (&whole{t, src, params}).logits(tokens)
			m, cache := newModelWith(t, src, params, "auto", 2, 1024, 1)
			var ours, theirs, mostOurs, mostTheirs, first float64
			row := make([]float32, m.Params().Vocabulary)
			for at := 0; at < len(tokens); at += 32 {
				var batch []Input
				for i := at; i < min(at+32, len(tokens)); i++ {
					batch = append(batch, Input{Token: tokens[i], Position: i, Output: true})
				}
				rows, err := m.Forward(cache, batch)
				if err != nil {
					t.Fatal(err)
				}
				for i, got := range rows {
					if err := binary.Read(peer, binary.LittleEndian, row); err != nil {
						t.Fatal(err)
					}
					a, b := klDivergence(exact[at+i], got), klDivergence(exact[at+i], row)
					if at+i < c.from {
						first = b
						if !(a < 0.001) {
							t.Errorf("position %d: divergence %.2g", at+i, a)
						}
						continue
					}
					ours, theirs, mostOurs, mostTheirs = ours+a, theirs+b, max(mostOurs, a), max(mostTheirs, b)
				}
			}
			n := float64(len(tokens) - c.from)
			t.Logf("KL divergence from exact over %g positions: %.2g in the mean, %.2g at most; llama.cpp's (n_batch = n_ubatch = %d) %.2g in the mean, %.2g at most; over position 0, if left out, %.2g",
				n, ours/n, mostOurs, peerBatch, theirs/n, mostTheirs, first)
			if !(ours <= theirs) || math.IsNaN(theirs) || slices.Max(exact[0]) == slices.Min(exact[0]) {
				t.Errorf("divergence %.2g, llama.cpp's is %.2g", ours/n, theirs/n)
			}
		})
	}
}
