package infer

import (
	"errors"
	"math"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTextComesInWholeCharactersAndBeforeStops(t *testing.T) {
	for name, tc := range map[string]struct {
		pieces  []string
		stops   []string
		want    string
		stopped bool
	}{
		"plain":                     {[]string{"a", "bc"}, nil, "abc", false},
		"character in two pieces":   {[]string{"h\xc3", "\xa9!"}, nil, "h\u00e9!", false},
		"character never completed": {[]string{"x\xe2\x82"}, nil, "x", false},
		"byte that is no text":      {[]string{"x\xff", "y"}, nil, "x\uFFFDy", false},
		"stop in one piece":         {[]string{"ab END cd"}, []string{"END"}, "ab ", true},
		"stop across pieces":        {[]string{"ab E", "N", "D cd"}, []string{"END"}, "ab ", true},
		"stop that did not come":    {[]string{"ab E", "N", "T"}, []string{"END"}, "ab ENT", false},
		"first of two stops":        {[]string{"one two"}, []string{"two", "one"}, "", true},
		"empty stop":                {[]string{"ab"}, []string{""}, "ab", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTextStream(tc.stops)
			var got strings.Builder
			stopped := false
			for _, p := range tc.pieces {
				if stopped {
					break
				}
				var text string
				text, stopped = s.push([]byte(p))
				if !utf8.ValidString(text) {
					t.Errorf("%q is not UTF-8", text)
				}
				got.WriteString(text)
			}
			if !stopped {
				got.WriteString(s.flush())
			}
			if got.String() != tc.want || stopped != tc.stopped {
				t.Errorf("%q, stopped %v; want %q, %v", got.String(), stopped, tc.want, tc.stopped)
			}
		})
	}
}

func FuzzTextStream(f *testing.F) {
	f.Add([]byte("hello \xe2\x82\xac END"), uint8(3), "END")
	f.Add([]byte("\xff\xfe\x00"), uint8(1), "\xfe")
	f.Fuzz(func(t *testing.T, data []byte, size uint8, stop string) {
		s := newTextStream([]string{stop})
		var got strings.Builder
		stopped := false
		for at, step := 0, int(size)%7+1; at < len(data) && !stopped; at += step {
			var text string
			text, stopped = s.push(data[at:min(at+step, len(data))])
			got.WriteString(text)
		}
		if !stopped {
			got.WriteString(s.flush())
		}
		if !utf8.ValidString(got.String()) {
			t.Errorf("%q is not UTF-8", got.String())
		}
		if stop != "" && utf8.ValidString(stop) && strings.Contains(got.String(), stop) && strings.Contains(string(data), stop) {
			t.Errorf("%q contains its stop text %q", got.String(), stop)
		}
		if !stopped && utf8.Valid(data) && got.String() != string(data) {
			t.Errorf("%q came out as %q", data, got.String())
		}
	})
}

func TestSamplingFollowsItsLimits(t *testing.T) {
	logits := []float32{0, 2, 1, -3, 2}
	s := newSampler(len(logits), testSet)
	pick := func(req Request) map[int32]int {
		seen := map[int32]int{}
		seed := uint64(7)
		req.Seed = &seed
		c := newChoice(req)
		for range 2000 {
			id, err := s.next(&c, logits)
			if err != nil {
				t.Fatal(err)
			}
			seen[id]++
		}
		return seen
	}
	if got := pick(Request{}); got[1] != 2000 {
		t.Errorf("greedy picks the first of the likeliest: %v", got)
	}
	if got := pick(Request{Temperature: 1, TopK: 2}); got[1]+got[4] != 2000 || got[1] < 800 || got[4] < 800 {
		t.Errorf("top 2: %v", got)
	}
	if got := pick(Request{Temperature: 1, TopP: 0.5}); got[1]+got[4] != 2000 {
		t.Errorf("top p 0.5: %v", got)
	}
	got := pick(Request{Temperature: 1})
	// Probabilities: e^2 : e^2 : e : 1 : e^-3 over their sum 18.55.
	for id, share := range map[int32]float64{0: 0.0539, 1: 0.3983, 2: 0.1465, 3: 0.0027, 4: 0.3983} {
		if n := float64(got[id]) / 2000; n < share-0.04 || n > share+0.04 {
			t.Errorf("token %d picked %.3f of the time, expected %.3f", id, n, share)
		}
	}
}

func TestLogitsThatAreNotNumbersGiveNoToken(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	s := newSampler(3, testSet)
	for name, logits := range map[string][]float32{
		"first": {nan, 1, 2}, "last": {1, 2, nan}, "after the largest": {2, nan, 1}, "infinite": {1, inf, 2}, "none": {-inf, -inf, -inf},
	} {
		for _, temperature := range []float64{0, 1} {
			c := newChoice(Request{Temperature: temperature})
			if id, err := s.next(&c, logits); !errors.Is(err, ErrLogits) {
				t.Errorf("%s: token %d, %v", name, id, err)
			}
		}
	}
	c := newChoice(Request{})
	if id, err := s.next(&c, []float32{-inf, 1, -inf}); id != 1 || err != nil {
		t.Errorf("tokens ruled out beside a good one: %d, %v", id, err)
	}
}
