package restart

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Reasons why an agent does not serve on a permit; those of packages protocol, localseal, vtpm and snp say
// more.
const (
	// ReasonFile: the sealed file is malformed, changed, or another guest's.
	ReasonFile refusal.Reason = "restart-file-invalid"
	// ReasonExpired: the permit is over, by the guest's clock or the TPM's.
	ReasonExpired refusal.Reason = "permit-expired"
	// ReasonNotYet: the guest's clock says that the permit has not begun, so it is not to be trusted with its end.
	ReasonNotYet refusal.Reason = "permit-not-yet-valid"
	// ReasonOtherSealing: the permit is for another way to seal than this guest is configured for.
	ReasonOtherSealing refusal.Reason = "sealed-otherwise"
	// ReasonUnrecorded: the restart could not be recorded for the broker.
	ReasonUnrecorded refusal.Reason = "restart-not-recorded"
)

const (
	fileName   = "local-restart.sealed"
	reportName = "local-restart.report"

	// slice is how long the keeper is given keys at once: then it asks the broker again.
	slice = 2 * time.Minute
	// brokerTime bounds each of these questions, so that a broker that is away costs no answer.
	brokerTime = 15 * time.Second
	// deviceTime bounds the sealing, whose keys have a timer of their own.
	deviceTime = time.Minute
	// stopTime bounds what a stopping agent waits for the sealer, which takes a fraction of a second.
	stopTime = 10 * time.Second
	// freshFor is the part of a permit's life after which the next lease asks for another.
	freshFor = 4
)

// Sealer makes keys that only this guest makes again; *localseal.Sealer implements it.
type Sealer interface {
	New(ctx context.Context, opens uint16) (key, handle []byte, err error)
	Open(ctx context.Context, handle []byte) (key []byte, number uint16, elapsed time.Duration, err error)
	Forget(ctx context.Context) error
}

// Config is everything that a [Restarts] is made of.
type Config struct {
	attested.Boot
	// Sealer seals in the way that Sealing names.
	Sealer  Sealer
	Sealing protocol.Sealing
}

// With makes restarts of this sealer, for [attested.Guest.SealForRestarts].
func With(sealer Sealer, sealing protocol.Sealing) func(attested.Boot) attested.Restarts {
	return func(boot attested.Boot) attested.Restarts { return New(Config{boot, sealer, sealing}) }
}

// Restarts keeps a permit's keys, and lends them where no broker answers. It may be used by
// several goroutines.
type Restarts struct {
	cfg Config

	turn    sync.Mutex // held by whoever has the sealed file and the sealer
	sealing sync.WaitGroup

	mu sync.Mutex // guards the rest
	// answered says that a broker has answered since the start, tried that the file was tried: neither is
	// undone.
	answered, tried bool
	asked           *identity.Private // the restart key that was asked with last
	held            *protocol.Permit  // whose keys are sealed
	running         *running
	stopped         bool
	generation      uint64 // counts what a sealing that is under way must not undo
}

// running is a permit that is used.
type running struct {
	*content
	authority protocol.Authority
	chain     []byte
	began     time.Time // when Restart.At was, on the monotonic clock; as end is
	end       time.Time
	timer     *time.Timer
}

// New makes one; it reads nothing yet.
func New(cfg Config) *Restarts { return &Restarts{cfg: cfg} }

func (r *Restarts) file() string   { return filepath.Join(r.cfg.Dir, fileName) }
func (r *Restarts) report() string { return filepath.Join(r.cfg.Dir, reportName) }

// Around puts the permits between a broker and the keeper of its leases.
func (r *Restarts) Around(broker attested.Broker) attested.Broker { return around{r, broker} }

type around struct {
	*Restarts
	broker attested.Broker
}

// Close closes the client.
func (a around) Close() error { return a.broker.Close() }

// Acquire asks the broker. If that does not answer, it lends the keys of a permit, to whoever has not had a lease
// since the start.
func (a around) Acquire(ctx context.Context, resources []string, sealed ...protocol.Sealed) (*client.Lease, error) {
	asking, cancel := ctx, context.CancelFunc(func() {})
	if a.isRunning() {
		asking, cancel = context.WithTimeout(ctx, brokerTime)
	}
	lease, err := a.broker.Acquire(asking, resources, sealed...)
	cancel()
	switch {
	case err == nil:
		a.granted(lease)
		return lease, nil
	case answered(err):
		a.refused(err)
		return nil, err
	case !unreached(err) || ctx.Err() != nil:
		return nil, err
	}
	return a.lend(ctx, err)
}

// undecided are refusals that are not about this guest: the broker cannot decide now.
func undecided(reason refusal.Reason) bool {
	switch reason {
	case protocol.ReasonBusy, protocol.ReasonAuditUnavailable, protocol.ReasonNoActiveEpoch, protocol.ReasonClockBackwards, protocol.ReasonDeadline, protocol.ReasonInternal:
		return true
	}
	return false
}

// answered says that a broker refused this guest, in whatever words.
func answered(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	return ok && e.ByBroker() && !undecided(e.Reason)
}

// unreached says that no broker decided: there was no connection, no answer in time, or a refusal that is not about
// this guest. Whatever else failed, a signature or this guest's own evidence, is no reason to do without a broker.
func unreached(err error) bool {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return false
	}
	switch e.Reason {
	case protocol.ReasonConnectionFailed, protocol.ReasonDeadline, hybridtls.ReasonTimeout, hybridtls.ReasonHandshake:
		return true
	}
	return e.ByBroker() && undecided(e.Reason)
}

func (r *Restarts) isRunning() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running != nil
}

// Ask says what to ask the broker for under a new lease, and what to report; it is client.Config.Permit.
func (r *Restarts) Ask(lease *client.Lease) *client.PermitAsk {
	var ask client.PermitAsk
	told, err := readReport(r.report())
	switch {
	case err != nil:
		r.cfg.Logger.Error("the report of restarts cannot be read, and is not sent", "err", err)
	case told != nil:
		ask.Report, ask.Restarts = told.chain, told.restarts
	}
	if r.wants(lease) {
		key, err := identity.Generate(identity.LevelEpoch)
		if err != nil {
			r.cfg.Logger.Error("no restart key", "err", err)
		} else {
			r.mu.Lock()
			r.asked.Wipe()
			r.asked = key
			r.mu.Unlock()
			ask.Sealing, ask.RestartKey = r.cfg.Sealing, key.Public()
		}
	}
	if ask.Sealing == 0 && len(ask.Restarts) == 0 {
		return nil
	}
	return &ask
}

// wants says whether the keys that are sealed are not those of the lease, or their permit ages.
func (r *Restarts) wants(lease *client.Lease) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		return true
	}
	p := r.held
	for _, k := range p.Keys {
		if have, ok := lease.Keys[k.Resource]; !ok || have.Version != k.Version {
			return true
		}
	}
	now := protocol.TimeOf(lease.BrokerNow(time.Now()))
	return now < p.NotBefore || now-p.NotBefore > (p.NotAfter-p.NotBefore)/freshFor
}

// granted takes note of a lease: what ran on a permit ends, what the broker was told is forgotten, and the keys of a new
// permit are sealed beside the caller, who waits for none of it.
func (r *Restarts) granted(lease *client.Lease) {
	r.mu.Lock()
	r.answered = true
	r.endRun()
	key, generation := r.asked, r.generation
	r.asked = nil
	r.mu.Unlock()
	answer := lease.Permit
	if answer == nil {
		key.Wipe()
		return
	}
	if answer.Reported {
		if err := remove(r.report()); err != nil {
			r.cfg.Logger.Error("the report of restarts was sent and cannot be removed; it will be sent again", "err", err)
		}
	}
	switch {
	case answer.Err != nil:
		r.cfg.Logger.Warn("the broker did not answer about restarts", "err", answer.Err)
	case answer.Refused != "":
		r.cfg.Logger.Warn("the broker permits no restart without it; what was sealed before is destroyed", "reason", string(answer.Refused))
		r.forget()
	case len(answer.Chain.Permit) > 0 && key != nil:
		c, err := r.copyKeys(lease, answer.Permit, key)
		if err != nil {
			r.cfg.Logger.Error("the keys for a restart were not sealed", "err", err)
			break
		}
		timer := time.AfterFunc(lease.Remaining(time.Now()), c.wipe) // the sealer may hang
		if !r.beside(func() {
			defer timer.Stop()
			defer c.wipe()
			r.sealKeys(generation, *answer, c)
		}) {
			timer.Stop()
			c.wipe()
		}
		return
	}
	key.Wipe()
}

// copyKeys copies the keys of a permit, which the lease's owner may wipe at any time.
func (r *Restarts) copyKeys(lease *client.Lease, permit protocol.Permit, restart *identity.Private) (*content, error) {
	c := &content{restart: restart, keys: map[string]client.Key{}}
	for _, p := range permit.Keys {
		k, err := cloneOf(lease.Keys[p.Resource])
		if err != nil {
			c.wipe()
			return nil, err
		}
		c.keys[p.Resource] = k
	}
	return c, nil
}

// sealKeys seals a permit's keys and puts them in the place of what was sealed before.
func (r *Restarts) sealKeys(generation uint64, answer client.PermitAnswer, c *content) {
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.current(generation) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deviceTime)
	defer cancel()
	raw, err := seal(ctx, r.cfg.Sealer, answer.Chain, answer.Permit, c)
	if err == nil && r.current(generation) {
		err = disk.Write(r.file(), raw)
	}
	if err != nil {
		r.cfg.Logger.Error("the keys for a restart were not sealed; what was sealed before does not open any more", "err", err)
		return
	}
	r.mu.Lock()
	current := r.generation == generation
	if current {
		r.held = &answer.Permit
	}
	r.mu.Unlock()
	if !current { // a refusal came meanwhile
		if err := remove(r.file()); err != nil {
			r.cfg.Logger.Error("the sealed keys cannot be removed", "err", err)
		}
		return
	}
	r.cfg.Logger.Info("a restart without the broker is permitted", "lease", answer.Permit.Lease.String(), "restarts", answer.Permit.Restarts,
		"sealing", answer.Permit.Sealing.String(), "until", answer.Permit.NotAfter.Time().Format(time.RFC3339))
}

// beside runs f in a goroutine that Close waits for; after Close it does not.
func (r *Restarts) beside(f func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		r.sealing.Go(f)
	}
	return !r.stopped
}

func (r *Restarts) current(generation uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.generation == generation
}

// refused obeys a broker: what is sealed is destroyed, and what runs on it ends now.
func (r *Restarts) refused(why error) {
	r.mu.Lock()
	r.answered = true
	ran := r.running != nil
	r.endRun()
	r.mu.Unlock()
	r.cfg.Logger.Warn("the broker refuses this guest; the keys for a restart are destroyed", "err", why)
	r.forget()
	if ran && r.cfg.Withdraw != nil {
		r.cfg.Withdraw(why)
	}
}

// forget removes the sealed file now, and has the sealer end what copies of it there may be: beside the caller, who waits
// for it if the agent is stopping. Nobody would do it after the end.
func (r *Restarts) forget() {
	r.mu.Lock()
	r.generation++
	r.held = nil
	r.mu.Unlock()
	if err := remove(r.file()); err != nil {
		r.cfg.Logger.Error("the sealed keys cannot be removed", "err", err)
	}
	if !r.beside(func() { r.endCopies(deviceTime) }) {
		r.endCopies(stopTime)
	}
}

// endCopies has the sealer end all copies of what it sealed.
func (r *Restarts) endCopies(within time.Duration) {
	r.turn.Lock()
	defer r.turn.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if err := r.cfg.Sealer.Forget(ctx); err != nil {
		r.cfg.Logger.Error("copies of the sealed keys may still open; anchorhold-agent localseal forget ends them", "err", err)
	}
}

// endRun wipes the keys of a permit that is used; mu is held.
func (r *Restarts) endRun() {
	if r.running == nil {
		return
	}
	r.running.timer.Stop()
	r.running.wipe()
	r.running = nil
}

// Close ends what runs on a permit and waits for what is being sealed. It is for the end of the
// process; what is sealed stays.
func (r *Restarts) Close() {
	r.mu.Lock()
	r.stopped = true
	r.endRun()
	r.asked.Wipe()
	r.asked = nil
	r.mu.Unlock()
	r.sealing.Wait()
}

// cloneOf copies a key for an owner of its own.
func cloneOf(k client.Key) (client.Key, error) {
	copied, err := k.Key.Clone()
	k.Key = copied
	return k, err
}

// Forget destroys what is sealed in a directory, whether or not an agent runs there, and has the sealer end copies of it. Without a
// sealer only the file goes. The report of restarts stays. It returns what was there, also with an error.
func Forget(ctx context.Context, dir string, sealer Sealer) (was Sealed, err error) {
	was.File = filepath.Join(dir, fileName)
	info, err := os.Lstat(was.File)
	switch {
	case err == nil:
		was.At = info.ModTime()
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	}
	err = errors.Join(err, remove(was.File))
	if sealer == nil {
		return was, err
	}
	return was, errors.Join(err, sealer.Forget(ctx))
}

// Sealed says what keys were sealed in a directory.
type Sealed struct {
	// File is where they are kept, whether or not it is there.
	File string
	// At is when they were sealed; zero if there are none.
	At time.Time
}
