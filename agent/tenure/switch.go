package tenure

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// Model is an open model, and the requests that use it.
type Model struct {
	*openmodel.Model
	serving context.Context // requests run under it; ends when the model may not be served any more
	cease   context.CancelCauseFunc
	users   int           // requests that use it; the tenure's lock guards it
	unused  chan struct{} // closed once there are none, if somebody waits for that; same lock
}

// grant is what a lease gives of one resource: a version of its key, and what that opens.
type grant struct {
	version uint64
	subject [32]byte
}

// holding is a lease that runs, and what it grants, by resource.
type holding struct {
	lease  *client.Lease
	grants map[string]grant
	end    *time.Timer
}

// hold sets the clock of a lease, and forgets those before it that grant nothing else.
// mu is held.
func (t *Tenure) hold(lease *client.Lease, left time.Duration) {
	h := holding{lease: lease, grants: map[string]grant{}, end: time.AfterFunc(left, func() { t.expire(lease) })}
	for name, k := range lease.Keys {
		h.grants[name] = grant{k.Version, k.Subject}
	}
	t.running = append(slices.DeleteFunc(t.running, func(before holding) bool {
		for name, g := range before.grants {
			if have, ok := h.grants[name]; !ok || have != g {
				return false
			}
		}
		before.end.Stop()
		return true
	}), h)
}

// granting returns the last lease that grants a version of a key and still runs: receipts
// verify under that one alone. mu is held.
func (t *Tenure) granting(resource string, g grant) (*client.Lease, error) {
	for _, h := range slices.Backward(t.running) {
		if have, ok := h.grants[resource]; ok && have == g && h.lease.Remaining(time.Now()) > 0 {
			return h.lease, nil
		}
	}
	if t.lease == nil && t.refusal != nil {
		return nil, t.refusal
	}
	return nil, refusal.New(ReasonLeaseExpired, "the lease that granted version %d of the key of %s has ended", g.version, resource)
}

// leaseOf returns the lease for receipts of what a key opened.
func (t *Tenure) leaseOf(resource string, g grant) (*client.Lease, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.granting(resource, g)
}

// leaseFor returns the lease for a receipt of this model's answer if it is served or its
// last answers are: one that began under a lease ends under its renewal.
func (t *Tenure) leaseFor(m *Model) (*client.Lease, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	lease, err := t.granting(m.Resource, m.grant())
	if err == nil && m != t.model && m != t.leaving {
		err = refusal.New(ReasonLeaseExpired, "the model was closed before the answer ended")
	}
	return lease, err
}

// Context is what requests run under. It ends when the model may not be served any more.
func (o *Model) Context() context.Context { return o.serving }

func (o *Model) grant() grant { return grant{o.KeyVersion, o.Subject} }

// lapse ends what only this lease granted, which is over and was not the last.
func (t *Tenure) lapse(lease *client.Lease) {
	t.mu.Lock()
	if !slices.ContainsFunc(t.running, func(h holding) bool { return h.lease == lease }) {
		t.mu.Unlock()
		return
	}
	t.running = slices.DeleteFunc(t.running, func(h holding) bool { return h.lease == lease })
	for _, m := range []*Model{t.model, t.leaving} {
		if m == nil {
			continue
		}
		if _, why := t.granting(m.Resource, m.grant()); why != nil {
			if m == t.model && t.opening != nil {
				t.wait()
			} else if m == t.model && t.refusal == nil {
				t.refusal = cmp.Or(t.trouble, why)
			}
			t.part(m, why)
		}
	}
	closing := slices.Clone(t.closing)
	t.mu.Unlock()
	err := closeAll(closing)
	if t.lapsed != nil {
		t.lapsed()
	}
	if err != nil { // a log may hang: it comes last
		t.log.Error("end of an earlier lease", "err", err)
	}
}

// opened returns the file of the model that is served, if one is.
func (t *Tenure) opened() (list []opened) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.model != nil {
		list = append(list, opened{resource: t.model.Resource, file: fileOf(t.model.Weights.Public().Lock(), t.model.Weights.ModelID())})
	}
	return list
}

// Use returns the model that is served, for one request, which says when it is done with it.
// While one model takes the place of another and none is served, it waits for the next, until
// the context ends.
func (t *Tenure) Use(ctx context.Context) (m *Model, done func(), err error) {
	for {
		if err := t.Serving(); err != nil {
			return nil, nil, err
		}
		t.mu.Lock()
		awaited := t.awaited
		if t.refusal != nil || awaited == nil {
			m, err := t.model, t.refusal
			if err == nil && m != nil {
				m.users++
			}
			t.mu.Unlock()
			return m, sync.OnceFunc(func() { t.done(m) }), err
		}
		t.mu.Unlock()
		select {
		case <-awaited:
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}

// done says that a request does not use a model any more. The last one of a model that was
// replaced has it closed.
func (t *Tenure) done(m *Model) {
	if m == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.users--; m.users > 0 {
		return
	}
	if m.unused != nil {
		close(m.unused)
		m.unused = nil
	}
	if m == t.leaving {
		t.part(m, nil)
		go t.closed(m) // the request's answer does not wait for it; finish does
	}
}

// closed closes a model that nobody uses, and says so.
func (t *Tenure) closed(m *Model) {
	if err := m.Close(); err != nil {
		t.log.Error("close the previous model", "err", err)
	}
}

// wait has requests wait for the next model from now on; mu is held.
func (t *Tenure) wait() {
	if t.awaited == nil {
		t.awaited = make(chan struct{})
	}
}

// admit has requests look again at what is served; mu is held.
func (t *Tenure) admit() {
	if t.awaited != nil {
		close(t.awaited)
		t.awaited = nil
	}
}

// part takes a model out of those that are served or leaving, for its caller to close. A
// cause ends its requests. mu is held.
func (t *Tenure) part(m *Model, why error) {
	if m == nil {
		return
	}
	if why != nil && m.cease != nil {
		m.cease(why)
	}
	if m == t.model {
		t.model = nil
	}
	if m == t.leaving {
		t.leaving = nil
	}
	t.forgetGone()
	t.closing = append(t.closing, m)
}

// forgetGone forgets models that have given their memory back; mu is held.
func (t *Tenure) forgetGone() {
	t.closing = slices.DeleteFunc(t.closing, func(m *Model) bool {
		select {
		case <-m.Gone:
			return true
		default:
			return false
		}
	})
}

// closeAll closes models, each beside the others.
func closeAll(list []*Model) error {
	errs := make([]error, len(list))
	var steps sync.WaitGroup
	for i, m := range list {
		steps.Go(func() { errs[i] = m.Close() })
	}
	steps.Wait()
	return errors.Join(errs...)
}

// withdraw closes the model that is served if a key, which the broker sent for its file, does
// not open it or is for another model.
func (t *Tenure) withdraw(k client.Key) error {
	t.mu.Lock()
	m := t.model
	if m == nil || m.Key.Equal(k.Key) && (k.Subject == [32]byte{} || k.Subject == m.Weights.ModelID()) {
		t.mu.Unlock()
		return nil
	}
	t.refusal = refusal.New(openmodel.ReasonUnavailable, "the broker no longer grants the key of the model that was served")
	t.part(m, t.refusal)
	t.mu.Unlock()
	return m.Close()
}

// unserved returns whether no model is served while one is about to be opened, and says so
// to requests.
func (t *Tenure) unserved() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.model != nil {
		return false
	}
	t.refusal = refusal.New(openmodel.ReasonUnavailable, "the model is being opened")
	return true
}

// begin registers a model that is about to be opened under a lease, so that the
// lease's end finds its key and its memory. It returns the model that is served meanwhile,
// or nil, and waits until those before that one have given their memory back: there are
// never more than two.
func (t *Tenure) begin(ctx context.Context, lease *client.Lease, c *openmodel.Custody) (*Model, error) {
	t.mu.Lock()
	if t.lease != lease {
		t.mu.Unlock()
		return nil, refusal.New(ReasonLeaseExpired, "the lease has ended")
	}
	t.opening = c
	t.mu.Unlock()
	for {
		t.mu.Lock()
		t.forgetGone()
		served, others := t.model, slices.Clone(t.closing)
		if t.leaving != nil {
			others = append(others, t.leaving)
		}
		t.mu.Unlock()
		if len(others) == 0 {
			return served, nil
		}
		select {
		case <-others[0].Gone:
		case <-ctx.Done():
			return nil, refusal.New(openmodel.ReasonUnavailable, "the previous model has not released its memory: %w", context.Cause(ctx))
		}
	}
}

// vacate keeps new requests waiting, lets the running answers of the model that is served
// end, and closes it: the next one has no room beside it. It returns when the memory is back.
func (t *Tenure) vacate(ctx context.Context, lease *client.Lease, m *Model) error {
	t.mu.Lock()
	if t.lease != lease {
		t.mu.Unlock()
		return refusal.New(ReasonLeaseExpired, "the lease has ended")
	}
	t.wait()
	unused := make(chan struct{})
	if m.users == 0 {
		close(unused)
	} else {
		m.unused = unused
	}
	t.mu.Unlock()
	select {
	case <-unused:
	case <-m.Gone: // with the lease that granted it
	case <-ctx.Done():
		return refusal.New(openmodel.ReasonUnavailable, "the previous model has not finished its answers: %w", context.Cause(ctx))
	}
	t.mu.Lock()
	if m == t.model {
		t.part(m, refusal.New(openmodel.ReasonUnavailable, "the model was replaced"))
	}
	t.mu.Unlock()
	t.closed(m)
	select {
	case <-m.Gone:
		return nil
	case <-ctx.Done():
		return refusal.New(openmodel.ReasonUnavailable, "the previous model has not released its memory: %w", context.Cause(ctx))
	}
}

// serve starts serving a model under the lease, if that is still held; nil serves
// long work alone. Answers of the model before it that are under way end with that one.
func (t *Tenure) serve(lease *client.Lease, m *openmodel.Model) error {
	t.mu.Lock()
	if t.lease != lease {
		refusal := t.refusal
		t.mu.Unlock()
		return errors.Join(refusal, m.Close())
	}
	defer t.mu.Unlock()
	t.opening, t.refusal = nil, nil
	t.admit()
	if m == nil { // of a renewed lease without a model nothing changes
		return nil
	}
	before := t.model
	next := &Model{Model: m}
	next.serving, next.cease = context.WithCancelCause(context.Background())
	t.model, t.trouble = next, nil
	if before == nil {
		return nil
	}
	if t.leaving = before; before.users == 0 {
		t.part(before, nil)
		go t.closed(before)
	}
	return nil
}

// failed says why the lease's model is not served: instead of anything, or in the place of
// the one that is open, which goes on as long as the lease that granted it. It returns
// whether one goes on.
func (t *Tenure) failed(lease *client.Lease, err error) (kept bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease != lease {
		return false
	}
	t.opening = nil
	refusal := openmodel.Unavailable(err)
	if kept = t.model != nil; kept {
		t.trouble = refusal
	} else {
		t.refusal = refusal
	}
	t.admit()
	return kept
}

// settledOn says why installed files are not served in the place of what is; nil: there are
// none. It returns whether that is news.
func (t *Tenure) settledOn(trouble error) (news bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if trouble == nil {
		t.trouble = nil
		return false
	}
	if t.trouble != nil { // of an attempt to open it, which says more
		return false
	}
	t.trouble = refusal.New(openmodel.ReasonUnavailable, "%v", trouble)
	return true
}
