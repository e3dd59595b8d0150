package plonkverify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"sync"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fr"
	plonk "github.com/consensys/gnark/backend/plonk/bn254"
	"github.com/consensys/gnark/logger"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/scalars"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
)

// Errors of this package.
var (
	// ErrKey means bytes that are not a usable verifying key.
	ErrKey = errors.New("plonkverify: verifying key refused")
	// ErrProof means a proof that does not prove its statement.
	ErrProof = errors.New("plonkverify: proof refused")
	// ErrMismatch means an envelope for a different key, or a wrong number of public inputs.
	ErrMismatch = errors.New("plonkverify: the key does not match the envelope")
)

func badKey(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrKey, fmt.Errorf(format, args...))
}

func badProof(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrProof, fmt.Errorf(format, args...))
}

// Lengths in bytes, and where gnark's encodings have the counts of their lists.
const (
	point, scalar, count = curve.SizeOfG1AffineCompressed, fr.Bytes, 4
	linesBytes           = 2 * 2 * len(curve.LoopCounter) * 4 * 32

	// Marker, version, size, its inverse, generator, inputs, shift, eight commitments.
	keyListAt = 3*8 + 2*scalar + 8 + scalar + 8*point
	// The curve's points of the reference string and their precomputed lines.
	keyTail = 3*point + curve.SizeOfG2AffineCompressed + linesBytes
	// MaxKeyBytes bounds a key.
	MaxKeyBytes = keyListAt + count + point + keyTail + point + count + 8

	// Three wires, the permutation, three quotients, an opening.
	proofListAt = 8 * point
	// maxLog bounds a circuit's size.
	maxLog = 28
)

func keyBytes(commitments int) int {
	return keyListAt + count + commitments*point + 3*point + 2*point + linesBytes + count + 8*commitments
}

func proofBytes(commitments int) int {
	return proofListAt + count + (6+commitments)*scalar + point + scalar + count + commitments*point
}

// quiet turns gnark's logger off, which writes to standard output.
var quiet = sync.OnceFunc(logger.Disable)

// Key is a verifying key, ready for use by any number of goroutines.
type Key struct {
	digest      digest.Digest
	key         plonk.VerifyingKey
	commitments int
}

// ParseKey reads the canonical bytes of a verifying key, as gnark's WriteTo writes them. The
// error is ErrKey.
func ParseKey(raw []byte) (*Key, error) {
	quiet()
	if len(raw) < keyListAt+count {
		return nil, badKey("%d bytes are too few", len(raw))
	}
	k := &Key{digest: sha256.Sum256(raw), commitments: int(binary.BigEndian.Uint32(raw[keyListAt:]) & 0xff)}
	// No list is read before its length is known to be right.
	list := keyBytes(k.commitments) - 8*k.commitments - count
	if k.commitments > 1 || len(raw) != keyBytes(k.commitments) || binary.BigEndian.Uint32(raw[keyListAt:]) != uint32(k.commitments) ||
		binary.BigEndian.Uint32(raw[list:]) != uint32(k.commitments) {
		return nil, badKey("%d bytes are not a key with at most one commitment", len(raw))
	}
	if binary.BigEndian.Uint64(raw) != 0 || binary.BigEndian.Uint64(raw[8:]) != 1 {
		return nil, badKey("want version 1")
	}
	if err := decode(&k.key, raw); err != nil {
		return nil, badKey("%w", err)
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	return k, nil
}

// codec is what gnark's keys and proofs have in common.
type codec interface {
	io.ReaderFrom
	io.WriterTo
}

// decode reads all bytes and sees that they are what would be written again.
func decode(v codec, raw []byte) error {
	if n, err := v.ReadFrom(bytes.NewReader(raw)); err != nil {
		return err
	} else if n != int64(len(raw)) {
		return fmt.Errorf("%d bytes after the end", int64(len(raw))-n)
	}
	var again bytes.Buffer
	if _, err := v.WriteTo(&again); err != nil {
		return err
	}
	if !bytes.Equal(again.Bytes(), raw) {
		return errors.New("not the canonical encoding")
	}
	return nil
}

// check computes again what follows from other parts of the key.
func (k *Key) check() error {
	v := &k.key
	if v.Size < 4 || v.Size > 1<<maxLog || v.Size&(v.Size-1) != 0 || v.NbPublicVariables > v.Size || v.NbPublicVariables > statement.MaxPublicInputs {
		return badKey("a circuit of %d rows and %d public inputs is out of range", v.Size, v.NbPublicVariables)
	}
	size := fr.NewElement(v.Size)
	var whole, half, shift fr.Element
	n := new(big.Int).SetUint64(v.Size)
	whole.Exp(v.Generator, n)
	half.Exp(v.Generator, new(big.Int).Rsh(n, 1))
	shift.Exp(v.CosetShift, n)
	var square fr.Element
	square.Square(&shift)
	if !whole.IsOne() || half.IsOne() || !size.Mul(&size, &v.SizeInv).IsOne() || shift.IsZero() || shift.IsOne() || square.IsOne() {
		return badKey("its evaluation domain is malformed")
	}
	for _, index := range v.CommitmentConstraintIndexes {
		if index >= v.Size-v.NbPublicVariables {
			return badKey("a commitment is in row %d, outside the circuit", index)
		}
	}
	_, _, one, two := curve.Generators()
	tau := v.Kzg.G2[1]
	var negated curve.G2Affine
	negated.Neg(&v.Kzg.G2[0])
	if !v.Kzg.G1.Equal(&one) || !v.Kzg.G2[0].Equal(&two) || tau.IsInfinity() || tau.Equal(&two) || tau.Equal(&negated) {
		return badKey("the reference string's secret is known")
	}
	if v.Kzg.Lines[0] != curve.PrecomputeLines(v.Kzg.G2[0]) || v.Kzg.Lines[1] != curve.PrecomputeLines(tau) {
		return badKey("its precomputed lines do not match its points")
	}
	return nil
}

// Digest is the SHA-256 of the canonical bytes; it names the key.
func (k *Key) Digest() digest.Digest { return k.digest }

// Inputs is the number of public inputs.
func (k *Key) Inputs() int { return int(k.key.NbPublicVariables) }

// Verify verifies one proof for public inputs. It returns ErrProof for a proof that does not
// hold, ErrMismatch for a wrong number of inputs, and the context's error once that has ended,
// which it checks before and after: a verification takes some milliseconds.
func (k *Key) Verify(ctx context.Context, raw []byte, public []fr.Element) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(public) != k.Inputs() {
		return fmt.Errorf("%w: got %d public inputs, the key has %d", ErrMismatch, len(public), k.Inputs())
	}
	want := proofBytes(k.commitments)
	if len(raw) != want || binary.BigEndian.Uint32(raw[proofListAt:]) != uint32(6+k.commitments) ||
		binary.BigEndian.Uint32(raw[want-count-k.commitments*point:]) != uint32(k.commitments) {
		return badProof("got %d bytes, this key's proofs have %d", len(raw), want)
	}
	var p plonk.Proof
	if err := decode(&p, raw); err != nil {
		return badProof("%w", err)
	}
	if err := plonk.Verify(&p, &k.key, public); err != nil {
		return badProof("%w", err)
	}
	return ctx.Err()
}

// VerifyEnvelope verifies an envelope's proof of its statement. The caller has made sure, by a
// statement.Record, that the key is for the statement's circuit.
func (k *Key) VerifyEnvelope(ctx context.Context, e *statement.Envelope) error {
	if err := e.Check(); err != nil {
		return err
	}
	if e.Statement.System != statement.PLONK || e.Key != k.digest {
		return fmt.Errorf("%w: the envelope is for %s and the key %s", ErrMismatch, e.Statement.System, e.Key)
	}
	public, err := scalars.Public(&e.Statement)
	if err != nil {
		return err
	}
	return k.Verify(ctx, e.Proof, public)
}
