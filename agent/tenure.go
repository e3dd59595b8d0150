package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
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
	// ReasonModelNotGranted: the key that the lease was granted is for another model than
	// the file holds.
	ReasonModelNotGranted evidence.Reason = "model-not-granted"
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
	Acquire(ctx context.Context, resources []string, sealed ...protocol.Sealed) (*client.Lease, error)
}

// tenure is the time between a granted lease and its end: the lease, what its keys
// opened, and the reason why nothing is served at other times. The keeper changes
// it; requests read it; and a timer of its own ends it with the lease, whatever
// hangs in the keeper, in the report device, on the disk or in a request.
type tenure struct {
	log *slog.Logger
	// wiped wipes what else the lease's keys opened. Each call must come back
	// within a bounded time; they run beside each other. Set before the first lease.
	wiped []func()

	mu      sync.RWMutex // guards the rest
	lease   *client.Lease
	keys    []*keybuf.Buffer // all that came with the lease, whoever has them now
	end     *time.Timer      // of the lease
	model   *openModel
	opening *custody        // of the model that is being opened
	closing <-chan struct{} // closed once the last model has given its memory back
	refusal error
	// serving ends when the model may not be served any more; requests run under
	// it. A renewal of the lease does not end it.
	serving context.Context
	cease   context.CancelCauseFunc
}

func newTenure(log *slog.Logger) *tenure {
	none := make(chan struct{})
	close(none)
	return &tenure{log: log, closing: none, refusal: evidence.Refuse(ReasonAttesting, "the agent has not been granted a lease yet")}
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

// adopt takes a new lease in the place of the one that is held, and sets the clock
// that ends it. What the old one opened stays. A lease that is over already is
// wiped and refused.
func (t *tenure) adopt(lease *client.Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := lease.Remaining(time.Now())
	if left <= 0 {
		lease.Wipe()
		return evidence.Refuse(ReasonLeaseExpired, "the lease was over when it arrived")
	}
	if t.end != nil {
		t.end.Stop()
	}
	t.lease, t.keys = lease, nil
	for _, k := range lease.Keys {
		t.keys = append(t.keys, k.Key)
	}
	t.end = time.AfterFunc(left, func() { t.expire(lease) })
	return nil
}

// expire ends the tenure if this lease is still the one that is held.
func (t *tenure) expire(lease *client.Lease) {
	t.mu.RLock()
	held := t.lease == lease
	t.mu.RUnlock()
	if !held {
		return
	}
	err := t.finish(lease, evidence.Refuse(ReasonLeaseExpired, "the lease ended and the broker has not granted a new one"))
	// A log may hang as well: it comes last.
	t.log.Warn("the lease ended without a new one; keys and weights are wiped", "lease", lease.ID)
	if err != nil {
		t.log.Error("after the lease's end", "err", err)
	}
}

// needs says whether the model must be opened anew: another key, another model,
// or another memory limit than it was opened with.
func (t *tenure) needs(m settings.Model, limit int64, k client.Key) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.model == nil || t.model.Model != m || t.model.limit != limit || t.model.keyVersion != k.Version || t.model.subject != k.Subject || !t.model.key.Equal(k.Key)
}

// opened returns the file of the model that is served, if one is.
func (t *tenure) opened() (list []opened) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.model != nil {
		list = append(list, opened{t.model.Resource, fileOf(t.model.weights.Public().Lock(), t.model.weights.ModelID())})
	}
	return list
}

// begin registers a model that is about to be opened under a lease, so that the
// lease's end finds its key and its memory. It waits until the model before it has
// given its memory back.
func (t *tenure) begin(ctx context.Context, lease *client.Lease, c *custody) error {
	t.mu.Lock()
	closing := t.closing
	if t.lease != lease {
		t.mu.Unlock()
		return evidence.Refuse(ReasonLeaseExpired, "the lease has ended")
	}
	t.opening = c
	t.mu.Unlock()
	select {
	case <-closing:
		return nil
	case <-ctx.Done():
		return evidence.Refuse(ReasonModelUnavailable, "the model before this one has not given its memory back: %w", context.Cause(ctx))
	}
}

// serve starts serving a model under the lease, if that is still held; nil serves
// long work alone.
func (t *tenure) serve(lease *client.Lease, m *openModel) error {
	t.mu.Lock()
	if t.lease != lease {
		refusal := t.refusal
		t.mu.Unlock()
		return errors.Join(refusal, m.close())
	}
	defer t.mu.Unlock()
	t.opening, t.refusal = nil, nil
	if t.cease != nil && m == nil { // a renewed lease without a model: nothing changes
		return nil
	}
	t.model = m
	t.serving, t.cease = context.WithCancelCause(context.Background())
	return nil
}

// settled refuses what was opened beside the model for a lease that ended meanwhile,
// and wipes it once more: its opener may have come back from a disk that hung.
func (t *tenure) settled(lease *client.Lease) error {
	t.mu.RLock()
	held := t.lease == lease
	t.mu.RUnlock()
	if held {
		return nil
	}
	t.wipeOthers()
	return evidence.Refuse(ReasonLeaseExpired, "the lease ended while what it opens was being opened")
}

// wipeOthers wipes what a lease opened beside the model, each beside the others.
func (t *tenure) wipeOthers() {
	var steps sync.WaitGroup
	for _, wipe := range t.wiped {
		steps.Go(wipe)
	}
	steps.Wait()
}

// failed says why the lease's model is not served.
func (t *tenure) failed(lease *client.Lease, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease != lease {
		return
	}
	reason := ReasonModelUnavailable
	if why, _ := evidence.ReasonOf(err); why == ReasonModelNotGranted {
		reason = why
	}
	t.opening, t.refusal = nil, evidence.Refuse(reason, "%v", err)
}

// closeModel stops serving for a reason and wipes the model, but keeps the lease.
func (t *tenure) closeModel(reason evidence.Reason, format string, args ...any) error {
	t.mu.Lock()
	t.refusal = evidence.Refuse(reason, format, args...)
	model, opening := t.release(t.refusal)
	t.mu.Unlock()
	opening.wipe()
	return model.close()
}

// release takes the model out of the tenure and ends its requests; mu is held.
func (t *tenure) release(why error) (*openModel, *custody) {
	model, opening := t.model, t.opening
	if t.cease != nil {
		t.cease(why)
	}
	if model != nil {
		t.closing = model.gone
	}
	t.model, t.opening, t.cease = nil, nil, nil
	return model, opening
}

// refuse ends the tenure for a reason, whichever lease is held.
func (t *tenure) refuse(reason evidence.Reason, format string, args ...any) error {
	return t.finish(nil, evidence.Refuse(reason, format, args...))
}

// finish ends the tenure, if it is that of the lease (nil is any): running requests
// end, then weights and keys are wiped. It returns after the memory is clear, which
// takes no longer than closeGrace whoever still holds it.
func (t *tenure) finish(lease *client.Lease, refusal error) error {
	t.mu.Lock()
	if lease != nil && t.lease != lease {
		t.mu.Unlock()
		return nil
	}
	t.refusal = refusal
	model, opening := t.release(refusal)
	keys := t.keys
	t.lease, t.keys = nil, nil
	if t.end != nil {
		t.end.Stop()
	}
	t.mu.Unlock()

	for _, k := range keys {
		k.Wipe()
	}
	opening.wipe()
	others := make(chan struct{})
	go func() {
		defer close(others)
		t.wipeOthers()
	}()
	err := model.close()
	<-others
	return err
}

// snapshot returns what a request needs, or the refusal.
func (t *tenure) snapshot() (*openModel, context.Context, error) {
	if err := t.Serving(); err != nil {
		return nil, nil, err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.refusal != nil {
		return nil, nil, t.refusal
	}
	return t.model, t.serving, nil
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

// leaseFor returns the lease that runs now if this model is still the one that is
// served: an answer that began under one lease ends under its renewal.
func (t *tenure) leaseFor(m *openModel) (*client.Lease, error) {
	t.mu.RLock()
	same := t.model == m
	t.mu.RUnlock()
	lease, err := t.held()
	if err == nil && !same {
		err = evidence.Refuse(ReasonLeaseExpired, "the model was closed before the answer ended")
	}
	return lease, err
}

// renewIn is when to attest anew: about 0.7 of what is left of the lease.
func renewIn(remaining time.Duration) time.Duration {
	at := renewAt + renewJitter*(2*rand.Float64()-1)
	return time.Duration(float64(remaining) * at)
}
