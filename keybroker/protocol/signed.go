package protocol

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// A statement outlives its connection: it is stored, passed on and checked by
// people who were not there. Its encoding is label, body, signature
// (docs/protocol.md 4.5).
type statement interface {
	body
	label() string
	decodeBody(s *cryptobyte.String) bool
}

// body is what a signature covers, in a message or a statement.
type body interface {
	validBody() bool
	encodeBody(b *cryptobyte.Builder)
}

// bodyOf encodes a body; one outside its limits has no encoding, so it is
// neither signed nor verified.
func bodyOf(v body) ([]byte, error) {
	if !v.validBody() {
		return nil, errLimit
	}
	b := newBuilder(usualStatement)
	v.encodeBody(b)
	return b.Bytes()
}

// addJoined appends Join(label, fields..., the encoding of v).
func addJoined(b *cryptobyte.Builder, label string, v body, fields ...[]byte) {
	for _, f := range append([][]byte{[]byte(label)}, fields...) {
		b.AddUint32LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(f) })
	}
	b.AddUint32LengthPrefixed(v.encodeBody)
}

// signMessage signs a message's body behind the fields that tie it to its connection.
func signMessage(key Signer, context string, v body, fields ...[]byte) ([]byte, error) {
	if !v.validBody() {
		return nil, errLimit
	}
	b := newBuilder(usualSigned)
	addJoined(b, context, v, fields...)
	msg, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	return key.Sign(context, msg)
}

// verifyMessage has verify judge what signMessage signed; verify must not keep it. A
// body outside its limits has no signature.
func verifyMessage(verify func(msg []byte) error, context string, v body, fields ...[]byte) error {
	if !v.validBody() {
		return errLimit
	}
	return transient(func(b *cryptobyte.Builder) { addJoined(b, context, v, fields...) }, verify)
}

func addSigned(b *cryptobyte.Builder, v body, sig []byte) {
	b.AddUint24LengthPrefixed(v.encodeBody)
	addBytes16(b, sig)
}

func validSignature(sig []byte) bool { return len(sig) > 0 && len(sig) <= maxSignatureBytes }

// sign encodes and signs a statement; the label is the signature's context.
func sign(key Signer, st statement) ([]byte, error) {
	body, err := bodyOf(st)
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(st.label(), Join(st.label(), body))
	if err != nil {
		return nil, err
	}
	return assemble(st.label(), body, sig)
}

func assemble(label string, body, sig []byte) ([]byte, error) {
	b := newBuilder(16 + len(label) + len(body) + len(sig))
	addString8(b, label)
	addBytes24(b, body)
	addBytes16(b, sig)
	return b.Bytes()
}

// kindOf drops the version of a label: "anchorhold/kbp/1/epoch" becomes
// "anchorhold/kbp/epoch".
func kindOf(label string) string {
	parts := strings.Split(label, "/")
	if len(parts) != 4 || !slices.Contains([]string{former, Name}, strings.Join(parts[:3], "/")) {
		return label
	}
	return parts[0] + "/" + parts[1] + "/" + parts[3]
}

// sameBody says whether the bytes are a body's one encoding.
func sameBody(v body, encoded []byte) bool {
	same := false
	err := transient(v.encodeBody, func(again []byte) error {
		same = bytes.Equal(again, encoded)
		return nil
	})
	return err == nil && same && v.validBody()
}

// parseSigned decodes a statement without believing it: it returns the signed
// bytes and the signature for the caller to verify under the right key.
func parseSigned(signed []byte, limit int, st statement) (msg, sig []byte, err error) {
	if len(signed) > limit {
		return nil, nil, malformed("%s of %d bytes, limit %d", st.label(), len(signed), limit)
	}
	s := cryptobyte.String(signed)
	var label string
	var body cryptobyte.String
	if !readString8(&s, &label) || !s.ReadUint24LengthPrefixed(&body) || !readBytes16(&s, &sig) || !s.Empty() {
		return nil, nil, malformed("%s: truncated or trailing bytes", st.label())
	}
	switch {
	case label == st.label():
	case kindOf(label) == kindOf(st.label()):
		return nil, nil, refusal.New(ReasonStatementVersion, "%q, this end has %s", label, st.label())
	default:
		return nil, nil, malformed("%s: a statement of another kind", st.label())
	}
	whole := bytes.Clone(body)
	if !st.decodeBody(&body) || !body.Empty() {
		return nil, nil, malformed("%s: truncated, trailing bytes, or over a limit", st.label())
	}
	if !sameBody(st, whole) {
		return nil, nil, malformed("%s: a value outside its limits, or not the canonical encoding", st.label())
	}
	return Join(st.label(), whole), sig, nil
}
