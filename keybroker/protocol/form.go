package protocol

import (
	"bytes"
	"encoding/json"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// Form is the form of a family of signed statements whose body is JSON with fixed fields in
// a fixed order: label, body, the chain that makes the key trustworthy, signature. The
// signature covers label, body and chain, so that no body can be put behind another chain.
// The zero value allows no bytes.
type Form struct {
	// Bytes, Body, Chain and Signature bound the encodings of a statement and its parts.
	Bytes, Body, Chain, Signature int
	// LongChain writes a chain's length in three bytes; otherwise it has two.
	LongChain bool
	// Decoded bounds what is decoded of a body.
	Decoded strictjson.Limits
	// Malformed and Forged are the reasons of this family's refusals: not the canonical
	// encoding, and not signed by the right key.
	Malformed, Forged refusal.Reason
}

// Signed is a statement in its parts. Nothing of it is believed, and nothing decoded.
type Signed struct {
	form             *Form
	label            string
	body, chain, sig []byte
}

// Chain is what makes the key trustworthy, for the caller to verify.
func (s Signed) Chain() []byte { return s.chain }

func (f *Form) malformed(format string, args ...any) error {
	return refusal.New(f.Malformed, format, args...)
}

// Seal encodes and signs a body, whose limits the caller has checked. The label is the
// signature's context.
func (f *Form) Seal(key *identity.Private, label string, v any, chain []byte) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(body) > f.Body || len(chain) > f.Chain {
		return nil, f.malformed("got a body of %d bytes and a chain of %d, want at most %d and %d", len(body), len(chain), f.Body, f.Chain)
	}
	sig, err := key.Sign(label, Join(label, body, chain))
	if err != nil {
		return nil, err
	}
	b := newBuilder(16 + len(label) + len(body) + len(chain) + len(sig))
	addString8(b, label)
	addBytes24(b, body)
	if f.LongChain {
		addBytes24(b, chain)
	} else {
		addBytes16(b, chain)
	}
	addBytes16(b, sig)
	return b.Bytes()
}

// LabelOf is the label of a signed statement, whatever follows it; empty if there is none.
func LabelOf(signed []byte) string {
	s, label := cryptobyte.String(signed), ""
	if !readString8(&s, &label) {
		return ""
	}
	return label
}

// readHead reads the label, the body and the chain, and leaves the rest.
func (f *Form) readHead(s *cryptobyte.String, label, body, chain *cryptobyte.String) bool {
	if !s.ReadUint8LengthPrefixed(label) || !s.ReadUint24LengthPrefixed(body) || len(*body) > f.Body {
		return false
	}
	read := s.ReadUint16LengthPrefixed
	if f.LongChain {
		read = s.ReadUint24LengthPrefixed
	}
	return read(chain) && len(*chain) <= f.Chain
}

// Split takes a signed statement apart.
func (f *Form) Split(signed []byte, label string) (Signed, error) {
	if len(signed) > f.Bytes {
		return Signed{}, f.malformed("got %d bytes, want at most %d", len(signed), f.Bytes)
	}
	s := cryptobyte.String(signed)
	var found, body, chain, sig cryptobyte.String
	if !f.readHead(&s, &found, &body, &chain) || string(found) != label ||
		!s.ReadUint16LengthPrefixed(&sig) || len(sig) > f.Signature || !s.Empty() {
		return Signed{}, f.malformed("truncated, trailing bytes, over a limit, or not a %s", label)
	}
	return Signed{f, label, body, chain, sig}, nil
}

// ChainOf is the chain of a statement, whatever its label is.
func (f *Form) ChainOf(signed []byte) ([]byte, error) {
	s := cryptobyte.String(signed)
	var label, body, chain cryptobyte.String
	if len(signed) > f.Bytes || !f.readHead(&s, &label, &body, &chain) {
		return nil, f.malformed("truncated, or over a limit")
	}
	return chain, nil
}

// Open verifies the signature, and decodes into v only then: strangers send what they like,
// and JSON can hold many times its own bytes. check is the body's own.
func (s Signed) Open(key identity.Public, whose string, v any, check func() error) error {
	if err := key.Verify(s.label, Join(s.label, s.body, s.chain), s.sig); err != nil {
		return &refusal.Error{Reason: s.form.Forged, Detail: whose + " did not sign this " + s.label, Err: err}
	}
	return s.Decode(v, check)
}

// Decode decodes without believing, for whoever verified the statement before.
func (s Signed) Decode(v any, check func() error) error {
	if err := strictjson.Decode(s.body, s.form.Decoded, v); err != nil {
		return s.form.malformed("%w", err)
	}
	if err := check(); err != nil {
		return err
	}
	if again, err := json.Marshal(v); err != nil || !bytes.Equal(again, s.body) {
		return s.form.malformed("not the canonical encoding")
	}
	return nil
}
