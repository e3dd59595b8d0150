package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// Errors of encodings and signatures. A caller learns that verification
// failed, not which half: both must hold.
var (
	ErrEncoding  = errors.New("identity: not the canonical encoding of a public identity")
	ErrSignature = errors.New("identity: signature does not verify")
	ErrContext   = errors.New("identity: a signing context must have 1 to 128 bytes")
)

const maxContextBytes = 128

// Public is the public half of an identity. The zero value verifies nothing.
type Public struct {
	level Level
	bytes []byte   // canonical encoding
	id    [32]byte // of bytes
	mldsa *expanded
}

// expanded is the ML-DSA half, which takes 30 KiB when it is expanded. Most keys that
// are read verify nothing, or are known already.
type expanded struct {
	once sync.Once
	key  mldsaPublic // nil if it verifies nothing
}

// verifyMLDSA checks the ML-DSA half of a signature.
func (p Public) verifyMLDSA(msg, context, sig []byte) bool {
	p.mldsa.once.Do(func() {
		n, _ := p.level.sizes()
		// Of the right length, every encoding is a key (FIPS 204, algorithm 23).
		if key, err := parseMLDSA(p.level, p.bytes[1:1+n]); err == nil {
			p.mldsa.key = key
		}
	})
	return p.mldsa.key != nil && p.mldsa.key.verify(msg, context, sig)
}

// ParsePublic reads the canonical encoding: level (1 byte), ML-DSA public key
// (FIPS 204), Ed25519 public key (32 bytes).
func ParsePublic(b []byte) (Public, error) {
	if len(b) == 0 {
		return Public{}, ErrEncoding
	}
	level := Level(b[0])
	if n, _ := level.sizes(); n == 0 || len(b) != level.publicSize() {
		return Public{}, ErrEncoding
	}
	b = bytes.Clone(b)
	return Public{level: level, bytes: b, id: idOf(b), mldsa: &expanded{}}, nil
}

// Bytes returns a copy of the canonical encoding; nil for the zero value.
func (p Public) Bytes() []byte { return bytes.Clone(p.bytes) }

// ID is the SHA-256 of the canonical encoding behind a label.
func (p Public) ID() [32]byte {
	if p.IsZero() {
		return idOf(nil)
	}
	return p.id
}

func idOf(encoded []byte) [32]byte {
	return sha256.Sum256(append([]byte("anchorhold/identity/id/1\x00"), encoded...))
}

// Level returns the level; 0 for the zero value.
func (p Public) Level() Level { return p.level }

// IsZero reports whether there is no identity.
func (p Public) IsZero() bool { return p.bytes == nil }

// Equal reports whether two identities are the same; a zero value equals nothing.
func (p Public) Equal(other Public) bool { return !p.IsZero() && bytes.Equal(p.bytes, other.bytes) }

// Verify checks a signature over msg under a context. Both halves must verify.
func (p Public) Verify(context string, msg, sig []byte) error {
	if len(context) == 0 || len(context) > maxContextBytes {
		return ErrContext
	}
	if p.IsZero() || len(sig) != p.level.signatureSize() || sig[0] != byte(p.level) {
		return ErrSignature
	}
	_, n := p.level.sizes()
	bound := p.bind(context, msg)
	// Both are always computed, so that time does not tell which half failed.
	first := p.verifyMLDSA(bound, []byte(context), sig[1:1+n])
	second := ed25519.Verify(p.bytes[len(p.bytes)-ed25519.PublicKeySize:], bound, sig[1+n:])
	if !first || !second {
		return ErrSignature
	}
	return nil
}

// bind is the message that both halves sign: label, level, context, both public
// keys and the message's hash, each of fixed or stated length. A half taken out
// of one composite therefore verifies in no other, and not alone.
func (p Public) bind(context string, msg []byte) []byte {
	id, digest := p.ID(), sha512.Sum512(msg)
	const label = "anchorhold/identity/composite/1\x00"
	b := append(make([]byte, 0, len(label)+3+len(context)+len(id)+len(digest)), label...)
	b = append(b, byte(p.level))
	b = binary.BigEndian.AppendUint16(b, uint16(len(context)))
	b = append(b, context...)
	b = append(b, id[:]...)
	return append(b, digest[:]...)
}

const (
	textPrefix    = "ahpub1"
	checksumBytes = 4
)

// MarshalText is the printable form: "ahpub1" and base64url of the encoding and
// the first four bytes of its SHA-256, against typing errors.
func (p Public) MarshalText() ([]byte, error) {
	if p.IsZero() {
		return nil, ErrEncoding
	}
	sum := sha256.Sum256(p.bytes)
	return []byte(textPrefix + base64.RawURLEncoding.EncodeToString(append(p.Bytes(), sum[:checksumBytes]...))), nil
}

// UnmarshalText reads the printable form.
func (p *Public) UnmarshalText(text []byte) error {
	encoded, ok := strings.CutPrefix(string(text), textPrefix)
	if !ok {
		return fmt.Errorf("%w: it must begin with %q", ErrEncoding, textPrefix)
	}
	// The decoder passes over line breaks; one identity has one text.
	if strings.ContainsAny(encoded, "\r\n") {
		return fmt.Errorf("%w: it contains a line break", ErrEncoding)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(data) < checksumBytes {
		return fmt.Errorf("%w: damaged base64url", ErrEncoding)
	}
	body, sum := data[:len(data)-checksumBytes], data[len(data)-checksumBytes:]
	if want := sha256.Sum256(body); !bytes.Equal(want[:checksumBytes], sum) {
		return fmt.Errorf("%w: the checksum is wrong; a character was changed or lost", ErrEncoding)
	}
	parsed, err := ParsePublic(body)
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// String is a short name for people: level and the first bytes of the ID.
func (p Public) String() string {
	if p.IsZero() {
		return "no identity"
	}
	id := p.ID()
	return p.level.String() + ":" + hex.EncodeToString(id[:8])
}
