package receipt

import (
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Opening is what a client shows to prove what a commitment commits to.
type Opening struct {
	Salt Salt
	Data []byte
}

// Options are checks beyond the chain. The report says which were not made.
type Options struct {
	Input, Output *Opening // if given, must open the commitments
	Expect        Expect
}

// Report says what a verified receipt proves, and what it does not.
type Report struct {
	Links []Link                    `json:"links"` // from the root to the body
	Body  Body                      `json:"-"`
	Lease protocol.LeaseCertificate `json:"-"`
	Epoch protocol.EpochStatement   `json:"-"`
	// Guest is what answered, and what its lease was granted.
	Guest Guest `json:"guest"`
	// Permit is not nil if the guest ran on a permit of its broker's: it was attested when its
	// lease began, and not since it restarted.
	Permit *PermitUsed `json:"permit,omitempty"`
	// AuthorityRecorded is false of a receipt of version 1, whose lease does not say
	// which models it was granted.
	AuthorityRecorded bool `json:"authority_recorded"`
	SoftwareTEE       bool `json:"software_tee"` // the evidence proves nothing: a test guest
	InputShown        bool `json:"input_shown"`  // Options.Input opened the commitment
	OutputShown       bool `json:"output_shown"`
	// NotChecked is what the receipt does not prove, or nobody asked.
	NotChecked []Unchecked `json:"not_checked"`
}

// Verify checks a receipt with nothing but the root identities of the brokers that the
// reader believes; the report says which of them vouched. Any
// error is an refusal.Error with a reason code.
//
// A receipt of version 1 that is genuine in every other way is refused with
// [protocol.ReasonAuthorityNotRecorded], and its report is returned beside that.
func Verify(r Receipt, roots []identity.Public, o Options) (Report, error) {
	authority, unrecorded, err := verifyAuthority(&r, roots, o.Expect.MinEpoch)
	if err != nil {
		return Report{}, err
	}
	if authority.Permit != nil && !o.Expect.Permits {
		return Report{}, refusal.New(protocol.ReasonOnPermit, "the guest answered on a permit, after a restart without its broker; whoever accepts that has to say so")
	}
	lease, epoch := authority.Lease, authority.Epoch
	msg, err := r.Body.Marshal()
	if err != nil {
		return Report{}, refusal.New(ReasonMalformed, "%w", err)
	}
	context, _ := r.Body.format()
	if err := lease.AgentKey.Verify(context, msg, r.Signature); err != nil {
		return Report{}, refusal.New(ReasonSignature, "the attested agent key did not sign this body: %w", err)
	}
	if err := checkBody(&r.Body, &lease); err != nil {
		return Report{}, err
	}
	if err := checkOpenings(&r.Body, o); err != nil {
		return Report{}, err
	}
	if err := o.Expect.check(&r.Body, &lease, unrecorded); err != nil {
		return Report{}, err
	}
	report := Report{
		Body: r.Body, Lease: lease, Epoch: epoch, Guest: guestOf(&r.Body, &lease), AuthorityRecorded: unrecorded == nil,
		Permit: permitOf(authority.Permit), SoftwareTEE: lease.SoftwareTEE, InputShown: o.Input != nil, OutputShown: o.Output != nil,
	}
	report.explain()
	report.NotChecked = unchecked(&report, o, len(roots))
	return report, unrecorded
}

// verifyAuthority asks the chain for the authority to answer with the body's model, by the
// word of whichever of the roots' brokers leased: a receipt is about no other's. What
// a receipt says was said under its lease, whose epoch may be over. unrecorded is the
// refusal of a receipt of version 1, whose chain verifies.
func verifyAuthority(r *Receipt, roots []identity.Public, minEpoch uint64) (a protocol.Authority, unrecorded, err error) {
	if protocol.IsPermitChain(r.LeaseChain) {
		a, err = protocol.VerifyPermitted(r.LeaseChain, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(max(minEpoch, 1))),
			protocol.About(r.Body.ModelID), protocol.Everyone())
		if err == nil && r.Body.former {
			err = refusal.New(ReasonMalformed, "receipt and permit chain have different versions")
		}
		return a, nil, err
	}
	a, err = protocol.VerifyAuthority(r.LeaseChain, roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(max(minEpoch, 1))),
		protocol.RoleServe, protocol.About(r.Body.ModelID), protocol.Everyone())
	if reason, _ := refusal.ReasonOf(err); reason == protocol.ReasonAuthorityNotRecorded {
		unrecorded, err = err, nil
	}
	if err == nil && r.Body.former != (unrecorded != nil) {
		return a, nil, refusal.New(ReasonMalformed, "receipt and lease chain have different versions")
	}
	return a, unrecorded, err
}

// checkBody compares the body with the certificate of its lease.
func checkBody(b *Body, lease *protocol.LeaseCertificate) error {
	switch {
	case b.LeaseID != lease.Lease:
		return refusal.New(ReasonLease, "the body names lease %s, the certificate %s", b.LeaseID, lease.Lease)
	case b.EvidenceDigest != lease.EvidenceDigest:
		return refusal.New(ReasonEvidence, "body and lease certificate name different evidence")
	case !lease.ValidAt(b.Time):
		return refusal.New(ReasonTime, "answered at %s, the lease or permit ran from %s to %s",
			stamp(b.Time), stamp(lease.NotBefore), stamp(lease.NotAfter))
	}
	return nil
}

func checkOpenings(b *Body, o Options) error {
	if o.Input != nil && !b.InputCommitment.equal(CommitInput(o.Input.Salt, o.Input.Data)) {
		return refusal.New(ReasonInput, "the receipt was not made for this input")
	}
	if o.Output != nil && !b.OutputCommitment.equal(CommitOutput(o.Output.Salt, o.Output.Data)) {
		return refusal.New(ReasonOutput, "the receipt was not made for this output")
	}
	return nil
}
