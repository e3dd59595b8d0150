package audit

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// CheckpointContext is the signing context of checkpoints.
const CheckpointContext = "anchorhold/audit/checkpoint/1"

const (
	checkpointVersion  = 1
	maxCheckpointBytes = 16 << 10
)

// ErrCheckpoint means that a checkpoint does not parse or is not signed by a
// key that the verifier trusts.
var ErrCheckpoint = errors.New("bad checkpoint")

// Checkpoint is a signed statement about the whole log: how many records it
// had and the Merkle root over them. Whoever keeps one can later prove that a
// record was in the log (Proof) and that nothing before it was changed.
type Checkpoint struct {
	// Size is the number of records.
	Size uint64 `json:"size"`
	// Root is the Merkle tree hash over them (RFC 6962).
	Root Digest `json:"root"`
	// Chain is the hash chain's value behind the last of them.
	Chain Digest `json:"chain"`
	// Time is the broker's clock.
	Time time.Time `json:"time"`
	// Key is the id of the audit key.
	Key Digest `json:"key"`
	// Signature is over Statement in CheckpointContext.
	Signature []byte `json:"signature"`
}

// Signer signs checkpoints: the broker's audit key.
type Signer interface {
	// Public returns the verifying half.
	Public() identity.Public
	// Sign signs msg in the context.
	Sign(context string, msg []byte) ([]byte, error)
}

// Statement returns the bytes that the signature covers.
func (c Checkpoint) Statement() []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint8(checkpointVersion)
	b.AddUint64(c.Size)
	b.AddBytes(c.Root[:])
	b.AddBytes(c.Chain[:])
	b.AddUint64(nanoseconds(c.Time))
	b.AddBytes(c.Key[:])
	return b.BytesOrPanic() // only fixed-size fields: it cannot fail
}

// Marshal encodes the checkpoint with its signature.
func (c Checkpoint) Marshal() ([]byte, error) {
	b := cryptobyte.NewBuilder(c.Statement())
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(c.Signature) })
	return b.Bytes()
}

// ParseCheckpoint reads a checkpoint; it does not check the signature.
func ParseCheckpoint(b []byte) (Checkpoint, error) {
	var c Checkpoint
	var version uint8
	var when uint64
	var sig cryptobyte.String
	s := cryptobyte.String(b)
	if len(b) > maxCheckpointBytes || !s.ReadUint8(&version) || version != checkpointVersion ||
		!s.ReadUint64(&c.Size) || !s.CopyBytes(c.Root[:]) || !s.CopyBytes(c.Chain[:]) || !s.ReadUint64(&when) ||
		!s.CopyBytes(c.Key[:]) || !s.ReadUint16LengthPrefixed(&sig) || len(sig) == 0 || !s.Empty() {
		return Checkpoint{}, fmt.Errorf("%w: wrong structure", ErrCheckpoint)
	}
	c.Time = fromNanoseconds(when)
	c.Signature = append([]byte(nil), sig...)
	return c, nil
}

// Verify checks the signature with the one of the keys that signed. Without
// keys nothing verifies.
func (c Checkpoint) Verify(keys ...identity.Public) error {
	for _, k := range keys {
		if k.ID() == [32]byte(c.Key) && !k.IsZero() {
			if err := k.Verify(CheckpointContext, c.Statement(), c.Signature); err != nil {
				return fmt.Errorf("%w: %w", ErrCheckpoint, err)
			}
			return nil
		}
	}
	return fmt.Errorf("%w: signed by key %s, which is not the audit key", ErrCheckpoint, c.Key)
}

func signCheckpoint(signer Signer, t *tree, chain Digest, now time.Time) (Checkpoint, error) {
	c := Checkpoint{Size: t.size, Root: t.root(), Chain: chain, Time: now.UTC(), Key: signer.Public().ID()}
	sig, err := signer.Sign(CheckpointContext, c.Statement())
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint at %d records: %w", c.Size, err)
	}
	c.Signature = sig
	return c, nil
}
