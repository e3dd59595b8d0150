package identity

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
)

func generate(t testing.TB, level Level) *Private {
	t.Helper()
	k, err := Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// TestEitherHalfAloneIsRefused spoils one half of a signature at a time.
func TestEitherHalfAloneIsRefused(t *testing.T) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		k := generate(t, level)
		msg := []byte("message")
		sig, err := k.Sign("context", msg)
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Public().Verify("context", msg, sig); err != nil {
			t.Fatalf("%s: %v", level, err)
		}
		for name, at := range map[string]int{"level": 0, "first of ML-DSA": 1, "middle of ML-DSA": 1000, "first of Ed25519": len(sig) - ed25519.SignatureSize, "last of Ed25519": len(sig) - 1} {
			bad := bytes.Clone(sig)
			bad[at] ^= 1
			if err := k.Public().Verify("context", msg, bad); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s changed: %v", level, name, err)
			}
		}
		for name, verify := range map[string]func() error{
			"other message": func() error { return k.Public().Verify("context", []byte("messagf"), sig) },
			"other context": func() error { return k.Public().Verify("contexu", msg, sig) },
			"other key":     func() error { return generate(t, level).Public().Verify("context", msg, sig) },
			"cut":           func() error { return k.Public().Verify("context", msg, sig[:len(sig)-1]) },
			"longer":        func() error { return k.Public().Verify("context", msg, append(bytes.Clone(sig), 0)) },
			"empty":         func() error { return k.Public().Verify("context", msg, nil) },
			"zero identity": func() error { return Public{}.Verify("context", msg, sig) },
		} {
			if err := verify(); !errors.Is(err, ErrSignature) {
				t.Errorf("%s, %s: %v", level, name, err)
			}
		}
	}
}

// TestHalvesOfTwoIdentitiesDoNotMix takes each half from another signer.
func TestHalvesOfTwoIdentitiesDoNotMix(t *testing.T) {
	a, b := generate(t, LevelEpoch), generate(t, LevelEpoch)
	mixed := append(append([]byte{}, a.Public().bytes[:len(a.Public().bytes)-ed25519.PublicKeySize]...), b.Public().bytes[len(b.Public().bytes)-ed25519.PublicKeySize:]...)
	both, err := ParsePublic(mixed)
	if err != nil {
		t.Fatal(err)
	}
	sa, err := a.Sign("context", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	sb, err := b.Sign("context", []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	n := len(sa) - ed25519.SignatureSize
	if err := both.Verify("context", []byte("m"), append(bytes.Clone(sa[:n]), sb[n:]...)); !errors.Is(err, ErrSignature) {
		t.Errorf("halves of two identities verify as a third: %v", err)
	}
}

func TestContextsAreBounded(t *testing.T) {
	k := generate(t, LevelEpoch)
	for _, context := range []string{"", strings.Repeat("x", maxContextBytes+1)} {
		if _, err := k.Sign(context, nil); !errors.Is(err, ErrContext) {
			t.Errorf("sign under %d bytes of context: %v", len(context), err)
		}
		if err := k.Public().Verify(context, nil, nil); !errors.Is(err, ErrContext) {
			t.Errorf("verify under %d bytes of context: %v", len(context), err)
		}
	}
	k.Wipe()
	if _, err := k.Sign("context", nil); err == nil {
		t.Error("a wiped key signs")
	}
}

func TestTextFormIsCanonical(t *testing.T) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		p := generate(t, level).Public()
		text, err := p.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Public
		if err := back.UnmarshalText(text); err != nil || !back.Equal(p) || back.ID() != p.ID() || back.Level() != level {
			t.Fatalf("%s does not come back: %v", p, err)
		}
		for i := 0; i < len(text); i += 97 {
			bad := bytes.Clone(text)
			bad[i] ^= 1
			if back.UnmarshalText(bad) == nil {
				t.Errorf("character %d changed: accepted", i)
			}
		}
	}
	if _, err := (Public{}).MarshalText(); err == nil {
		t.Error("no identity has a text form")
	}
	for _, b := range [][]byte{nil, {0}, {1}, {3, 4}, make([]byte, LevelEpoch.publicSize())} {
		if _, err := ParsePublic(b); !errors.Is(err, ErrEncoding) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	}
}

func FuzzPublicEncodings(f *testing.F) {
	k, err := Generate(LevelEpoch)
	if err != nil {
		f.Fatal(err)
	}
	text, err := k.Public().MarshalText()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(k.Public().Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var p Public
		if p.UnmarshalText(data) == nil {
			if again, err := p.MarshalText(); err != nil || !bytes.Equal(again, data) {
				t.Errorf("%q parses and is not canonical", data)
			}
		}
		if q, err := ParsePublic(data); err == nil && !bytes.Equal(q.Bytes(), data) {
			t.Error("an encoding that is not canonical parses")
		}
	})
}

// The base64 decoder passes over line breaks, which would give one identity many
// texts.
func TestTextFormHasNoLineBreaks(t *testing.T) {
	key, err := Generate(LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	text, err := key.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{"\n", "\r", "\r\n"} {
		var p Public
		if err := p.UnmarshalText([]byte(string(text[:40]) + broken + string(text[40:]))); !errors.Is(err, ErrEncoding) {
			t.Errorf("%q inside: %v", broken, err)
		}
	}
}
