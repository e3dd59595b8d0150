package receipt_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

var input = []int8{1, -2, 3, -128}

// bench is an attested agent, a model, and a bundle for each answer.
type bench struct {
	t     testing.TB
	world *federationtest.World
	agent *federationtest.Agent
	keys  *provetest.Keys
	ring  *keyset.Ring
	model statement.Model
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, world: federationtest.New(t), keys: provetest.Shared(t)}
	b.agent = b.world.Agent(t, nil)
	var err error
	if b.ring, err = keyset.NewRing([]keyset.Set{b.keys.Save(t, t.TempDir(), false)}, false, time.Minute, provetest.Verifiers()); err != nil {
		t.Fatal(err)
	}
	b.model = modelOf(t, 1)
	b.agent.Grant(t, b.model.ID())
	return b
}

func modelOf(t testing.TB, seed uint64) statement.Model {
	t.Helper()
	n := classifytest.Network(seed)
	sum, err := n.Architecture.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return statement.Model{Architecture: sum, Quantization: digest.Digest{1}, Chunks: digest.Digest{2}, Weights: statement.WeightsCommitment(n)}
}

// answer makes the bundle of an answer, as an agent does.
func (b *bench) answer() receipt.Bundle {
	b.t.Helper()
	n := classifytest.Network(1)
	outputs, err := n.Forward(input)
	if err != nil {
		b.t.Fatal(err)
	}
	salt, err := statement.NewSalt()
	if err != nil {
		b.t.Fatal(err)
	}
	id, err := receipt.NewID()
	if err != nil {
		b.t.Fatal(err)
	}
	lease := receipt.Lease{ID: b.agent.Lease.Lease, EvidenceDigest: b.agent.Lease.EvidenceDigest, Chain: b.agent.Chain, Now: federationtest.Begin.Add(time.Minute)}
	issued, err := receipt.IssueProvable(b.agent.Key, lease, receipt.Answer{ID: id, ModelID: b.model.ID(), ModelName: "tiny", ModelVersion: 3},
		statement.InputCommitment(salt, input), salt, outputs)
	if err != nil {
		b.t.Fatal(err)
	}
	s := b.keys.Statement(b.model, id, salt, input, outputs)
	return receipt.Bundle{Receipt: issued.Receipt, OutputSalt: issued.Salts.Output,
		Proof: statement.Envelope{Statement: s, Key: b.ring1(), Proof: b.keys.Prove(b.t, s, n, salt, input)}}
}

// ring1 is the digest of the one key.
func (b *bench) ring1() digest.Digest {
	b.t.Helper()
	s, err := b.ring.ForArchitecture(b.model.Architecture)
	if err != nil {
		b.t.Fatal(err)
	}
	return s.Record.VerifyingKey
}

func wantReason(t testing.TB, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

func TestABundleSaysWhatWhereAndWhen(t *testing.T) {
	b := newBench(t)
	bundle := b.answer()
	raw, err := json.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	again, err := receipt.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	v, err := again.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := classifytest.Network(1).Forward(input)
	if err != nil || !slices.Equal(v.Outputs, want) {
		t.Errorf("outputs %d, want %d: %v", v.Outputs, want, err)
	}
	if v.Receipt != bundle.Receipt.Body.ID.String() || v.Model != "tiny" || v.ModelVersion != 3 || v.ModelID != b.model.ID() || !v.Time.Equal(federationtest.Begin.Add(time.Minute).Time()) {
		t.Errorf("%+v", v)
	}
	g, l := v.Guest, b.agent.Lease
	if g.Kind != l.Kind || g.EvidenceDigest != fmt.Sprintf("%x", l.EvidenceDigest) || len(g.Measurements) != 1 || g.Image != l.Image || g.ImageID != l.ImageID || g.Tenant != l.Tenant ||
		g.Granted == nil || g.Granted.ModelID != b.model.ID().String() || !v.AuthorityRecorded || len(v.Links) != 6 ||
		g.Policy != l.PolicyID || !g.SoftwareTEE || g.Lease != l.Lease.String() || g.Broker != fmt.Sprintf("%x", l.Broker) {
		t.Errorf("%+v", g)
	}
	p := v.Proof
	if p.System != statement.Groth16.String() || p.Circuit != b.keys.Record.Circuit || p.Key != bundle.Proof.Key || p.Development || p.Ceremony != b.keys.Record.Ceremony || p.Bytes != len(bundle.Proof.Proof) {
		t.Errorf("%+v", p)
	}
}

// TestBundleIsHeldAgainstExpectations: they reach the receipt, and what was not asked is said.
func TestBundleIsHeldAgainstExpectations(t *testing.T) {
	b := newBench(t)
	bundle := b.answer()
	_, err := bundle.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{Tenants: []string{"another"}})
	if reason, _ := refusal.ReasonOf(err); reason != receipt.ReasonTenant {
		t.Errorf("got %v, want %s", err, receipt.ReasonTenant)
	}
	v, err := bundle.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{Tenants: []string{"tenant"}})
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, u := range v.NotChecked {
		names = append(names, u.Name)
	}
	if slices.Contains(names, "tenant") || slices.Contains(names, "output") || !slices.Contains(names, "image") {
		t.Errorf("not checked: %v", names)
	}
}

// Each of these changes one thing alone.
func TestWhatIsNotOneAnswerIsRefused(t *testing.T) {
	b := newBench(t)
	bundle, second := b.answer(), b.answer()
	raw, err := json.Marshal(bundle)
	if err != nil {
		t.Fatal(err)
	}
	item := func(x *receipt.Bundle) *statement.Item { return &x.Proof.Statement.Inference.Items[0] }
	for what, c := range map[string]struct {
		reason refusal.Reason
		change func(x *receipt.Bundle)
	}{
		"outputs of the statement": {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { item(x).Outputs[1]++ }},
		"one output less":          {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { item(x).Outputs = item(x).Outputs[:1] }},
		"the input":                {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { item(x).Input = item(&second).Input }},
		"the salt":                 {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.OutputSalt[31]++ }},
		"another's salt":           {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.OutputSalt = second.OutputSalt }},
		"no salt":                  {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.OutputSalt = receipt.Salt{} }},
		"another receipt":          {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.Receipt = second.Receipt }},
		"another proof":            {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.Proof = second.Proof }},
		"the statement's receipt":  {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { item(x).Receipt[0]++ }},
		"another model":            {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.Proof.Statement.Inference.Model = modelOf(t, 2) }},
		"another quantization":     {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.Proof.Statement.Inference.Model.Quantization[0]++ }},
		"another sealed file":      {receipt.ReasonProofMismatch, func(x *receipt.Bundle) { x.Proof.Statement.Inference.Model.Chunks[0]++ }},
		"a gradient": {receipt.ReasonProofMismatch, func(x *receipt.Bundle) {
			x.Proof.Statement.Inference, x.Proof.Statement.Gradient = nil, &statement.Gradient{Coordinates: 1, LInf: 1, SquaredL2: 1}
		}},
		"the receipt's model":   {protocol.ReasonNotGranted, func(x *receipt.Bundle) { x.Receipt.Body.ModelID[0]++ }},
		"the receipt's outputs": {receipt.ReasonSignature, func(x *receipt.Bundle) { x.Receipt.Body.OutputCommitment[0]++ }},
		"the receipt's name":    {receipt.ReasonSignature, func(x *receipt.Bundle) { x.Receipt.Body.ModelName = "other" }},
		"the receipt's lease":   {receipt.ReasonSignature, func(x *receipt.Bundle) { x.Receipt.Body.LeaseID[0]++ }},
	} {
		x, err := receipt.ParseBundle(raw)
		if err != nil {
			t.Fatal(err)
		}
		c.change(&x)
		_, err = x.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{})
		wantReason(t, what, err, c.reason)
	}
	// What receipt and statement agree on, the proof must say too.
	x, err := receipt.ParseBundle(raw)
	if err != nil {
		t.Fatal(err)
	}
	x.Proof.Proof = second.Proof.Proof
	if _, err := x.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{}); err == nil {
		t.Error("another answer's proof verified")
	}
	if _, err := bundle.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{}); err != nil {
		t.Errorf("the bundle itself: %v", err)
	}
}

// An agent that lies about its outputs signs a receipt that fits, and has no proof.
func TestAReceiptOfOutputsThatTheModelDoesNotGive(t *testing.T) {
	b := newBench(t)
	x := b.answer()
	item := &x.Proof.Statement.Inference.Items[0]
	item.Outputs[0] += 1000
	body := x.Receipt.Body
	body.OutputCommitment = receipt.CommitOutput(x.OutputSalt, receipt.EncodeOutputs(item.Outputs))
	var err error
	if x.Receipt, err = receipt.Sign(b.agent.Key, body, b.agent.Chain); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Matches(); err != nil {
		t.Fatalf("receipt and statement should agree: %v", err)
	}
	if _, err := x.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{}); err == nil {
		t.Error("a lie verified")
	}
}

func TestRootsAndKeysDecide(t *testing.T) {
	b := newBench(t)
	x := b.answer()
	for what, roots := range map[string][]identity.Public{"no root": nil, "another root": federationtest.New(t).Roots(), "the agent's own": {b.agent.Key.Public()}} {
		if _, err := x.Verify(t.Context(), roots, b.ring, receipt.Expect{}); err == nil {
			t.Errorf("%s: verified", what)
		}
	}
	other, err := keyset.NewRing([]keyset.Set{provetest.Other(t).Save(t, t.TempDir(), false)}, false, time.Minute, provetest.Verifiers())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Verify(t.Context(), b.world.Roots(), other, receipt.Expect{}); !errors.Is(err, keyset.ErrUnknown) {
		t.Errorf("a key that is not registered: %v", err)
	}
	set := b.keys.Save(t, t.TempDir(), true)
	if _, err := keyset.NewRing([]keyset.Set{set}, false, time.Minute, provetest.Verifiers()); !errors.Is(err, keyset.ErrDevelopment) {
		t.Errorf("a development key without consent: %v", err)
	}
	consent, err := keyset.NewRing([]keyset.Set{set}, true, time.Minute, provetest.Verifiers())
	if err != nil {
		t.Fatal(err)
	}
	v, err := x.Verify(t.Context(), b.world.Roots(), consent, receipt.Expect{})
	if err != nil || !v.Proof.Development || v.Proof.Ceremony != (digest.Digest{}) {
		t.Errorf("with consent it is told: %+v %v", v.Proof, err)
	}
}

func TestParseRefusesWhatIsNoBundle(t *testing.T) {
	b := newBench(t)
	raw, err := json.Marshal(b.answer())
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	for what, text := range map[string]string{
		"empty": "", "null twice": "null null", "a list": "[]", "cut": good[:len(good)-1], "trailing": good + "{}", "a brace": good + "}", "a field": strings.Replace(good, "{", `{"more":1,`, 1),
		"long": good + strings.Repeat(" ", receipt.MaxBundleBytes), "a receipt's field": strings.Replace(good, `"body":{`, `"body":{"more":1,`, 1),
		"a short salt": strings.Replace(good, `"output_salt":"`, `"output_salt":"A`, 1),
	} {
		_, err := receipt.ParseBundle([]byte(text))
		wantReason(t, what, err, receipt.ReasonBundleMalformed)
	}
	if _, err := receipt.ParseBundle([]byte(good + "\n")); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"{}", "null"} {
		x, err := receipt.ParseBundle([]byte(text))
		if err != nil {
			continue
		}
		if _, err := x.Verify(t.Context(), b.world.Roots(), b.ring, receipt.Expect{}); err == nil {
			t.Errorf("%s verified", text)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	raw, err := json.Marshal(newBench(f).answer())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := receipt.ParseBundle(raw)
		if err != nil {
			return
		}
		_, _ = x.Matches() // must not fail in another way
	})
}
