package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// recordMalformed and archivedInvalid stand in vectors for errors that have no reason code.
const (
	recordMalformed refusal.Reason = "malformed"
	archivedInvalid refusal.Reason = "tampered"
)

func edited(about string, offset, remove int, insert vectortest.Hex, reason refusal.Reason) vectortest.Refused {
	return vectortest.Refused{About: about, Edit: &vectortest.Edit{Offset: offset, Remove: remove, Insert: insert}, Reason: string(reason)}
}

func auditKey(t *testing.T, v *vectortest.Vector) identity.Public {
	t.Helper()
	k, err := identity.ParsePublic(v.PublicKeys["audit"])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func readFields[T any](t *testing.T, v *vectortest.Vector) (f T) {
	t.Helper()
	if err := json.Unmarshal(v.Fields, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func fieldsOf(t *testing.T, fields any) []byte {
	t.Helper()
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRecordVector: a record has no signature of its own. Its bytes are the leaf under the
// root that a checkpoint signs.
func TestRecordVector(t *testing.T) {
	v := vectortest.Load(t, "record-1", *update, func() vectortest.Vector {
		r := sample(3)
		raw, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		leaf := tlog.RecordHash(raw)
		return vectortest.Vector{About: "a record of a refusal; leaf_hash is its hash in the tree", Specification: "docs/audit-log.md, Records and Tree", Statement: raw, Verdict: vectortest.Accepted,
			Given: map[string]vectortest.Hex{"leaf_hash": leaf[:]}, Fields: fieldsOf(t, r),
			Refused: []vectortest.Refused{
				edited("another version", 0, 1, vectortest.Hex{2}, recordMalformed), edited("a kind that is none", 1, 1, vectortest.Hex{99}, recordMalformed),
				edited("no time", 2, 8, make(vectortest.Hex, 8), recordMalformed), edited("a byte follows", len(raw), 0, vectortest.Hex{0}, recordMalformed),
				edited("the last byte is missing", len(raw)-1, 1, vectortest.Hex{}, recordMalformed)}}
	})
	verifyRecord(t, v)
}

// verifyRecord rebuilds a record from its fields, and reads it and what is to be refused.
func verifyRecord(t *testing.T, v vectortest.Vector) {
	t.Helper()
	v.Rebuilt(t, nil, encodeRecord(readFields[Record](t, &v)))
	if leaf := tlog.RecordHash(v.Statement); !bytes.Equal(leaf[:], v.Given["leaf_hash"]) {
		t.Errorf("the leaf is %x, want %x", leaf, v.Given["leaf_hash"])
	}
	v.Verify(t, func(raw []byte, _ uint64) error {
		if _, err := ParseRecord(raw); err != nil {
			return refusal.New(recordMalformed, "%w", err)
		}
		return nil
	})
}

// TestRecordVectorOfVersion2: a record that names the input of its decision has one digest more. One that names
// none, in this version, is refused: a record has one encoding.
func TestRecordVectorOfVersion2(t *testing.T) {
	v := vectortest.Load(t, "record-2", *update, func() vectortest.Vector {
		r := sample(4)
		r.InputDigest = digest.Of([]byte("input"))
		raw, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		leaf := tlog.RecordHash(raw)
		return vectortest.Vector{About: "a record of a refusal that names the input of its decision; leaf_hash is its hash in the tree", Specification: "docs/audit-log.md, Records and Tree", Statement: raw, Verdict: vectortest.Accepted,
			Given: map[string]vectortest.Hex{"leaf_hash": leaf[:]}, Fields: fieldsOf(t, r),
			Refused: []vectortest.Refused{
				edited("another version", 0, 1, vectortest.Hex{3}, recordMalformed), edited("the first version", 0, 1, vectortest.Hex{1}, recordMalformed),
				edited("no input", inputDigestAt, 32, make(vectortest.Hex, 32), recordMalformed), edited("a byte follows", len(raw), 0, vectortest.Hex{0}, recordMalformed),
				edited("the last byte is missing", len(raw)-1, 1, vectortest.Hex{}, recordMalformed)}}
	})
	verifyRecord(t, v)
}

// inputDigestAt is the offset of the seventh digest: behind version, kind, five numbers and six digests.
const inputDigestAt = 2 + 5*8 + 6*32

// encodeRecord is a second encoder, by docs/audit-log.md.
func encodeRecord(r Record) []byte {
	out := []byte{1, byte(r.Kind)}
	if !r.InputDigest.IsZero() {
		out[0] = 2
	}
	for _, at := range []time.Time{r.Time, r.Expiry} {
		out = binary.BigEndian.AppendUint64(out, uint64(at.UnixNano()))
	}
	for _, n := range []uint64{r.ResourceVersion, r.PolicyVersion, r.Epoch} {
		out = binary.BigEndian.AppendUint64(out, n)
	}
	for _, d := range []digest.Digest{r.PolicyDigest, r.EvidenceDigest, r.ClaimsDigest, r.AgentKey, r.ChipDigest, r.MessageDigest} {
		out = append(out, d[:]...)
	}
	if !r.InputDigest.IsZero() {
		out = append(out, r.InputDigest[:]...)
	}
	text := func(s string) { out = append(append(out, byte(len(s)>>8), byte(len(s))), s...) }
	for _, s := range []string{r.Connection, r.Peer, r.RefusalID, r.Grant, r.Actor, r.Action, r.Resource, r.Decision, r.PolicyID, r.EvidenceKind, r.Measurement, r.Detail} {
		text(s)
	}
	out = append(out, byte(len(r.Reasons)))
	for _, reason := range r.Reasons {
		text(reason.Code)
		text(reason.Detail)
	}
	out = append(out, byte(len(r.Waived)))
	for _, w := range r.Waived {
		text(w)
	}
	return out
}

type checkpointFields struct {
	Origin string        `json:"origin"`
	Size   uint64        `json:"size"`
	Root   digest.Digest `json:"root"`
}

// TestCheckpointVector: the signed text is built from the fields; the note adds two lines.
func TestCheckpointVector(t *testing.T) {
	v := vectortest.Load(t, "checkpoint-2", *update, func() vectortest.Vector { return createCheckpoint(t) })
	f := readFields[checkpointFields](t, &v)
	text := fmt.Sprintf("%s\n%d\n%s\n", f.Origin, f.Size, base64.StdEncoding.EncodeToString(f.Root[:]))
	v.Rebuilt(t, []byte(text), []byte(text+"\n"+string(v.Signature)))
	key := auditKey(t, &v)
	v.Verify(t, func(note []byte, _ uint64) error {
		c, err := OpenCheckpoint(note, key)
		if err == nil && (c.Origin != f.Origin || c.Size != f.Size || c.Root != f.Root) {
			t.Errorf("read %+v, want %+v", c, f)
		}
		return err
	})
}

func createCheckpoint(t *testing.T) vectortest.Vector {
	k := newSigner(t)
	sign := func(size uint64) (text string, sigs []string, note string) {
		c, err := signCheckpoint(k, size, digest.Digest{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		text, sigs = split(t, c.Note)
		return text, sigs, c.Note
	}
	text, sigs, note := sign(7)
	_, later, _ := sign(8)
	other, err := signCheckpoint(newSigner(t), 7, digest.Digest{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	v := vectortest.Vector{About: "a checkpoint of seven records; the signature is the note's two lines", Specification: "docs/audit-log.md, Checkpoints", Context: identity.NoteContext,
		PublicKeys: map[string]vectortest.Hex{"audit": k.Public().Bytes()}, Fields: fieldsOf(t, checkpointFields{Origin(k.Public()), 7, digest.Digest{1, 2, 3}}),
		Signed: []byte(strings.TrimSuffix(text, "\n")), Signature: []byte(sigs[0] + sigs[1]), Statement: []byte(note), Verdict: vectortest.Accepted}
	for _, r := range []struct{ about, note string }{
		{"the Ed25519 line alone", text + sigs[0]}, {"the ML-DSA line alone", text + sigs[1]},
		{"the ML-DSA line of another checkpoint", text + sigs[0] + later[1]}, {"the Ed25519 line of another checkpoint", text + later[0] + sigs[1]},
		{"another size", strings.Replace(note, "\n7\n", "\n8\n", 1)}, {"a size with a leading zero", strings.Replace(note, "\n7\n", "\n07\n", 1)},
		{"of another key", other.Note},
	} {
		v.Refused = append(v.Refused, vectortest.Refused{About: r.about, Statement: []byte(r.note), Reason: string(ReasonCheckpointInvalid)})
	}
	return v
}

// TestArchivedVector: the mark that says how many records were archived.
func TestArchivedVector(t *testing.T) {
	type fields struct {
		Records uint64 `json:"records"`
	}
	v := vectortest.Load(t, "archived-1", *update, func() vectortest.Vector {
		k := newSigner(t)
		raw, err := signArchived(k, 12)
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := signArchived(newSigner(t), 12)
		if err != nil {
			t.Fatal(err)
		}
		number, encoded, _ := strings.Cut(strings.TrimSuffix(string(raw), "\n"), "\n")
		sig, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		return vectortest.Vector{About: "the mark of a log whose first twelve records were archived", Specification: "docs/audit-log.md, Archiving", Context: ArchivedContext,
			PublicKeys: map[string]vectortest.Hex{"audit": k.Public().Bytes()}, Fields: fieldsOf(t, fields{12}), Signed: []byte(number), Signature: sig, Statement: raw, Verdict: vectortest.Accepted,
			Refused: []vectortest.Refused{edited("another number", 1, 1, vectortest.Hex("3"), archivedInvalid), edited("a leading zero", 0, 0, vectortest.Hex("0"), archivedInvalid),
				edited("the last line does not end", len(raw)-1, 1, vectortest.Hex{}, archivedInvalid), {About: "of another key", Statement: foreign, Reason: string(archivedInvalid)}}}
	})
	number := fmt.Sprint(readFields[fields](t, &v).Records)
	v.Rebuilt(t, []byte(number), []byte(number+"\n"+base64.StdEncoding.EncodeToString(v.Signature)+"\n"))
	key := auditKey(t, &v)
	v.Verify(t, func(raw []byte, _ uint64) error {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, archivedName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := readArchived(journal.ReadOnly{}, dir, key)
		if err != nil {
			return refusal.New(archivedInvalid, "%w", err)
		}
		if fmt.Sprint(n) != number {
			t.Errorf("read %d, want %s", n, number)
		}
		return nil
	})
}
