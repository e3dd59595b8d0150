package protocol

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Floor says which epochs a verifier still listens to, of each root's broker. The zero
// value is none.
type Floor struct {
	lowest Lowest
	now    Time
	past   bool
}

// Live is the floor for what is said now, by the verifier's own trusted time: an epoch
// that is over says nothing any more, whatever time its statement claims.
func Live(lowest Lowest, now Time) Floor { return Floor{lowest: lowest, now: now} }

// Recorded is the floor for what was said and kept: a receipt, or a statement that a
// live one names by its digest. The epoch may be over, but not below the lowest.
func Recorded(lowest Lowest) Floor { return Floor{lowest: lowest, past: true} }

// Kept is the floor for what a statement that this floor admits names by digest: it was
// said before, and its epoch may be over since.
func (f Floor) Kept() Floor { return Floor{lowest: f.lowest, past: true} }

// admits refuses a retired epoch, one that is over or one that has not begun.
func (f Floor) admits(st *EpochStatement) error {
	lowest := f.lowest.Of(st.Broker)
	switch {
	case lowest == 0 || !f.past && !f.now.valid():
		return refusal.New(ReasonEpochRetired, "no lowest epoch is configured, so none is accepted")
	case st.Epoch < lowest:
		return refusal.New(ReasonEpochRetired, "got epoch %d of broker %x, want at least %d", st.Epoch, st.Broker[:8], lowest)
	case !f.past && !st.ValidAt(f.now):
		return refusal.New(ReasonEpochNotValid, "epoch %d is valid from %s to %s, the time is %s", st.Epoch, st.NotBefore.Time(), st.NotAfter.Time(), f.now.Time())
	}
	return nil
}

// Resource is what a lease must have been granted. The zero value is satisfied by
// nothing; [NoResource] must be written out.
type Resource struct {
	name    string
	subject [32]byte
	none    bool
}

// NoResource asks for none: role and audience decide alone.
func NoResource() Resource { return Resource{none: true} }

// Named asks for the key with this name, in any version.
func Named(name string) Resource { return Resource{name: name} }

// About asks for a key that, as the broker's store says, is for this subject: the id of
// the model that the key opens.
func About(subject [32]byte) Resource { return Resource{subject: subject} }

// granted looks for a grant of the resource that came with the role. A role of one key says
// nothing about another.
func (r Resource) granted(c *LeaseCertificate, role Role) error {
	if r.none {
		return nil
	}
	var found *Granted
	for i, g := range c.Grants {
		if r.name == "" && r.subject == [32]byte{} || r.name != "" && g.Resource != r.name || r.subject != [32]byte{} && g.Subject != r.subject {
			continue
		}
		if g.Roles.Has(role) {
			return nil
		}
		found = &c.Grants[i]
	}
	if found != nil {
		return refusal.New(ReasonRole, "lease %s was granted %s for the roles %s, want %s", c.Lease, found.Resource, found.Roles, role)
	}
	switch {
	case r.name != "":
		return refusal.New(ReasonNotGranted, "lease %s was not granted %s", c.Lease, r.name)
	case r.subject != [32]byte{}:
		return refusal.New(ReasonNotGranted, "lease %s was granted no key for %x", c.Lease, r.subject[:8])
	}
	return refusal.New(ReasonNotGranted, "no resource was asked for")
}

// Authority is a verified chain: what a root says of an epoch, and the epoch's key of a
// guest. Only [VerifyAuthority] makes one, and [VerifyPermitted] of a guest that runs on a permit.
type Authority struct {
	Lease LeaseCertificate
	Epoch EpochStatement
	// Permit is the permit that the guest runs on; nil but for what [VerifyPermitted] made.
	Permit *Running
}

// VerifyAuthority checks a lease chain from the brokers' roots down, and that its lease
// gives the authority that the caller is about to rely on: the broker, an epoch above the
// floor, the role, the resource and the audience. There is no default for any of them. It
// and [VerifyHolder] are the only ways to look at another's lease (docs/protocol.md 15).
//
// The caller verifies the agent key's signature and compares times with the lease's.
// A chain of version 1 that verifies is refused with [ReasonAuthorityNotRecorded], and
// returned with what it says.
func VerifyAuthority(chain []byte, roots []identity.Public, broker Broker, floor Floor, role Role, resource Resource, audience Audience) (Authority, error) {
	a, err := verifyAdmitted(chain, roots, broker, floor)
	if err != nil {
		return a, err
	}
	if roles := a.Lease.Roles(); !roles.Has(role) {
		return Authority{}, refusal.New(ReasonRole, "lease %s has the roles %s, want %s", a.Lease.Lease, roles, role)
	}
	if err := resource.granted(&a.Lease, role); err != nil {
		return Authority{}, err
	}
	if err := audience.Admits(&a.Lease); err != nil {
		return Authority{}, err
	}
	return a, nil
}

// VerifyHolder checks a lease chain as [VerifyAuthority] does, for a statement about a resource whose grants
// carry no role ([ForServices]): who was released the key of exactly this name may make it. What else the
// lease was granted says nothing here, and this authority says nothing elsewhere. about verifies the statement
// under the lease's agent key, once the chain is verified, and says which resource it is about.
func VerifyHolder(chain []byte, roots []identity.Public, broker Broker, floor Floor, about func(*LeaseCertificate) (resource string, err error)) (Authority, error) {
	a, err := verifyAdmitted(chain, roots, broker, floor)
	if err != nil {
		return a, err
	}
	name, err := about(&a.Lease)
	if err != nil {
		return Authority{}, err
	}
	if !ForServices(name) || !slices.ContainsFunc(a.Lease.Grants, func(g Granted) bool { return g.Resource == name }) {
		return Authority{}, refusal.New(ReasonNotGranted, "lease %s was not granted %q", a.Lease.Lease, name)
	}
	return a, nil
}

// verifyAdmitted checks a chain, whose broker vouches for it, and its epoch; of authority it asks only that
// the lease says what was granted.
func verifyAdmitted(chain []byte, roots []identity.Public, broker Broker, floor Floor) (Authority, error) {
	a, former, err := verifyChain(chain, roots)
	if err != nil {
		return Authority{}, err
	}
	if err := broker.admits(&a.Epoch); err != nil {
		return Authority{}, err
	}
	if err := floor.admits(&a.Epoch); err != nil {
		return Authority{}, err
	}
	if former {
		return a, refusal.New(ReasonAuthorityNotRecorded, "a version 1 lease does not say what was granted")
	}
	return a, nil
}

// VerifyStatementEpoch checks the root's statement that another statement of the broker
// carries: whose it is, and against a floor.
func VerifyStatementEpoch(signed []byte, roots []identity.Public, broker Broker, floor Floor) (EpochStatement, error) {
	st, err := VerifyEpoch(signed, roots)
	if err != nil {
		return EpochStatement{}, err
	}
	if err := broker.admits(&st); err != nil {
		return EpochStatement{}, err
	}
	if err := floor.admits(&st); err != nil {
		return EpochStatement{}, err
	}
	return st, nil
}

// verifyChain checks signatures and consistency: root -> epoch statement -> lease
// certificate. former is true of a chain of version 1.
func verifyChain(chain []byte, roots []identity.Public) (a Authority, former bool, err error) {
	if len(chain) > maxLeaseChainBytes {
		return a, false, malformed("lease chain of %d bytes", len(chain))
	}
	if IsPermitChain(chain) {
		return a, false, refusal.New(ReasonOnPermit, "the guest runs on a permit, and no broker has attested it since its restart")
	}
	s := cryptobyte.String(chain)
	var label string
	var epoch, lease []byte
	if !readString8(&s, &label) || !readBytes24(&s, &epoch) || !readBytes24(&s, &lease) || !s.Empty() {
		return a, false, malformed("lease chain: truncated, trailing or of another kind")
	}
	switch label {
	case labelLeaseChain:
	case labelLeaseChain1:
		former = true
	default:
		return a, false, refusal.New(ReasonChainVersion, "the lease chain has an unknown kind or version")
	}
	st, err := VerifyEpoch(epoch, roots)
	if err != nil {
		return a, former, err
	}
	verify := VerifyLease
	if former {
		verify = verifyLease1
	}
	c, err := verify(lease, st)
	if err != nil {
		return a, former, err
	}
	return Authority{Lease: c, Epoch: st}, former, nil
}
