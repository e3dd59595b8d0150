package tenure

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/deadline"
)

// Reason codes of requests that come while nothing may be served.
const (
	// ReasonAttesting: the agent has not got its first lease yet.
	ReasonAttesting refusal.Reason = "attesting"
	// ReasonLeaseExpired: the lease ended before a new one was granted; keys
	// and weights are wiped.
	ReasonLeaseExpired refusal.Reason = "lease-expired"
	// ReasonDraining: the agent is about to end.
	ReasonDraining refusal.Reason = "draining"
)

const (
	renewAt       = 0.7              // of the lease's life
	renewJitter   = 0.05             // of the lease's life, both ways, so that a fleet does not renew at once
	retryFirst    = 1 * time.Second  // after a failed attempt, doubled each time
	retryLongest  = 30 * time.Second // between attempts
	exchangeLimit = 60 * time.Second // one attempt, from dialling to the last message
)

// Broker is one exchange with the broker; *client.Client implements it.
type Broker interface {
	// Acquire asks for the keys of resources, and says which sealed files they are for.
	Acquire(ctx context.Context, resources []string, sealed ...protocol.Sealed) (*client.Lease, error)
}

// Tenure is the time between a granted lease and its end: the lease, what its keys
// opened, and the reason why nothing is served at other times. The keeper changes
// it; requests read it; and a timer of its own ends it with the lease, whatever
// hangs in the keeper, in the report device, on the disk or in a request.
type Tenure struct {
	log *slog.Logger
	// wiped wipe what else the lease's keys opened, beside each other; lapsed ends what else
	// only a lease before the one that is held had granted, and is optional. Both are set
	// before the first lease and only read after.
	wiped  []func()
	lapsed func()
	dates  dates

	mu      sync.RWMutex // guards the rest
	lease   *client.Lease
	keys    []*keybuf.Buffer   // all that came with the lease, whoever has them now
	running []holding          // the lease, after those before it that still run and grant something else
	model   *Model             // is served
	leaving *Model             // was served before it; ends with its last answer
	opening *openmodel.Custody // of the model that is being opened
	closing []*Model           // may not have given their memory back
	awaited chan struct{}      // nil, or closed once requests need wait no longer for the next model
	refusal error
	trouble error          // why the model's next file is not served in its place
	handed  bool           // long work and classifiers have had their keys since the last lease's end
	absent  error          // which classifiers are not served; nil if all are
	barred  error          // why the model cannot be opened under any lease; nil while it may be
	denied  *RefusalStatus // why the last attempt to attest failed; never changed, only replaced
}

// New makes a tenure that no lease has begun.
func New(log *slog.Logger) *Tenure {
	return &Tenure{log: log, dates: dates{watch: deadline.New(log)}, refusal: refusal.New(ReasonAttesting, "the agent has not been granted a lease yet")}
}

// AtEnd has wipe called at the end of each lease, to wipe what else its keys opened. It must
// come back within a bounded time, and is called beside the others. It is for before the
// first lease.
func (t *Tenure) AtEnd(wipe func()) { t.wiped = append(t.wiped, wipe) }

// AtLapse has end called when a lease before the one that is held is over, to end what else
// only that one granted. It is for before the first lease.
func (t *Tenure) AtLapse(end func()) { t.lapsed = end }

// Watch warns of the dates on which the broker would grant nothing any more, until ctx ends.
func (t *Tenure) Watch(ctx context.Context) { t.dates.watch.Run(ctx, t.dates.now, t.dates.known) }

// Serving returns nil while a lease and a model are held, else the reason.
func (t *Tenure) Serving() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.refusal == nil && t.lease.Remaining(time.Now()) <= 0 {
		return refusal.New(ReasonLeaseExpired, "the lease has ended")
	}
	return t.refusal
}

// Classifying returns nil while a lease is held and the classifiers have had its keys,
// whatever became of the model, else the reason.
func (t *Tenure) Classifying() error {
	t.mu.RLock()
	handed, barred := t.handed, t.barred != nil && t.refusal == t.barred
	held := t.lease != nil && t.lease.Remaining(time.Now()) > 0
	t.mu.RUnlock()
	switch {
	case held && handed:
		return nil
	case held || !barred:
		return t.Serving()
	}
	return refusal.New(ReasonLeaseExpired, "the agent holds no lease")
}

// adopt takes a new lease in the place of the one that is held, and sets the clock
// that ends it. What the old one opened stays: under the new one if that grants it too,
// else until the old one ends. A lease that is over already is wiped and refused.
func (t *Tenure) adopt(lease *client.Lease) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := lease.Remaining(time.Now())
	if left <= 0 {
		lease.Wipe()
		return refusal.New(ReasonLeaseExpired, "the lease had already ended when it arrived")
	}
	t.lease, t.keys = lease, nil
	for _, k := range lease.Keys {
		t.keys = append(t.keys, k.Key)
	}
	t.hold(lease, left)
	return nil
}

// expire ends the tenure if this lease is still the one that is held.
func (t *Tenure) expire(lease *client.Lease) {
	t.mu.RLock()
	held := t.lease == lease
	t.mu.RUnlock()
	if !held {
		t.lapse(lease)
		return
	}
	err := t.finish(lease, refusal.New(ReasonLeaseExpired, "the lease ended and the broker has not granted a new one"))
	// A log may hang as well: it comes last.
	t.log.Warn("the lease ended without a new one; keys and weights are wiped", "lease", lease.ID)
	if err != nil {
		t.log.Error("end of the lease", "err", err)
	}
}

// needs says whether the model must be opened anew: another key, another model,
// or another memory limit than it was opened with.
func (t *Tenure) needs(m settings.Model, limit int64, k client.Key) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.model == nil || t.model.Model.Model != m || t.model.Limit != limit || t.model.KeyVersion != k.Version || t.model.Subject != k.Subject || !t.model.Key.Equal(k.Key)
}

// hand says what came of giving long work and classifiers the keys of a lease. It returns
// whether an error is no more than an [unserved].
func (t *Tenure) hand(lease *client.Lease, err error) bool {
	why, only := errors.AsType[unserved](err)
	_, kept := errors.AsType[notOpened](err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lease != lease || err != nil && !only && !kept { // classifiers were not asked, or it is over
		return only
	}
	if t.handed, t.absent = true, nil; only {
		t.absent = why
	}
	return only
}

// unopened returns which classifiers are not served, if there are any.
func (t *Tenure) unopened() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.absent
}

// settled refuses what was opened beside the model for a lease that ended meanwhile,
// and wipes it once more: its opener may have come back from a disk that hung.
func (t *Tenure) settled(lease *client.Lease) error {
	t.mu.RLock()
	held := t.lease == lease
	t.mu.RUnlock()
	if held {
		return nil
	}
	t.wipeOthers()
	return refusal.New(ReasonLeaseExpired, "the lease ended while its files were being opened")
}

// wipeOthers wipes what a lease opened beside the model, each beside the others.
func (t *Tenure) wipeOthers() {
	var steps sync.WaitGroup
	for _, wipe := range t.wiped {
		steps.Go(wipe)
	}
	steps.Wait()
}

// refuse ends the tenure for a reason, whichever lease is held.
func (t *Tenure) refuse(reason refusal.Reason, format string, args ...any) error {
	return t.finish(nil, refusal.New(reason, format, args...))
}

// bar says that the model cannot be opened under any lease, or with nil that it may be. It
// outlives leases, and touches no model that is open.
func (t *Tenure) bar(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.barred = why
	if why != nil && t.model == nil {
		t.refusal = why
	}
}

// serves says whether a model is open.
func (t *Tenure) serves() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.model != nil
}

// finish ends the tenure, if it is that of the lease (nil is any): running requests
// end, then weights and keys are wiped. It returns after the memory is clear, which
// takes no longer than openmodel.CloseGrace whoever still holds it.
func (t *Tenure) finish(lease *client.Lease, refusal error) error {
	t.mu.Lock()
	if lease != nil && t.lease != lease {
		t.mu.Unlock()
		return nil
	}
	if t.refusal, t.trouble = refusal, nil; lease != nil && t.barred != nil {
		t.refusal = t.barred // a lease that ends is not what keeps it from being served
	}
	t.admit()
	t.part(t.model, refusal)
	t.part(t.leaving, refusal)
	closing, opening, keys := t.closing, t.opening, t.keys
	t.lease, t.keys, t.opening, t.handed = nil, nil, nil, false
	for _, h := range t.running {
		h.end.Stop()
	}
	t.running = nil
	t.mu.Unlock()

	for _, k := range keys {
		k.Wipe()
	}
	opening.Wipe()
	others := make(chan struct{})
	go func() {
		defer close(others)
		t.wipeOthers()
	}()
	err := closeAll(closing)
	<-others
	forget()
	return err
}

// forget has the collector overwrite what nothing refers to any more. The standard library copies keys into its
// ciphers, and requests and answers into buffers; a copy that was let go is readable until its place is taken. The
// collector overwrites it with GODEBUG=clobberfree=1, which the unit sets. It runs twice, because pools of buffers let
// go of them at the second time, and returns to the kernel what is free.
func forget() {
	runtime.GC()
	debug.FreeOSMemory()
}

// Held returns the lease if it runs, whether or not a model is served under it.
func (t *Tenure) Held() (*client.Lease, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case t.lease == nil && t.refusal != nil:
		return nil, t.refusal
	case t.lease == nil || t.lease.Remaining(time.Now()) <= 0:
		return nil, refusal.New(ReasonLeaseExpired, "the lease has ended")
	}
	return t.lease, nil
}

// renewIn is when to attest anew: about 0.7 of what is left of the lease.
func renewIn(remaining time.Duration) time.Duration {
	at := renewAt + renewJitter*(2*rand.Float64()-1)
	return time.Duration(float64(remaining) * at)
}
