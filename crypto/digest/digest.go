// Package digest is the one form of digests and ids: fixed bytes inside a program, lower-case
// hexadecimal everywhere else.
//
// A [Digest] names content. An [ID] is random and names one thing; each kind of thing has its
// own type, so code that passes a receipt's id where a round's belongs does not compile. Each
// value has exactly one spelling, so two texts that differ never name the same thing. The package
// imports only the standard library.
package digest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
)

// Digest is a SHA-256 digest; its text is 64 lower-case hexadecimal digits.
type Digest [sha256.Size]byte

// Of is the digest of data.
func Of(data []byte) Digest { return sha256.Sum256(data) }

// Sum is the digest of what was written to h, a SHA-256 hash.
func Sum(h hash.Hash) Digest { return Digest(h.Sum(nil)) }

// Parse reads what String writes, and nothing else.
func Parse(s string) (d Digest, err error) { return d, d.UnmarshalText([]byte(s)) }

// IsZero reports whether the digest is absent.
func (d Digest) IsZero() bool { return d == Digest{} }

// String is the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest in hexadecimal.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText reads what MarshalText writes, and nothing else.
func (d *Digest) UnmarshalText(text []byte) error { return Decode(d[:], text) }

// Decode fills dst from lower-case hexadecimal of exactly its size; it leaves dst alone if
// text is anything else.
func Decode(dst, text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(dst) || !bytes.Equal(hex.AppendEncode(nil, raw), text) {
		return fmt.Errorf("want %d lower-case hexadecimal digits", 2*len(dst))
	}
	copy(dst, raw)
	return nil
}
