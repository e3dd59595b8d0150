package registrar_test

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// universal is a verifying key of PLONK as it is registered, and an envelope of its own.
func universal(t *testing.T) (wire.Registration, *statement.Envelope) {
	t.Helper()
	dir := filepath.Join("..", "..", "..", "crypto", "zk", "plonkverify", "testdata")
	key, err := os.ReadFile(filepath.Join(dir, "plonk-1.vk"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "plonk-1.proof"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := statement.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	r := *groth16(t).Record(1, outputs)
	r.System, r.Circuit, r.VerifyingKey, r.Inference.Architecture = statement.PLONK, e.Statement.Circuit, sha256.Sum256(key), e.Statement.Inference.Model.Architecture
	return wire.Registration{Record: r, VerifyingKey: key}, e
}

// receiptOf is the receipt of a statement's answer, and the salt of its output.
func receiptOf(t *testing.T, agent *federationtest.Agent, s *statement.Statement) ([]byte, wire.Salt) {
	t.Helper()
	item := s.Inference.Items[0]
	agent.Grant(t, s.Inference.Model.ID())
	lease := receipt.Lease{ID: agent.Lease.Lease, EvidenceDigest: agent.Lease.EvidenceDigest, Chain: agent.Chain, Now: federationtest.Begin.Add(time.Minute)}
	issued, err := receipt.IssueProvable(agent.Key, lease, receipt.Answer{ID: item.Receipt, ModelID: s.Inference.Model.ID(), ModelName: "model", ModelVersion: 1},
		item.Input, [31]byte{1}, item.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := issued.Receipt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw, wire.Salt(issued.Salts.Output)
}

// The broker verifies proofs of PLONK under keys that are registered, and of either system
// under its own keys alone.
func TestProofsOfPLONK(t *testing.T) {
	s := newSite(t)
	r := s.open(t)
	client, _ := s.serve(t, r)
	agent := s.Agent(t, nil)
	key, e := universal(t)
	announced, salt := receiptOf(t, agent, &e.Statement)
	if got, err := client.Announce(t.Context(), [][]byte{announced}); err != nil || got.New != 1 {
		t.Fatal(got, err)
	}
	submit := func(change func(*statement.Envelope)) error {
		raw, err := e.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		other, err := statement.ParseEnvelope(raw)
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(other)
		}
		_, err = client.Submit(t.Context(), &wire.Bundle{Envelope: *other, OutputSalts: []wire.Salt{salt}})
		return err
	}
	wantReason(t, "a key that nobody registered", submit(nil), registry.ReasonNotRegistered)

	var signed operator.Signed
	if err := do(t, r, "POST", "/v1/proof-keys", key, &signed); err != nil {
		t.Fatal(err)
	}
	if err := s.register(t, r, nil); err != nil {
		t.Fatal(err)
	}
	changed := wire.Registration{Record: key.Record, VerifyingKey: bytes.Clone(key.VerifyingKey)}
	changed.VerifyingKey[len(changed.VerifyingKey)/2] ^= 1
	changed.Record.VerifyingKey = sha256.Sum256(changed.VerifyingKey)
	if err := do(t, r, "POST", "/v1/proof-keys", changed, &signed); err == nil {
		t.Error("a broken key was registered")
	}
	groth, err := groth16(t).Envelope(zktest.Inferences(1, 1, outputs))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		change func(*statement.Envelope)
		want   refusal.Reason
	}{
		"a changed proof":        {func(e *statement.Envelope) { e.Proof[40] ^= 1 }, registry.ReasonInvalid},
		"cut short":              {func(e *statement.Envelope) { e.Proof = e.Proof[:len(e.Proof)-1] }, registry.ReasonInvalid},
		"another output":         {func(e *statement.Envelope) { e.Statement.Inference.Items[0].Outputs[0]++ }, registry.ReasonMismatch},
		"another input":          {func(e *statement.Envelope) { e.Statement.Inference.Items[0].Input[31] ^= 1 }, registry.ReasonMismatch},
		"a proof of Groth16":     {func(e *statement.Envelope) { e.Proof = slices.Clone(groth.Proof) }, registry.ReasonInvalid},
		"under a key of Groth16": {func(e *statement.Envelope) { e.Key = groth.Key }, registry.ReasonMismatch},
		"said to be of Groth16":  {func(e *statement.Envelope) { e.Statement.System = statement.Groth16 }, registry.ReasonMismatch},
		"but for its proof of Groth16": {func(e *statement.Envelope) {
			e.Key, e.Statement.System, e.Statement.Circuit = groth.Key, statement.Groth16, groth.Statement.Circuit
		}, registry.ReasonInvalid},
	} {
		wantReason(t, what, submit(c.change), c.want)
	}
	if err := submit(nil); err != nil {
		t.Fatal(err)
	}
	var a wire.Answer
	if err := do(t, r, "GET", "/v1/proof-audit/"+e.Statement.Inference.Items[0].Receipt.String(), nil, &a); err != nil || a.Proof == nil {
		t.Errorf("%+v %v", a, err)
	}
}
