package keywrap

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func sealed(t testing.TB, r *Recipient, info, text string) Sealed {
	t.Helper()
	secret, err := keybuf.Take([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	enc, ciphertext, err := Seal(r.PublicKey(), []byte(info), secret)
	if err != nil {
		t.Fatal(err)
	}
	return Sealed{Info: []byte(info), Enc: enc, Ciphertext: ciphertext}
}

func recipient(t testing.TB) *Recipient {
	t.Helper()
	r, err := NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBatchOpensOnceWhateverComesOfIt(t *testing.T) {
	r := recipient(t)
	items := []Sealed{sealed(t, r, "one", "first"), sealed(t, r, "two", "second")}
	secrets, err := r.OpenAll(items)
	if err != nil || string(secrets[0].Bytes()) != "first" || string(secrets[1].Bytes()) != "second" {
		t.Fatalf("%v", err)
	}
	if _, err := r.OpenAll(items); !errors.Is(err, ErrUsed) {
		t.Errorf("second use: %v", err)
	}
	r = recipient(t)
	bad := sealed(t, r, "one", "first")
	bad.Ciphertext[0] ^= 1
	good := sealed(t, r, "two", "second")
	if got, err := r.OpenAll([]Sealed{good, bad}); !errors.Is(err, ErrOpen) || got != nil {
		t.Errorf("a batch with one bad item: %v, %v", got, err)
	}
	if _, err := r.OpenAll([]Sealed{good}); !errors.Is(err, ErrUsed) {
		t.Errorf("use after a failure: %v", err)
	}
	r = recipient(t)
	r.Erase()
	if _, err := r.OpenAll(nil); !errors.Is(err, ErrUsed) {
		t.Errorf("use after Erase: %v", err)
	}
}

func TestOneOfManyConcurrentUsersWins(t *testing.T) {
	r := recipient(t)
	item := sealed(t, r, "info", "secret")
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		wg.Go(func() {
			if _, err := r.OpenAll([]Sealed{item}); err == nil {
				mu.Lock()
				won++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d users opened it", won)
	}
}

func TestChangedItemsDoNotOpen(t *testing.T) {
	for name, change := range map[string]func(*Sealed){
		"info":             func(s *Sealed) { s.Info = []byte("other") },
		"no info":          func(s *Sealed) { s.Info = nil },
		"ML-KEM part":      func(s *Sealed) { s.Enc[5] ^= 1 },
		"X25519 part":      func(s *Sealed) { s.Enc[EncSize-1] ^= 1 },
		"short enc":        func(s *Sealed) { s.Enc = s.Enc[1:] },
		"tag":              func(s *Sealed) { s.Ciphertext[len(s.Ciphertext)-1] ^= 1 },
		"short ciphertext": func(s *Sealed) { s.Ciphertext = s.Ciphertext[:Overhead] },
		"large ciphertext": func(s *Sealed) { s.Ciphertext = make([]byte, MaxSecretBytes+Overhead+1) },
	} {
		r := recipient(t)
		item := sealed(t, r, "info", "secret")
		change(&item)
		if _, err := r.OpenAll([]Sealed{item}); err == nil {
			t.Errorf("%s changed: opened", name)
		}
	}
	r, other := recipient(t), recipient(t)
	if _, err := other.OpenAll([]Sealed{sealed(t, r, "info", "secret")}); !errors.Is(err, ErrOpen) {
		t.Errorf("opened by another recipient: %v", err)
	}
}

func TestSealRefusesWhatItCannotProtect(t *testing.T) {
	r := recipient(t)
	secret, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	large, err := keybuf.New(MaxSecretBytes + 1)
	if err != nil {
		t.Fatal(err)
	}
	defer large.Wipe()
	for name, call := range map[string]func() error{
		"short key": func() error { _, _, err := Seal(r.PublicKey()[1:], []byte("i"), secret); return err },
		"bad key": func() error {
			_, _, err := Seal(bytes.Repeat([]byte{0xff}, PublicKeySize), []byte("i"), secret)
			return err
		},
		"no info":      func() error { _, _, err := Seal(r.PublicKey(), nil, secret); return err },
		"no secret":    func() error { _, _, err := Seal(r.PublicKey(), []byte("i"), nil); return err },
		"large secret": func() error { _, _, err := Seal(r.PublicKey(), []byte("i"), large); return err },
	} {
		if call() == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}
