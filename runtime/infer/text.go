package infer

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/anchorhold/anchorhold/runtime/tokenize"
)

// textStream turns the bytes of tokens into text that may be shown: whole UTF-8
// sequences, and nothing that could still become a stop text.
type textStream struct {
	held  []byte
	stops [][]byte
	sent  int // bytes that were shown, or never will be
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
		t.held = t.held[:first]
		return t.flush(), true
	}
	safe := len(t.held) - t.couldStop()
	safe -= incomplete(t.held[:safe])
	text = strings.ToValidUTF8(string(t.held[:safe]), "\uFFFD")
	t.held = append(t.held[:0], t.held[safe:]...)
	t.sent += safe
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

// flush returns what is held at the end: bytes that are no UTF-8 become U+FFFD, and half a
// character, which is nothing to show, is left out.
func (t *textStream) flush() string {
	whole := t.held[:len(t.held)-incomplete(t.held)]
	t.sent += len(t.held)
	t.held = nil
	return strings.ToValidUTF8(string(whole), "\uFFFD")
}

// output turns tokens into what a caller gets of them.
type output struct {
	tokenizer *tokenize.Tokenizer
	text      *textStream
	emit      func(string) error
	observe   func([]Scored) error
	bytes     int // of all tokens
	waiting   []waiting
}

// waiting is a token whose text begins at a place that was not shown yet.
type waiting struct {
	at int
	Scored
}

// add adds a token's text and emits what has become certain.
func (o *output) add(token chosen) (stopped bool, err error) {
	if o.tokenizer.IsControl(token.id) {
		return false, nil
	}
	piece := o.tokenizer.Piece(token.id)
	if token.scored != nil {
		o.waiting = append(o.waiting, waiting{o.bytes, *token.scored})
	}
	o.bytes += len(piece)
	text, stopped := o.text.push(piece)
	return stopped, o.show(text, o.text.sent)
}

// finish emits the rest of an answer whose tokens have all come.
func (o *output) finish() error { return o.show(o.text.flush(), o.bytes+1) }

// show emits text, and before it the tokens that begin before a place.
func (o *output) show(text string, until int) error {
	var scored []Scored
	for len(o.waiting) > 0 && o.waiting[0].at < until {
		scored = append(scored, o.waiting[0].Scored)
		o.waiting = o.waiting[1:]
	}
	if scored != nil {
		if err := o.observe(scored); err != nil {
			return err
		}
	}
	if text == "" {
		return nil
	}
	return o.emit(text)
}
