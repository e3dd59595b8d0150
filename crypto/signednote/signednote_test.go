package signednote

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

const (
	name = "anchorhold/test/1"
	text = name + "\nsomething\n"
)

func generate(t testing.TB, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func sign(t testing.TB, k *identity.Private, name, text string) string {
	t.Helper()
	signed, err := Sign(k, name, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// parts takes a note apart: text with its blank line, and the signature lines.
func parts(t testing.TB, signed string) (text string, sigs []string) {
	t.Helper()
	at := strings.LastIndex(signed, "\n\n") + 2
	sigs = strings.SplitAfter(signed[at:], "\n")
	if len(sigs) != 3 || sigs[2] != "" {
		t.Fatalf("%d signature lines", len(sigs)-1)
	}
	return signed[:at], sigs[:2]
}

func TestBothSignaturesAreNeeded(t *testing.T) {
	k, other := generate(t, identity.LevelEpoch), generate(t, identity.LevelEpoch)
	body, sigs := parts(t, sign(t, k, name, text))
	_, foreign := parts(t, sign(t, other, name, text))
	_, changed := parts(t, sign(t, k, name, text+"more\n"))
	for what, c := range map[string]struct {
		note string
		good bool
	}{
		"as signed":               {body + sigs[0] + sigs[1], true},
		"in the other order":      {body + sigs[1] + sigs[0], true},
		"with another key's":      {body + foreign[0] + sigs[0] + foreign[1] + sigs[1], true},
		"Ed25519 alone":           {body + sigs[0], false},
		"ML-DSA alone":            {body + sigs[1], false},
		"Ed25519 twice":           {body + sigs[0] + sigs[0], false},
		"Ed25519 of another text": {body + changed[0] + sigs[1], false},
		"ML-DSA of another text":  {body + sigs[0] + changed[1], false},
		"halves of two keys":      {body + sigs[0] + foreign[1], false},
		"another key's":           {body + foreign[0] + foreign[1], false},
		"another text":            {strings.Replace(body, "some", "any", 1) + sigs[0] + sigs[1], false},
		"none":                    {body, false},
		"nothing":                 {"", false},
	} {
		got, err := Open([]byte(c.note), name, k.Public())
		if (err == nil) != c.good || c.good && got != text || !c.good && got != "" {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
	if _, err := Open([]byte(body+sigs[0]), name, k.Public()); !errors.Is(err, ErrHalf) {
		t.Errorf("one half: got %v, want %v", err, ErrHalf)
	}
	if _, err := Open([]byte(sign(t, k, name, text)), "another/name", k.Public()); err == nil {
		t.Error("a note verifies under another name")
	}
	if _, err := Open([]byte(sign(t, k, name, text)), name, identity.Public{}); !errors.Is(err, ErrLevel) {
		t.Errorf("no key: got %v, want %v", err, ErrLevel)
	}
}

func TestOneLevelSignsNotes(t *testing.T) {
	root := generate(t, identity.LevelRoot)
	if _, err := Sign(root, name, []byte(text)); !errors.Is(err, ErrLevel) {
		t.Errorf("sign: got %v, want %v", err, ErrLevel)
	}
	if _, err := Open([]byte(sign(t, generate(t, identity.LevelEpoch), name, text)), name, root.Public()); !errors.Is(err, ErrLevel) {
		t.Errorf("open: got %v, want %v", err, ErrLevel)
	}
}

func TestUnverifiedKeepsItsLimit(t *testing.T) {
	k := generate(t, identity.LevelEpoch)
	signed := sign(t, k, name, text)
	if got, err := Unverified([]byte(signed), 2); err != nil || got != text {
		t.Errorf("got %q, %v", got, err)
	}
	for what, c := range map[string]struct {
		note string
		max  int
	}{"more lines": {signed, 1}, "no signature": {text, 2}, "nothing": {"", 2}, "no line break": {strings.TrimSuffix(signed, "\n"), 2}} {
		if got, err := Unverified([]byte(c.note), c.max); !errors.Is(err, ErrForm) || got != "" {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
	}
}

// TestOtherProgramsVerifyTheEd25519Line uses nothing of this package to verify.
func TestOtherProgramsVerifyTheEd25519Line(t *testing.T) {
	k := generate(t, identity.LevelEpoch)
	vkey, err := VerifierKey(name, k.Public())
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open([]byte(sign(t, k, name, text)), note.VerifierList(verifier))
	if err != nil || n.Text != text || len(n.Sigs) != 1 || len(n.UnverifiedSigs) != 1 {
		t.Errorf("got %+v, %v", n, err)
	}
}

// TestKeyIDs holds the key IDs against the specification's own words: the Ed25519 one is
// package note's, and the ML-DSA one begins with the type for algorithms that have no byte of
// their own.
func TestKeyIDs(t *testing.T) {
	k := generate(t, identity.LevelEpoch).Public()
	both := linesOf(name, k)
	vkey, err := VerifierKey(name, k)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("%s+%08x+", name, both[0].hash); !strings.HasPrefix(vkey, want) {
		t.Errorf("the Ed25519 key is %s, want %s...", vkey[:len(want)], want)
	}
	if want := keyHash(name, "\xff"+"anchorhold/ml-dsa-65/1\n", k.MLDSA()); both[1].hash != want || len(k.MLDSA()) != 1952 {
		t.Errorf("the ML-DSA key is %08x, want %08x", both[1].hash, want)
	}
}

func FuzzUnverified(f *testing.F) {
	f.Add([]byte(sign(f, generate(f, identity.LevelEpoch), name, text)))
	f.Add([]byte(text))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := Unverified(b, 16); err == nil && !strings.HasPrefix(string(b), got+"\n") {
			t.Errorf("%q is not what %q begins with", got, b)
		}
	})
}
