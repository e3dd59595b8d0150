package model

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// realFamily is a real model of another architecture than llama, with references of exact
// float32 arithmetic in shared/models.
type realFamily struct {
	name, file, command string
	prompts             string  // the reference's file of prompts
	tolerance           float64 // between our logits and exact ones
	peer                float64 // llama.cpp's mean divergence from exact
}

var realFamilies = []realFamily{
	{"gemma3-270m", "gemma-3-270m-q4_k_m.gguf", "make model MODEL=gemma", "completion.jsonl", 0.02, 0.0047},
	{"qwen2.5-coder-1.5b", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf", "make model MODEL=qwen", "chat.jsonl", 0.02, 0.0023},
}

// familyReference is a line of a file of prompts.
type familyReference struct {
	chatReference
	PeerKL float64 `json:"llama_cpp_forced_kl_mean"`
}

func (r realFamily) references(t *testing.T) []familyReference {
	t.Helper()
	var list []familyReference
	for dec := json.NewDecoder(bytes.NewReader(shared(t, "models/"+r.name+"/"+r.prompts))); dec.More(); {
		var line familyReference
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		list = append(list, line)
	}
	if len(list) < 3 || len(list[0].IDs) == 0 || len(list[0].Greedy) != len(list[0].Margins) {
		t.Fatalf("the reference has another form: %d lines", len(list))
	}
	return list
}

// exactLogits are those after the first three prompts.
func (r realFamily) exactLogits(t *testing.T, vocabulary int) [3][]float32 {
	t.Helper()
	raw := shared(t, "models/"+r.name+"/logits-f32-last3.bin")
	var rows [3][]float32
	for i := range rows {
		rows[i] = make([]float32, vocabulary)
		for j := range rows[i] {
			rows[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*(i*vocabulary+j):]))
		}
	}
	return rows
}

// TestRealFamiliesAgreeWithExactArithmetic follows the exact continuations of some prompts, one
// of them longer than Gemma's window, and a text: first choices are the same wherever exact
// arithmetic prefers one by more than 0.3, logits are close, and the text is as likely.
func TestRealFamiliesAgreeWithExactArithmetic(t *testing.T) {
	longtest.WithoutRace(t, "real models take seconds a token under it")
	for _, r := range realFamilies {
		t.Run(r.name, func(t *testing.T) {
			longtest.Run(t, "a real model computes a thousand tokens")
			src, f := fileModel(t, cached(t, r.file), r.command)
			m, cache := newModel(t, src, f, "auto", 2, 1024, 1)
			r.compareChoices(t, m, cache)
			r.compareText(t, m, cache)
		})
	}
}

func (r realFamily) compareChoices(t *testing.T, m *Model, cache *Cache) {
	exact := r.exactLogits(t, m.Params().Vocabulary)
	checked := 0
	for n, ref := range r.references(t) {
		tokens := append(slices.Clone(ref.IDs), ref.Greedy...)
		rows := forced(t, m, cache, tokens[:len(tokens)-1], len(ref.IDs)-1)
		for i, want := range ref.Greedy {
			if ref.Margins[i] > 0.3 {
				checked++
				if got := argmax(rows[i]); got != want {
					t.Errorf("prompt %d, token %d: %d, exact arithmetic says %d by %.2f", n, i, got, want, ref.Margins[i])
				}
			}
		}
		if n >= len(exact) {
			continue
		}
		var worst float64
		for k, v := range rows[0] {
			worst = max(worst, math.Abs(float64(v-exact[n][k])))
		}
		kl := klDivergence(exact[n], rows[0])
		t.Logf("prompt %d: logits within %.2g of exact, divergence %.2g (llama.cpp's mean: %.2g)", n, worst, kl, ref.PeerKL)
		if !(worst < r.tolerance) {
			t.Errorf("prompt %d: a logit is %.2g from exact, want at most %.2g", n, worst, r.tolerance)
		}
		if !(kl < r.peer) {
			t.Errorf("prompt %d: divergence %.2g, llama.cpp's is %.2g", n, kl, r.peer)
		}
	}
	t.Logf("%d choices with a margin above 0.3 compared", checked)
	if checked < 50 {
		t.Errorf("only %d choices compared", checked)
	}
}

// compareText compares the likelihood of each token of a text. Llama.cpp loses some nats at the
// first position of Qwen's, where one value of an input is a thousand times the others.
func (r realFamily) compareText(t *testing.T, m *Model, cache *Cache) {
	var text struct {
		IDs   []int32   `json:"ids"`
		Exact []float64 `json:"f32_nll"`
		Peer  []float64 `json:"llama_cpp_nll"`
	}
	if err := json.Unmarshal(shared(t, "models/"+r.name+"/likelihood.json"), &text); err != nil {
		t.Fatal(err)
	}
	if len(text.Exact) != len(text.IDs)-1 || len(text.Peer) != len(text.Exact) || len(text.Exact) < 300 {
		t.Fatalf("the reference has another form: %d tokens", len(text.IDs))
	}
	var worst, sum, peer float64
	for at := 0; at < len(text.Exact); at += 32 { // not all rows at once: each has a megabyte
		n := min(32, len(text.Exact)-at)
		batch := make([]Input, n)
		for i := range batch {
			batch[i] = Input{Token: text.IDs[at+i], Position: at + i, Output: true}
		}
		rows, err := m.Forward(cache, batch)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows {
			off := math.Abs(surprise(row, text.IDs[at+i+1]) - text.Exact[at+i])
			worst, sum, peer = max(worst, off), sum+off, peer+math.Abs(text.Peer[at+i]-text.Exact[at+i])
		}
	}
	mean, peerMean := sum/float64(len(text.Exact)), peer/float64(len(text.Exact))
	t.Logf("negative log likelihood of %d tokens: %.2g from exact in the mean, %.2g at most; llama.cpp's mean %.2g", len(text.Exact), mean, worst, peerMean)
	if !(worst < r.tolerance) || !(mean < peerMean) {
		t.Errorf("negative log likelihood %.2g from exact in the mean, %.2g at most", mean, worst)
	}
}

// surprise is the negative logarithm of a token's probability.
func surprise(row []float32, token int32) float64 {
	top := float64(row[argmax(row)])
	var sum float64
	for _, v := range row {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum) - float64(row[token])
}
