package circuits

import (
	"bytes"
	"fmt"
	"io"

	"github.com/consensys/gnark-crypto/ecc"
	"github.com/consensys/gnark/backend/groth16"
	"github.com/consensys/gnark/backend/plonk"
	"github.com/consensys/gnark/constraint"
)

// WriteTo writes the circuit in the form that ReadCircuit reads, the library's encoding.
func (c *Circuit) WriteTo(w io.Writer) (int64, error) { return c.System.WriteTo(w) }

// maxCircuitBytes and maxKeyBytes bound what is read.
const (
	maxCircuitBytes = 4 << 30
	maxKeyBytes     = 8 << 30
)

// ReadCircuit reads a compiled circuit for Groth16 from a trusted source, which is much faster
// than compiling it. Use OpenCircuit for any other source.
func ReadCircuit(r io.Reader) (c *Circuit, err error) {
	return readCircuit(r, groth16.NewCS(ecc.BN254))
}

func readCircuit(r io.Reader, empty constraint.ConstraintSystem) (c *Circuit, err error) {
	quiet()
	h := newDigest()
	in := io.TeeReader(io.LimitReader(r, maxCircuitBytes), h)
	c = &Circuit{System: empty}
	if err := safely(func() error { _, err := c.System.ReadFrom(in); return err }); err != nil {
		return nil, fmt.Errorf("circuits: read the circuit: %w", err)
	}
	// What the library left in its buffer, or did not want, counts too.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	c.Digest = [32]byte(h.Sum(nil))
	return c, nil
}

// OpenCircuit reads the compiled circuit for Groth16 with a given digest. Nothing is decoded
// before the digest is known to be right: on bytes that it did not write, the library's decoder
// can crash the process from a goroutine of its own.
func OpenCircuit(r io.Reader, digest [32]byte) (*Circuit, error) {
	return openCircuit(r, digest, groth16.NewCS(ecc.BN254))
}

// OpenCircuitPLONK is OpenCircuit for PLONK.
func OpenCircuitPLONK(r io.Reader, digest [32]byte) (*Circuit, error) {
	return openCircuit(r, digest, plonk.NewCS(ecc.BN254))
}

func openCircuit(r io.Reader, digest [32]byte, empty constraint.ConstraintSystem) (*Circuit, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxCircuitBytes))
	if err != nil {
		return nil, fmt.Errorf("circuits: read the circuit: %w", err)
	}
	h := newDigest()
	h.Write(raw)
	if [32]byte(h.Sum(nil)) != digest {
		return nil, fmt.Errorf("circuits: not the circuit %x of %s: %w", digest, Library, ErrCircuit)
	}
	return readCircuit(bytes.NewReader(raw), empty)
}

// ProvingKey is a Groth16 proving key, as the library has it.
type ProvingKey = groth16.ProvingKey

// ReadProvingKey reads a Groth16 proving key in the library's raw form, point by point, without
// checking that each is in its group: a key other than the registered one makes proofs that do
// not verify. Its lengths are trusted, so the caller must have compared the file's digest with
// the registered one.
func ReadProvingKey(r io.Reader) (groth16.ProvingKey, error) {
	key := groth16.NewProvingKey(ecc.BN254)
	if err := safely(func() error { _, err := key.UnsafeReadFrom(io.LimitReader(r, maxKeyBytes)); return err }); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return key, nil
}

// safely turns a panic of the library's decoders into an error.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library failed: %v", p)
		}
	}()
	return f()
}
