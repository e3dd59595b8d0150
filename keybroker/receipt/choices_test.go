package receipt

import (
	"bytes"
	"testing"
)

// TestChoicesHaveOneEncodingEach: one text is itself, as it always was, and nothing else has the
// encoding of another answer.
func TestChoicesHaveOneEncodingEach(t *testing.T) {
	if got := EncodeChoices([]Choice{{Text: "w0 w1"}}); string(got) != "w0 w1" {
		t.Errorf("one text: %q", got)
	}
	want := []byte("\xff" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x01a" +
		"\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x01f" + "\x00\x00\x00\x00\x00\x00\x00\x02{}")
	if got := EncodeChoices([]Choice{{Text: "a"}, {Calls: []Call{{"f", "{}"}}}}); !bytes.Equal(got, want) {
		t.Errorf("a text and a call: %x, want %x", got, want)
	}
	seen := map[string]int{}
	for i, choices := range [][]Choice{
		nil, {{}}, {{}, {}}, {{Text: "ab"}}, {{Text: "a"}, {Text: "b"}}, {{Text: "ab"}, {}}, {{}, {Text: "ab"}},
		{{Calls: []Call{{"a", "b"}}}}, {{Calls: []Call{{"ab", ""}}}}, {{Text: "a", Calls: []Call{{"b", ""}}}}, {{Calls: []Call{{"a", "b"}}}, {}}, {{}, {Calls: []Call{{"a", "b"}}}},
	} {
		key := string(EncodeChoices(choices))
		if other, ok := seen[key]; ok {
			t.Errorf("%d and %d are both %x", other, i, key)
		}
		seen[key] = i
	}
}
