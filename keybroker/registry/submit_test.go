package registry_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

func TestProofIsKeptForEver(t *testing.T) {
	s := open(t, nil)
	s.register(t, 2)
	a := s.answer(t, s.Agent(t, nil), 1, 2)
	s.announce(t, a)
	first, err := s.Submit(t.Context(), &a.bundle)
	if err != nil || !first.New || first.VerifiedAt != s.now().Time() {
		t.Fatalf("%+v, %v", first, err)
	}
	s.pass(time.Hour)
	for range 2 {
		again, err := s.Submit(t.Context(), &a.bundle)
		if err != nil || again.New || again.Proof != first.Proof || again.Statement != first.Statement || !again.VerifiedAt.Equal(first.VerifiedAt) {
			t.Errorf("the same again: %+v, %v", again, err)
		}
		s.restart(t, nil)
	}
	// Another proof of the very same statement is another proof.
	e, err := keys(t, 2).Envelope(a.bundle.Envelope.Statement)
	if err != nil {
		t.Fatal(err)
	}
	other := clone(a.bundle)
	other.Envelope = *e
	_, err = s.Submit(t.Context(), &other)
	wantReason(t, err, registry.ReasonConflict)
	if st := s.status(t); st.Proofs != 1 || st.Kept != 2 || st.Waiting != 0 || s.recorded("proof-verified") != 1 {
		t.Errorf("%+v", st)
	}
}

func TestProofsThatAreRefused(t *testing.T) {
	reprove := func(t *testing.T, b *wire.Bundle) {
		t.Helper()
		e, err := keys(t, len(b.Envelope.Statement.Inference.Items)).Envelope(b.Envelope.Statement)
		if err != nil {
			t.Fatal(err)
		}
		b.Envelope = *e
	}
	other := zktest.Inferences(9, 1, outputs).Inference.Items[0]
	for name, tc := range map[string]struct {
		change func(t *testing.T, b *wire.Bundle)
		prove  bool // the changed statement
		want   refusal.Reason
	}{
		"key":          {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Key[0]++ }, false, registry.ReasonNotRegistered},
		"circuit":      {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Circuit[0]++ }, true, registry.ReasonMismatch},
		"architecture": {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Model.Architecture[0]++ }, true, registry.ReasonMismatch},
		"model":        {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Model.Quantization[0]++ }, true, registry.ReasonMismatch},
		"weights":      {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Model.Weights = other.Input }, true, registry.ReasonMismatch},
		"input":        {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Items[0].Input = other.Input }, true, registry.ReasonMismatch},
		"output":       {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Items[0].Outputs[2]++ }, true, registry.ReasonMismatch},
		"salt":         {func(_ *testing.T, b *wire.Bundle) { b.OutputSalts[0][31] ^= 1 }, false, registry.ReasonMismatch},
		"receipt":      {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference.Items[0].Receipt[0]++ }, true, registry.ReasonNotAnnounced},
		"proof":        {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Proof[3] ^= 1 }, false, registry.ReasonInvalid},
		"no salt":      {func(_ *testing.T, b *wire.Bundle) { b.OutputSalts = nil }, false, wire.ReasonBundle},
		"more salts":   {func(_ *testing.T, b *wire.Bundle) { b.OutputSalts = append(b.OutputSalts, wire.Salt{}) }, false, wire.ReasonBundle},
		"no proof":     {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Proof = nil }, false, wire.ReasonBundle},
		"no statement": {func(_ *testing.T, b *wire.Bundle) { b.Envelope.Statement.Inference = nil }, false, wire.ReasonBundle},
		"other's proof": {func(t *testing.T, b *wire.Bundle) {
			p := clone(*b)
			p.Envelope.Statement.Inference.Items[0].Input = other.Input
			reprove(t, &p)
			b.Envelope.Proof = p.Envelope.Proof
		}, false, registry.ReasonInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			s.register(t, 1)
			a := s.answer(t, s.Agent(t, nil), 1, 1)
			s.announce(t, a)
			b := clone(a.bundle)
			tc.change(t, &b)
			if tc.prove {
				reprove(t, &b)
			}
			_, err := s.Submit(t.Context(), &b)
			wantReason(t, err, tc.want)
			if st := s.status(t); st.Proofs != 0 || st.Waiting != 1 || s.recorded("proof-verified") != 0 {
				t.Errorf("something was kept: %+v", st)
			}
			if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
				t.Errorf("the good one: %v", err)
			}
		})
	}
}

func TestBundleOfAGradientOrOfOneReceiptTwiceIsRefused(t *testing.T) {
	s := open(t, nil)
	e := statement.Envelope{Proof: []byte{1}, Statement: statement.Statement{System: statement.Groth16, Gradient: &statement.Gradient{Coordinates: 1, LInf: 1, SquaredL2: 1}}}
	_, err := s.Submit(t.Context(), &wire.Bundle{Envelope: e})
	wantReason(t, err, wire.ReasonBundle)
	a := s.answer(t, s.Agent(t, nil), 1, 2)
	items := a.bundle.Envelope.Statement.Inference.Items
	items[1].Receipt = items[0].Receipt
	_, err = s.Submit(t.Context(), &a.bundle)
	wantReason(t, err, wire.ReasonBundle)
}

// A policy that became stricter counts, and what was verified before stays.
func TestDevelopmentKeyUnderAStricterPolicy(t *testing.T) {
	s := open(t, func(c *registry.Config) { c.Policy.AllowDevelopment = true })
	g := keys(t, 1)
	r := g.Record(1, outputs)
	r.Development, r.Ceremony = true, digest.Digest{}
	if _, err := s.Register(t.Context(), *r, g.Key); err != nil {
		t.Fatal(err)
	}
	a, b := s.answer(t, s.Agent(t, nil), 1, 1), s.answer(t, s.Agent(t, nil), 2, 1)
	s.announce(t, a, b)
	if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Audit(t.Context(), a.ids[0]); err != nil || !got.Proof.Development {
		t.Errorf("%+v, %v", got.Proof, err)
	}
	s.restart(t, func(c *registry.Config) { c.Policy.AllowDevelopment = false })
	_, err := s.Submit(t.Context(), &b.bundle)
	wantReason(t, err, registry.ReasonDevelopment)
}

func TestProofIsNotKeptWithoutAuditOrRoom(t *testing.T) {
	s := open(t, func(c *registry.Config) { c.Kept = 1 })
	s.register(t, 1)
	a, b := s.answer(t, s.Agent(t, nil), 1, 1), s.answer(t, s.Agent(t, nil), 2, 1)
	s.announce(t, a, b)
	s.failAudit(errDisk)
	if _, err := s.Submit(t.Context(), &a.bundle); !errors.Is(err, errDisk) {
		t.Errorf("without an audit record: %v", err)
	}
	s.failAudit(nil)
	if st := s.status(t); st.Proofs != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
		t.Fatal(err)
	}
	_, err := s.Submit(t.Context(), &b.bundle)
	wantReason(t, err, registry.ReasonFull)
	if st := s.status(t); st.Kept != 1 || st.Proofs != 1 || s.recorded("proof-verified") != 1 {
		t.Errorf("%+v", st)
	}
	if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
		t.Errorf("what is there already: %v", err)
	}
}

// verifier stands in for a key, to stop in the middle of a verification.
type verifier struct {
	inputs int
	verify func(context.Context) error
}

func (v *verifier) Inputs() int { return v.inputs }

func (v *verifier) VerifyEnvelope(ctx context.Context, _ *statement.Envelope) error {
	return v.verify(ctx)
}

func withVerifier(verify func(context.Context) error) func(*registry.Config) {
	return func(c *registry.Config) {
		c.ParseKey = func(statement.System, []byte) (registry.Verifier, error) {
			return &verifier{2 + 1 + outputs, verify}, nil
		}
	}
}

func TestVerificationHasItsTime(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		withVerifier(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })(c)
		c.VerificationTimeout = time.Millisecond
	})
	s.register(t, 1)
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	s.announce(t, a)
	_, err := s.Submit(t.Context(), &a.bundle)
	wantReason(t, err, registry.ReasonTimeout)
	ctx, cancel := context.WithCancel(t.Context())
	s.restart(t, withVerifier(func(context.Context) error { cancel(); <-ctx.Done(); return ctx.Err() }))
	if _, err := s.Submit(ctx, &a.bundle); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled by its caller: %v", err)
	}
	if st := s.status(t); st.Proofs != 0 {
		t.Errorf("%+v", st)
	}
}

// A receipt that goes with its age while its proof is verified has no proof.
func TestReceiptGoneDuringVerification(t *testing.T) {
	var s *site
	s = open(t, func(c *registry.Config) {
		c.WaitingAge = time.Hour
		withVerifier(func(ctx context.Context) error {
			s.pass(2 * time.Hour)
			_, err := s.Expire(ctx)
			return err
		})(c)
	})
	s.register(t, 1)
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	s.announce(t, a)
	_, err := s.Submit(t.Context(), &a.bundle)
	wantReason(t, err, registry.ReasonNotAnnounced)
	if st := s.status(t); st.Proofs != 0 || st.Kept != 0 || st.Waiting != 0 {
		t.Errorf("%+v", st)
	}
}

func TestOneOfTwoProofsAtOnceIsKept(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	s.announce(t, a)
	bundles := make([]wire.Bundle, 4)
	for i := range bundles {
		bundles[i] = clone(a.bundle)
		e, err := keys(t, 1).Envelope(a.bundle.Envelope.Statement)
		if err != nil {
			t.Fatal(err)
		}
		bundles[i].Envelope = *e
	}
	var wg sync.WaitGroup
	errs := make([]error, len(bundles))
	for i := range bundles {
		wg.Go(func() { _, errs[i] = s.Submit(t.Context(), &bundles[i]) })
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
			continue
		}
		wantReason(t, err, registry.ReasonConflict)
	}
	if st := s.status(t); good != 1 || st.Proofs != 1 || s.recorded("proof-verified") != 1 {
		t.Errorf("%d kept: %+v", good, st)
	}
}

// What the broker answers about a receipt, step by step.
func TestAuditJoinsReceiptLeaseChallengeAndProof(t *testing.T) {
	s := open(t, nil)
	s.register(t, 2)
	agent := s.Agent(t, nil)
	a := s.answer(t, agent, 1, 2)
	_, err := s.Audit(t.Context(), a.ids[0])
	wantReason(t, err, registry.ReasonNotAnnounced)
	s.announce(t, a)
	got, err := s.Audit(t.Context(), a.ids[1])
	if err != nil || got.Challenge != nil || got.Proof != nil || !bytes.Equal(got.Documents.Receipt, a.receipts[1]) {
		t.Fatalf("%+v, %v", got, err)
	}
	if r := got.Receipt; r.ID != a.ids[1] || r.Agent != digest.Digest(agent.Key.Public().ID()) || r.Model != a.bundle.Envelope.Statement.Inference.Model.ID() || r.Announced != s.now().Time() {
		t.Errorf("%+v", r)
	}
	if g := got.Guest; g.Lease != agent.Lease.Lease || g.EvidenceDigest != agent.Lease.EvidenceDigest || !g.SoftwareTEE || g.Image != "image" || g.Evidence != string(agent.Lease.Kind) {
		t.Errorf("%+v", g)
	}
	s.challenge(t, 2)
	if got, err = s.Audit(t.Context(), a.ids[1]); err != nil || got.Challenge == nil || got.Challenge.State != wire.Pending || got.Challenge.Missing != 2 || got.Verify(s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1))) != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	accepted, err := s.Submit(t.Context(), &a.bundle)
	if err != nil {
		t.Fatal(err)
	}
	if got, err = s.Audit(t.Context(), a.ids[1]); err != nil || got.Challenge.State != wire.Answered {
		t.Fatalf("%+v, %v", got, err)
	}
	p := got.Proof
	if p.Digest != accepted.Proof || p.Statement != accepted.Statement || p.Key != keys(t, 2).Digest || p.Development || p.Ceremony == (digest.Digest{}) ||
		p.VerifiedAt != s.now().Time() || len(p.Outputs) != outputs || p.Outputs[0] != a.bundle.Envelope.Statement.Inference.Items[1].Outputs[0] {
		t.Errorf("%+v", p)
	}
	if err := got.Verify(s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
		t.Error(err)
	}
}

// An answer that was changed on its way does not verify.
func TestChangedAnswerDoesNotVerify(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	agent := s.Agent(t, nil)
	a, b := s.answer(t, agent, 1, 1), s.answer(t, agent, 2, 1)
	s.announce(t, a)
	s.challenge(t, 1) // one for each, so that there is another one
	s.announce(t, b)
	s.challenge(t, 1)
	for _, x := range []answer{a, b} {
		if _, err := s.Submit(t.Context(), &x.bundle); err != nil {
			t.Fatal(err)
		}
	}
	otherAnswer, err := s.Audit(t.Context(), b.ids[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*wire.Answer){
		"receipt":           func(x *wire.Answer) { x.Documents.Receipt = b.receipts[0] },
		"challenge missing": func(x *wire.Answer) { x.Documents.Challenge = nil },
		"challenge's agent": func(x *wire.Answer) { x.Receipt.Agent[0]++ },
		"other challenge": func(x *wire.Answer) {
			x.Challenge, x.Documents.Challenge = otherAnswer.Challenge, otherAnswer.Documents.Challenge
		},
		"challenge's name": func(x *wire.Answer) { x.Challenge.Digest[0]++ },
		"record missing":   func(x *wire.Answer) { x.Documents.Record = nil },
		"set-up":           func(x *wire.Answer) { x.Proof.Development = true },
		"ceremony":         func(x *wire.Answer) { x.Proof.Ceremony[0]++ },
		"key":              func(x *wire.Answer) { x.Proof.Key[0]++ },
		"circuit":          func(x *wire.Answer) { x.Proof.Circuit[0]++ },
		"outputs":          func(x *wire.Answer) { x.Proof.Outputs[0]++ },
		"model":            func(x *wire.Answer) { x.Receipt.Model[0]++ },
		"proof's name":     func(x *wire.Answer) { x.Proof.Digest[0]++ },
		"statement":        func(x *wire.Answer) { x.Proof.Statement[0]++ },
		"other bundle":     func(x *wire.Answer) { x.Documents.Bundle = otherAnswer.Documents.Bundle },
		"bundle of another": func(x *wire.Answer) {
			x.Documents.Bundle, x.Proof = otherAnswer.Documents.Bundle, otherAnswer.Proof
			x.Receipt.Model = otherAnswer.Receipt.Model
		},
		"not a bundle": func(x *wire.Answer) { x.Documents.Bundle = []byte("{}") },
	} {
		x, err := s.Audit(t.Context(), a.ids[0])
		if err != nil || x.Verify(s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1))) != nil {
			t.Fatal(err)
		}
		change(&x)
		if x.Verify(s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1))) == nil {
			t.Errorf("%s: verifies", name)
		}
	}
}
