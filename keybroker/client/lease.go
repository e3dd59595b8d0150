package client

import (
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Key is one released key.
type Key struct {
	// Version is the key's version in the broker's store.
	Version uint64
	// Subject is what the key opens, as the broker's store says: a model's id. Zero if it
	// does not say.
	Subject [32]byte
	// Key holds the secret in locked memory.
	Key *keybuf.Buffer
}

// Lease is what one exchange yields: keys, and how long they may be used.
type Lease struct {
	// ID names the lease at the broker, in receipts and in the audit log.
	ID string
	// PolicyID and PolicyVersion name the policy that allowed it.
	PolicyID      string
	PolicyVersion uint64
	// BrokerTime is when the broker decided, by its clock.
	BrokerTime time.Time
	// TTL is how long the broker lets the lease last from BrokerTime.
	TTL time.Duration
	// Expires is when the lease ends here. It carries a monotonic reading taken
	// before the evidence was sent, so it is never later than the broker's own
	// end, and setting the guest's wall clock does not move it.
	Expires time.Time
	// Keys are the released keys by resource name.
	Keys map[string]Key
	// EvidenceKind and EvidenceDigest name the evidence that was accepted.
	EvidenceKind   evidence.Kind
	EvidenceDigest [32]byte
	// SoftwareTEE is true if the broker accepted software TEE evidence.
	SoftwareTEE bool
	// Roles are what the agent key may sign for under this lease, by the resource whose
	// rule gives them.
	Roles map[string]protocol.Role
	// Tenant is the guest's tenant if the broker's policy checked it, else empty.
	Tenant string
	// Image is the digest of what was started in this guest.
	Image evidence.ImageDigest
	// Certificate is the lease chain for receipts (protocol.VerifyAuthority).
	Certificate []byte
	// TLSGroup is the key exchange of the connection, as "X25519MLKEM768".
	TLSGroup string
	// BrokerID and Epoch name the broker's root and epoch.
	BrokerID [32]byte
	Epoch    uint64
	// MinEpoch is the lowest epoch that the broker's root accepts, by its statement.
	MinEpoch uint64
	// Ends are dates on which no such lease will be granted any more, unless something is
	// renewed.
	Ends []End
	// AuditIndex and AuditLeaf name the audit record made before the release.
	AuditIndex uint64
	AuditLeaf  [32]byte
	// Unsent is why the broker did not get the receipt of this release (M7), nil if it
	// was sent. The caller logs it, once the keys have a clock of its own.
	Unsent error
	// Permit is what the broker answered to Config.Permit; nil if nothing was asked.
	Permit *PermitAnswer
	// Running is the permit that the guest runs on in the place of a lease; nil under a lease.
	Running *protocol.Running
	// RunsUntil is when that ends here, on the monotonic clock; later than Expires.
	RunsUntil time.Time
}

// Remaining returns how long the lease may still be used at now, which must
// carry a monotonic reading (time.Now); zero or less means that it has ended.
func (l *Lease) Remaining(now time.Time) time.Duration { return l.Expires.Sub(now) }

// BrokerNow returns the broker's clock at now: its time at the grant and what has passed on
// the monotonic clock since. The guest's wall clock is not asked.
func (l *Lease) BrokerNow(now time.Time) time.Time {
	elapsed := l.TTL - l.Remaining(now)
	return l.BrokerTime.Add(max(elapsed, 0))
}

// Wipe wipes all keys. It is safe on nil and idempotent.
func (l *Lease) Wipe() {
	if l == nil {
		return
	}
	for _, k := range l.Keys {
		k.Key.Wipe()
	}
}
