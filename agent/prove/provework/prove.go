package provework

import (
	"bufio"
	"context"
	"errors"
	"io"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkprove"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// groth16 proves with the circuit of a digest and a key; begin is told when both are read.
func groth16(ctx context.Context, sum digest.Digest, circuitFile, keyFile io.Reader, begin func(), prove func(*circuits.Circuit, circuits.ProvingKey) ([]byte, error)) ([]byte, int, error) {
	circuit, err := circuits.OpenCircuit(circuitFile, sum)
	if err != nil {
		return nil, 0, refusal.New(ReasonKey, "the circuit is not the one in the statement: %v", err)
	}
	key, err := circuits.ReadProvingKey(bufio.NewReaderSize(keyFile, 1<<20))
	if err != nil {
		return nil, 0, refusal.New(ReasonKey, "%v", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	begin()
	proof, err := prove(circuit, key)
	if errors.Is(err, circuits.ErrWitness) {
		return nil, 0, refusal.New(ReasonWitness, "%v", err)
	}
	return proof, circuit.Constraints(), err
}

// proveGroth16 proves a statement's inferences.
func proveGroth16(ctx context.Context, s *statement.Statement, a intnet.Architecture, w circuits.Assignment, circuitFile, keyFile io.Reader, begin func()) ([]byte, int, error) {
	return groth16(ctx, s.Circuit, circuitFile, keyFile, begin, func(c *circuits.Circuit, key circuits.ProvingKey) ([]byte, error) {
		return circuits.ProveInference(c, circuits.Inference{Architecture: a, Batch: len(s.Inference.Items)}, key, w, nil)
	})
}

// provePLONK is proveGroth16 with the keys of a universal reference string.
func provePLONK(ctx context.Context, s *statement.Statement, a intnet.Architecture, w circuits.Assignment, circuitFile, keyFile io.Reader, begin func()) ([]byte, int, error) {
	circuit, err := circuits.OpenCircuitPLONK(circuitFile, s.Circuit)
	if err != nil {
		return nil, 0, refusal.New(ReasonKey, "the circuit is not the one in the statement: %v", err)
	}
	keys, err := plonkprove.ReadProving(keyFile, circuit.System)
	if err != nil {
		return nil, 0, refusal.New(ReasonKey, "%v", err)
	}
	full, err := circuits.Witness(circuits.Inference{Architecture: a, Batch: len(s.Inference.Items)}, w)
	if err != nil {
		return nil, 0, refusal.New(ReasonWitness, "%v", err)
	}
	begin()
	proof, err := keys.Prove(ctx, circuit.System, full, nil)
	if errors.Is(err, plonkprove.ErrWitness) {
		return nil, 0, refusal.New(ReasonWitness, "%v", err)
	}
	return proof, circuit.Constraints(), err
}
