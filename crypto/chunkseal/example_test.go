package chunkseal_test

import (
	"bytes"
	"fmt"
	"log"
	"os"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// A publisher seals a model of one section, and a guest that has the key opens it.
func Example() {
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Wipe()
	key, err := keybuf.Random(32)
	if err != nil {
		log.Fatal(err)
	}
	defer key.Wipe()
	file, err := os.CreateTemp("", "model")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()

	header := []byte("the model's header")
	size := uint32(len(header))
	w, err := chunkseal.NewWriter(file, key, chunkseal.Manifest{Name: "demo", Version: 1, ParameterSets: []string{"sealed-model/1"}},
		[]chunkseal.Section{{Name: "[gguf-header]", Kind: chunkseal.KindMetadata, Rows: 1, Cols: size, Chunks: 1, ChunkBytes: size, LastBytes: size}})
	if err != nil {
		log.Fatal(err)
	}
	if err := w.WriteChunk(header); err != nil {
		log.Fatal(err)
	}
	sum, err := w.Close(func(root []byte) (public, signature []byte, err error) {
		signature, err = publisher.Sign(chunkseal.SignContext, root)
		return publisher.Public().Bytes(), signature, err
	})
	if err != nil {
		log.Fatal(err)
	}

	r, err := chunkseal.Open(file, sum.Bytes, key, chunkseal.OpenOptions{Publisher: publisher.Public(), Name: "demo", MinVersion: 1})
	if err != nil {
		log.Fatal(err)
	}
	chunk, err := r.OpenChunk(make([]byte, r.ChunkSize(0)), 0)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", chunk)

	_, err = chunkseal.Open(file, sum.Bytes, key, chunkseal.OpenOptions{Publisher: publisher.Public(), Name: "demo", MinVersion: 2})
	reason, _ := refusal.ReasonOf(err)
	fmt.Println(reason, bytes.Equal(chunk, header))
	// Output:
	// the model's header
	// version-rolled-back true
}
