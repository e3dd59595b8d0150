package provetask

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

var (
	// ErrProof means a proof that a worker refused.
	ErrProof = errors.New("provetask: proof refused")
	// ErrNoVerdict means that no worker came to a verdict: the proof is not verified, and
	// nothing is known about it.
	ErrNoVerdict = errors.New("provetask: proof not verified")
)

// Verification has workers verify proofs: the agent, which holds the keys of models, links
// no verifier and no curve.
//
// It guarantees that a proof which no worker verified is refused, and that each has a
// process of its own, inside its limits. It trusts its worker's word about a proof, as the
// agent trusts its own image. It refuses keys that are empty or too long; whether they are
// keys shows when the first proof is verified.
type Verification struct {
	Pool *worker.Pool
	// Memory bounds a worker, and Time the verification of one proof, once the worker has
	// started and has read the key.
	Memory int64
	Time   time.Duration

	start time.Duration // startTime if it is 0
}

// startTime is what a worker may need beside the verification: to start, on a machine that
// does much else, and to read the key.
const startTime = 10 * time.Second

// Parsers verify proofs of both systems.
func (v Verification) Parsers() keyset.Parsers {
	return keyset.Parsers{statement.Groth16: v.parse, statement.PLONK: v.parse}
}

// parse is a keyset.Parse. The worker knows the system by the statement, which the ring has
// held against the key's record.
func (v Verification) parse(raw []byte) (keyset.Verifier, error) {
	if len(raw) == 0 || len(raw) > MaxVerifyingKey {
		return nil, fmt.Errorf("provetask: got a verifying key of %d bytes, want 1 to %d", len(raw), MaxVerifyingKey)
	}
	return &verifier{v, slices.Clone(raw)}, nil
}

type verifier struct {
	Verification
	key []byte
}

// VerifyEnvelope verifies in a worker. An error is ErrProof, ErrNoVerdict, or
// context.DeadlineExceeded if the verification took longer than it may.
func (v *verifier) VerifyEnvelope(ctx context.Context, e *statement.Envelope) error {
	envelope, err := e.MarshalBinary()
	if err != nil {
		return err
	}
	said, err := v.ask(ctx, envelope)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNoVerdict, err)
	case said.TimedOut:
		return fmt.Errorf("provetask: verification took longer than %s: %w", v.Time, context.DeadlineExceeded)
	case said.Refused != "":
		return fmt.Errorf("%w: %s", ErrProof, said.Refused)
	case !said.Verified:
		return fmt.Errorf("%w: the worker returned no verdict", ErrNoVerdict)
	}
	return nil
}

// ask hands key and envelope to a worker.
func (v *verifier) ask(ctx context.Context, envelope []byte) (said Verified, err error) {
	in, err := worker.Sealed("proof", slices.Concat(v.key, envelope))
	if err != nil {
		return said, err
	}
	defer in.Close() // memory
	spec, err := json.Marshal(Verify{Key: len(v.key), Millis: v.Time.Milliseconds()})
	if err != nil {
		return said, err
	}
	task := worker.Task{Class: ClassVerify, Spec: spec, In: []*os.File{in}, Limits: worker.Limits{Memory: v.Memory, Time: cmp.Or(v.start, startTime) + v.Time}}
	raw, err := v.Pool.Run(ctx, task, func(worker.Progress) {})
	if err != nil {
		return said, err
	}
	return said, json.Unmarshal(raw, &said)
}
