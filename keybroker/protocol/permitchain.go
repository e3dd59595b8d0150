package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const (
	labelPermitChain    = Name + "/permit-chain"
	maxPermitChainBytes = 32 << 10
)

// PermitChain is everything from a broker's root to the agent key of a guest that runs on a
// permit, as receipts carry it in the place of a lease chain (docs/protocol.md 4.6). It is
// another kind of chain: [VerifyAuthority] refuses it, so that no one who relies on leases
// relies on a permit unawares.
type PermitChain struct {
	// Epoch, Lease and Permit are signed by the broker, Restart by the permit's restart key. Restart
	// is empty where the guest has not restarted.
	Epoch, Lease, Permit, Restart []byte
}

// IsPermitChain says whether bytes are a permit chain by their label. It verifies nothing.
func IsPermitChain(chain []byte) bool { return LabelOf(chain) == labelPermitChain }

// Marshal encodes the chain.
func (c PermitChain) Marshal() ([]byte, error) {
	var b cryptobyte.Builder
	addString8(&b, labelPermitChain)
	for _, part := range [][]byte{c.Epoch, c.Lease, c.Permit, c.Restart} {
		addBytes24(&b, part)
	}
	out, err := b.Bytes()
	if err == nil && len(out) > maxPermitChainBytes {
		return nil, errLimit
	}
	return out, err
}

// ParsePermitChain reads a chain and believes nothing of it.
func ParsePermitChain(chain []byte) (c PermitChain, err error) {
	s := cryptobyte.String(chain)
	var label string
	if len(chain) > maxPermitChainBytes || !readString8(&s, &label) || label != labelPermitChain ||
		!readBytes24(&s, &c.Epoch) || !readBytes24(&s, &c.Lease) || !readBytes24(&s, &c.Permit) || !readBytes24(&s, &c.Restart) || !s.Empty() {
		return PermitChain{}, malformed("permit chain: truncated, trailing, of another kind or over the limit")
	}
	return c, nil
}

// PermitOf joins a permit to the lease chain that it came with.
func PermitOf(leaseChain, permit []byte) (PermitChain, error) {
	s := cryptobyte.String(leaseChain)
	c := PermitChain{Permit: permit}
	var label string
	if !readString8(&s, &label) || label != labelLeaseChain || !readBytes24(&s, &c.Epoch) || !readBytes24(&s, &c.Lease) || !s.Empty() {
		return PermitChain{}, malformed("lease chain: truncated, trailing or of another kind")
	}
	return c, nil
}

// Running is a verified permit and the restart that uses it; Restart is zero where there was none.
type Running struct {
	Permit  Permit
	Restart Restart
	// Digest is the SHA-256 of the signed permit.
	Digest digest.Digest
	// LeaseEnd is when the lease that it came from ended.
	LeaseEnd Time
}

// VerifyPermit checks a permit from the brokers' roots down: the epoch, the lease that it came
// from, that the epoch's key signed it for that lease and within the epoch, and of a restart that the permit's key
// signed it. It is for the two parties of the permit: the guest that holds it, and its broker. Others
// call [VerifyPermitted].
func (c PermitChain) VerifyPermit(roots []identity.Public) (Authority, error) {
	st, err := VerifyEpoch(c.Epoch, roots)
	if err != nil {
		return Authority{}, err
	}
	lease, err := VerifyLease(c.Lease, st)
	if err != nil {
		return Authority{}, err
	}
	run := &Running{Digest: digest.Of(c.Permit), LeaseEnd: lease.NotAfter}
	msg, sig, err := parseSigned(c.Permit, maxSignedPermitBytes, &run.Permit)
	if err != nil {
		return Authority{}, err
	}
	if err := verifyEpochKey(st.Key, contextPermit, msg, sig); err != nil {
		return Authority{}, &refusal.Error{Reason: ReasonPermit, Detail: "the permit is not signed by the epoch key", Err: err}
	}
	if err := run.Permit.fits(st, lease, digest.Of(c.Lease)); err != nil {
		return Authority{}, err
	}
	if len(c.Restart) > 0 {
		if err := run.verifyRestart(c.Restart); err != nil {
			return Authority{}, err
		}
	}
	return Authority{Lease: lease, Epoch: st, Permit: run}, nil
}

// fits holds a permit against the lease that it came from. It ends with its epoch at the latest: that
// is all that a root can do about a permit that is out.
func (p *Permit) fits(st EpochStatement, lease LeaseCertificate, certificate digest.Digest) error {
	switch {
	case p.Broker != st.Broker || p.Epoch != st.Epoch:
		return refusal.New(ReasonPermit, "the permit names another broker or epoch")
	case p.Lease != lease.Lease || p.Certificate != certificate:
		return refusal.New(ReasonPermit, "the permit came from another lease")
	case p.NotBefore < lease.NotBefore || p.NotBefore >= lease.NotAfter:
		return refusal.New(ReasonPermit, "the permit did not begin within its lease")
	case p.NotAfter > st.NotAfter:
		return refusal.New(ReasonPermit, "the permit would outlast its epoch")
	}
	for _, k := range p.Keys {
		if !granted(lease.Grants, k) {
			return refusal.New(ReasonPermit, "the permit has %s version %d, which its lease was not granted", k.Resource, k.Version)
		}
	}
	return nil
}

func granted(grants []Granted, k Permitted) bool {
	for _, g := range grants {
		if g.Resource == k.Resource && g.Version == k.Version {
			return true
		}
	}
	return false
}

// verifyRestart checks that whoever holds the permit's restart key began to use it, within its
// limits.
func (r *Running) verifyRestart(signed []byte) error {
	msg, sig, err := parseSigned(signed, maxSignedRestartBytes, &r.Restart)
	if err != nil {
		return err
	}
	if err := r.Permit.RestartKey.Verify(contextRestart, msg, sig); err != nil {
		return &refusal.Error{Reason: ReasonRestart, Detail: "the restart is not signed by the permit's key", Err: err}
	}
	switch {
	case r.Restart.Permit != r.Digest:
		return refusal.New(ReasonRestart, "the restart is of another permit")
	case !r.Permit.ValidAt(r.Restart.At):
		return refusal.New(ReasonRestart, "restarted at %s, the permit runs from %s to %s", r.Restart.At.Time(), r.Permit.NotBefore.Time(), r.Permit.NotAfter.Time())
	case r.Permit.Sealing.Counts() != (r.Restart.Number > 0) || r.Restart.Number > r.Permit.Restarts:
		return refusal.New(ReasonRestart, "restart %d of %d", r.Restart.Number, r.Permit.Restarts)
	}
	return nil
}

// VerifyPermitted is [VerifyAuthority] for what a guest signs while it runs on a permit. The authority's
// lease is as the permit leaves it: the agent key of this boot, the permit's keys with the role
// serve alone, and the permit's time. Its Permit is not nil: the caller has to say so, because the
// guest was last attested when its lease began, and Restart.At and later times are the guest's own word.
func VerifyPermitted(chain []byte, roots []identity.Public, broker Broker, floor Floor, resource Resource, audience Audience) (Authority, error) {
	c, err := ParsePermitChain(chain)
	if err != nil {
		return Authority{}, err
	}
	if len(c.Restart) == 0 {
		return Authority{}, refusal.New(ReasonRestart, "the chain has no restart")
	}
	a, err := c.VerifyPermit(roots)
	if err != nil {
		return Authority{}, err
	}
	if err := broker.admits(&a.Epoch); err != nil {
		return Authority{}, err
	}
	if err := floor.admits(&a.Epoch); err != nil {
		return Authority{}, err
	}
	a.Lease = a.Permit.lease(a.Lease)
	if roles := a.Lease.Roles(); !roles.Has(RoleServe) {
		return Authority{}, refusal.New(ReasonRole, "the permit of lease %s leaves the roles %s, want %s", a.Lease.Lease, roles, RoleServe)
	}
	if err := resource.granted(&a.Lease, RoleServe); err != nil {
		return Authority{}, err
	}
	if err := audience.Admits(&a.Lease); err != nil {
		return Authority{}, err
	}
	return a, nil
}

// lease is what the permit leaves of a lease.
func (r *Running) lease(c LeaseCertificate) LeaseCertificate {
	all := c.Grants
	c.Grants = nil
	for _, g := range all {
		if r.Permit.Has(g.Resource, g.Version) {
			g.Roles &= RoleServe
			c.Grants = append(c.Grants, g)
		}
	}
	c.AgentKey, c.NotBefore, c.NotAfter = r.Restart.AgentKey, r.Restart.At, r.Permit.NotAfter
	return c
}
