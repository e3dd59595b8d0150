// Package signednote signs short texts that outlive the programs that wrote them: signed notes
// (c2sp.org/signed-note), with one line for each half of an identity.
//
// Every program that knows signed notes can verify the Ed25519 line, with the key that
// [VerifierKey] prints. The ML-DSA-65 line is ours, because the specification has no type for
// it. [Open] requires both: a note that lost one of its lines is not signed.
//
// The name of the key, which is on both lines, also keeps the kinds of notes apart. Callers begin
// the text with it, so a checkpoint of the audit log can never pass for a release.
package signednote

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// Signature types (c2sp.org/signed-note). That specification assigns no byte to plain
// ML-DSA-65, so its line has the type for such, 0xff, and a longer name behind it.
const (
	typeEd25519 = "\x01"
	typeMLDSA65 = "\xffanchorhold/ml-dsa-65/1\n"
)

// Errors of notes.
var (
	// ErrForm means that the bytes are not a signed note within the limits.
	ErrForm = errors.New("not a signed note")
	// ErrHalf means that one of the two signatures is missing.
	ErrHalf = errors.New("the note has only one of its key's two signatures; both are required")
	// ErrLevel means that the key's level does not sign notes.
	ErrLevel = errors.New("notes must be signed with an ML-DSA-65 key")
)

// Signer signs notes: an identity's private half.
type Signer interface {
	// Public returns the verifying half.
	Public() identity.Public
	// SignNote signs a note's text.
	SignNote(text []byte) (identity.NoteSignature, error)
}

// Sign signs a text under the name of a key. The text ends in a line break.
func Sign(signer Signer, name string, text []byte) ([]byte, error) {
	if signer.Public().Level() != identity.LevelEpoch {
		return nil, ErrLevel
	}
	sig, err := signer.SignNote(text)
	if err != nil {
		return nil, err
	}
	both := linesOf(name, signer.Public())
	both[0].sig, both[1].sig = sig.Ed25519, sig.MLDSA
	return note.Sign(&note.Note{Text: string(text)}, both[0], both[1])
}

// Open returns the text of a note that is signed by both halves of key under name. Lines of
// other keys, for example of witnesses, are ignored.
func Open(signed []byte, name string, key identity.Public) (string, error) {
	if key.Level() != identity.LevelEpoch {
		return "", ErrLevel
	}
	both := linesOf(name, key)
	n, err := note.Open(signed, note.VerifierList(both[0], both[1]))
	switch {
	case err != nil:
		return "", err
	case len(n.Sigs) != len(both):
		return "", ErrHalf
	}
	return n.Text, nil
}

// Unverified returns the text of a note with at most maxLines signatures and verifies none of
// them: a reader uses it to find out whose note this is.
func Unverified(signed []byte, maxLines int) (string, error) {
	// Signature lines of nobody known are the one way to have package note parse
	// without verifying.
	_, err := note.Open(signed, nil)
	open, unverified := errors.AsType[*note.UnverifiedNoteError](err)
	if !unverified || len(open.Note.UnverifiedSigs) > maxLines {
		return "", fmt.Errorf("%w of at most %d signatures", ErrForm, maxLines)
	}
	return open.Note.Text, nil
}

// VerifierKey returns the Ed25519 half under a name, in the form that programs for signed notes
// read. It proves less than [Open], because it is only one half of the key.
func VerifierKey(name string, key identity.Public) (string, error) {
	return note.NewEd25519VerifierKey(name, key.Ed25519())
}

// keyHash is the key ID of c2sp.org/signed-note.
func keyHash(name, signatureType string, public []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"+signatureType), public...))
	return binary.BigEndian.Uint32(sum[:])
}

// line is one kind of signature line of one key. Package note signs and verifies with it.
type line struct {
	name   string
	hash   uint32
	verify func(text, sig []byte) bool
	sig    []byte // when signing: the signature that was made already
}

// Name is the key's name.
func (l line) Name() string { return l.name }

// KeyHash is the key's ID.
func (l line) KeyHash() uint32 { return l.hash }

// Verify checks one signature.
func (l line) Verify(text, sig []byte) bool { return l.verify(text, sig) }

// Sign returns the signature.
func (l line) Sign([]byte) ([]byte, error) { return l.sig, nil }

// linesOf returns the two lines that a note of the key has.
func linesOf(name string, key identity.Public) [2]line {
	return [2]line{
		{name: name, hash: keyHash(name, typeEd25519, key.Ed25519()), verify: key.VerifyNoteEd25519},
		{name: name, hash: keyHash(name, typeMLDSA65, key.MLDSA()), verify: key.VerifyNoteMLDSA},
	}
}
