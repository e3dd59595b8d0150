package plonkprove

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sync"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/kzg"
	plonk "github.com/consensys/gnark/backend/plonk/bn254"
	"github.com/consensys/gnark/constraint"
	cs "github.com/consensys/gnark/constraint/bn254"
	"github.com/consensys/gnark/logger"

	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
)

// Errors of this package.
var (
	// ErrCircuit means a circuit that is not for PLONK over BN254, or has more than one
	// commitment, or is too small or too large for any string.
	ErrCircuit = errors.New("plonkprove: circuit refused")
	// ErrKey means bytes that are not a proving key of the circuit.
	ErrKey = errors.New("plonkprove: proving key refused")
	// ErrWitness means that the statement to be proven is false.
	ErrWitness = errors.New("plonkprove: the witness does not satisfy the circuit")
)

// maxCommitments is what verifiers admit: gnark's circuits of more than one have had
// faults.
const maxCommitments = 1

// quiet keeps the library's own log out of ours, once.
var quiet = sync.OnceFunc(logger.Disable)

// Keys are the keys of a circuit.
type Keys struct {
	proving   *plonk.ProvingKey
	verifying []byte
}

// sparse is the circuit as the library has it for PLONK.
func sparse(system constraint.ConstraintSystem) (*cs.SparseR1CS, error) {
	// The library has one Go type for systems of both kinds.
	s, ok := system.(*cs.SparseR1CS)
	if !ok || s == nil || s.Type != constraint.SystemSparseR1CS {
		return nil, fmt.Errorf("%w: want one compiled for PLONK over BN254", ErrCircuit)
	}
	if n := len(s.CommitmentInfo.CommitmentIndexes()); n > maxCommitments {
		return nil, fmt.Errorf("%w: %d commitments, want at most %d", ErrCircuit, n, maxCommitments)
	}
	return s, nil
}

// Domain returns the power of two that a circuit's keys are for: one row for each constraint and
// each public input. The reference string has as many powers, plus ptau.Blinding. The error is
// ErrCircuit.
func Domain(system constraint.ConstraintSystem) (uint64, error) {
	s, err := sparse(system)
	if err != nil {
		return 0, err
	}
	n := s.GetNbConstraints() + s.GetNbPublicVariables()
	if n < 3 || n > 1<<ptau.MaxPower {
		return 0, fmt.Errorf("%w: %d constraints and public inputs, want 3 to %d", ErrCircuit, n, 1<<ptau.MaxPower)
	}
	return 1 << bits.Len64(uint64(n-1)), nil
}

// Setup makes a circuit's keys from a powers-of-tau file, whose powers it checks. The library
// cannot be interrupted: the context ends the setup between two steps. The error is ErrCircuit,
// one of ptau's, the context's, or a failure to read.
func Setup(ctx context.Context, system constraint.ConstraintSystem, file *ptau.File, tell ptau.Progress) (*Keys, error) {
	quiet()
	s, err := sparse(system)
	if err != nil {
		return nil, err
	}
	domain, err := Domain(s)
	if err != nil {
		return nil, err
	}
	monomial, lagrange, err := file.KZG(ctx, domain, tell)
	if err != nil {
		return nil, err
	}
	if tell != nil {
		tell("keys")
	}
	return setup(s, monomial, lagrange)
}

func setup(s *cs.SparseR1CS, monomial, lagrange *kzg.SRS) (*Keys, error) {
	var k Keys
	err := safely(func() error {
		proving, verifying, err := plonk.Setup(s, *monomial, *lagrange)
		if err != nil {
			return err
		}
		var raw bytes.Buffer
		_, err = verifying.WriteTo(&raw)
		k = Keys{proving: proving, verifying: raw.Bytes()}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("plonkprove: setup: %w", err)
	}
	return &k, nil
}

// safely turns a panic of the library into an error.
func safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the library failed: %v", p)
		}
	}()
	return f()
}

// Verifying is the verifying key's canonical bytes, as package plonkverify parses them.
func (k *Keys) Verifying() []byte { return k.verifying }

// WriteProving writes the proving key in the library's raw form, as ReadProving reads it:
// 128 bytes for each constraint of the domain.
func (k *Keys) WriteProving(w io.Writer) error {
	_, err := k.proving.WriteRawTo(w)
	return err
}

// ReadProving reads a circuit's proving key, and nothing after it. No list is allocated before
// its length is known to be the circuit's. Points are not checked, so the caller must have
// compared the file's digest with the registered one: with another key, proofs do not verify.
// The error is ErrKey or ErrCircuit.
func ReadProving(r io.Reader, system constraint.ConstraintSystem) (*Keys, error) {
	quiet()
	s, err := sparse(system)
	if err != nil {
		return nil, err
	}
	domain, err := Domain(s)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(r, 1<<20)
	k := &Keys{proving: &plonk.ProvingKey{Vk: new(plonk.VerifyingKey)}}
	if err := readHead(in, len(s.CommitmentInfo.CommitmentIndexes()), k.proving.Vk); err != nil {
		return nil, err
	}
	if err := readPoints(in, domain+ptau.Blinding, &k.proving.Kzg); err != nil {
		return nil, err
	}
	if err := readPoints(in, domain, &k.proving.KzgLagrange); err != nil {
		return nil, err
	}
	if _, err := in.ReadByte(); err == nil {
		return nil, fmt.Errorf("%w: there are bytes after the end", ErrKey)
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if k.proving.Vk.Size != domain || k.proving.Vk.NbPublicVariables != uint64(s.GetNbPublicVariables()) {
		return nil, fmt.Errorf("%w: it is for a domain of %d and %d public inputs, the circuit has %d and %d", ErrKey,
			k.proving.Vk.Size, k.proving.Vk.NbPublicVariables, domain, s.GetNbPublicVariables())
	}
	var raw bytes.Buffer
	if _, err := k.proving.Vk.WriteTo(&raw); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	k.verifying = raw.Bytes()
	return k, nil
}

// Where a raw verifying key has its first list: marker, version, size, its inverse,
// generator, number of inputs, shift, then points.
const (
	pointBytes   = curve.SizeOfG1AffineUncompressed
	pointsBefore = 8
	keyPointsAt  = 3*8 + 2*32 + 8 + 32
	keyListAt    = keyPointsAt + pointsBefore*pointBytes
	lengthBytes  = 4
	compressed   = 0xc0 // the bits of a point's first byte that say that it is shorter
)

// readHead reads the verifying key that a proving key begins with. Its length depends on
// the number of commitments alone, if its lists have that length and each point is whole.
func readHead(r io.Reader, commitments int, key *plonk.VerifyingKey) error {
	shape := plonk.VerifyingKey{Qcp: make([]kzg.Digest, commitments), CommitmentConstraintIndexes: make([]uint64, commitments)}
	var want bytes.Buffer
	if _, err := shape.WriteRawTo(&want); err != nil {
		return fmt.Errorf("plonkprove: %w", err)
	}
	head := make([]byte, want.Len())
	if _, err := io.ReadFull(r, head); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	same := func(at, size int) bool { return bytes.Equal(head[at:at+size], want.Bytes()[at:at+size]) }
	if !same(0, 16) || !same(keyListAt, lengthBytes) || !same(len(head)-8*commitments-lengthBytes, lengthBytes) {
		return fmt.Errorf("%w: want version 1 with %d commitments", ErrKey, commitments)
	}
	// Before the list, in it, and the three of the reference string, the last two of G2.
	at := keyPointsAt
	for i := range pointsBefore + commitments + 3 {
		if i == pointsBefore {
			at += lengthBytes
		}
		if head[at]&compressed != 0 {
			return fmt.Errorf("%w: a point is not in raw form", ErrKey)
		}
		at += pointBytes
		if i > pointsBefore+commitments {
			at += pointBytes
		}
	}
	return exactly(int64(len(head)), func() (int64, error) { return key.ReadFrom(bytes.NewReader(head)) })
}

// exactly has the library read, which should take so many bytes.
func exactly(want int64, read func() (int64, error)) error {
	err := safely(func() error {
		n, err := read()
		if err == nil && n != want {
			err = fmt.Errorf("%d of %d bytes were used", n, want)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// readPoints reads a list of so many raw points.
func readPoints(r io.Reader, points uint64, key *kzg.ProvingKey) error {
	var count [lengthBytes]byte
	if _, err := io.ReadFull(r, count[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	if n := binary.BigEndian.Uint32(count[:]); uint64(n) != points {
		return fmt.Errorf("%w: %d points, want %d", ErrKey, n, points)
	}
	size := int64(points) * pointBytes
	whole := io.MultiReader(bytes.NewReader(count[:]), io.LimitReader(r, size))
	return exactly(lengthBytes+size, func() (int64, error) { return key.UnsafeReadFrom(whole) })
}
