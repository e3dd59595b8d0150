package protocol

import (
	"bytes"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// errLimit keeps an end from sending what its peer must refuse.
var errLimit = errors.New("a field is outside the protocol's limits")

// maxMillis bounds times to the year 9999, where every language's clock agrees.
const maxMillis = 253402300799999

// Time is a point in broker time: milliseconds since 1970-01-01 UTC.
type Time uint64

// TimeOf converts a broker's clock reading, dropping what is below a millisecond.
// A time outside years 1970 to 9999 becomes 0, which no message carries.
func TimeOf(t time.Time) Time {
	ms := t.UnixMilli()
	if ms < 0 || ms > maxMillis {
		return 0
	}
	return Time(ms)
}

// Time converts to a time.Time in UTC without a monotonic reading.
func (t Time) Time() time.Time { return time.UnixMilli(int64(min(t, maxMillis))).UTC() }

// Add returns the time d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }

func (t Time) valid() bool { return t > 0 && t <= maxMillis }

// What most messages have at most, in bytes: whole, what of one is signed, and a statement.
const (
	usualBody      = 12 << 10
	usualSigned    = 8 << 10
	usualStatement = 4 << 10
)

// newBuilder has room for so many bytes; it grows if they are not enough.
func newBuilder(room int) *cryptobyte.Builder { return cryptobyte.NewBuilder(make([]byte, 0, room)) }

// maxScratch bounds what is kept of memory that is used again.
const maxScratch = 64 << 10

// scratch is memory for encodings that are compared or hashed, and then dropped.
var scratch = sync.Pool{New: func() any { b := make([]byte, 0, 2*usualBody); return &b }}

// transient calls f with what encode appends. f must not keep the bytes: the next
// encoding overwrites them.
func transient(encode func(b *cryptobyte.Builder), f func(encoded []byte) error) error {
	p := scratch.Get().(*[]byte)
	defer scratch.Put(p)
	b := cryptobyte.NewBuilder((*p)[:0])
	encode(b)
	encoded, err := b.Bytes()
	if err != nil {
		return err
	}
	if cap(encoded) <= maxScratch {
		*p = encoded[:0]
	}
	return f(encoded)
}

func addString8(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
}

func addBytes16(b *cryptobyte.Builder, v []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(v) })
}

func addBytes24(b *cryptobyte.Builder, v []byte) {
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(v) })
}

func readString8(s *cryptobyte.String, out *string) bool {
	var v cryptobyte.String
	ok := s.ReadUint8LengthPrefixed(&v)
	*out = string(v)
	return ok
}

// readBytes16 and readBytes24 copy, so that a message never shares memory with its frame.
func readBytes16(s *cryptobyte.String, out *[]byte) bool {
	var v cryptobyte.String
	ok := s.ReadUint16LengthPrefixed(&v)
	*out = bytes.Clone(v)
	return ok
}

func readBytes24(s *cryptobyte.String, out *[]byte) bool {
	var v cryptobyte.String
	ok := s.ReadUint24LengthPrefixed(&v)
	*out = bytes.Clone(v)
	return ok
}

func addBool(b *cryptobyte.Builder, v bool) {
	var bit uint8
	if v {
		bit = 1
	}
	b.AddUint8(bit)
}

func readBool(s *cryptobyte.String, out *bool) bool {
	var v uint8
	ok := s.ReadUint8(&v)
	*out = v == 1
	return ok && v <= 1
}

// readTime leaves the judgement of the time to the message.
func readTime(s *cryptobyte.String, out *Time) bool { return s.ReadUint64((*uint64)(out)) }

// readPublic reads a public identity and requires its level: an epoch or agent
// key in the place of a root, or the reverse, does not parse.
func readPublic(s *cryptobyte.String, level identity.Level, out *identity.Public) bool {
	var raw cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&raw) {
		return false
	}
	pub, err := identity.ParsePublic(raw)
	if err != nil || pub.Level() != level {
		return false
	}
	*out = pub
	return true
}
