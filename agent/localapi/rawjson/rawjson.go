// Package rawjson takes a JSON text apart without copying it.
//
// Everything it returns is a slice of the text that it was given, so that a request with one
// long string or a million numbers costs no more memory than its own bytes; encoding/json
// copies each level that it does not know. The text is not trusted: call [Valid] first. The
// other functions expect a valid text, and return an error if a value is not what was asked
// for.
//
// The local API reads its requests with it.
package rawjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrKind means a value of another kind than was asked for.
var ErrKind = errors.New("wrong kind of value")

// ErrMany means more members than MaxMembers.
var ErrMany = fmt.Errorf("more than %d members", MaxMembers)

// MaxMembers bounds an object: short members hold many times their own bytes. No request
// knows half as many.
const MaxMembers = 64

// Valid says whether a text is one JSON value in UTF-8.
func Valid(text []byte) bool { return utf8.Valid(text) && json.Valid(text) }

// Members are the members of an object, by name; of two with one name it has the last. More
// than MaxMembers are ErrMany.
func Members(text []byte) (map[string][]byte, error) {
	s := scanner{text: text}
	if !s.skip('{') {
		return nil, ErrKind
	}
	out := map[string][]byte{}
	for n := 0; !s.skip('}'); n++ {
		if n == MaxMembers {
			return nil, ErrMany
		}
		key, err := s.value()
		if err != nil {
			return nil, err
		}
		var name string
		if err := json.Unmarshal(key, &name); err != nil || !s.skip(':') {
			return nil, ErrKind
		}
		if out[name], err = s.value(); err != nil {
			return nil, err
		}
		s.skip(',')
	}
	return out, nil
}

// Object calls each with the members of an object, in their order, until it fails. Names are
// as the text has them, with quotes and escapes; [Is] compares them.
func Object(text []byte, each func(name, value []byte) error) error {
	s := scanner{text: text}
	if !s.skip('{') {
		return ErrKind
	}
	for !s.skip('}') {
		name, err := s.value()
		if err != nil {
			return err
		}
		if name[0] != '"' || !s.skip(':') {
			return ErrKind
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := each(name, value); err != nil {
			return err
		}
		s.skip(',')
	}
	return nil
}

// Elements calls each with the elements of an array, in their order, until it fails.
func Elements(text []byte, each func(element []byte) error) error {
	s := scanner{text: text}
	if !s.skip('[') {
		return ErrKind
	}
	for !s.skip(']') {
		v, err := s.value()
		if err != nil {
			return err
		}
		if err := each(v); err != nil {
			return err
		}
		s.skip(',')
	}
	return nil
}

// Null says whether a value is null.
func Null(value []byte) bool { return string(value) == "null" }

// Is says whether a value is this text as a string.
func Is(value []byte, text string) bool {
	if len(value) >= 2 && bytes.IndexByte(value, '\\') < 0 {
		return value[0] == '"' && string(value[1:len(value)-1]) == text
	}
	var b strings.Builder
	return Text(&b, value) == nil && b.String() == text
}

// Text appends what a string says. Half a surrogate pair becomes U+FFFD, as encoding/json
// has it.
func Text(b *strings.Builder, value []byte) error {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return ErrKind
	}
	rest := value[1 : len(value)-1]
	for {
		at := bytes.IndexByte(rest, '\\')
		if at < 0 {
			b.Write(rest)
			return nil
		}
		b.Write(rest[:at])
		r, size := escaped(rest[at:])
		if size == 0 {
			return ErrKind
		}
		b.WriteRune(r)
		rest = rest[at+size:]
	}
}

// escaped reads one escape: the character and its bytes in the text, 0 if it is none.
func escaped(s []byte) (r rune, size int) {
	if len(s) < 2 {
		return 0, 0
	}
	if s[1] == 'u' {
		return unicodeEscape(s)
	}
	if at := strings.IndexByte("\"\\/bfnrt", s[1]); at >= 0 {
		return rune("\"\\/\b\f\n\r\t"[at]), 2
	}
	return 0, 0
}

// unicodeEscape reads \uXXXX, or two of them that make one character.
func unicodeEscape(s []byte) (r rune, size int) {
	unit := func(s []byte) (rune, bool) {
		if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(s[2:6]), 16, 16)
		return rune(n), err == nil
	}
	r, ok := unit(s)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if low, ok := unit(s[6:]); ok {
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// scanner goes over a valid text.
type scanner struct {
	text []byte
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// skip goes past one mark, if it is next.
func (s *scanner) skip(mark byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == mark {
		s.at++
		return true
	}
	return false
}

// value returns the next value and goes past it.
func (s *scanner) value() ([]byte, error) {
	s.space()
	begin, depth := s.at, 0
	for s.at < len(s.text) {
		switch c := s.text[s.at]; c {
		case '"':
			s.str()
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			if depth == 0 {
				return nil, ErrKind
			}
			depth--
			s.at++
		case ',', ':', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return nil, ErrKind
			}
			s.at++
			continue
		default:
			s.word()
		}
		if depth == 0 {
			return s.text[begin:s.at:s.at], nil
		}
	}
	return nil, ErrKind
}

// str goes past a string.
func (s *scanner) str() {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return
		}
	}
	s.at = min(s.at, len(s.text))
}

// word goes past a number, true, false or null.
func (s *scanner) word() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ',', ':', ' ', '\t', '\n', '\r', '{', '}', '[', ']', '"':
			return
		}
		s.at++
	}
}
