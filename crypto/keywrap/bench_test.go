package keywrap

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

func BenchmarkSeal(b *testing.B) {
	r := recipient(b)
	secret, err := keybuf.Random(32)
	if err != nil {
		b.Fatal(err)
	}
	defer secret.Wipe()
	for b.Loop() {
		if _, _, err := Seal(r.public, []byte("info"), secret); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := recipient(b)
	item := sealed(b, r, "info", "0123456789abcdef0123456789abcdef")
	private := r.private
	for b.Loop() {
		secrets, err := (&Recipient{private: private}).OpenAll([]Sealed{item})
		if err != nil {
			b.Fatal(err)
		}
		secrets[0].Wipe()
	}
}
