package sealer_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/sealer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// A publisher seals a small model, and an agent that has the key opens it into its budget.
func Example() {
	dir, err := os.MkdirTemp("", "models")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	model, err := gguftest.New(1).Bytes()
	if err != nil {
		log.Fatal(err)
	}
	source, sealed := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "model.ahm")
	if err := os.WriteFile(source, model, 0o600); err != nil {
		log.Fatal(err)
	}
	publisher, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Wipe()
	key, err := keybuf.Random(chunkseal.KeySize)
	if err != nil {
		log.Fatal(err)
	}
	defer key.Wipe()

	sum, err := sealer.Seal(context.Background(), sealer.Options{
		In: source, Out: sealed, Key: key, Name: "demo", Version: 1,
		Sign: func(root []byte) (public, signature []byte, err error) {
			signature, err = publisher.Sign(chunkseal.SignContext, root)
			return publisher.Public().Bytes(), signature, err
		},
	})
	if err != nil {
		log.Fatal(err)
	}

	budget := arena.NewBudget(8 << 20)
	defer budget.Wipe()
	w, err := weights.Open(sealed, key, budget, weights.Options{
		Publisher: publisher.Public(), Name: "demo", MinVersion: 1, Mode: weights.Auto, Workers: 1,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	fmt.Println("the sealed model was opened:", w.ModelID() == sum.Root)
	fmt.Println("it is in memory as a whole:", w.Resident())
	// Output:
	// the sealed model was opened: true
	// it is in memory as a whole: true
}
