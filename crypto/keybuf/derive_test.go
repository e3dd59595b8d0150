package keybuf_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"runtime"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}

func TestDerivationIsThatOfTheStandardLibrary(t *testing.T) {
	for _, n := range []int{0, 1, 31, 32, 33, 63, 64, 65, 200} {
		key, message := randomBytes(n), randomBytes(n)
		h := hmac.New(sha256.New, key)
		h.Write(message)
		if got := keybuf.MAC(key, message[:n/3], nil, message[n/3:]); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("MAC of %d bytes differs", n)
		}
		want, err := hkdf.Extract(sha256.New, message, key)
		if got := keybuf.Extract(message, key); err != nil || !bytes.Equal(got[:], want) {
			t.Errorf("Extract of %d bytes differs (%v)", n, err)
		}
		if want, err = hkdf.Expand(sha256.New, key, "info", n); err != nil || !bytes.Equal(keybuf.Expand(key, "info", n), want) {
			t.Errorf("Expand to %d bytes differs (%v)", n, err)
		}
		if want, err = hkdf.Key(sha256.New, message, nil, "info", 8160-n); err != nil || !bytes.Equal(keybuf.Derive(message, nil, "info", 8160-n), want) {
			t.Errorf("Derive to %d bytes differs (%v)", 8160-n, err)
		}
	}
}

// TestDerivationLeavesNoCopy also holds that the search sees what the standard library leaves.
func TestDerivationLeavesNoCopy(t *testing.T) {
	if !keybuftest.Alone(t) {
		return
	}
	for name, derive := range map[string]func([]byte) any{
		"as a key":             func(secret []byte) any { return keybuf.MAC(secret, []byte("message")) },
		"as a message":         func(secret []byte) any { return keybuf.MAC([]byte("key"), secret) },
		"at the end of blocks": func(secret []byte) any { return keybuf.MAC([]byte("key"), make([]byte, 32), secret) },
		"in HKDF":              func(secret []byte) any { return keybuf.Derive(secret, nil, "info", 96) },
	} {
		secret := random(t)
		var results []any
		for range 20 {
			if err := secret.Use(func(key []byte) error { results = append(results, derive(key)); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if found := keybuftest.Copies(t, secret); len(found) > 0 {
			t.Errorf("%s: it is in memory %d times: %q", name, len(found), found)
		}
		runtime.KeepAlive(results)
	}
	secret := random(t)
	if err := secret.Use(func(key []byte) error { _, err := hkdf.Key(sha256.New, key, nil, "info", 32); return err }); err != nil {
		t.Fatal(err)
	}
	if found := keybuftest.Copies(t, secret); len(found) == 0 {
		t.Error("the search does not see what crypto/hkdf leaves")
	}
}

func random(t *testing.T) *keybuf.Buffer {
	t.Helper()
	secret, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(secret.Wipe)
	return secret
}

func BenchmarkDerive(b *testing.B) {
	secret := randomBytes(32)
	for b.Loop() {
		keybuf.Derive(secret, nil, "info", 64)
	}
}
