package infer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// repetitive are requests whose answers repeat what came before, or seem to.
func repetitive() []Request {
	seed := uint64(3)
	var list []Request
	for _, n := range []int{5, 12, 60} {
		p := pattern(n, 3)
		twice := append(slices.Clone(p), p...)
		for _, most := range []int{1, 2, 3, 40, 100} {
			list = append(list,
				Request{Prompt: twice, MaxTokens: most},
				Request{Prompt: twice, MaxTokens: most, Temperature: 0.3, Seed: &seed},
				Request{Prompt: twice, MaxTokens: most, Temperature: 1, TopP: 0.9, Seed: &seed, Owner: fmt.Sprint("uid ", n%2)})
		}
	}
	return append(list, Request{Prompt: pattern(250, 1), MaxTokens: 50, Owner: "uid 0"}, Request{Prompt: pattern(255, 1), MaxTokens: 50})
}

// TestGuessesChangeNoAnswer, token for token, and save passes.
func TestGuessesChangeNoAnswer(t *testing.T) {
	var want []string
	work := map[int]int64{}
	for _, drafts := range []int{0, 1, maxDrafts} {
		e, src := ownerEngine(t, 1)
		e.drafts = drafts // before the first request: the scheduler only waits
		var got []string
		for _, r := range repetitive() {
			text, result := answer(t, e, r)
			got = append(got, fmt.Sprintf("%q %d %s", text, result.CompletionTokens, result.FinishReason))
		}
		work[drafts] = src.chunks.Load()
		if drafts == 0 {
			want = got
		} else if !slices.Equal(got, want) {
			t.Errorf("%d guesses at once:\n%q\nwithout\n%q", drafts, got, want)
		}
	}
	if work[maxDrafts]*10 > work[0]*8 {
		t.Errorf("%d chunks with guesses, %d without: nothing saved", work[maxDrafts], work[0])
	}
}

// TestGuessesLeaveNothingBehind: what did not come true is wiped with the sequence, even if that ends
// at once. The prompt's last token has a pass of its own, with guesses, and now and then is followed
// by the end.
func TestGuessesLeaveNothingBehind(t *testing.T) {
	e, _ := ownerEngine(t, 1)
	third := pattern(43, 3)
	prompt := slices.Concat(third, third, third)
	ended := 0
	for seed := uint64(0); seed < 3000 && ended < 3; seed++ {
		_, r := answer(t, e, Request{Prompt: prompt, MaxTokens: 6, Temperature: 5, Seed: &seed})
		if r.FinishReason != "stop" { // then all guesses were at places that the answer took
			continue
		}
		ended++
		if n := valuesLeft(e); n != 0 { // its slot was freed before the answer ended
			t.Errorf("seed %d: %d values left", seed, n)
		}
		if b := e.prefixes.region.Bytes(); !bytes.Equal(b, make([]byte, len(b))) {
			t.Errorf("seed %d: tokens are left", seed)
		}
	}
	if ended == 0 {
		t.Error("no answer ended before its length")
	}
}

func TestGuessesFollowTheLastPlaceThatEndedAlike(t *testing.T) {
	for _, tc := range []struct {
		text []int32
		next int32
		most int
		want []int32
	}{
		{[]int32{1, 2, 3, 4, 5, 6, 1, 2}, 3, 3, []int32{4, 5, 6}},
		{[]int32{1, 2, 3, 4, 9, 1, 2, 3, 5, 1, 2}, 3, 2, []int32{5, 1}},
		{[]int32{1, 2, 3, 4, 5, 6, 1, 2}, 3, 0, nil},
		{[]int32{1, 2, 3, 4, 5, 6, 1, 2}, 4, 3, nil},
		{[]int32{7, 7, 7, 7}, 7, 3, []int32{7, 7, 7}},
		{[]int32{1, 2, 1, 2, 1}, 2, 3, []int32{1, 2, 1}},
		{[]int32{1, 2}, 3, 3, nil},
		{nil, 3, 3, nil},
	} {
		var text []byte
		for _, id := range tc.text {
			text = binary.LittleEndian.AppendUint32(text, uint32(id))
		}
		var g guesses
		if g.guess(text, tc.next, tc.most); !slices.Equal(g.tokens, tc.want) {
			t.Errorf("after %v, %d: %v, want %v", tc.text, tc.next, g.tokens, tc.want)
		}
	}
	g := guesses{offered: free + 2*worth + 1, taken: 2}
	text := binary.LittleEndian.AppendUint32(nil, 7)
	text = append(append(append(text, text...), text...), text...)
	if g.guess(text, 7, 3); g.tokens != nil {
		t.Error("guesses go on although few come true")
	}
}
