package classifier_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/classifier"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// model is a classifier of several chunks.
func model() (*classifier.Description, intnet.Parameters) {
	r := rand.New(rand.NewPCG(1, 2))
	a := intnet.Architecture{Input: intnet.Shape{C: 784, H: 1, W: 1}, Layers: []intnet.Layer{{Kind: intnet.Dense, Out: 300, ReLU: true}, {Kind: intnet.Dense, Out: 3}}}
	p := intnet.Parameters{Layers: []intnet.LayerParameters{
		{Weights: make([]int8, 784*300), Bias: make([]int32, 300), Multiplier: make([]uint32, 300)}, {Weights: make([]int8, 900), Bias: make([]int32, 3)}}}
	for i := range p.Layers {
		for k := range p.Layers[i].Weights {
			p.Layers[i].Weights[k] = int8(r.IntN(255) - 127)
		}
	}
	for k := range p.Layers[0].Multiplier {
		p.Layers[0].Bias[k], p.Layers[0].Multiplier[k] = int32(r.IntN(2000)-1000), 1+r.Uint32N(1<<12)
	}
	return &classifier.Description{Architecture: a, Quantizer: classifier.Quantizer{Features: []classifier.Feature{{Multiplier: 1, Shift: 1}}},
		Scale: classifier.Scale{Mantissa: 1 << 31, Exponent: -40}, Labels: []string{"a", "b", "c"}}, p
}

func newKey(t *testing.T, seed byte) *keybuf.Buffer {
	t.Helper()
	key, err := keybuf.Take(bytes.Repeat([]byte{seed}, chunkseal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return key
}

func options(t *testing.T) sealer.Options {
	return sealer.Options{Out: filepath.Join(t.TempDir(), "model.sealed"), Key: newKey(t, 1), Name: "digits", Version: 3, Sign: chunksealtest.NewPublisher(1).Sign}
}

func seal(t *testing.T) string {
	t.Helper()
	d, p := model()
	parts, err := classifier.Parts(d, p)
	if err != nil {
		t.Fatal(err)
	}
	opt := options(t)
	if _, err := sealer.SealClassifier(t.Context(), opt, parts); err != nil {
		t.Fatal(err)
	}
	return opt.Out
}

// sealSections writes any sections, as a publisher does who makes mistakes.
func sealSections(t *testing.T, sections []chunkseal.Section, data ...[]byte) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "model.sealed"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := chunkseal.NewWriter(f, newKey(t, 1), chunkseal.Manifest{Name: "m", Version: 1}, sections)
	if err != nil {
		t.Fatal(err)
	}
	for i, b := range data {
		for len(b) > 0 {
			n := min(len(b), int(sections[i].ChunkBytes))
			if err := w.WriteChunk(b[:n]); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
	}
	if _, err := w.Close(chunksealtest.NewPublisher(1).Sign); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

func accept() classifier.Options { return classifier.Options{Publisher: chunksealtest.NewPublisher(1)} }

func TestSealedClassifierIsTheOneThatWasSealed(t *testing.T) {
	path := seal(t)
	budget := arena.NewBudget(16 << 20)
	opt := accept()
	opt.Name, opt.MinVersion = "digits", 3
	m, err := classifier.Open(path, newKey(t, 1), budget, opt)
	if err != nil {
		t.Fatal(err)
	}
	d, p := model()
	if got := m.Description(); !slices.Equal(got.Labels, d.Labels) || got.QuantizationDigest() != d.QuantizationDigest() {
		t.Errorf("%+v", got)
	}
	r, err := m.NewRunner()
	if err != nil {
		t.Fatal(err)
	}
	in, out := make([]int8, 784), make([]int32, 3)
	for i := range in {
		in[i] = int8(i * 7)
	}
	want, err := (&intnet.Network{Architecture: d.Architecture, Parameters: p}).Forward(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Infer(in, out); err != nil || !slices.Equal(out, want) {
		t.Errorf("%v, want %v, %v", out, want, err)
	}
	if err := m.WithParameters(func(got intnet.Parameters) error {
		if !slices.Equal(got.Layers[0].Weights, p.Layers[0].Weights) || !slices.Equal(got.Layers[0].Multiplier, p.Layers[0].Multiplier) ||
			!slices.Equal(got.Layers[0].Bias, p.Layers[0].Bias) || !slices.Equal(got.Layers[1].Weights, p.Layers[1].Weights) {
			t.Error("parameters differ")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if pub := m.Public(); pub.Name != "digits" || pub.Version != 3 || pub.Root == [32]byte{} {
		t.Errorf("%+v", pub)
	}
	if err := errors.Join(r.Close(), m.Close()); err != nil || budget.Used() != 0 {
		t.Errorf("%d bytes remain, %v", budget.Used(), err)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := seal(t)
	root := [32]byte{1}
	for want, c := range map[refusal.Reason]struct {
		key byte
		opt classifier.Options
	}{
		chunkseal.ReasonPublisher: {1, classifier.Options{}},
		chunkseal.ReasonName:      {1, classifier.Options{Publisher: chunksealtest.NewPublisher(1), Name: "other"}},
		chunkseal.ReasonRollback:  {1, classifier.Options{Publisher: chunksealtest.NewPublisher(1), MinVersion: 4}},
		chunkseal.ReasonModelID:   {1, classifier.Options{Publisher: chunksealtest.NewPublisher(1), ModelID: &root}},
		chunkseal.ReasonKey:       {2, accept()},
	} {
		budget := arena.NewBudget(16 << 20)
		_, err := classifier.Open(path, newKey(t, c.key), budget, c.opt)
		if reason, _ := refusal.ReasonOf(err); reason != want || budget.Used() != 0 {
			t.Errorf("%v, want %s; %d bytes remain", err, want, budget.Used())
		}
	}
	small := arena.NewBudget(1 << 16)
	_, err := classifier.Open(path, newKey(t, 1), small, accept())
	if full, ok := errors.AsType[*arena.DoesNotFit](err); !ok || full.Need < 784*300 || small.Used() != 0 {
		t.Errorf("%v", err)
	}
	for _, p := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if _, err := classifier.Open(p, newKey(t, 1), arena.NewBudget(1<<20), accept()); err == nil {
			t.Errorf("%s was opened", p)
		}
	}
}

// TestChangedChunksAreRefused flips a byte in each chunk; nothing remains in memory.
func TestChangedChunksAreRefused(t *testing.T) {
	b, err := os.ReadFile(seal(t))
	if err != nil {
		t.Fatal(err)
	}
	public, err := chunkseal.Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if public.Chunks != 3 {
		t.Fatalf("%d chunks", public.Chunks)
	}
	for i := range public.Chunks {
		offset, _ := public.Slot(i)
		changed := bytes.Clone(b)
		changed[offset+3] ^= 1
		path := filepath.Join(t.TempDir(), "changed")
		if err := os.WriteFile(path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		budget := arena.NewBudget(16 << 20)
		_, err := classifier.Open(path, newKey(t, 1), budget, accept())
		if reason, _ := refusal.ReasonOf(err); reason != chunkseal.ReasonDigest || budget.Used() != 0 {
			t.Errorf("chunk %d: %v, %d bytes remain", i, err, budget.Used())
		}
	}
}

// TestSectionsOfAClassifier: what a publisher seals by mistake is refused by its structure.
func TestSectionsOfAClassifier(t *testing.T) {
	d, p := model()
	parts := func() []classifier.Part {
		list, err := classifier.Parts(d, p)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	cases := map[string]func([]classifier.Part) []classifier.Part{
		"nothing changed":  func(l []classifier.Part) []classifier.Part { return l },
		"other order":      func(l []classifier.Part) []classifier.Part { return []classifier.Part{l[1], l[0]} },
		"one part":         func(l []classifier.Part) []classifier.Part { return l[:1] },
		"three parts":      func(l []classifier.Part) []classifier.Part { x := l[1]; x.Name = "[more]"; return append(l, x) },
		"other name":       func(l []classifier.Part) []classifier.Part { l[1].Name = "[params]"; return l },
		"other first name": func(l []classifier.Part) []classifier.Part { l[0].Name = "[model]"; return l },
		"other type":       func(l []classifier.Part) []classifier.Part { l[1].Type = 3; return l },
		"other kind":       func(l []classifier.Part) []classifier.Part { l[1].Kind = chunkseal.KindVector; return l },
		"other columns":    func(l []classifier.Part) []classifier.Part { l[1].Cols++; return l },
		"other chunks":     func(l []classifier.Part) []classifier.Part { l[1].RowsPerChunk = 1; return l },
		"short parameters": func(l []classifier.Part) []classifier.Part {
			l[1].Data = l[1].Data[1:]
			l[1].LastBytes--
			l[1].Cols--
			return l
		},
		"weight of -128": func(l []classifier.Part) []classifier.Part {
			l[1].Data[len(l[1].Data)-1] = 0x80
			return l
		},
		"bad description": func(l []classifier.Part) []classifier.Part { l[0].Data[0]++; return l },
	}
	for name, change := range cases {
		list := change(parts())
		sections, data := make([]chunkseal.Section, len(list)), make([][]byte, len(list))
		for i, part := range list {
			sections[i], data[i] = part.Section, part.Data
		}
		budget := arena.NewBudget(16 << 20)
		m, err := classifier.Open(sealSections(t, sections, data...), newKey(t, 1), budget, accept())
		if (err == nil) != (name == "nothing changed") {
			t.Errorf("%s: %v", name, err)
		}
		if m != nil {
			err = m.Close()
		}
		if budget.Used() != 0 {
			t.Errorf("%s: %d bytes remain, %v", name, budget.Used(), err)
		}
	}
	p.Layers[1].Bias = nil
	if _, err := classifier.Parts(d, p); err == nil {
		t.Error("parameters that do not suit the architecture")
	}
	d, p = model()
	d.Scale = classifier.Scale{}
	if _, err := classifier.Parts(d, p); err == nil {
		t.Error("a description that is none")
	}
}

// TestClassifiersAndLanguageModelsAreNotMistaken: each loader refuses the other's file, by
// name, under the right key and publisher.
func TestClassifiersAndLanguageModelsAreNotMistaken(t *testing.T) {
	_, err := weights.Open(seal(t), newKey(t, 1), arena.NewBudget(16<<20), weights.Options{Workers: 1, Publisher: chunksealtest.NewPublisher(1)})
	if err == nil || !strings.Contains(err.Error(), "holds a classifier") {
		t.Errorf("a classifier as a language model: %v", err)
	}
	var b bytes.Buffer
	err = gguf.Write(&b, []gguf.KV{{Key: "general.architecture", Value: "llama"}}, []gguf.TensorData{{Name: "token_embd.weight", Type: gguf.F32, Dims: []uint64{32, 16}, Data: make([]byte, 4*32*16)}})
	if err != nil {
		t.Fatal(err)
	}
	opt := options(t)
	opt.In, opt.Unchecked = filepath.Join(t.TempDir(), "in.gguf"), true // it need not be a whole model
	if err := os.WriteFile(opt.In, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := sealer.Seal(t.Context(), opt); err != nil {
		t.Fatal(err)
	}
	budget := arena.NewBudget(16 << 20)
	_, err = classifier.Open(opt.Out, newKey(t, 1), budget, accept())
	if err == nil || !strings.Contains(err.Error(), "holds a language model") || budget.Used() != 0 {
		t.Errorf("a language model as a classifier: %v", err)
	}
}

func TestSealClassifierFailsWhole(t *testing.T) {
	d, p := model()
	parts, err := classifier.Parts(d, p)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	opt, unsigned, nameless := options(t), options(t), options(t)
	unsigned.Sign, nameless.Name = nil, ""
	short := slices.Clone(parts)
	short[1].Data = short[1].Data[1:]
	badSign := options(t)
	badSign.Sign = func([]byte) ([]byte, []byte, error) { return nil, nil, errors.New("no") }
	for name, try := range map[string]func() error{
		"ended":   func() error { _, err := sealer.SealClassifier(ended, opt, parts); return err },
		"no sign": func() error { _, err := sealer.SealClassifier(t.Context(), unsigned, parts); return err },
		"no name": func() error { _, err := sealer.SealClassifier(t.Context(), nameless, parts); return err },
		"short":   func() error { _, err := sealer.SealClassifier(t.Context(), opt, short); return err },
		"refused": func() error { _, err := sealer.SealClassifier(t.Context(), badSign, parts); return err },
	} {
		if err := try(); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(opt.Out)); err != nil || len(left) != 0 {
		t.Errorf("%v remain, %v", left, err)
	}
	var last, total int64
	opt.Progress = func(done, of int64) { last, total = done, of }
	sum, err := sealer.SealClassifier(t.Context(), opt, parts)
	if err != nil || last != total || sum.Chunks != 3 || sum.SourceBytes != total {
		t.Errorf("%+v, %v: %d of %d", sum, err, last, total)
	}
}
