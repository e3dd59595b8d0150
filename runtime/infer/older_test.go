package infer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/chunkseal/chunksealtest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/servable"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// TestOlderSealsAreRefusedWhenOpened: what an older version sealed unchecked is refused by
// name where it is opened, and what is sealed now opens and answers.
func TestOlderSealsAreRefusedWhenOpened(t *testing.T) {
	longtest.WithoutRace(t, "it seals and opens a file of every kind")
	p := chunksealtest.NewPublisher(3)
	refused, served := 0, 0
	for _, v := range gguftest.Variants() {
		dir := t.TempDir()
		in, path := filepath.Join(dir, "in.gguf"), filepath.Join(dir, "model.sealed")
		raw, err := v.File(1)
		if err == nil {
			err = os.WriteFile(in, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		key, err := keybuf.Take(bytes.Repeat([]byte{9}, chunkseal.KeySize))
		if err != nil {
			t.Fatal(err)
		}
		defer key.Wipe()
		if _, err := sealer.Seal(context.Background(), sealer.Options{In: in, Out: path, Key: key, Name: "test", Version: 1, Sign: p.Sign, Unchecked: true}); err != nil {
			if len(v.Want) == 0 {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue // never could be sealed
		}
		w, err := weights.Open(path, key, arena.NewBudget(32<<20), weights.Options{Workers: 1, Publisher: p})
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		f := header(t, w)
		if err := w.Match(f); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		cfg := Config{Source: w, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 64, MaxSequences: 1}
		if Embeds(f) && len(v.Want) == 0 {
			if e, err := NewEmbedder(cfg); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			} else if _, err := e.vectors(t.Context(), "the"); errors.Join(err, e.Close(), w.Close()) != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
			continue
		}
		e, err := New(cfg)
		refusal, isRefusal := errors.AsType[*servable.Error](err)
		switch {
		case len(v.Want) == 0:
			if err != nil {
				t.Errorf("%s: %v", v.Name, err)
				break
			}
			served++
			if _, err := e.Generate(t.Context(), Request{Prompt: e.Tokenizer().Encode("the", false), MaxTokens: 2}, func(string) error { return nil }); err != nil {
				t.Errorf("%s: %v", v.Name, err)
			}
		case err == nil && strings.HasPrefix(v.Want[0], "tensor-value "): // a matrix: seen when it is used
			_, err := e.Generate(t.Context(), Request{Prompt: e.Tokenizer().Encode("the the the", false), MaxTokens: 2}, func(string) error { return nil })
			if err != nil && !errors.Is(err, ErrLogits) {
				t.Errorf("%s: %v", v.Name, err)
			}
		case !isRefusal:
			t.Errorf("%s: opened, or refused without a reason: %v", v.Name, err)
		default:
			refused++
			name := strings.Fields(v.Want[0])[1]
			if got := refusal.Findings[0]; !strings.Contains(refusal.Error(), name) && got.Code != servable.CodeTensorValue {
				t.Errorf("%s: %v does not name %s", v.Name, err, name)
			}
		}
		if err == nil {
			if err := e.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d refused, %d served", refused, served)
	if refused < 50 || served < 15 {
		t.Errorf("%d refused, %d served", refused, served)
	}
}
