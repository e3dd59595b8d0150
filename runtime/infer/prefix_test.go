package infer

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/packaging/longtest"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// counted counts the pieces of matrices that an engine asks for: the work of its passes.
type counted struct {
	*plain
	chunks atomic.Int64
}

func (c *counted) Chunk(worker, tensor, chunk int) ([]byte, error) {
	c.chunks.Add(1)
	return c.plain.Chunk(worker, tensor, chunk)
}

// Tiles is asked for once for each piece of a matrix.
func (c *counted) Tiles(tensor int) ([]byte, error) {
	c.chunks.Add(1)
	return c.plain.Tiles(tensor)
}

// ownerEngine is an engine whose prompts may take two passes.
func ownerEngine(t *testing.T, sequences int) (*Engine, *counted) {
	t.Helper()
	src, f := load(t, smallFile(t))
	c := &counted{plain: src}
	e, err := New(Config{Source: c, File: f, Budget: arena.NewBudget(64 << 20), Threads: 1, Context: 256, MaxSequences: sequences})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, c
}

// pattern is a prompt of n tokens.
func pattern(n, start int) []int32 {
	p := make([]int32, n)
	for i := range p {
		p[i] = int32((start + i*7) % 200)
	}
	return p
}

// TestAnswersWithASharedPrefixAreThoseWithout, token for token, sampled ones too, whatever was
// answered before and beside.
func TestAnswersWithASharedPrefixAreThoseWithout(t *testing.T) {
	seed := uint64(5)
	var requests []Request
	for _, n := range []int{1, 2, 40, 41, 150, 200, 201, 100, 3, 200} {
		requests = append(requests,
			Request{Prompt: pattern(n, 3), MaxTokens: 10},
			Request{Prompt: append(pattern(n, 3), 9, 9, 9), MaxTokens: 6, Temperature: 1, Seed: &seed})
	}
	for _, sequences := range []int{1, 2, 5} {
		e, _ := ownerEngine(t, sequences)
		var want []string
		for _, r := range requests {
			text, result := answer(t, e, r)
			if result.ReusedTokens != 0 {
				t.Fatalf("%d tokens reused without an owner", result.ReusedTokens)
			}
			want = append(want, text)
		}
		got := make([]string, len(requests))
		var wg sync.WaitGroup
		var reused atomic.Int64
		next := atomic.Int64{}
		for range sequences {
			wg.Go(func() {
				for at := int(next.Add(1)) - 1; at < len(requests); at = int(next.Add(1)) - 1 {
					r := requests[at]
					r.Owner = fmt.Sprint("uid ", at%2)
					result, err := e.Generate(context.Background(), r, func(s string) error { got[at] += s; return nil })
					if err != nil {
						t.Error(err)
					}
					reused.Add(int64(result.ReusedTokens))
				}
			})
		}
		wg.Wait()
		if !slices.Equal(got, want) {
			t.Errorf("%d at once: with shared prefixes\n%q\nwithout\n%q", sequences, got, want)
		}
		if sequences > 1 && reused.Load() < 100 {
			t.Errorf("%d at once: only %d tokens were reused", sequences, reused.Load())
		}
	}
}

// TestNextTurnComputesWhatIsNew: a second turn goes on behind the prompt and the answer of the
// first, all but its last token.
func TestNextTurnComputesWhatIsNew(t *testing.T) {
	e, src := ownerEngine(t, 1)
	first := Request{Prompt: pattern(200, 1), MaxTokens: 1, Owner: "a"}
	before := src.chunks.Load()
	answer(t, e, first)
	twoPasses := src.chunks.Load() - before
	second := first
	second.Prompt = append(slices.Clone(first.Prompt), 4, 5, 6)
	before = src.chunks.Load()
	_, result := answer(t, e, second)
	if result.ReusedTokens != 200 || 2*(src.chunks.Load()-before) > twoPasses+10 {
		t.Errorf("%d tokens reused, %d chunks; the first turn took %d", result.ReusedTokens, src.chunks.Load()-before, twoPasses)
	}
	if _, result = answer(t, e, second); result.ReusedTokens != 202 {
		t.Errorf("the same prompt again: %d tokens reused, want all but the last", result.ReusedTokens)
	}
}

// TestAnothersPromptSpeedsUpNothing: whoever guesses what another user asked learns nothing from the
// time. The same request takes the same work whether another user asked the same, something
// else, or nothing, and at whatever length.
func TestAnothersPromptSpeedsUpNothing(t *testing.T) {
	guess := pattern(200, 1)
	work := map[string]int64{}
	for name, before := range map[string][]int32{"nothing": nil, "the same": guess, "another": pattern(200, 2), "a beginning": guess[:150], "short": {1}} {
		for _, owner := range []string{"victim", ""} {
			for _, attacker := range []string{"attacker", ""} {
				e, src := ownerEngine(t, 2)
				if before != nil {
					answer(t, e, Request{Prompt: before, MaxTokens: 3, Owner: owner})
				}
				start := src.chunks.Load()
				_, result := answer(t, e, Request{Prompt: guess, MaxTokens: 3, Owner: attacker})
				if result.ReusedTokens != 0 && (attacker != owner || owner == "") {
					t.Errorf("%q after %s of %q: %d tokens reused", attacker, name, owner, result.ReusedTokens)
				}
				work[fmt.Sprint(name, owner, attacker)] = src.chunks.Load() - start
			}
		}
	}
	for name, n := range work {
		if n != work["nothing"+"victim"+"attacker"] {
			t.Errorf("%s: %d chunks, alone %d", name, n, work["nothing"+"victim"+"attacker"])
		}
	}
}

// valuesLeft counts the values of all keys and values that are not zero, once what is cleared beside passes is clear.
func valuesLeft(e *Engine) (n int) {
	e.beside.Wait()
	values := reflect.ValueOf(e.cache).Elem().FieldByName("memory")
	for i := 0; i < values.Len(); i += 2 { // of two bytes
		if values.Index(i).Uint()|values.Index(i+1).Uint() != 0 {
			n++
		}
	}
	return n
}

func TestPrefixWithoutAnOwnerIsWipedAtItsEnd(t *testing.T) {
	e, _ := ownerEngine(t, 2)
	answer(t, e, Request{Prompt: pattern(100, 1), MaxTokens: 5}) // ends only when its slot is free
	if n := valuesLeft(e); n != 0 {
		t.Errorf("%d values left", n)
	}
	for _, b := range e.prefixes.region.Bytes() {
		if b != 0 {
			t.Fatal("tokens are left")
		}
	}
}

// TestLeastRecentlyUsedPrefixGoesAndIsWiped counts what is left of it.
func TestLeastRecentlyUsedPrefixGoesAndIsWiped(t *testing.T) {
	e, _ := ownerEngine(t, 2)
	long, short := pattern(150, 1), pattern(4, 2)
	ask := func(owner string, prompt []int32) int {
		t.Helper()
		_, r := answer(t, e, Request{Prompt: prompt, MaxTokens: 1, Owner: owner})
		return r.ReusedTokens
	}
	ask("a", long)
	ask("b", short)
	if n := ask("a", long); n != 149 {
		t.Fatalf("a's second request reuses %d tokens", n)
	}
	if n := ask("c", short); n != 0 { // in b's place
		t.Errorf("c reuses %d tokens", n)
	}
	if n := ask("a", long); n != 149 {
		t.Errorf("b was used less recently than a, whose prefix went: %d tokens reused", n)
	}
	if n := ask("b", short); n != 0 { // in c's place
		t.Errorf("b's prefix is still there: %d tokens", n)
	}
	ask("d", short) // in a's place
	if n := valuesLeft(e); n > 2*4*200 || n == 0 {
		t.Errorf("%d values left for two prefixes of 4 tokens", n)
	}
	for i := range e.prefixes.slots {
		if rest := e.prefixes.slots[i].tokens[4*tokenBytes:]; !bytes.Equal(rest, make([]byte, len(rest))) {
			t.Errorf("slot %d: tokens of a prefix that went are left", i)
		}
	}
}

// TestOwnersWithMostPrefixesLoseTheirs: one owner's many conversations take nothing of another's.
func TestOwnersWithMostPrefixesLoseTheirs(t *testing.T) {
	for name, c := range map[string]struct {
		owners string // of the slots, used in this order; '-' is empty, capitals are busy
		next   string
		want   int
	}{
		"an empty one first":            {"aa-b", "a", 2},
		"of one's own, being the most":  {"baaa", "a", 1},
		"as many as another, its own":   {"bbaa", "a", 2},
		"of the owner with more":        {"baaa", "b", 1},
		"all have one, and a newcomer":  {"abcd", "e", 0},
		"all have one, and one of them": {"abcd", "c", 2},
		"its own are busy":              {"bAAc", "a", 0},
		"busy ones count":               {"bcCA", "a", 1},
		"without an owner":              {"abbc", "", 1},
	} {
		p := &prefixes{slots: make([]prefix, len(c.owners))}
		for i, owner := range strings.ToLower(c.owners) {
			if owner != '-' {
				p.slots[i] = prefix{owner: string(owner), used: uint64(i + 1)}
			}
		}
		if got := p.room(c.next, func(slot int) bool { return c.owners[slot] >= 'a' || c.owners[slot] == '-' }, 0, 0); got != c.want {
			t.Errorf("%s: slot %d, want %d", name, got, c.want)
		}
	}
}

// TestNobodySharesWithNobody: two requests without an owner have nothing in common.
func TestNobodySharesWithNobody(t *testing.T) {
	p, err := newPrefixes(arena.NewBudget(1<<20), 1, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer p.region.Release()
	for owner, want := range map[string]int{"": 0, "a": 1} {
		p.take(0, owner, 0, 0)
		p.put(0, 0, 7)
		if slot, n := p.longest(owner, []int32{7, 8}, func(int, int) bool { return true }); n != want || slot != 0 {
			t.Errorf("owner %q shares %d tokens with itself, want %d", owner, n, want)
		}
	}
}

// TestSharedBeginningIsKeptForBoth: a request that shares only a system prompt with the last one
// does not take away what the last conversation may go on behind.
func TestSharedBeginningIsKeptForBoth(t *testing.T) {
	e, _ := ownerEngine(t, 2)
	system := pattern(40, 1)
	first, second := append(slices.Clone(system), pattern(120, 90)...), append(slices.Clone(system), 7, 7, 7)
	for i, tc := range []struct {
		prompt []int32
		reused int
	}{{first, 0}, {second, 40}, {first, 159}, {second, 42}} {
		if _, r := answer(t, e, Request{Prompt: tc.prompt, MaxTokens: 1, Owner: "a"}); r.ReusedTokens != tc.reused {
			t.Errorf("request %d reuses %d tokens, want %d", i, r.ReusedTokens, tc.reused)
		}
	}
}

// TestSecondTurnOfAChat measures the time to the first token of two turns on the real model. The
// answers are those of an engine that shares nothing.
func TestSecondTurnOfAChat(t *testing.T) {
	longtest.Arithmetic(t, "it computes two prompts of 600 tokens on the real model, twice")
	e, _ := newEngine(t, 2, 1)
	alone, _ := newEngine(t, 2, 1)
	messages := []tokenize.Message{{Role: "user", Content: "Here is a list. " + strings.Repeat("Apples, pears and three plums. ", 70) + "What is the first fruit?"}}
	var first [2]time.Duration
	for turn := range 2 {
		ids, err := e.Template().Encode(e.Tokenizer(), messages, true)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		begin := time.Now()
		r, err := e.Generate(context.Background(), Request{Prompt: ids, MaxTokens: 24, Owner: "a"}, func(s string) error {
			if first[turn] == 0 {
				first[turn] = time.Since(begin)
			}
			text.WriteString(s)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("turn %d: %d of %d tokens reused, first token after %v", turn+1, r.ReusedTokens, len(ids), first[turn])
		if turn == 1 && 10*r.ReusedTokens < 9*len(ids) {
			t.Errorf("the second turn reuses only %d of %d tokens", r.ReusedTokens, len(ids))
		}
		if want, _ := answer(t, alone, Request{Prompt: ids, MaxTokens: 24}); text.String() != want {
			t.Errorf("turn %d: %q; without a shared prefix %q", turn+1, text.String(), want)
		}
		messages = append(messages, tokenize.Message{Role: "assistant", Content: text.String()}, tokenize.Message{Role: "user", Content: "And the second?"})
	}
	t.Logf("second turn's time to first token by the first's: %.3f", float64(first[1])/float64(first[0]))
}
