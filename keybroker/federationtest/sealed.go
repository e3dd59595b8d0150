package federationtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// Sealed is what a publisher signed of a sealed model: all but its chunks. Each has a key
// and so an id of its own.
func Sealed(t testing.TB, publisher *identity.Private, name string, version uint64) []byte {
	t.Helper()
	key, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	f, err := os.Create(filepath.Join(t.TempDir(), "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := chunkseal.NewWriter(f, key, chunkseal.Manifest{Name: name, Version: version}, []chunkseal.Section{{Name: "s", Kind: chunkseal.KindMetadata, Chunks: 1, ChunkBytes: 1, LastBytes: 1}})
	if err == nil {
		err = w.WriteChunk([]byte{1})
	}
	if err == nil {
		_, err = w.Close(func(root []byte) ([]byte, []byte, error) {
			signature, err := publisher.Sign(chunkseal.SignContext, root)
			return publisher.Public().Bytes(), signature, err
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	p, err := chunkseal.Inspect(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return p.Part()
}
