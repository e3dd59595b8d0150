package audit

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/signednote"
)

// Reasons for which a checkpoint is refused, or a log beside a checkpoint.
const (
	// ReasonCheckpointVersion: a checkpoint of another format than a signed note,
	// as the log's first version wrote them.
	ReasonCheckpointVersion refusal.Reason = "checkpoint-version"
	// ReasonCheckpointInvalid: it does not parse, or is not signed by both halves
	// of the audit key.
	ReasonCheckpointInvalid refusal.Reason = "checkpoint-invalid"
	// ReasonNoCheckpoint: the log has none that is signed, so nothing in it is vouched for.
	ReasonNoCheckpoint refusal.Reason = "checkpoint-missing"
	// ReasonOtherKey: the log is signed by another key than the one that was expected.
	ReasonOtherKey refusal.Reason = "audit-key-mismatch"
	// ReasonRolledBack: the log has fewer records than the checkpoint counts.
	ReasonRolledBack refusal.Reason = "audit-log-rolled-back"
	// ReasonForked: the log's first records are others than the checkpoint's.
	ReasonForked refusal.Reason = "audit-log-forked"
)

const (
	maxCheckpointBytes = 16 << 10
	maxCheckpointLines = 16 // signature lines; witnesses may have added theirs
	originPrefix       = "anchorhold/audit/"
)

// ErrCheckpoint means that a checkpoint does not parse or is not signed by a
// key that the verifier trusts.
var ErrCheckpoint = errors.New("bad checkpoint")

// Checkpoint is a signed statement about the whole log: how many records it
// had and the Merkle root over them. Whoever keeps one can later prove that a
// record was in the log (Proof) and that nothing before it was changed
// (Log.Extends).
//
// It is a signed note (c2sp.org/signed-note) whose text is a checkpoint
// (c2sp.org/tlog-checkpoint) without extension lines: origin, size in decimal,
// root in base64. It has one line of Ed25519 and one of ML-DSA-65, both by the
// audit key, and verifies only by both. A program that knows such notes
// verifies the Ed25519 line with VerifierKey.
type Checkpoint struct {
	// Origin names the log: its audit key.
	Origin string `json:"origin"`
	// Size is the number of records.
	Size uint64 `json:"size"`
	// Root is the Merkle tree hash over them (RFC 6962).
	Root digest.Digest `json:"root"`
	// Note is the signed note as it stands on disk; nothing else is signed.
	Note string `json:"note"`
}

// Signer signs checkpoints and indexes: the broker's audit key.
type Signer interface {
	// Public returns the verifying half.
	Public() identity.Public
	// SignNote signs a note's text.
	SignNote(text []byte) (identity.NoteSignature, error)
	// Sign signs msg in the context.
	Sign(context string, msg []byte) ([]byte, error)
}

// Origin returns the name of the log that a key signs. It is the first line of
// its checkpoints and the name on their signature lines.
func Origin(key identity.Public) string { return OriginOf(key.ID()) }

// OriginOf is Origin of the key with an id, as an epoch statement names it.
func OriginOf(id [32]byte) string {
	return originPrefix + hex.EncodeToString(id[:])
}

// VerifierKey returns the Ed25519 half as note.NewVerifier takes it, for
// programs that know signed notes. It proves less than Verify: one half of the
// audit key.
func VerifierKey(key identity.Public) (string, error) {
	return signednote.VerifierKey(Origin(key), key)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCheckpoint, refusal.New(ReasonCheckpointInvalid, format, args...))
}

// ParseCheckpoint reads a checkpoint; it does not check the signatures.
func ParseCheckpoint(b []byte) (Checkpoint, error) {
	if len(b) > 0 && b[0] < ' ' {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, refusal.New(ReasonCheckpointVersion,
			"the checkpoint has the first version's format: anchorhold-broker begin-log --config FILE puts its log away, where the release that wrote it verifies it, and begins a new one; one kept elsewhere is then made anew with anchorhold audit checkpoint --out FILE"))
	}
	if len(b) > maxCheckpointBytes {
		return Checkpoint{}, invalid("%d bytes (at most %d)", len(b), maxCheckpointBytes)
	}
	text, err := signednote.Unverified(b, maxCheckpointLines)
	if err != nil {
		return Checkpoint{}, invalid("it is no signed note of at most %d signatures", maxCheckpointLines)
	}
	c, err := parseText(text)
	c.Note = string(b)
	return c, err
}

// parseText reads the text of a checkpoint in its one form.
func parseText(text string) (Checkpoint, error) {
	f := strings.Split(text, "\n")
	if len(f) != 4 || f[3] != "" {
		return Checkpoint{}, invalid("its text has not exactly three lines: origin, size, root")
	}
	c := Checkpoint{Origin: f[0]}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != f[1] {
		return Checkpoint{}, invalid("its size is no number in decimal")
	}
	root, err := base64.StdEncoding.Strict().DecodeString(f[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, invalid("its root is no base64 of %d bytes", len(c.Root))
	}
	if !strings.HasPrefix(c.Origin, originPrefix) {
		return Checkpoint{}, invalid("it is of %q, which is no audit log", c.Origin)
	}
	c.Size, c.Root = uint64(size), digest.Digest(root)
	return c, nil
}

// text returns what is signed.
func (c Checkpoint) text() []byte {
	return fmt.Appendf(nil, "%s\n%d\n%s\n", c.Origin, c.Size, tlog.Hash(c.Root))
}

// Verify checks both signatures with the one of the keys whose log this is, and
// that the fields are what was signed. Without keys nothing verifies.
func (c Checkpoint) Verify(keys ...identity.Public) error {
	for _, k := range keys {
		if k.IsZero() || k.Level() != identity.LevelEpoch || c.Origin != Origin(k) {
			continue
		}
		text, err := signednote.Open([]byte(c.Note), c.Origin, k)
		switch {
		case errors.Is(err, signednote.ErrHalf):
			return invalid("it has one of the two signatures of the audit key; both are needed")
		case err != nil:
			return invalid("%w", err)
		case text != string(c.text()):
			return invalid("its fields are not those that were signed")
		}
		return nil
	}
	return invalid("it is of %s, whose key is not the audit key", c.Origin)
}

// OpenCheckpoint reads a checkpoint and verifies it.
func OpenCheckpoint(b []byte, keys ...identity.Public) (Checkpoint, error) {
	c, err := ParseCheckpoint(b)
	if err == nil {
		err = c.Verify(keys...)
	}
	return c, err
}

// signCheckpoint signs a tree.
func signCheckpoint(signer Signer, size uint64, root digest.Digest) (Checkpoint, error) {
	c := Checkpoint{Origin: Origin(signer.Public()), Size: size, Root: root}
	signed, err := signednote.Sign(signer, c.Origin, c.text())
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint at %d records: %w", size, err)
	}
	c.Note = string(signed)
	return c, nil
}
