package agent

import (
	"context"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// ReasonUnknownModel is the refusal of a request that names a model that is not
// configured.
const ReasonUnknownModel refusal.Reason = "model-not-found"

// gate is what the local API sees of the agent: what may be served now, and
// receipts under the lease.
type gate struct {
	tenure   *tenure
	names    func() []string
	agentKey *identity.Private
}

// Models names the configured models.
func (g gate) Models() []string { return g.names() }

// Serving returns nil, or why no language model is served.
func (g gate) Serving() error { return g.tenure.Serving() }

// Classifying returns nil, or why no classifier is served.
func (g gate) Classifying() error { return g.tenure.classifying() }

// Session returns a model under the lease that grants it. While the next one takes its place
// and there is no room for both, it waits for that, as long as the context lasts.
func (g gate) Session(ctx context.Context, name string) (openai.Session, error) {
	model, done, err := g.tenure.use(ctx)
	if err != nil {
		return openai.Session{}, err
	}
	if model == nil || model.Name != name {
		done()
		return openai.Session{}, refusal.New(ReasonUnknownModel, "the model %q is not served here", name)
	}
	return openai.Session{
		Engine: openai.Inference{Engine: model.Engine}, ModelID: model.Weights.ModelID(), Version: model.Weights.Public().Version,
		Lease: model.serving, Issue: g.issue(model), Done: done,
	}, nil
}

// issue signs receipts of a model's answers, each under the lease that runs when the
// answer ends: one that began under a lease goes on under its renewal.
func (g gate) issue(model *servedModel) func(receipt.Answer) (receipt.Issued, error) {
	return func(a receipt.Answer) (receipt.Issued, error) {
		lease, err := g.tenure.leaseFor(model)
		if err != nil {
			return receipt.Issued{}, err
		}
		l, err := leaseOf(lease, time.Now())
		if err != nil {
			return receipt.Issued{}, err
		}
		return receipt.Issue(g.agentKey, l, a)
	}
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
