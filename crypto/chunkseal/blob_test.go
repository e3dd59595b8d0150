package chunkseal

import (
	"bytes"
	"errors"
	"testing"
)

func TestBlobOpensOnlyAsItWasSealed(t *testing.T) {
	sealed, err := SealBlob(fixedKey(t, 1), "label", []byte("aad"), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := OpenBlob(fixedKey(t, 1), "label", []byte("aad"), sealed); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	if len(sealed) != len("secret")+81 {
		t.Errorf("%d bytes", len(sealed))
	}
	for i := range sealed {
		sealed[i] ^= 1
		if _, err := OpenBlob(fixedKey(t, 1), "label", []byte("aad"), sealed); !errors.Is(err, ErrBlob) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		sealed[i] ^= 1
		if _, err := OpenBlob(fixedKey(t, 1), "label", []byte("aad"), sealed[:i]); !errors.Is(err, ErrBlob) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	for name, open := range map[string]func() ([]byte, error){
		"key":   func() ([]byte, error) { return OpenBlob(fixedKey(t, 2), "label", []byte("aad"), sealed) },
		"label": func() ([]byte, error) { return OpenBlob(fixedKey(t, 1), "labe", []byte("laad"), sealed) },
		"aad":   func() ([]byte, error) { return OpenBlob(fixedKey(t, 1), "label", []byte("aae"), sealed) },
		"more":  func() ([]byte, error) { return OpenBlob(fixedKey(t, 1), "label", []byte("aad"), append(sealed, 0)) },
	} {
		if _, err := open(); !errors.Is(err, ErrBlob) {
			t.Errorf("other %s: %v", name, err)
		}
	}
}

// TestBlobCommitsToItsKey: the commitment alone refuses another key, before the
// cipher, which could be made to accept two.
func TestBlobCommitsToItsKey(t *testing.T) {
	sealed, err := SealBlob(fixedKey(t, 1), "label", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	aead, _, err := blobKey(fixedKey(t, 2), "label", sealed[1:1+blobSaltSize])
	if err != nil {
		t.Fatal(err)
	}
	// A body that the second key's cipher accepts, under the first key's commitment.
	forged := aead.Seal(bytes.Clone(sealed[:blobHeader]), make([]byte, 12), nil, nil)
	if _, err := OpenBlob(fixedKey(t, 2), "label", nil, forged); !errors.Is(err, ErrBlob) {
		t.Errorf("a blob opened under a key that it does not commit to: %v", err)
	}
}

func TestBlobLimitsAndKeys(t *testing.T) {
	if _, err := SealBlob(fixedKey(t, 1), "label", nil, make([]byte, MaxBlobBytes+1)); err == nil {
		t.Error("a blob over the limit was sealed")
	}
	wiped := fixedKey(t, 1)
	wiped.Wipe()
	if _, err := SealBlob(wiped, "label", nil, nil); !errors.Is(err, ErrKeySize) {
		t.Error(err)
	}
	if _, err := OpenBlob(wiped, "label", nil, append([]byte{blobVersion}, make([]byte, 80)...)); !errors.Is(err, ErrKeySize) {
		t.Error(err)
	}
	if _, err := SealBlob(fixedKey(t, 1), string(make([]byte, 1<<16)), nil, nil); err == nil {
		t.Error("a label over the limit was accepted")
	}
	a, err := SealBlob(fixedKey(t, 1), "label", nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := SealBlob(fixedKey(t, 1), "label", nil, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a, b) {
		t.Error("the same value sealed twice gives the same bytes")
	}
}
