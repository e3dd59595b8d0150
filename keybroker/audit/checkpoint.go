package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Reasons for which a checkpoint is refused, or a log beside a checkpoint.
const (
	// ReasonCheckpointVersion: a checkpoint of another format than a signed note,
	// as the log's first version wrote them.
	ReasonCheckpointVersion evidence.Reason = "checkpoint-version"
	// ReasonCheckpointInvalid: it does not parse, or is not signed by both halves
	// of the audit key.
	ReasonCheckpointInvalid evidence.Reason = "checkpoint-invalid"
	// ReasonNoCheckpoint: the log has none that is signed, so nothing in it is vouched for.
	ReasonNoCheckpoint evidence.Reason = "checkpoint-missing"
	// ReasonOtherKey: the log is signed by another key than the one that was expected.
	ReasonOtherKey evidence.Reason = "audit-key-mismatch"
	// ReasonRolledBack: the log has fewer records than the checkpoint counts.
	ReasonRolledBack evidence.Reason = "audit-log-rolled-back"
	// ReasonForked: the log's first records are others than the checkpoint's.
	ReasonForked evidence.Reason = "audit-log-forked"
)

const (
	maxCheckpointBytes = 16 << 10
	maxCheckpointLines = 16 // signature lines; witnesses may have added theirs
	originPrefix       = "anchorhold/audit/"

	// Signature types (c2sp.org/signed-note). That specification assigns no byte
	// to plain ML-DSA-65, so its line has the type for such, 0xff, and a longer
	// name behind it.
	typeEd25519 = "\x01"
	typeMLDSA65 = "\xffanchorhold/ml-dsa-65/1\n"
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
	Root Digest `json:"root"`
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

// keyHash is the key ID of c2sp.org/signed-note.
func keyHash(name, signatureType string, public []byte) uint32 {
	sum := sha256.Sum256(append([]byte(name+"\n"+signatureType), public...))
	return binary.BigEndian.Uint32(sum[:])
}

// VerifierKey returns the Ed25519 half as note.NewVerifier takes it, for
// programs that know signed notes. It proves less than Verify: one half of the
// audit key.
func VerifierKey(key identity.Public) (string, error) {
	return note.NewEd25519VerifierKey(Origin(key), key.Ed25519())
}

// line is one kind of signature line of one audit key. It is what package note
// signs and verifies with.
type line struct {
	origin string
	hash   uint32
	verify func(text, sig []byte) bool
	sig    []byte // when signing: the signature that was made already
}

// Name is the key's name.
func (l line) Name() string { return l.origin }

// KeyHash is the key's ID.
func (l line) KeyHash() uint32 { return l.hash }

// Verify checks one signature.
func (l line) Verify(text, sig []byte) bool { return l.verify(text, sig) }

// Sign returns the signature.
func (l line) Sign([]byte) ([]byte, error) { return l.sig, nil }

// lines returns the two lines that a checkpoint of the key has.
func lines(key identity.Public) [2]line {
	name := Origin(key)
	return [2]line{
		{origin: name, hash: keyHash(name, typeEd25519, key.Ed25519()), verify: key.VerifyNoteEd25519},
		{origin: name, hash: keyHash(name, typeMLDSA65, key.MLDSA()), verify: key.VerifyNoteMLDSA},
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrCheckpoint, evidence.Refuse(ReasonCheckpointInvalid, format, args...))
}

// ParseCheckpoint reads a checkpoint; it does not check the signatures.
func ParseCheckpoint(b []byte) (Checkpoint, error) {
	if len(b) > 0 && b[0] < ' ' {
		return Checkpoint{}, fmt.Errorf("%w: %w", ErrCheckpoint, evidence.Refuse(ReasonCheckpointVersion,
			"the checkpoint has the first version's format: anchorhold-broker begin-log --config FILE puts its log away, where the release that wrote it verifies it, and begins a new one; one kept elsewhere is then made anew with anchorhold audit checkpoint --out FILE"))
	}
	if len(b) > maxCheckpointBytes {
		return Checkpoint{}, invalid("%d bytes (at most %d)", len(b), maxCheckpointBytes)
	}
	// Signature lines of nobody known are the one way to have package note parse
	// without verifying.
	_, err := note.Open(b, nil)
	open, unverified := errors.AsType[*note.UnverifiedNoteError](err)
	if !unverified || len(open.Note.UnverifiedSigs) > maxCheckpointLines {
		return Checkpoint{}, invalid("it is no signed note of at most %d signatures", maxCheckpointLines)
	}
	c, err := parseText(open.Note.Text)
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
	c.Size, c.Root = uint64(size), Digest(root)
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
		both := lines(k)
		n, err := note.Open([]byte(c.Note), note.VerifierList(both[0], both[1]))
		switch {
		case err != nil:
			return invalid("%w", err)
		case len(n.Sigs) != len(both):
			return invalid("it has one of the two signatures of the audit key; both are needed")
		case n.Text != string(c.text()):
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
func signCheckpoint(signer Signer, size uint64, root Digest) (Checkpoint, error) {
	c := Checkpoint{Origin: Origin(signer.Public()), Size: size, Root: root}
	sig, err := signer.SignNote(c.text())
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint at %d records: %w", size, err)
	}
	both := lines(signer.Public())
	both[0].sig, both[1].sig = sig.Ed25519, sig.MLDSA
	signed, err := note.Sign(&note.Note{Text: string(c.text())}, both[0], both[1])
	if err != nil {
		return Checkpoint{}, fmt.Errorf("sign checkpoint at %d records: %w", size, err)
	}
	c.Note = string(bytes.Clone(signed))
	return c, nil
}
