package infer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// sealedOpener opens a sealed file.
type sealedOpener func(budget *arena.Budget, opt weights.Options) *weights.Weights

// sealedFile seals a file and returns how to open it.
func sealedFile(t testing.TB, in string) (path string, open sealedOpener) {
	t.Helper()
	p := chunksealtest.NewPublisher(3)
	key, err := keybuf.Take(bytes.Repeat([]byte{9}, chunkseal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	path = filepath.Join(t.TempDir(), "model.sealed")
	if _, err := sealer.Seal(context.Background(), sealer.Options{In: in, Out: path, Key: key, Name: "test", Version: 1, Sign: p.Sign}); err != nil {
		t.Fatal(err)
	}
	return path, func(budget *arena.Budget, opt weights.Options) *weights.Weights {
		t.Helper()
		opt.Publisher = p
		w, err := weights.Open(path, key, budget, opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
		return w
	}
}

func header(t testing.TB, w *weights.Weights) *gguf.File {
	t.Helper()
	f, err := gguf.ParseHeader(w.Header())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSealedAnswersAreThoseOfThePlainFile: sealed weights, resident or streamed
// under a small budget, give exactly the answers of the plain file.
func TestSealedAnswersAreThoseOfThePlainFile(t *testing.T) {
	in := smallFile(t)
	src, f := load(t, in)
	want := answers(t, smallEngine(t, src, f, 2, 1))
	_, open := sealedFile(t, in)
	for _, mode := range []weights.Mode{weights.Resident, weights.Streamed} {
		w := open(arena.NewBudget(16<<20), weights.Options{Mode: mode, Workers: 2})
		if w.Resident() != (mode == weights.Resident) {
			t.Errorf("%s weights say resident: %v", mode, w.Resident())
		}
		if got := answers(t, smallEngine(t, w, header(t, w), 2, 1)); !slices.Equal(got, want) {
			t.Errorf("%s:\n%q\nplain:\n%q", mode, got, want)
		}
	}
}

// TestRealModelStreamedAnswersAsResident is the same at full size, streamed in
// a tenth of the weights' memory.
func TestRealModelStreamedAnswersAsResident(t *testing.T) {
	longtest.WithoutRace(t, "the real model is too slow under it; a small one stands in")
	_, open := sealedFile(t, realPath(t))
	var want string
	for _, tc := range []struct {
		mode  weights.Mode
		limit int64
	}{{weights.Resident, 120 << 20}, {weights.Streamed, 10 << 20}} {
		w := open(arena.NewBudget(tc.limit), weights.Options{Mode: tc.mode, Workers: 2})
		e := smallEngine(t, w, header(t, w), 2, 1)
		seed := uint64(5)
		text, r := answer(t, e, Request{Prompt: question(t, e, "Name three colours."), MaxTokens: 6, Temperature: 0.7, TopP: 0.9, Seed: &seed})
		if want == "" {
			want = text
		}
		if text != want || r.CompletionTokens < 2 {
			t.Errorf("%s: %q, %+v; resident %q", tc.mode, text, r, want)
		}
	}
}

// TestChangedChunkEndsTheAnswer changes one byte of the sealed file under an
// engine that streams it.
func TestChangedChunkEndsTheAnswer(t *testing.T) {
	path, open := sealedFile(t, smallFile(t))
	w := open(arena.NewBudget(16<<20), weights.Options{Mode: weights.Streamed, Workers: 1})
	e := smallEngine(t, w, header(t, w), 1, 1)
	request := smallRequests(e)[0]
	answer(t, e, request)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(raw) / 2; i < len(raw); i += 512 {
		raw[i] ^= 1
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteAt(raw[len(raw)/2:], int64(len(raw)/2))
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	var failure *chunkseal.Failure
	if _, err := e.Generate(context.Background(), request, func(string) error { return nil }); !errors.As(err, &failure) {
		t.Errorf("over changed chunks: %v", err)
	}
}
