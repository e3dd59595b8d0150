package chunkseal

import (
	"bytes"
	"os"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// FuzzOpen changes a real file; whatever comes out is refused with a Failure or
// is the file itself.
func FuzzOpen(f *testing.F) {
	golden, err := os.ReadFile("testdata/sealed-v1.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:blockBytes])
	f.Add(golden[:len(golden)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := openFile(t, b)
		if err == nil {
			for i := range r.Public().Chunks {
				if _, err = r.OpenChunk(make([]byte, r.ChunkSize(i)), i); err != nil {
					break
				}
			}
		}
		if _, named := refusal.ReasonOf(err); err != nil && !named {
			t.Fatalf("refused without a reason: %v", err)
		}
		if err == nil && !bytes.Equal(b, golden) {
			t.Fatal("another file was accepted")
		}
	})
}

// FuzzSections parses what stands behind authentication, and has to be as careful.
func FuzzSections(f *testing.F) {
	plain := []byte{4, 0, 0, 0}
	for _, s := range testSections() {
		plain = s.appendTo(plain)
	}
	f.Add(plain)
	f.Add([]byte{0xff, 0xff, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := parseSections(b)
		if err != nil {
			return
		}
		again := []byte{byte(len(list)), byte(len(list) >> 8), byte(len(list) >> 16), 0}
		for _, s := range list {
			again = s.appendTo(again)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("a second encoding of the same sections was accepted")
		}
	})
}

// FuzzPublicManifest likewise.
func FuzzPublicManifest(f *testing.F) {
	f.Add(publicManifest{Manifest: testManifest, sections: 4, bytes: 1000}.encode())
	f.Add([]byte{1, 0, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parsePublicManifest(b)
		if err == nil && !bytes.Equal(m.encode(), b) {
			t.Fatal("a second encoding of the same manifest was accepted")
		}
	})
}

func FuzzOpenBlob(f *testing.F) {
	f.Add(append([]byte{blobVersion}, make([]byte, 80)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := OpenBlob(fixedKey(t, 1), "label", nil, b); err == nil {
			t.Fatal("a blob was forged")
		}
	})
}
