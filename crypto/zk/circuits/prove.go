package circuits

import (
	"errors"
	"fmt"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16"
	groth16bn254 "github.com/consensys/gnark/backend/groth16/bn254"
	"github.com/consensys/gnark/backend/witness"
	"github.com/consensys/gnark/frontend"
)

// Errors of this package.
var (
	// ErrWitness means that the statement to be proven is false.
	ErrWitness = errors.New("circuits: the witness does not satisfy the circuit")
	// ErrCircuit means bytes that are not the requested circuit.
	ErrCircuit = errors.New("circuits: circuit refused")
	// ErrKey means bytes that are not a key.
	ErrKey = errors.New("circuits: key refused")
)

// Phase is the progress of a proof.
type Phase string

// The phases of a proof, in their order.
const (
	PhaseWitness Phase = "witness"
	PhaseProve   Phase = "prove"
	PhaseCheck   Phase = "check"
)

// Setup makes Groth16 keys on its own. Whoever runs it could keep the secret with which proofs
// can be forged, so it is only for development and tests.
func Setup(c *Circuit) (groth16.ProvingKey, groth16.VerifyingKey, error) {
	pk, vk, err := groth16.Setup(c.System)
	if err != nil {
		return nil, nil, fmt.Errorf("circuits: trusted setup: %w", err)
	}
	return pk, vk, nil
}

// ProveInference proves, with a Groth16 key of the circuit. The proof is in gnark's
// compressed form. progress may be nil.
func ProveInference(c *Circuit, spec Inference, key groth16.ProvingKey, a Assignment, progress func(Phase)) ([]byte, error) {
	w, err := spec.assign(a)
	if err != nil {
		return nil, err
	}
	return prove(c, key, w, progress)
}

func prove(c *Circuit, key groth16.ProvingKey, assignment frontend.Circuit, progress func(Phase)) ([]byte, error) {
	quiet()
	if progress == nil {
		progress = func(Phase) {}
	}
	progress(PhaseWitness)
	w, err := frontend.NewWitness(assignment, ecc.BN254.ScalarField())
	if err != nil {
		return nil, fmt.Errorf("circuits: witness: %w", err)
	}
	progress(PhaseProve)
	proof, err := groth16.Prove(c.System, key, w)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWitness, err)
	}
	progress(PhaseCheck)
	p, ok := proof.(*groth16bn254.Proof)
	if !ok {
		return nil, fmt.Errorf("circuits: unexpected proof type %T", proof)
	}
	return marshal(p)
}

// Witness is the whole witness of an inference, for provers of other systems.
func Witness(spec Inference, a Assignment) (witness.Witness, error) {
	w, err := spec.assign(a)
	if err != nil {
		return nil, err
	}
	return frontend.NewWitness(w, ecc.BN254.ScalarField())
}

// Public are the public parts of an assignment, as gnark's verifier takes them.
func Public(assignment frontend.Circuit) (witness.Witness, error) {
	return frontend.NewWitness(assignment, ecc.BN254.ScalarField(), frontend.PublicOnly())
}
