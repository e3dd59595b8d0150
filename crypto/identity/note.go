package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// NoteContext is the FIPS 204 context of the ML-DSA line of a signed note.
const NoteContext = "anchorhold/note/1"

// ErrNote means a text that is not allowed in a note.
var ErrNote = errors.New("identity: a note must be text that ends with a newline and has no other control characters")

// NoteSignature are the two signatures of one signed note (c2sp.org/signed-note).
// Each is over the text itself, so that a program which knows signed notes
// verifies the Ed25519 one without knowing this package. A verifier of ours
// demands both.
type NoteSignature struct {
	Ed25519 []byte
	MLDSA   []byte
}

// checkNote keeps notes apart from everything else that an identity signs: what
// both halves sign elsewhere begins with a label that ends in a zero byte (see
// bind), and a note has no such byte.
func checkNote(text []byte) error {
	if len(text) == 0 || text[len(text)-1] != '\n' || slices.ContainsFunc(text, func(c byte) bool { return c < ' ' && c != '\n' }) {
		return ErrNote
	}
	return nil
}

// SignNote signs the text of a note with each half of the identity.
func (k *Private) SignNote(text []byte) (NoteSignature, error) {
	if err := checkNote(text); err != nil {
		return NoteSignature{}, err
	}
	if k == nil || k.ed.Len() == 0 {
		return NoteSignature{}, ErrWiped
	}
	_, n := k.level.sizes()
	sig := NoteSignature{MLDSA: make([]byte, n)}
	if err := k.mldsa().sign(text, []byte(NoteContext), sig.MLDSA); err != nil {
		return NoteSignature{}, fmt.Errorf("identity: sign a note: %w", err)
	}
	heap := bytes.Clone(k.ed.Bytes()) // as in Sign
	defer keybuf.Wipe(heap)
	runtime.KeepAlive(k)
	sig.Ed25519 = ed25519.Sign(heap, text)
	return sig, nil
}

// VerifyNoteEd25519 checks only the Ed25519 line of a note. To trust a note, call
// VerifyNoteMLDSA as well.
func (p Public) VerifyNoteEd25519(text, sig []byte) bool {
	return !p.IsZero() && checkNote(text) == nil && ed25519.Verify(p.Ed25519(), text, sig)
}

// VerifyNoteMLDSA checks only the ML-DSA line of a note.
func (p Public) VerifyNoteMLDSA(text, sig []byte) bool {
	_, n := p.level.sizes()
	return !p.IsZero() && len(sig) == n && checkNote(text) == nil && p.verifyMLDSA(text, []byte(NoteContext), sig)
}

// Ed25519 returns a copy of the Ed25519 half (RFC 8032, 32 bytes); nil for the
// zero value.
func (p Public) Ed25519() ed25519.PublicKey {
	if p.IsZero() {
		return nil
	}
	return bytes.Clone(p.bytes[len(p.bytes)-ed25519.PublicKeySize:])
}

// MLDSA returns a copy of the ML-DSA half as FIPS 204 encodes it; nil for the
// zero value.
func (p Public) MLDSA() []byte {
	if p.IsZero() {
		return nil
	}
	return bytes.Clone(p.bytes[1 : len(p.bytes)-ed25519.PublicKeySize])
}
