package plonkprove

import (
	"bytes"
	"context"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	"github.com/consensys/gnark/backend"
	plonk "github.com/consensys/gnark/backend/plonk/bn254"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/constraint"

	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
)

// Prove proves that a witness satisfies the circuit of the keys. The proof is in the library's
// canonical form and hides the witness statistically: without that option, PLONK's quotient
// would reveal secrets to an adversary with unbounded time. The library cannot be interrupted:
// the context is checked only at the start. The error is ErrCircuit, ErrWitness, or the
// context's.
func (k *Keys) Prove(ctx context.Context, system constraint.ConstraintSystem, full witness.Witness, tell ptau.Progress) ([]byte, error) {
	quiet()
	s, err := sparse(system)
	if err != nil {
		return nil, err
	}
	if domain, err := Domain(s); err != nil {
		return nil, err
	} else if domain != k.proving.Vk.Size {
		return nil, fmt.Errorf("%w: its domain is %d, the key's is %d", ErrCircuit, domain, k.proving.Vk.Size)
	}
	if err := checkLength(full, s.GetNbPublicVariables(), s.GetNbSecretVariables()); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if tell != nil {
		tell("proof")
	}
	var raw bytes.Buffer
	err = safely(func() error {
		proof, err := plonk.Prove(s, k.proving, full, backend.WithStatisticalZeroKnowledge())
		if err != nil {
			return err
		}
		_, err = proof.WriteTo(&raw)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWitness, err)
	}
	return raw.Bytes(), nil
}

// checkLength sees that a witness has the circuit's number of values: on any other, the
// library crashes the process from a goroutine of its own.
func checkLength(full witness.Witness, public, secret int) error {
	if full == nil {
		return fmt.Errorf("%w: it is missing", ErrWitness)
	}
	values, ok := full.Vector().(fr.Vector)
	if !ok || len(values) != public+secret {
		return fmt.Errorf("%w: want %d values of BN254's field", ErrWitness, public+secret)
	}
	return nil
}
