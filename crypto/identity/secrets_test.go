package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
)

// TestWipeClearsTheExpandedKey looks at the library's own copy after Wipe.
func TestWipeClearsTheExpandedKey(t *testing.T) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		k := generate(t, level)
		packed := func() []byte { return nil }
		switch m := k.mldsa().(type) {
		case private65:
			packed = m.key.Bytes
		case private87:
			packed = m.key.Bytes
		}
		seed := k.seed
		before := packed()
		k.Wipe()
		if after := packed(); bytes.Equal(before, after) || !bytes.Equal(after[:128], make([]byte, 128)) {
			t.Errorf("%s: the expanded key outlives Wipe", level)
		}
		if seed.Len() != 0 {
			t.Errorf("%s: the seed outlives Wipe", level)
		}
	}
}

func TestNoFormShowsThePrivateHalf(t *testing.T) {
	k := generate(t, LevelEpoch)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", k, *k)
		// Reflection passes by the methods of a field that is not exported.
		fmt.Fprintf(&out, verb+"\n"+verb+"\n", struct{ k *Private }{k}, struct{ k Private }{*k})
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", k)
	slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", k)
	if data, err := json.Marshal([]any{k}); err == nil {
		out.Write(data)
	}
	seed := k.seed.Bytes()
	expanded := k.mldsa().(private65).key.Bytes() // begins with the public rho: skip it
	for name, part := range map[string][]byte{"ML-DSA seed": seed[:32], "Ed25519 seed": seed[32:], "expanded key": expanded[32:64]} {
		for _, form := range []string{string(part), hex.EncodeToString(part), fmt.Sprint(part), fmt.Sprintf("%#v", part)} {
			// Eight bytes in whatever form are enough to give it away.
			if strings.Contains(out.String(), form[:len(form)/4]) {
				t.Errorf("the %s shows", name)
			}
		}
	}
}

// TestKeysWithoutAnOwnerStillSign has the collector run while nothing but the
// call itself refers to the key.
func TestKeysWithoutAnOwnerStillSign(t *testing.T) {
	for range 8 {
		k, err := Generate(LevelEpoch)
		if err != nil {
			t.Fatal(err)
		}
		p := k.Public()
		done := make(chan struct{})
		go func() { defer close(done); runtime.GC() }()
		sig, err := k.Sign("context", []byte("m"))
		<-done
		if err != nil || p.Verify("context", []byte("m"), sig) != nil {
			t.Fatalf("%v", err)
		}
	}
}

// TestTheSignedMessageNamesEverything changes one thing at a time that both
// halves must sign over. The classical half has no context of its own.
func TestTheSignedMessageNamesEverything(t *testing.T) {
	p, other := generate(t, LevelEpoch).Public(), generate(t, LevelEpoch).Public()
	base := p.bind("context", []byte("m"))
	elsewhere := p
	elsewhere.level = LevelRoot
	for name, changed := range map[string][]byte{
		"context":             p.bind("contexu", []byte("m")),
		"border of context":   p.bind("contextm", nil),
		"message":             p.bind("context", []byte("n")),
		"level":               elsewhere.bind("context", []byte("m")),
		"composite key":       other.bind("context", []byte("m")),
		"nothing but message": []byte("m"),
	} {
		if bytes.Equal(base, changed) {
			t.Errorf("%s is not signed over", name)
		}
	}
	if !bytes.HasPrefix(base, []byte("anchorhold/identity/composite/1\x00")) {
		t.Error("no label of this format")
	}
}

func TestZeroValuesAreNamedAndRefused(t *testing.T) {
	if (Public{}).String() == "" || Level(9).String() != "unknown" {
		t.Error("zero values have no name")
	}
	if _, err := Generate(Level(9)); err == nil {
		t.Error("a key of an unknown level")
	}
}

func BenchmarkSign(b *testing.B) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		b.Run(level.String(), func(b *testing.B) {
			k := generate(b, level)
			for b.Loop() {
				if _, err := k.Sign("bench", []byte("message")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for _, level := range []Level{LevelEpoch, LevelRoot} {
		b.Run(level.String(), func(b *testing.B) {
			k := generate(b, level)
			sig, err := k.Sign("bench", []byte("message"))
			if err != nil {
				b.Fatal(err)
			}
			p := k.Public()
			for b.Loop() {
				if err := p.Verify("bench", []byte("message"), sig); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
