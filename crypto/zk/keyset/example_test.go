package keyset_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
)

// A setup saves its keys as a set, and a service verifies proofs with them.
func Example() {
	setup, err := zktest.NewGroth16(zktest.Shape{Inputs: 1*(1+3) + 2, Commitment: true})
	if err != nil {
		log.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	contents := func(text string) keyset.Write {
		return func(w io.Writer) error { _, err := io.Copy(w, strings.NewReader(text)); return err }
	}
	// Save fills in the digests of both keys.
	if _, err := keyset.Save(dir, *setup.Record(1, 3), contents("circuit"), contents("proving key"), setup.Key); err != nil {
		log.Fatal(err)
	}

	sets, err := keyset.Load(dir)
	if err != nil {
		log.Fatal(err)
	}
	ring, err := keyset.NewRing(sets, false, time.Minute, keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey)})
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := setup.Envelope(zktest.Inferences(1, 1, 3))
	if err != nil {
		log.Fatal(err)
	}
	record, err := ring.Verify(context.Background(), envelope)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified with the keys of", record.Library)

	envelope.Key[0]++
	_, err = ring.Verify(context.Background(), envelope)
	fmt.Println("a key that is not in the ring:", errors.Is(err, keyset.ErrUnknown))
	// Output:
	// verified with the keys of a test
	// a key that is not in the ring: true
}
