package tokenize

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/anchorhold/anchorhold/runtime/jinja"
)

// GuardByte is the byte that Guard puts inside text that spells a special token, to keep Encode
// from taking it as one; Encode removes it. Valid UTF-8 never contains it.
const GuardByte = 0xff

// specials finds tokens that are matched in the text before it is split into
// words: the leftmost, and of those the longest.
type specials struct {
	ids   []int32   // sorted by the token's bytes
	first [256]bool // bytes with which one begins
	most  int       // bytes of the longest
}

func newSpecials(v *vocabulary, kinds ...tokenKind) specials {
	var s specials
	for id := range int32(v.size()) {
		if slices.Contains(kinds, v.kindOf(id)) && len(v.bytes(id)) > 0 {
			s.ids = append(s.ids, id)
			s.first[v.bytes(id)[0]] = true
			s.most = max(s.most, len(v.bytes(id)))
		}
	}
	slices.SortStableFunc(s.ids, func(a, b int32) int { return bytes.Compare(v.bytes(a), v.bytes(b)) })
	return s
}

// next finds the first special token in text: it starts after skip bytes and is
// size bytes long. Without one, skip is all of text and size is zero.
func (s *specials) next(v *vocabulary, text string) (skip, size int, id int32) {
	if len(s.ids) == 0 {
		return len(text), 0, -1
	}
	for i := range len(text) {
		if s.first[text[i]] {
			if size, id := s.longest(v, text[i:]); size > 0 {
				return i, size, id
			}
		}
	}
	return len(text), 0, -1
}

// longest returns the longest token that text begins with. It narrows the range
// of tokens that share the bytes read so far, one byte at a time.
func (s *specials) longest(v *vocabulary, text string) (size int, id int32) {
	ids := s.ids
	for depth := 0; depth < len(text); depth++ {
		ch := text[depth]
		lo := sort.Search(len(ids), func(i int) bool { b := v.bytes(ids[i]); return len(b) > depth && b[depth] >= ch })
		ids = ids[lo:]
		hi := sort.Search(len(ids), func(i int) bool { return v.bytes(ids[i])[depth] > ch })
		ids = ids[:hi]
		if len(ids) == 0 {
			break
		}
		if len(v.bytes(ids[0])) == depth+1 { // the shortest sorts first
			size, id = depth+1, ids[0]
		}
	}
	return size, id
}

// begun returns where the ends of text start that begin a token without ending it, be there
// white space behind them or not: templates take it off.
func (s *specials) begun(v *vocabulary, text string) (list []int) {
	text = strings.TrimRight(text, jinja.Space)
	for i := max(0, len(text)-s.most+1); i < len(text); i++ {
		end := text[i:]
		if !s.first[end[0]] {
			continue
		}
		at := sort.Search(len(s.ids), func(k int) bool { return string(v.bytes(s.ids[k])) >= end })
		if at < len(s.ids) && strings.HasPrefix(string(v.bytes(s.ids[at])), end) {
			list = append(list, i)
		}
	}
	return list
}

// exact returns the token whose text is name, or -1.
func (s *specials) exact(v *vocabulary, name string) int32 {
	if size, id := s.longest(v, name); size == len(name) && size > 0 {
		return id
	}
	return -1
}

// Guard returns text in which nothing spells a special token any more, not even in upper or
// lower case, to which a template may change it, nor together with the text that a template puts
// after it: a GuardByte is inside each. Text without special tokens comes back unchanged.
func (t *Tokenizer) Guard(text string) string {
	return t.guard(strings.ToValidUTF8(text, "\ufffd"))
}

// rejoined guards a text that a template put together of parts of another, which are guarded already:
// without what stood between them, they may spell a token. The template's own text cannot be told from
// that, so it must have no control tokens.
func (t *Tokenizer) rejoined(before, after string) (string, error) {
	if _, size, id := t.special.next(&t.vocab, before); size > 0 {
		return "", fmt.Errorf("taking parts out of a text with the control token %q is not supported", t.vocab.bytes(id))
	}
	return t.guard(after), nil
}

func (t *Tokenizer) guard(text string) string {
	var at []int // behind which a guard is to stand
	for i, as := range []string{text, jinja.Upper(text), jinja.Lower(text)} {
		if i > 0 && as == text {
			continue // was looked through
		}
		for from := 0; ; {
			skip, size, _ := t.special.next(&t.vocab, as[from:])
			if size == 0 {
				break
			}
			from += skip + 1
			at = append(at, from)
		}
		for _, i := range t.special.begun(&t.vocab, as) {
			at = append(at, i+1)
		}
	}
	if len(at) == 0 {
		return text
	}
	slices.Sort(at)
	var b strings.Builder
	before := 0
	for _, i := range slices.Compact(at) {
		b.WriteString(text[before:i])
		b.WriteByte(GuardByte)
		before = i
	}
	b.WriteString(text[before:])
	return b.String()
}

func dropGuards(text string) string {
	if strings.IndexByte(text, GuardByte) < 0 {
		return text
	}
	return strings.ReplaceAll(text, string([]byte{GuardByte}), "")
}
