package tenure

import (
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// Issue signs receipts of a model's answers with the agent key, each under the lease that runs when the
// answer ends: one that began under a lease goes on under its renewal.
func (t *Tenure) Issue(model *Model, agentKey *identity.Private) func(receipt.Answer) (receipt.Issued, error) {
	return func(a receipt.Answer) (receipt.Issued, error) {
		lease, err := t.leaseFor(model)
		if err != nil {
			return receipt.Issued{}, err
		}
		l, err := leaseOf(lease, time.Now())
		if err != nil {
			return receipt.Issued{}, err
		}
		return receipt.Issue(agentKey, l, a)
	}
}

// ReceiptLease is the lease that receipts of what a key opened are signed under now.
func (t *Tenure) ReceiptLease(g classify.Grant) (receipt.Lease, error) {
	lease, err := t.leaseOf(g.Resource, grant{g.Version, g.Subject})
	if err != nil {
		return receipt.Lease{}, err
	}
	return leaseOf(lease, time.Now())
}

// leaseOf is a lease as receipts have it, while it lasts.
func leaseOf(lease *client.Lease, now time.Time) (receipt.Lease, error) {
	if lease.Remaining(now) <= 0 {
		return receipt.Lease{}, refusal.New(ReasonLeaseExpired, "the lease ended before the answer did")
	}
	l := receipt.Lease{EvidenceDigest: lease.EvidenceDigest, Chain: lease.Certificate, Now: protocol.TimeOf(lease.BrokerNow(now))}
	if err := l.ID.UnmarshalText([]byte(lease.ID)); err != nil {
		return receipt.Lease{}, fmt.Errorf("malformed lease id %q: %w", lease.ID, err)
	}
	return l, nil
}
