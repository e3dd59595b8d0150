package infer

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// textStream turns the bytes of tokens into text that may be shown: whole UTF-8
// sequences, and nothing that could still become a stop text.
type textStream struct {
	held  []byte
	stops [][]byte
}

func newTextStream(stops []string) *textStream {
	t := &textStream{}
	for _, s := range stops {
		if s != "" {
			t.stops = append(t.stops, []byte(s))
		}
	}
	return t
}

// push adds bytes and returns what has become certain, and whether a stop text
// ended the answer: then what precedes it is returned.
func (t *textStream) push(b []byte) (text string, stopped bool) {
	t.held = append(t.held, b...)
	first := -1
	for _, s := range t.stops {
		if i := bytes.Index(t.held, s); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	if first >= 0 {
		return strings.ToValidUTF8(string(t.held[:first]), "\uFFFD"), true
	}
	safe := len(t.held) - t.couldStop()
	safe -= incomplete(t.held[:safe])
	text = strings.ToValidUTF8(string(t.held[:safe]), "\uFFFD")
	t.held = append(t.held[:0], t.held[safe:]...)
	return text, false
}

// couldStop is the length of the longest end of held that begins a stop text.
func (t *textStream) couldStop() int {
	longest := 0
	for _, s := range t.stops {
		for n := min(len(s)-1, len(t.held)); n > longest; n-- {
			if bytes.HasSuffix(t.held, s[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}

// incomplete is the number of bytes at the end that begin a UTF-8 sequence
// which more bytes may complete.
func incomplete(b []byte) int {
	for n := 1; n <= min(utf8.UTFMax-1, len(b)); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

// flush returns what is held at the end; bytes that are no UTF-8 become U+FFFD.
func (t *textStream) flush() string {
	text := strings.ToValidUTF8(string(t.held), "\uFFFD")
	t.held = nil
	return text
}
