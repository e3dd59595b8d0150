// Package plonkcheck has a worker verify proofs of PLONK, whose verifier the agent does not
// link.
//
// It guarantees that a proof which no worker verified is refused, and that each verification
// has a process of its own, inside its limits. It trusts its worker's word about a proof, as
// the agent trusts its own image. It refuses keys that are empty or too long; whether they
// are keys shows when the first proof is verified.
//
// The agent's ring of keys calls it.
package plonkcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/anchorhold/anchorhold/agent/prooftask"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// ErrProof means a proof that the worker refused.
var ErrProof = errors.New("plonkcheck: proof refused")

// maxKey bounds a verifying key; those of circuits with one commitment have some 35 KiB.
const maxKey = 64 << 10

// Checker makes verifiers that run in workers.
type Checker struct {
	Pool   *worker.Pool
	Limits worker.Limits
}

// Parse is a keyset.Parse.
func (c Checker) Parse(raw []byte) (keyset.Verifier, error) {
	if len(raw) == 0 || len(raw) > maxKey {
		return nil, fmt.Errorf("plonkcheck: a key of %d bytes", len(raw))
	}
	return &verifier{c, slices.Clone(raw)}, nil
}

type verifier struct {
	checker Checker
	key     []byte
}

// VerifyEnvelope verifies in a worker.
func (v *verifier) VerifyEnvelope(ctx context.Context, e *statement.Envelope) error {
	envelope, err := e.MarshalBinary()
	if err != nil {
		return err
	}
	in, err := worker.Sealed("proof", slices.Concat(v.key, envelope))
	if err != nil {
		return err
	}
	defer in.Close() // memory
	spec, err := json.Marshal(prooftask.Verify{Key: len(v.key)})
	if err != nil {
		return err
	}
	raw, err := v.checker.Pool.Run(ctx, worker.Task{Class: prooftask.ClassVerify, Spec: spec, In: []*os.File{in}, Limits: v.checker.Limits}, func(worker.Progress) {})
	if err != nil {
		return fmt.Errorf("plonkcheck: %w", err)
	}
	var said prooftask.Verified
	if err := json.Unmarshal(raw, &said); err != nil {
		return fmt.Errorf("plonkcheck: %w", err)
	}
	if said.Refused != "" {
		return fmt.Errorf("%w: %s", ErrProof, said.Refused)
	}
	return nil
}
