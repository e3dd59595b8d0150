package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/packaging/canary"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// TestTheCanaryModelHasSomethingToSay: each run's model gives an answer that stands out.
func TestTheCanaryModelHasSomethingToSay(t *testing.T) {
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	sign := func(root []byte) ([]byte, []byte, error) {
		sig, err := publisher.Sign(chunkseal.SignContext, root)
		return publisher.Public().Bytes(), sig, err
	}
	for range 3 {
		plain, _, err := canaryModel()
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		in, out := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "model.ahm")
		if err := os.WriteFile(in, plain, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sealer.Seal(t.Context(), sealer.Options{In: in, Out: out, Key: key, Name: auditedModel, Version: 1, Sign: sign}); err != nil {
			t.Fatal(err)
		}
		budget := arena.NewBudget(64 << 20)
		w, err := weights.Open(out, key, budget, weights.Options{Workers: 1, Publisher: publisher.Public(), Reserve: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		header, err := gguf.ParseHeader(w.Header())
		if err != nil {
			t.Fatal(err)
		}
		e, err := infer.New(infer.Config{Source: w, File: header, Budget: budget, Threads: 1, Context: 1024, MaxSequences: 1})
		if err != nil {
			t.Fatal(err)
		}
		ids, err := e.Template().Encode(e.Tokenizer(), []tokenize.Message{{Role: "user", Content: "Please keep this to yourself: " + words(60)}}, true)
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(answerSeeds) {
			var text strings.Builder
			if _, err := e.Generate(t.Context(), infer.Request{Prompt: ids, MaxTokens: 100, Temperature: 1, Seed: &seed}, func(s string) error { text.WriteString(s); return nil }); err != nil {
				t.Fatal(err)
			}
			if _, err = canary.New(canary.Text(assetAnswer, text.String()[:min(64, text.Len())])); err == nil {
				break
			}
			t.Logf("%q: %v", text.String(), err)
		}
		if err != nil {
			t.Error("no seed gives an answer that stands out")
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
}
