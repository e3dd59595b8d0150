package groth16verify_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// A verifier reads a key and an envelope, and refuses the proof of another statement.
func ExampleKey_VerifyEnvelope() {
	rawKey, err := os.ReadFile("testdata/groth16-1.vk")
	if err != nil {
		log.Fatal(err)
	}
	rawEnvelope, err := os.ReadFile("testdata/groth16-1.proof")
	if err != nil {
		log.Fatal(err)
	}
	key, err := groth16verify.ParseKey(rawKey)
	if err != nil {
		log.Fatal(err)
	}
	envelope, err := statement.Open(rawEnvelope)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("as proven:", key.VerifyEnvelope(context.Background(), envelope))
	envelope.Statement.Inference.Items[0].Outputs[0]++
	err = key.VerifyEnvelope(context.Background(), envelope)
	fmt.Println("another output is refused:", errors.Is(err, groth16verify.ErrProof))
	// Output:
	// as proven: <nil>
	// another output is refused: true
}
