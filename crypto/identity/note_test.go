package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

func TestEachHalfSignsANoteByItself(t *testing.T) {
	k := generate(t, LevelEpoch)
	p, text := k.Public(), []byte("origin\n5\nroot\n")
	sig, err := k.SignNote(text)
	if err != nil {
		t.Fatal(err)
	}
	if !p.VerifyNoteEd25519(text, sig.Ed25519) || !p.VerifyNoteMLDSA(text, sig.MLDSA) || !ed25519.Verify(p.Ed25519(), text, sig.Ed25519) {
		t.Fatal("a note does not verify")
	}
	other := []byte("origin\n6\nroot\n")
	for name, accepted := range map[string]bool{
		"Ed25519, other text":     p.VerifyNoteEd25519(other, sig.Ed25519),
		"ML-DSA, other text":      p.VerifyNoteMLDSA(other, sig.MLDSA),
		"Ed25519, other key":      generate(t, LevelEpoch).Public().VerifyNoteEd25519(text, sig.Ed25519),
		"ML-DSA, other key":       generate(t, LevelEpoch).Public().VerifyNoteMLDSA(text, sig.MLDSA),
		"Ed25519, no key":         Public{}.VerifyNoteEd25519(text, sig.Ed25519),
		"ML-DSA, no key":          Public{}.VerifyNoteMLDSA(text, sig.MLDSA),
		"ML-DSA, short signature": p.VerifyNoteMLDSA(text, sig.MLDSA[1:]),
	} {
		if accepted {
			t.Errorf("%s: accepted", name)
		}
	}
	if (Public{}).Ed25519() != nil || (Public{}).MLDSA() != nil {
		t.Error("no identity has halves")
	}
}

// A note's signatures and the composite's never serve for each other.
func TestNotesAndCompositesDoNotMix(t *testing.T) {
	k := generate(t, LevelEpoch)
	msg := []byte("text\n")
	bound := k.Public().bind(NoteContext, msg)
	if _, err := k.SignNote(bound); !errors.Is(err, ErrNote) {
		t.Errorf("what a composite signs was signed as a note: %v", err)
	}
	sig, err := k.Sign(NoteContext, msg)
	if err != nil {
		t.Fatal(err)
	}
	_, n := LevelEpoch.sizes()
	if k.Public().VerifyNoteMLDSA(msg, sig[1:1+n]) || k.Public().VerifyNoteEd25519(msg, sig[1+n:]) {
		t.Error("half of a composite verifies as a note's signature")
	}
	note, err := k.SignNote(msg)
	if err != nil {
		t.Fatal(err)
	}
	joined := bytes.Join([][]byte{{byte(LevelEpoch)}, note.MLDSA, note.Ed25519}, nil)
	if err := k.Public().Verify(NoteContext, msg, joined); !errors.Is(err, ErrSignature) {
		t.Errorf("a note's signatures verify as a composite: %v", err)
	}
}

func TestNotesAreText(t *testing.T) {
	k := generate(t, LevelEpoch)
	for _, text := range []string{"", "no end", "a\x00b\n", "a\tb\n", "a\r\n"} {
		if _, err := k.SignNote([]byte(text)); !errors.Is(err, ErrNote) {
			t.Errorf("%q was signed: %v", text, err)
		}
	}
	k.Wipe()
	if _, err := k.SignNote([]byte("a\n")); err == nil {
		t.Error("a wiped key signs")
	}
}
