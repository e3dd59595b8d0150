package circuits

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"sync"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/constraint"
	"github.com/consensys/gnark/frontend"
	"github.com/consensys/gnark/frontend/cs/r1cs"
	"github.com/consensys/gnark/frontend/cs/scs"
	"github.com/consensys/gnark/logger"
)

// Library names the compiler of a circuit: another version may number its wires differently, and
// existing keys then no longer fit.
const Library = "gnark v0.16.1"

// Circuit is a compiled circuit.
type Circuit struct {
	System constraint.ConstraintSystem
	// Digest is the SHA-256 of Library and of the system's encoding. Keys are made for
	// it.
	Digest [32]byte
}

// Constraints is the number of constraints, by which memory and time grow.
func (c *Circuit) Constraints() int { return c.System.GetNbConstraints() }

// quiet keeps the library's own log out of ours, once.
var quiet = sync.OnceFunc(logger.Disable)

// CompileInference compiles for Groth16.
func CompileInference(c Inference) (*Circuit, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return compileCircuit(newInferenceCircuit(c), r1cs.NewBuilder)
}

// CompileInferencePLONK compiles for PLONK.
func CompileInferencePLONK(c Inference) (*Circuit, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return compileCircuit(newInferenceCircuit(c), scs.NewBuilder)
}

func compileCircuit(c frontend.Circuit, builder frontend.NewBuilder) (*Circuit, error) {
	quiet()
	system, err := frontend.Compile(ecc.BN254.ScalarField(), builder, c)
	if err != nil {
		return nil, fmt.Errorf("circuits: compile: %w", err)
	}
	h := newDigest()
	if _, err := system.WriteTo(h); err != nil {
		return nil, fmt.Errorf("circuits: encode the circuit: %w", err)
	}
	return &Circuit{System: system, Digest: [32]byte(h.Sum(nil))}, nil
}

// newDigest begins the digest of a circuit.
func newDigest() hash.Hash {
	h := sha256.New()
	fmt.Fprintf(h, "anchorhold/zkproof/circuit/1\n%s\n", Library)
	return h
}
