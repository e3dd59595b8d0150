package keyseal

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
)

func take(t testing.TB, n int) *keybuf.Buffer {
	t.Helper()
	secret, err := keybuf.Random(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secret.Wipe)
	return secret
}

func recipient(t testing.TB) *keywrap.Recipient {
	t.Helper()
	r, err := keywrap.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStandardLibraryOpens shows that two implementations mean the same by the scheme,
// and by what its contexts export.
func TestStandardLibraryOpens(t *testing.T) {
	for _, n := range []int{1, 32, 4096, keywrap.MaxSecretBytes} {
		for range 20 {
			r := recipient(t)
			one, two := take(t, n), take(t, 32)
			a, err := Seal(r.PublicKey(), []byte("one"), one, "label")
			if err != nil {
				t.Fatal(err)
			}
			b, err := Seal(r.PublicKey(), []byte("two"), two, "label")
			if err != nil {
				t.Fatal(err)
			}
			secrets, exported, err := r.OpenExporting([]keywrap.Sealed{
				{Info: []byte("one"), Enc: a.Enc, Ciphertext: a.Ciphertext},
				{Info: []byte("two"), Enc: b.Enc, Ciphertext: b.Ciphertext},
			}, "label")
			if err != nil {
				t.Fatal(err)
			}
			if !secrets[0].Equal(one) || !secrets[1].Equal(two) {
				t.Error("another secret was opened")
			}
			if !bytes.Equal(exported, append(a.Export, b.Export...)) || len(exported) != 2*keywrap.ExportSize || bytes.Equal(a.Export, b.Export) {
				t.Error("the ends export different bytes")
			}
			secrets[0].Wipe()
			secrets[1].Wipe()
		}
	}
}

func TestAnotherExporterGivesAnotherSecret(t *testing.T) {
	r := recipient(t)
	s, err := Seal(r.PublicKey(), []byte("info"), take(t, 32), "label")
	if err != nil {
		t.Fatal(err)
	}
	secrets, exported, err := r.OpenExporting([]keywrap.Sealed{{Info: []byte("info"), Enc: s.Enc, Ciphertext: s.Ciphertext}}, "other")
	if err != nil {
		t.Fatal(err)
	}
	secrets[0].Wipe()
	if bytes.Equal(exported, s.Export) {
		t.Error("the exporter's context does not count")
	}
}

func TestSealRefusesWhatItCannotProtect(t *testing.T) {
	good := recipient(t).PublicKey()
	secret := take(t, 32)
	unreduced := bytes.Repeat([]byte{0xff}, keywrap.PublicKeySize)
	for name, c := range map[string]struct {
		key, info []byte
		secret    *keybuf.Buffer
	}{
		"short key":              {good[1:], []byte("i"), secret},
		"ML-KEM key not reduced": {unreduced, []byte("i"), secret},
		"no info":                {good, nil, secret},
		"no secret":              {good, []byte("i"), nil},
		"large secret":           {good, []byte("i"), take(t, keywrap.MaxSecretBytes+1)},
	} {
		if _, err := Seal(c.key, c.info, c.secret, ""); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

// TestPointsOfLowOrderAreRefused: such a key would leave ML-KEM alone. Both libraries
// say which points give zero.
func TestPointsOfLowOrderAreRefused(t *testing.T) {
	good, secret := recipient(t).PublicKey(), take(t, 32)
	private, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range points {
		for _, high := range []byte{0, 0x80} {
			point := bytes.Clone(p)
			point[31] |= high
			public, err := ecdh.X25519().NewPublicKey(point)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := private.ECDH(public); err == nil {
				t.Errorf("point %d gives a secret to the standard library", i)
			}
			var shared, scalar, u x25519.Key
			rand.Read(scalar[:])
			copy(u[:], point)
			if x25519.Shared(&shared, &scalar, &u) {
				t.Errorf("point %d gives a secret to circl", i)
			}
			key := append(bytes.Clone(good[:keywrap.PublicKeySize-32]), point...)
			if _, err := Seal(key, []byte("i"), secret, ""); !errors.Is(err, keywrap.ErrPublicKey) {
				t.Errorf("point %d: %v", i, err)
			}
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	key, secret := recipient(b).PublicKey(), take(b, 32)
	for b.Loop() {
		if _, err := Seal(key, []byte("info"), secret, "label"); err != nil {
			b.Fatal(err)
		}
	}
}
