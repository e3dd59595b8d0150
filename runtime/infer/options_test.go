package infer

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/model"
)

// TestOptionsOutOfRangeAreRefused: each alone, before the engine computes.
func TestOptionsOutOfRangeAreRefused(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	size := int32(e.Tokenizer().Size())
	for name, tc := range map[string]struct {
		req  Request
		want error
	}{
		"temperature":     {Request{Temperature: -1}, ErrOption},
		"no number":       {Request{TopP: math.NaN()}, ErrOption},
		"min p":           {Request{MinP: 1.1}, ErrOption},
		"repeat":          {Request{Penalties: Penalties{Repeat: -1}}, ErrOption},
		"frequency":       {Request{Penalties: Penalties{Frequency: 101}}, ErrOption},
		"presence":        {Request{Penalties: Penalties{Presence: math.Inf(1)}}, ErrOption},
		"last tokens":     {Request{Penalties: Penalties{Last: 129}}, ErrOption},
		"fewer than none": {Request{Penalties: Penalties{Last: -1}}, ErrOption},
		"likeliest":       {Request{Top: MaxTop + 1}, ErrOption},
		"biases":          {Request{Bias: make([]Bias, MaxBias+1)}, ErrOption},
		"unknown token":   {Request{Bias: []Bias{{size, 1}}}, ErrBias},
		"negative token":  {Request{Bias: []Bias{{-1, 1}}}, ErrBias},
		"a large bias":    {Request{Bias: []Bias{{1, 101}}}, ErrBias},
		"no bias":         {Request{Bias: []Bias{{1, float32(math.NaN())}}}, ErrBias},
	} {
		tc.req.Prompt, tc.req.MaxTokens = []int32{1}, 1
		if _, err := e.Generate(t.Context(), tc.req, nil); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	all := make([]Bias, MaxBias)
	answer(t, e, Request{Prompt: []int32{1}, MaxTokens: 1, Bias: all, Top: MaxTop, Penalties: Penalties{Last: 128, Repeat: 2}, Observe: func([]Scored) error { return nil }})
}

// TestOptionsShapeAnswers: what is forced comes, what is forbidden does not, and a penalty
// ends repetition.
func TestOptionsShapeAnswers(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	x := e.Tokenizer().Encode("x", false)[0]
	prompt := e.Tokenizer().Encode("the cat", false)
	if text, _ := answer(t, e, Request{Prompt: prompt, MaxTokens: 5, Bias: []Bias{{x, 100}}}); text != "xxxxx" {
		t.Errorf("forced: %q", text)
	}
	forced := Request{Prompt: prompt, MaxTokens: 5, Bias: []Bias{{x, 100}}, Penalties: Penalties{Last: 64, Presence: 100, Frequency: 100}}
	if text, _ := answer(t, e, forced); strings.Count(text, "x") != 1 {
		t.Errorf("forced and penalized: %q", text)
	}
}

// TestObservedTokensMakeTheText: before each piece of text come the tokens that it is of, and
// of a stop text and what follows, none.
func TestObservedTokensMakeTheText(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	for _, stops := range [][]string{nil, {"xth"}, {"x"}} {
		seed := uint64(3)
		var bytes, text strings.Builder
		tokens := 0
		th, x := e.Tokenizer().Encode("th", false)[0], e.Tokenizer().Encode("x", false)[0]
		r, err := e.Generate(t.Context(), Request{Prompt: []int32{5}, MaxTokens: 40, Temperature: 1, Seed: &seed, Stop: stops, Top: 3, Bias: []Bias{{th, 6}, {x, 6}},
			Observe: func(list []Scored) error {
				for _, s := range list {
					tokens++
					bytes.Write(e.Tokenizer().Piece(s.Token))
					if len(s.Top) != 3 || s.Top[0].Logprob < s.Logprob || s.Logprob > 0 || s.Logprob < -40 {
						t.Errorf("%+v", s)
					}
				}
				return nil
			}}, func(piece string) error {
			text.WriteString(piece)
			if got := strings.ToValidUTF8(bytes.String(), "\uFFFD"); !strings.HasPrefix(got, strings.TrimRight(text.String(), "\uFFFD")) {
				t.Errorf("%q was shown before its tokens, %q", text.String(), got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		want := r.CompletionTokens
		if stops != nil && tokens >= want {
			t.Errorf("stop %q: %d tokens of %d observed for %q", stops, tokens, want, text.String())
		}
		if stops == nil && r.FinishReason == "length" && tokens != want {
			t.Errorf("%d tokens observed, want %d", tokens, want)
		}
	}
	failed := errors.New("gone")
	_, err := e.Generate(t.Context(), Request{Prompt: []int32{5}, MaxTokens: 40, Observe: func([]Scored) error { return failed }}, func(string) error { return nil })
	if !errors.Is(err, failed) {
		t.Errorf("observe failed: %v", err)
	}
}

// TestNoAnswerEndsInHalfACharacter: of a vocabulary of single bytes, answers that are cut at
// every length, and at stop texts, consist of whole characters.
func TestNoAnswerEndsInHalfACharacter(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 2)
	var bias []Bias
	for _, b := range []byte("\u00e9\u20ac\U0001F600") { // bytes of characters of 2, 3 and 4
		for id := range int32(e.Tokenizer().Size()) {
			if p := e.Tokenizer().Piece(id); len(p) == 1 && p[0] == b {
				bias = append(bias, Bias{id, 30})
			}
		}
	}
	bias = append(bias, Bias{e.Tokenizer().Encode("x", false)[0], 29})
	cut := 0
	for seed := range uint64(150) {
		req := Request{Prompt: []int32{7}, MaxTokens: 1 + int(seed%9), Temperature: 1, Seed: &seed, Bias: bias}
		if seed%3 == 0 {
			req.Stop = []string{"x"}
		}
		var bytes []byte
		req.Observe = func(list []Scored) error {
			for _, s := range list {
				bytes = append(bytes, e.Tokenizer().Piece(s.Token)...)
			}
			return nil
		}
		var text strings.Builder
		if _, err := e.Generate(context.Background(), req, func(piece string) error {
			if !utf8.ValidString(piece) {
				t.Errorf("seed %d: %q is not UTF-8", seed, piece)
			}
			text.WriteString(piece)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		half := incomplete(bytes)
		if half > 0 {
			cut++
		}
		runs := func(r, s rune) bool { return r == s && r == utf8.RuneError } // which may come in pieces
		want := slices.CompactFunc([]rune(string(bytes[:len(bytes)-half])), runs)
		if got := slices.CompactFunc([]rune(text.String()), runs); !slices.Equal(got, want) {
			t.Errorf("seed %d: %q of the bytes %q, want %q", seed, string(got), bytes, string(want))
		}
	}
	if cut < 20 {
		t.Errorf("only %d answers were cut in a character: the test does not test", cut)
	}
}

// TestGivenAnswersAreScoredAsChosenOnesAre: to the last bit, beside others and behind a prompt
// that the cache has, and nothing but the given tokens comes.
func TestGivenAnswersAreScoredAsChosenOnesAre(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 3)
	prompt := e.Tokenizer().Encode("the cat sat on the mat and the cat", false)
	scored := func(req Request) (list []Scored) {
		req.Prompt, req.Top = prompt, 2
		req.Observe = func(s []Scored) error { list = append(list, s...); return nil }
		if _, err := e.Generate(t.Context(), req, func(string) error { return nil }); err != nil {
			t.Error(err)
		}
		return list
	}
	seed := uint64(5)
	want := scored(Request{MaxTokens: 40, Temperature: 1, Seed: &seed})
	if len(want) < 2 {
		t.Fatalf("the model says %d tokens", len(want))
	}
	var given []int32
	for _, s := range want {
		given = append(given, s.Token)
	}
	same := func(got []Scored, n int) {
		t.Helper()
		if !reflect.DeepEqual(got, want[:n]) {
			t.Errorf("%d given tokens are scored otherwise than chosen ones:\n%v\n%v", n, got, want[:n])
		}
	}
	for n := range len(given) {
		same(scored(Request{Given: given[:n+1], Owner: "one"}), n+1)
	}
	var beside sync.WaitGroup
	for range 5 {
		beside.Go(func() { same(scored(Request{Given: given}), len(given)) })
		beside.Go(func() { scored(Request{MaxTokens: 9}) })
	}
	beside.Wait()
	for name, bad := range map[string][]int32{"too many": make([]int32, e.ContextSize()), "unknown": {int32(e.Tokenizer().Size())}, "negative": {-1}} {
		if _, err := e.Generate(t.Context(), Request{Prompt: prompt, Given: bad}, nil); !errors.Is(err, ErrPrompt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCacheTypes: how keys and values are kept is one of two, and a model whose heads q8 cannot hold is refused before
// it takes memory.
func TestCacheTypes(t *testing.T) {
	src, f := load(t, smallFile(t)) // its heads have 8 elements
	for cache, reason := range map[string]refusal.Reason{"q4": "", "q8": model.ReasonCacheType} {
		cfg := Config{Source: src, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 256, MaxSequences: 1, Cache: cache}
		_, errMemory := Memory(cfg)
		_, errNew := New(cfg)
		for _, err := range []error{errMemory, errNew} {
			got, _ := refusal.ReasonOf(err)
			if err == nil || got != reason || !strings.Contains(err.Error(), "f16") {
				t.Errorf("%s: %v with reason %q, want one that names f16, with reason %q", cache, err, got, reason)
			}
		}
		if used := cfg.Budget.Used(); used != 0 {
			t.Errorf("%s: %d bytes are still taken", cache, used)
		}
	}
}
