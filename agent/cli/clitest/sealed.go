package clitest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// KeyOf is a key of these bytes, wiped when the test ends.
func KeyOf(t *testing.T, secret []byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Clone(secret))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// SealedModel is a file as language models have it, without a model in it, and its root.
func SealedModel(t *testing.T, secret []byte) (path string, root [32]byte) {
	t.Helper()
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Wipe()
	path = filepath.Join(t.TempDir(), "lm.ahm")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 64)
	w, err := chunkseal.NewWriter(f, KeyOf(t, secret), chunkseal.Manifest{Name: "lm", Version: 1},
		[]chunkseal.Section{{Name: "header", Kind: chunkseal.KindMetadata, Rows: 1, Cols: 64, Chunks: 1, ChunkBytes: 64, LastBytes: 64}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.WriteChunk(data); err != nil {
		t.Fatal(err)
	}
	s, err := w.Close(func(root []byte) ([]byte, []byte, error) {
		sig, err := publisher.Sign(chunkseal.SignContext, root)
		return publisher.Public().Bytes(), sig, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path, s.Root
}
