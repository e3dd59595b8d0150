package agent

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// Reason codes of requests that come while nothing may be served.
const (
	// ReasonAttesting: the agent has not got its first lease yet.
	ReasonAttesting evidence.Reason = "attesting"
	// ReasonLeaseExpired: the lease ended before a new one was granted; keys
	// and weights are wiped.
	ReasonLeaseExpired evidence.Reason = "lease-expired"
	// ReasonModelUnavailable: a lease is held but the sealed model did not open.
	ReasonModelUnavailable evidence.Reason = "model-unavailable"
	// ReasonDraining: the agent is about to end.
	ReasonDraining evidence.Reason = "draining"
)

const (
	renewAt       = 0.7              // of the lease's life
	renewJitter   = 0.05             // of the lease's life, both ways, so that a fleet does not renew at once
	retryFirst    = 1 * time.Second  // after a failed attempt, doubled each time
	retryLongest  = 30 * time.Second // between attempts
	exchangeLimit = 60 * time.Second // one attempt, from dialling to the last message
)

// acquirer is one exchange with the broker; *client.Client implements it.
type acquirer interface {
	Acquire(ctx context.Context, resources []string) (*client.Lease, error)
}

// tenure is the time between a granted lease and its end: the lease, the model
// that its keys opened, and the reason why nothing is served at other times.
// The keeper changes it; requests read it.
type tenure struct {
	mu      sync.RWMutex
	lease   *client.Lease
	model   *openModel
	refusal error
	// serving ends when the lease does; requests run under it.
	serving context.Context
	cease   context.CancelCauseFunc
	wiped   func() // wipes what else the lease's keys opened; optional
}

func newTenure() *tenure {
	return &tenure{refusal: evidence.Refuse(ReasonAttesting, "the agent has not been granted a lease yet")}
}

// Serving returns nil while a lease and a model are held, else the reason.
func (t *tenure) Serving() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.refusal == nil && t.lease.Remaining(time.Now()) <= 0 {
		return evidence.Refuse(ReasonLeaseExpired, "the lease has ended")
	}
	return t.refusal
}

// adopt takes a new lease. The model stays when its key did not change.
func (t *tenure) adopt(lease *client.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.lease; old != nil {
		old.Wipe()
	}
	t.lease = lease
}

// needs says whether the model must be opened anew: another key, another model,
// or another memory limit than it was opened with.
func (t *tenure) needs(m settings.Model, limit int64, k client.Key) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.model == nil || t.model.Model != m || t.model.limit != limit || t.model.keyVersion != k.Version || !t.model.key.Equal(k.Key)
}

// serve starts serving a model under the lease that is held; nil serves long work
// alone.
func (t *tenure) serve(m *openModel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cease != nil && m == nil { // a renewed lease without a model: nothing changes
		t.refusal = nil
		return
	}
	t.model, t.refusal = m, nil
	t.serving, t.cease = context.WithCancelCause(context.Background())
}

// refuse stops serving for a reason: running requests end with it, then weights
// and keys are wiped. It returns after the memory is clear.
func (t *tenure) refuse(reason evidence.Reason, format string, args ...any) error {
	t.mu.Lock()
	t.refusal = evidence.Refuse(reason, format, args...)
	model, lease, cease := t.model, t.lease, t.cease
	t.model, t.lease, t.cease = nil, nil, nil
	refusal := t.refusal
	t.mu.Unlock()

	if cease != nil {
		cease(refusal)
	}
	lease.Wipe()
	if t.wiped != nil {
		t.wiped()
	}
	return model.close()
}

// snapshot returns what a request needs, or the refusal.
func (t *tenure) snapshot() (*openModel, *client.Lease, context.Context, error) {
	if err := t.Serving(); err != nil {
		return nil, nil, nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.refusal != nil {
		return nil, nil, nil, t.refusal
	}
	return t.model, t.lease, t.serving, nil
}

// held returns the lease if it runs, whether or not a model is served under it.
func (t *tenure) held() (*client.Lease, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case t.lease == nil && t.refusal != nil:
		return nil, t.refusal
	case t.lease == nil || t.lease.Remaining(time.Now()) <= 0:
		return nil, evidence.Refuse(ReasonLeaseExpired, "the lease has ended")
	}
	return t.lease, nil
}

// renewIn is when to attest anew: about 0.7 of what is left of the lease.
func renewIn(remaining time.Duration) time.Duration {
	at := renewAt + renewJitter*(2*rand.Float64()-1)
	return time.Duration(float64(remaining) * at)
}
