package receipt

import (
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Opening is what a client shows to prove what a commitment commits to.
type Opening struct {
	Salt Salt
	Data []byte
}

// Options are checks beyond the chain. The report says which were made.
type Options struct {
	Input, Output *Opening // if given, must open the commitments
	MinEpoch      uint64   // refuse receipts of older epochs of the broker
}

// Link is one step of the chain that was checked and holds.
type Link struct {
	Name   string `json:"name"`   // such as "lease certificate"
	Detail string `json:"detail"` // who vouches for what, for people
}

// Report says what a verified receipt proves.
type Report struct {
	Links       []Link                    `json:"links"` // from the root to the body
	Body        Body                      `json:"-"`
	Lease       protocol.LeaseCertificate `json:"-"`
	Epoch       protocol.EpochStatement   `json:"-"`
	SoftwareTEE bool                      `json:"software_tee"` // the evidence proves nothing: a test guest
	InputShown  bool                      `json:"input_shown"`  // Options.Input opened the commitment
	OutputShown bool                      `json:"output_shown"`
}

// Verify checks a receipt with nothing but the broker's root identities. Any
// error is an evidence.Refusal with a reason code.
func Verify(r Receipt, roots []identity.Public, o Options) (Report, error) {
	authority, err := protocol.VerifyAuthority(r.LeaseChain, roots, protocol.Recorded(max(o.MinEpoch, 1)),
		protocol.RoleServe, protocol.About(r.Body.ModelID), protocol.Everyone())
	if err != nil {
		return Report{}, err
	}
	lease, epoch := authority.Lease, authority.Epoch
	msg, err := r.Body.Marshal()
	if err != nil {
		return Report{}, evidence.Refuse(ReasonMalformed, "%w", err)
	}
	if err := lease.AgentKey.Verify(Context, msg, r.Signature); err != nil {
		return Report{}, evidence.Refuse(ReasonSignature, "the attested agent key did not sign this body: %w", err)
	}
	if err := checkBody(&r.Body, &lease); err != nil {
		return Report{}, err
	}
	if err := checkOpenings(&r.Body, o); err != nil {
		return Report{}, err
	}
	report := Report{
		Body: r.Body, Lease: lease, Epoch: epoch, SoftwareTEE: lease.SoftwareTEE,
		InputShown: o.Input != nil, OutputShown: o.Output != nil,
	}
	report.explain()
	return report, nil
}

// checkBody compares the body with the certificate of its lease.
func checkBody(b *Body, lease *protocol.LeaseCertificate) error {
	switch {
	case b.LeaseID != lease.Lease:
		return evidence.Refuse(ReasonLease, "the body names lease %s, the certificate %s", b.LeaseID, lease.Lease)
	case b.EvidenceDigest != lease.EvidenceDigest:
		return evidence.Refuse(ReasonEvidence, "body and lease certificate name different evidence")
	case !lease.ValidAt(b.Time):
		return evidence.Refuse(ReasonTime, "answered at %s, the lease ran from %s to %s",
			stamp(b.Time), stamp(lease.NotBefore), stamp(lease.NotAfter))
	}
	return nil
}

func checkOpenings(b *Body, o Options) error {
	if o.Input != nil && !b.InputCommitment.equal(CommitInput(o.Input.Salt, o.Input.Data)) {
		return evidence.Refuse(ReasonInput, "the receipt was not made for this input")
	}
	if o.Output != nil && !b.OutputCommitment.equal(CommitOutput(o.Output.Salt, o.Output.Data)) {
		return evidence.Refuse(ReasonOutput, "the receipt was not made for this output")
	}
	return nil
}

// explain writes down the chain, from what the verifier trusts to what it learns.
func (r *Report) explain() {
	add := func(name, format string, args ...any) {
		r.Links = append(r.Links, Link{Name: name, Detail: fmt.Sprintf(format, args...)})
	}
	add("broker root", "identity %x is one of the roots given", r.Epoch.Broker[:8])
	add("epoch statement", "the root certifies the broker's key for epoch %d, %s to %s",
		r.Epoch.Epoch, stamp(r.Epoch.NotBefore), stamp(r.Epoch.NotAfter))
	kind := string(r.Lease.Kind)
	if r.SoftwareTEE {
		kind = "software TEE (NO protection, for tests)"
	}
	add("lease certificate", "the broker attested image %q (%s, image %s) under policy %s version %d and leased until %s",
		r.Lease.ImageID, kind, r.Lease.Image, r.Lease.PolicyID, r.Lease.PolicyVersion, stamp(r.Lease.NotAfter))
	id := r.Lease.AgentKey.ID()
	add("agent key", "key %x, attested in lease %s, signed the body", id[:8], r.Lease.Lease)
	add("body", "model %s version %d (%x) answered with %d tokens to %d at %s, within the lease",
		r.Body.ModelName, r.Body.ModelVersion, r.Body.ModelID[:8], r.Body.CompletionTokens, r.Body.PromptTokens, stamp(r.Body.Time))
	if r.InputShown {
		add("input", "the salt opens the input commitment to the bytes given")
	}
	if r.OutputShown {
		add("output", "the salt opens the output commitment to the bytes given")
	}
}

func stamp(t protocol.Time) string { return t.Time().Format(time.RFC3339) }
