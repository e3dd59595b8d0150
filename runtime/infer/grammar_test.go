package infer

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/grammar"
	"github.com/anchorhold/anchorhold/runtime/grammar/schema"
)

func compiled(t testing.TB, s string) *grammar.Grammar {
	t.Helper()
	g, err := schema.Compile([]schema.Part{{Schema: []byte(s)}})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const person = `{"type":"object","properties":{"name":{"type":"string","maxLength":8},"age":{"type":"integer","minimum":0,"maximum":150},"tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":3}},"required":["name","age","tags"],"additionalProperties":false}`

// TestAnswersStayWithinTheirGrammar: of a model of random weights, whatever its options, every
// answer that was not cut is JSON of its schema, and its tokens are those of its text.
func TestAnswersStayWithinTheirGrammar(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 2)
	g := compiled(t, person)
	whole := 0
	for seed := range uint64(60) {
		var bytes, text strings.Builder
		req := Request{Prompt: []int32{int32(seed)}, MaxTokens: 100, Seed: &seed, Temperature: float64(seed % 3), TopK: int(seed%4) * 5, Grammar: g,
			Observe: func(list []Scored) error {
				for _, s := range list {
					bytes.Write(e.Tokenizer().Piece(s.Token))
				}
				return nil
			}}
		r, err := e.Generate(t.Context(), req, func(piece string) error { text.WriteString(piece); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if bytes.String() != text.String() {
			t.Errorf("tokens of %q make %q", bytes.String(), text.String())
		}
		if r.FinishReason == "length" {
			continue
		}
		whole++
		var p struct {
			Name string
			Age  *int
			Tags []string
		}
		if err := json.Unmarshal([]byte(text.String()), &p); err != nil || p.Age == nil || *p.Age > 150 || len(p.Tags) > 3 {
			t.Errorf("seed %d: %q: %v", seed, text.String(), err)
		}
	}
	if whole < 30 {
		t.Errorf("only %d answers ended by themselves: the test does not test", whole)
	}
}

// TestAGrammarIsOneSequencesOwn: an answer beside another is the one it would be alone.
func TestAGrammarIsOneSequencesOwn(t *testing.T) {
	src, f := load(t, smallFile(t))
	seed := uint64(5)
	req := Request{Prompt: []int32{5}, MaxTokens: 60, Temperature: 1, Seed: &seed, Grammar: compiled(t, person)}
	alone, _ := answer(t, smallEngine(t, src, f, 1, 1), req)
	e := smallEngine(t, src, f, 1, 2)
	other := make(chan error)
	go func() {
		_, err := e.Generate(context.Background(), Request{Prompt: []int32{6}, MaxTokens: 60, Grammar: compiled(t, schema.Any)}, func(string) error { return nil })
		other <- err
	}()
	if beside, _ := answer(t, e, req); beside != alone {
		t.Errorf("%q beside another, %q alone", beside, alone)
	}
	if err := <-other; err != nil {
		t.Error(err)
	}
}

// TestAnEndIsAllowedWhereTheGrammarEnds: not before, and behind a text that nothing can follow
// no token is chosen any more.
func TestAnEndIsAllowedWhereTheGrammarEnds(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	end := []Bias{{e.Tokenizer().EOS(), 100}}
	for text, want := range map[string]string{`root ::= "xyz"`: "xyz", `root ::= "xy" "z"*`: "xy", `root ::= "x" | "xyzzy"`: "x", `root ::= ""`: ""} {
		g, err := grammar.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, r := answer(t, e, Request{Prompt: []int32{5}, MaxTokens: 50, Bias: end, Grammar: g})
		if got != want || r.FinishReason != "stop" {
			t.Errorf("%s: %q, %+v", text, got, r)
		}
		if text == `root ::= "xyz"` && r.CompletionTokens != 3 {
			t.Errorf("%s: %d tokens", text, r.CompletionTokens)
		}
	}
}

// TestGrammarsThatCannotBeFollowedEndTheirAnswer, and no other.
func TestGrammarsThatCannotBeFollowedEndTheirAnswer(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	wide, err := grammar.Parse("root ::= " + strings.Repeat(`"a" [ab]* "c" | `, 1100))
	if err != nil {
		t.Fatal(err)
	}
	// After one byte there are more ways to go on than are followed.
	later, err := grammar.Parse("root ::= \"q\" r\nr ::= " + strings.Repeat(`"a" [ab]* "c" | `, 1100))
	if err != nil {
		t.Fatal(err)
	}
	for name, g := range map[string]*grammar.Grammar{"at once": wide, "later": later} {
		_, err := e.Generate(t.Context(), Request{Prompt: []int32{5}, MaxTokens: 20, Grammar: g}, func(string) error { return nil })
		if !errors.Is(err, ErrGrammar) {
			t.Errorf("%s: %v", name, err)
		}
	}
	answer(t, e, Request{Prompt: []int32{5}, MaxTokens: 5})
}

// TestConstrainedChoicesHaveTheProbabilitiesOfTheAllowedTokens: first a choice among all, then
// among the allowed ones, is the same as the second alone.
func TestConstrainedChoicesHaveTheProbabilitiesOfTheAllowedTokens(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 1)
	g, err := grammar.Parse(`root ::= [a-d]`)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(11, 12))
	logits := make([]float32, e.Tokenizer().Size())
	for i := range logits {
		logits[i] = rng.Float32()
	}
	allowed := e.Tokenizer().Encode("abcd", false)
	logits[allowed[0]], logits[allowed[1]] = 4, 5
	var total float64
	for _, id := range allowed {
		total += math.Exp(float64(logits[id]))
	}
	seed := uint64(1)
	c := newChoice(Request{Temperature: 1, Seed: &seed})
	s := newSampler(len(logits), testSet)
	counts := map[int32]int{}
	const n = 20000
	for range n {
		if c.constraint, err = e.constrain(g); err != nil {
			t.Fatal(err)
		}
		id, err := s.next(&c, logits)
		if errors.Is(err, errMask) {
			c.constraint.mask()
			id, err = s.next(&c, logits)
		}
		if err != nil {
			t.Fatal(err)
		}
		counts[id]++
	}
	left := n
	for _, id := range allowed {
		p := math.Exp(float64(logits[id])) / total
		if got := float64(counts[id]) / n; math.Abs(got-p) > 5*math.Sqrt(p*(1-p)/n) {
			t.Errorf("token %d came with frequency %.4f, want %.4f", id, got, p)
		}
		left -= counts[id]
	}
	if left != 0 {
		t.Errorf("%d choices were not allowed", left)
	}
}

// TestAGrammarHoldsUpItsOwnAnswerOnly: while the mask of one answer takes for ever, another answer comes to its end. The
// first one is then the one that it is alone.
func TestAGrammarHoldsUpItsOwnAnswerOnly(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 2)
	seed := uint64(3)
	req := Request{Prompt: []int32{5, 6, 7}, MaxTokens: 40, Seed: &seed, Temperature: 1, Grammar: compiled(t, person)}
	want, _ := answer(t, e, req)
	masks, hold, held := 0, make(chan struct{}), make(chan struct{})
	e.compute = func(c *constraint) {
		if masks++; masks == 1 {
			close(held)
			<-hold
		}
		c.mask()
	}
	other := Request{Prompt: []int32{9, 8}, MaxTokens: 200, Seed: &seed, Temperature: 1}
	got := make(chan string)
	started := make(chan struct{})
	go func() {
		<-started
		text, _ := answer(t, e, req)
		got <- text
	}()
	var once sync.Once
	_, err := e.Generate(t.Context(), other, func(string) error {
		once.Do(func() {
			close(started)
			<-held // the emit of one waits until the mask of the other is asked for
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	close(hold)
	if text := <-got; text != want {
		t.Errorf("the answer is %q, alone %q", text, want)
	}
}

// TestAnswersWithLateMasksAreTheSame: sequences that sit out passes for each of their masks have the answers that they
// have alone.
func TestAnswersWithLateMasksAreTheSame(t *testing.T) {
	src, f := load(t, smallFile(t))
	e := smallEngine(t, src, f, 1, 4)
	requests := make([]Request, 4)
	want := make([]string, len(requests))
	for i := range requests {
		seed := uint64(i)
		requests[i] = Request{Prompt: []int32{int32(i + 1), 6}, MaxTokens: 60, Seed: &seed, Temperature: 1, Owner: "user"}
		if i > 0 {
			requests[i].Grammar = compiled(t, person)
		}
		want[i], _ = answer(t, e, requests[i])
	}
	e.patience = 0
	var all sync.WaitGroup
	for i, req := range requests {
		all.Go(func() {
			if got, _ := answer(t, e, req); got != want[i] {
				t.Errorf("answer %d is %q, alone %q", i, got, want[i])
			}
		})
	}
	all.Wait()
}

// BenchmarkGrammar is the rate of a real model's answers without a grammar, within one of any
// text, which costs what following it does, and within JSON that the model would not write.
func BenchmarkGrammar(b *testing.B) {
	src, f := realModel(b)
	e := smallEngine(b, src, f, 1, 1)
	any, err := grammar.Parse(`root ::= .*`)
	if err != nil {
		b.Fatal(err)
	}
	for name, g := range map[string]*grammar.Grammar{"none": nil, "any text": any, "object": compiled(b, schema.Any), "schema": compiled(b, person)} {
		b.Run(name, func(b *testing.B) {
			tokens := 0
			for i := 0; b.Loop(); i++ {
				seed := uint64(i)
				r, err := e.Generate(b.Context(), Request{Prompt: e.Tokenizer().Encode("A person:", false), MaxTokens: 100, Temperature: 1, Seed: &seed, Grammar: g}, func(string) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
				tokens += r.CompletionTokens
			}
			b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
