package receipt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// fields is a receipt's body by the names of its fields.
type fields struct {
	Version          uint16         `json:"version"`
	ID               vectortest.Hex `json:"id"`
	ModelID          vectortest.Hex `json:"model_id"`
	ModelName        string         `json:"model_name"`
	ModelVersion     uint64         `json:"model_version"`
	InputCommitment  vectortest.Hex `json:"input_commitment"`
	OutputCommitment vectortest.Hex `json:"output_commitment"`
	LeaseID          vectortest.Hex `json:"lease_id"`
	EvidenceDigest   vectortest.Hex `json:"evidence_digest"`
	PromptTokens     uint32         `json:"prompt_tokens"`
	CompletionTokens uint32         `json:"completion_tokens"`
	Time             uint64         `json:"time"`
}

func fieldsOf(b Body) fields {
	_, version := b.format()
	return fields{version, b.ID[:], b.ModelID[:], b.ModelName, b.ModelVersion, b.InputCommitment[:], b.OutputCommitment[:], b.LeaseID[:], b.EvidenceDigest[:],
		b.PromptTokens, b.CompletionTokens, uint64(b.Time)}
}

// body builds the signed bytes with nothing of this package.
func (f fields) body(context string) []byte {
	out := append([]byte{byte(len(context))}, context...)
	out = binary.BigEndian.AppendUint16(out, f.Version)
	out = append(append(out, f.ID...), f.ModelID...)
	out = append(append(out, byte(len(f.ModelName))), f.ModelName...)
	out = binary.BigEndian.AppendUint64(out, f.ModelVersion)
	for _, part := range []vectortest.Hex{f.InputCommitment, f.OutputCommitment, f.LeaseID, f.EvidenceDigest} {
		out = append(out, part...)
	}
	out = binary.BigEndian.AppendUint32(out, f.PromptTokens)
	out = binary.BigEndian.AppendUint32(out, f.CompletionTokens)
	return binary.BigEndian.AppendUint64(out, f.Time)
}

// vectorOf is the vector of a receipt whose commitments the openings open.
func vectorOf(t *testing.T, about string, root identity.Public, issued Issued, input, output []byte) vectortest.Vector {
	t.Helper()
	r := issued.Receipt
	raw, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	msg, err := r.Body.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(fieldsOf(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	context, _ := r.Body.format()
	v := vectortest.Vector{About: about, Specification: "docs/protocol.md section 4.7", Context: context, MinEpoch: 1, PublicKeys: map[string]vectortest.Hex{"root": root.Bytes()},
		Given:  map[string]vectortest.Hex{"input": input, "input_salt": issued.Salts.Input[:], "output": output, "output_salt": issued.Salts.Output[:]},
		Fields: encoded, Chain: r.LeaseChain, Signed: msg, Signature: r.Signature, Statement: raw, Verdict: vectortest.Accepted}
	flip := func(about string, at int, reason refusal.Reason) {
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: vectortest.Hex{raw[at] ^ 1}}, Reason: string(reason)})
	}
	sig := 2 + len(msg) + 2
	flip("a bit of the id is flipped", 2+1+len(context)+2, ReasonSignature)
	flip("a bit of the ML-DSA half of the signature is flipped", sig+100, ReasonSignature)
	flip("a bit of the Ed25519 half of the signature is flipped", sig+len(r.Signature)-1, ReasonSignature)
	flip("the last bit of the lease chain is flipped", len(raw)-1, protocol.ReasonBrokerSignature)
	v.Refused = append(v.Refused,
		vectortest.Refused{About: "the last byte is missing", Edit: &vectortest.Edit{Offset: len(raw) - 1, Remove: 1, Insert: vectortest.Hex{}}, Reason: string(ReasonMalformed)},
		vectortest.Refused{About: "a byte follows", Edit: &vectortest.Edit{Offset: len(raw), Remove: 0, Insert: vectortest.Hex{0}}, Reason: string(ReasonMalformed)},
		vectortest.Refused{About: "the context is of version 3", Edit: &vectortest.Edit{Offset: 2 + len(context), Remove: 1, Insert: vectortest.Hex("3")}, Reason: string(ReasonMalformed)},
		vectortest.Refused{About: "the verifier's lowest epoch is above that of the lease", MinEpoch: 9, Reason: string(protocol.ReasonEpochRetired)})
	return v
}

// TestVectors: receipts of both versions, built from their fields, with their openings.
func TestVectors(t *testing.T) {
	for name, create := range map[string]func(t *testing.T) vectortest.Vector{"receipt-1": createFormer, "receipt-2": createReceipt} {
		t.Run(name, func(t *testing.T) {
			v := vectortest.Load(t, name, *update, func() vectortest.Vector { return create(t) })
			var f fields
			if err := json.Unmarshal(v.Fields, &f); err != nil {
				t.Fatal(err)
			}
			msg := f.body(v.Context)
			var raw []byte
			for _, part := range [][]byte{msg, v.Signature, v.Chain} {
				raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(part))), part...)
			}
			v.Rebuilt(t, msg, raw)
			v.Verify(t, func(raw []byte, minEpoch uint64) error { return verifyVector(&v, raw, minEpoch) })
		})
	}
}

func verifyVector(v *vectortest.Vector, raw []byte, minEpoch uint64) error {
	root, err := identity.ParsePublic(v.PublicKeys["root"])
	if err != nil {
		return err
	}
	r, err := Parse(raw)
	if err != nil {
		return err
	}
	_, err = Verify(r, []identity.Public{root}, Options{Expect: Expect{MinEpoch: minEpoch},
		Input:  &Opening{Salt(v.Given["input_salt"]), v.Given["input"]},
		Output: &Opening{Salt(v.Given["output_salt"]), v.Given["output"]}})
	return err
}

// createFormer takes the receipt of version 1 that an earlier release wrote.
func createFormer(t *testing.T) vectortest.Vector {
	f := readFormer(t)
	v := vectorOf(t, "a receipt of version 1, which holds but for the authority that its lease does not record", f.Root, f.Issued, []byte(f.Input), []byte(f.Output))
	v.Verdict = string(protocol.ReasonAuthorityNotRecorded)
	return v
}

func createReceipt(t *testing.T) vectortest.Vector {
	w := newWorld(t)
	issued := w.issue(t, begin+1000)
	v := vectorOf(t, "a receipt of version 2 with its openings", w.root.Public(), issued, answer.Input, answer.Output)
	refuse := func(about string, reason refusal.Reason, key *identity.Private, change func(*Body, *protocol.LeaseCertificate)) {
		body, other := issued.Receipt.Body, *w
		change(&body, &other.lease)
		r, err := Sign(key, body, other.chain(t))
		if err != nil {
			t.Fatal(err)
		}
		raw, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: bytes.Clone(raw), Reason: string(reason)})
	}
	refuse("another key signed it", ReasonSignature, newKey(t, identity.LevelEpoch), func(*Body, *protocol.LeaseCertificate) {})
	refuse("the answer came when the lease was over", ReasonTime, w.agentKey, func(b *Body, _ *protocol.LeaseCertificate) { b.Time = w.lease.NotAfter })
	refuse("the lease has the key of another model", protocol.ReasonNotGranted, w.agentKey, func(_ *Body, c *protocol.LeaseCertificate) {
		c.Grants = []protocol.Granted{{Resource: "models/demo", Version: 4, Subject: [32]byte{6}, Roles: protocol.RoleServe}}
	})
	refuse("it commits to another output", ReasonOutput, w.agentKey, func(b *Body, _ *protocol.LeaseCertificate) { b.OutputCommitment[0] ^= 1 })
	return v
}
