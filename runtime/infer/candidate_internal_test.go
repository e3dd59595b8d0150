package infer

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/kernels"
)

// testSet is what this processor runs.
var testSet = func() *kernels.Set {
	s, err := kernels.Select("auto")
	if err != nil {
		panic(err)
	}
	return s
}()

// likeliest looks at each logit in turn.
func likeliest(logits []float32) int {
	best := 0
	top := float32(math.Inf(-1))
	for i, v := range logits {
		if !(v <= top) {
			if v != v {
				return -1
			}
			best, top = i, v
		}
	}
	if math.IsInf(float64(top), 0) {
		return -1
	}
	return best
}

// TestLikeliestIsTheFirstOfTheLargest compares with looking at each logit.
func TestLikeliestIsTheFirstOfTheLargest(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	odd := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 3}
	for n := 1; n < 300; n++ {
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.IntN(6))
		}
		for range rng.IntN(3) {
			logits[rng.IntN(n)] = odd[rng.IntN(len(odd))]
		}
		if got, want := newSampler(n, testSet).likeliest(logits), likeliest(logits); got != want {
			t.Fatalf("%d in %v, want %d", got, logits, want)
		}
	}
}

// TestCandidatesAreInOrder: a candidate keeps its id and its distance, and sorting puts the
// likeliest first and equal ones in the vocabulary's order.
func TestCandidatesAreInOrder(t *testing.T) {
	type pair struct {
		id    int32
		below float32
	}
	rng := rand.New(rand.NewPCG(1, 2))
	distances := []float32{1, 0, 1e-6, 0x1p-149, 0x1p-126, 0.5, 0.5, 1, 300}
	for range 1000 {
		distances = append(distances, 20*rng.Float32())
	}
	var want []pair
	var got []candidate
	for i, w := range distances {
		for _, id := range []int32{int32(i), 1<<31 - 1 - int32(i)} {
			want, got = append(want, pair{id, w}), append(got, newCandidate(id, w))
		}
	}
	slices.SortFunc(want, func(a, b pair) int { return cmp.Or(cmp.Compare(a.below, b.below), cmp.Compare(a.id, b.id)) })
	slices.Sort(got)
	for i, k := range got {
		if (pair{k.id(), k.below()}) != want[i] {
			t.Fatalf("at %d: %d %g, want %+v", i, k.id(), k.below(), want[i])
		}
	}
}

// sorted is what narrow leaves, by sorting all candidates.
func sorted(c *choice, logits []float32, top float32) []candidate {
	reach := c.reach
	if c.topP < 1 {
		reach = max(reach, float32(-math.Log(negligible)))
	}
	var list []candidate
	for i, v := range logits {
		if v >= top-reach {
			list = append(list, newCandidate(int32(i), top-v))
		}
	}
	slices.Sort(list)
	if c.topK > 0 {
		list = list[:min(c.topK, len(list))]
	}
	if c.topP < 1 {
		var mass, sum float64
		for _, k := range list {
			mass += float64(kernels.Exp(-k.below()))
		}
		for i, k := range list {
			if sum += float64(kernels.Exp(-k.below())); sum >= c.topP*mass {
				list = list[:i+1]
				break
			}
		}
	}
	return slices.DeleteFunc(list, func(k candidate) bool { return k.below() > c.reach })
}

// TestSelectionIsThatOfSorting: on random logits, many of them equal, and every combination of
// limits, selection leaves what sorting leaves.
func TestSelectionIsThatOfSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 400 {
		logits := make([]float32, 1+rng.IntN(3000))
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 4)
			if round%3 == 0 {
				logits[i] = float32(math.Round(float64(logits[i]) * 2))
			}
		}
		req := Request{Temperature: []float64{0.2, 0.7, 1, 1.7}[rng.IntN(4)], TopK: []int{0, 1, 2, 40, 5000}[rng.IntN(5)],
			TopP: []float64{0, 0.001, 0.5, 0.95, 0.999, 1}[rng.IntN(6)], MinP: []float64{0, 0.02, 0.5, 1}[rng.IntN(4)]}
		c := newChoice(req)
		top := logits[likeliest(logits)]
		got := slices.Clone(newSampler(len(logits), testSet).narrow(&c, logits, top))
		slices.Sort(got)
		if want := sorted(&c, logits, top); !slices.Equal(got, want) {
			t.Fatalf("%d logits, %+v: %d tokens, want %d", len(logits), req, len(got), len(want))
		}
	}
}

// TestLikelyTokensStayHoweverManyThereAre: a vocabulary with more worth picking than there is memory for.
func TestLikelyTokensStayHoweverManyThereAre(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	logits := make([]float32, 4*maxCandidates)
	for i := range logits {
		logits[i] = rng.Float32() + float32(i)/float32(len(logits)) // the likeliest come last
	}
	top := logits[likeliest(logits)]
	for _, k := range []int{1, 40, maxCandidates / 2} {
		c := newChoice(Request{Temperature: 1, TopK: k})
		s := newSampler(len(logits), testSet)
		got := slices.Clone(s.narrow(&c, logits, top))
		slices.Sort(got)
		if want := sorted(&c, logits, top); !slices.Equal(got, want) {
			t.Errorf("top %d: got %d tokens, want %d", k, len(got), len(want))
		}
		if cap(s.candidates) != maxCandidates {
			t.Errorf("memory for %d candidates, want %d", cap(s.candidates), maxCandidates)
		}
	}
}

// TestMinPAndTemperatureInTheirOrder: min p looks at the model's probabilities, whatever the
// temperature.
func TestMinPAndTemperatureInTheirOrder(t *testing.T) {
	logits := []float32{0, float32(math.Log(0.3)), float32(math.Log(0.05)), float32(math.Log(0.01))}
	for _, temperature := range []float64{0.5, 1, 2} {
		c := newChoice(Request{Temperature: temperature, MinP: 0.1})
		if got := newSampler(4, testSet).narrow(&c, logits, 0); len(got) != 2 {
			t.Errorf("min p 0.1 at temperature %g leaves %d tokens, want 2", temperature, len(got))
		}
	}
	c := newChoice(Request{Temperature: 2, TopP: 0.9}) // 0.735 + 0.22 of the model's own mass
	if got := newSampler(4, testSet).narrow(&c, logits, 0); len(got) != 2 {
		t.Errorf("top p 0.9 at temperature 2 leaves %d tokens, want 2", len(got))
	}
}

// TestPenaltiesAndBiases: each changes its tokens' logits as its definition says, and leaves
// nothing behind.
func TestPenaltiesAndBiases(t *testing.T) {
	logits := []float32{2, 1, -1, 0.5}
	for name, tc := range map[string]struct {
		req  Request
		want []float32
	}{
		"none":      {Request{Prompt: []int32{0, 0, 2}}, []float32{2, 1, -1, 0.5}},
		"repeat":    {Request{Prompt: []int32{0, 0, 2}, Penalties: Penalties{Last: 3, Repeat: 2}}, []float32{1, 1, -2, 0.5}},
		"frequency": {Request{Prompt: []int32{0, 0, 2}, Penalties: Penalties{Last: 3, Frequency: 0.5}}, []float32{1, 1, -1.5, 0.5}},
		"presence":  {Request{Prompt: []int32{0, 0, 2}, Penalties: Penalties{Last: 3, Presence: 0.5}}, []float32{1.5, 1, -1.5, 0.5}},
		"the last":  {Request{Prompt: []int32{0, 0, 2}, Penalties: Penalties{Last: 1, Presence: 0.5}}, []float32{2, 1, -1.5, 0.5}},
		"bias":      {Request{Bias: []Bias{{3, 2}, {0, -100}}}, []float32{-98, 1, -1, 2.5}},
		"both":      {Request{Prompt: []int32{0}, Bias: []Bias{{0, 2}}, Penalties: Penalties{Last: 9, Repeat: 2}}, []float32{2, 1, -1, 0.5}},
	} {
		c := newChoice(tc.req)
		s := newSampler(4, testSet)
		given := slices.Clone(logits)
		s.adjust(&c, given)
		if !slices.Equal(given, tc.want) {
			t.Errorf("%s: %v, want %v", name, given, tc.want)
		}
		given = slices.Clone(logits)
		if _, err := s.next(&c, given); err != nil || !slices.Equal(given, logits) {
			t.Errorf("%s: next left %v: %v", name, given, err)
		}
	}
	c := newChoice(Request{Penalties: Penalties{Last: 2, Presence: 1}})
	for _, token := range []int32{1, 1, 2, 3} {
		c.remember(token)
	}
	if len(c.counts) != 2 || c.counts[2] != 1 || c.counts[3] != 1 {
		t.Errorf("the last two of 1 1 2 3: %v", c.counts)
	}
}

func TestScoresAreThoseOfTheModel(t *testing.T) {
	score := func(logits []float32, token int32, top int) *Scored {
		t.Helper()
		s, err := newSampler(len(logits), testSet).score(logits, token, top)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := score([]float32{0, 2, 1, -3, 2}, 2, 3)
	norm := math.Log(1 + 2*math.Exp(2) + math.E + math.Exp(-3))
	want := []Likelihood{{1, float32(2 - norm)}, {4, float32(2 - norm)}, {2, float32(1 - norm)}}
	near := func(a, b Likelihood) bool { return a.Token == b.Token && math.Abs(float64(a.Logprob-b.Logprob)) < 1e-5 }
	if !slices.EqualFunc(s.Top, want, near) || !near(s.Likelihood, want[2]) {
		t.Errorf("%+v, want %+v", s, want)
	}
	if s = score([]float32{1, 0}, 1, 5); len(s.Top) != 2 || s.Top[0].Token != 0 {
		t.Errorf("more than there are: %+v", s)
	}
	if s = score([]float32{1, 0}, 1, 0); len(s.Top) != 0 || s.Token != 1 {
		t.Errorf("without the likeliest: %+v", s)
	}
}

// BenchmarkSample picks from a vocabulary of 151,936 tokens.
func BenchmarkSample(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	logits := make([]float32, 151_936)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 2.5)
	}
	logits[77] = 14
	s, seed := newSampler(len(logits), testSet), uint64(1)
	for _, req := range []Request{{}, {Temperature: 1}, {Temperature: 1, TopK: 40}, {Temperature: 0.8, TopP: 0.95}, {Temperature: 1, TopP: 0.95}} {
		req.Seed = &seed
		b.Run(fmt.Sprintf("temperature=%g,top_k=%d,top_p=%g", req.Temperature, req.TopK, req.TopP), func(b *testing.B) {
			c := newChoice(req)
			for b.Loop() {
				if _, err := s.next(&c, logits); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
