package main

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/luks"
	"github.com/anchorhold/anchorhold/guest/luks/lukstest"
)

// The forged header is refused for its cipher, and for nothing else: checksums and places are right.
func TestNullCipherIsAllThatIsWrong(t *testing.T) {
	image := lukstest.Valid().Image()
	options := luks.Options{DeviceBytes: int64(len(image))}
	if _, err := luks.Read(bytes.NewReader(image), options); err != nil {
		t.Fatal(err)
	}
	forged, err := nullCipher(image)
	if err != nil {
		t.Fatal(err)
	}
	_, err = luks.Read(bytes.NewReader(forged), options)
	refusaltest.Want(t, "the forged header", err, luks.ReasonCipher)
	if _, err := nullCipher(make([]byte, 1<<20)); err == nil {
		t.Error("forged the header of an empty disk")
	}
}

func TestConnectionsAboutVolumesAreCounted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "asked")
	for i, step := range []struct {
		protocol string
		want     int64
	}{{"anchorhold/1", 0}, {"anchorhold-volumes/1", 1}, {"anchorhold/1", 0}, {"anchorhold-volumes/1", 2}} {
		body := "\x01 a hello with " + step.protocol
		record := append([]byte{22, 3, 1, 0, byte(len(body))}, body...)
		first, err := hello(bytes.NewReader(append(record, "what follows"...)))
		if err != nil || !bytes.Equal(first, record) {
			t.Fatalf("got %q, %v", first, err)
		}
		if n, err := count(file, first); err != nil || n != step.want {
			t.Errorf("connection %d: got %d, %v, want %d", i, n, err, step.want)
		}
	}
	if _, err := hello(bytes.NewReader([]byte{22, 3, 1, 1, 0, 0})); err != io.ErrUnexpectedEOF {
		t.Errorf("a record that ends early: %v", err)
	}
}
