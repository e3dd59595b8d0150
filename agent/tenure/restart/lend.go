package restart

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// lend gives the keeper keys for a while: of the permit that is used already, or, once at the start, of
// the sealed file. away is why there is no lease, and stays the error where there is nothing to open.
func (r *Restarts) lend(ctx context.Context, away error) (*client.Lease, error) {
	r.mu.Lock()
	run, try := r.running, !r.answered && !r.tried && !r.stopped
	if run == nil && try {
		r.tried = true
	}
	r.mu.Unlock()
	if run == nil && try {
		var err error
		if run, err = r.begin(ctx); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				r.cfg.Logger.Error("no restart without the broker", "err", err)
				return nil, errors.Join(away, err)
			}
			return nil, away
		}
	}
	if run == nil {
		return nil, away
	}
	return r.lease(run, away)
}

// begin opens the sealed file, in the order of docs/protocol.md 5.12: the permit first, then the clock, then the count,
// then the keys, then the record for the broker.
func (r *Restarts) begin(ctx context.Context) (*running, error) {
	r.turn.Lock()
	defer r.turn.Unlock()
	raw, err := readLimited(r.file(), maxFileBytes)
	if err != nil {
		return nil, err
	}
	f, err := parseFile(raw)
	if err != nil {
		return nil, err
	}
	chain, err := protocol.ParsePermitChain(f.chain)
	if err != nil {
		return nil, err
	}
	a, err := r.permitted(chain)
	if err != nil {
		return nil, err
	}
	now, clock, err := r.time(a.Permit.Permit)
	if err != nil {
		if reason, _ := refusal.ReasonOf(err); reason == ReasonExpired {
			err = errors.Join(err, remove(r.file()))
		}
		return nil, err
	}
	key, number, elapsed, err := r.cfg.Sealer.Open(ctx, f.handle)
	if err != nil {
		return nil, err
	}
	left, err := within(a.Permit.Permit, elapsed, now)
	if err != nil {
		clear(key)
		return nil, err
	}
	c, err := f.open(key, a.Permit.Permit)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	run, err := r.hand(chain, c, protocol.Restart{Permit: a.Permit.Digest, Number: number, AgentKey: r.cfg.AgentKey, At: protocol.TimeOf(now), Clock: clock})
	if err != nil {
		c.wipe()
		return nil, err
	}
	run.began = began
	return r.start(run, left)
}

// permitted verifies the permit as any other word of a broker's: from the root on, and from an epoch that this guest
// still accepts.
func (r *Restarts) permitted(chain protocol.PermitChain) (protocol.Authority, error) {
	if len(chain.Restart) > 0 {
		return protocol.Authority{}, refusal.New(ReasonFile, "the permit was used by another boot")
	}
	a, err := chain.VerifyPermit(r.cfg.Roots)
	if err != nil {
		return a, err
	}
	if floor := r.cfg.Floor(a.Epoch.Broker); floor == 0 || a.Epoch.Epoch < floor {
		return a, refusal.New(protocol.ReasonEpochRetired, "the permit is of epoch %d, this guest accepts %d and later", a.Epoch.Epoch, floor)
	}
	if a.Permit.Permit.Sealing != r.cfg.Sealing {
		return a, refusal.New(ReasonOtherSealing, "the permit is for keys sealed with %s, this guest seals with %s", a.Permit.Permit.Sealing, r.cfg.Sealing)
	}
	return a, nil
}

// time holds the guest's own clock against the permit. A clock that is before its beginning was set back, and would not
// find its end.
func (r *Restarts) time(p protocol.Permit) (time.Time, evidence.ClockSource, error) {
	clock := r.cfg.Clock()
	now := r.cfg.Now()
	at := protocol.TimeOf(now)
	switch {
	case clock == evidence.ClockUnknown || clock > evidence.ClockTimer:
		return now, clock, refusal.New(protocol.ReasonRestartClock, "the kernel does not say what it counts time with, so nobody knows when the permit ends")
	case at < p.NotBefore:
		return now, clock, refusal.New(ReasonNotYet, "the clock says %s, and the permit began at %s: set the clock", now.UTC().Format(time.RFC3339), p.NotBefore.Time().Format(time.RFC3339))
	case at >= p.NotAfter:
		return now, clock, refusal.New(ReasonExpired, "the permit ended at %s", p.NotAfter.Time().Format(time.RFC3339))
	}
	return now, clock, nil
}

// within says how much of the permit is left by the faster of two clocks, the guest's and the TPM's.
func within(p protocol.Permit, elapsed time.Duration, now time.Time) (time.Duration, error) {
	lasts := p.NotAfter.Time().Sub(p.NotBefore.Time())
	left := min(p.NotAfter.Time().Sub(now), lasts-elapsed)
	if left <= 0 {
		return 0, refusal.New(ReasonExpired, "the TPM's clock says that %s have passed, and the permit lasts %s", elapsed.Round(time.Second), lasts)
	}
	return left, nil
}

// hand signs the restart, which hands the permit to this boot's agent key, and records it before anything
// is served.
func (r *Restarts) hand(chain protocol.PermitChain, c *content, restart protocol.Restart) (*running, error) {
	unused, err := chain.Marshal()
	if err != nil {
		return nil, err
	}
	if chain.Restart, err = protocol.SignRestart(c.restart, restart); err != nil {
		return nil, err
	}
	run := &running{content: c}
	if run.authority, err = chain.VerifyPermit(r.cfg.Roots); err != nil {
		return nil, err
	}
	if run.chain, err = chain.Marshal(); err != nil {
		return nil, err
	}
	if err := record(r.report(), unused, chain.Restart); err != nil {
		return nil, refusal.New(ReasonUnrecorded, "the broker could not be told of this restart: %w", err)
	}
	return run, nil
}

// start sets the clock of the keys and has them used.
func (r *Restarts) start(run *running, left time.Duration) (*running, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped || r.answered {
		run.wipe()
		return nil, refusal.New(ReasonExpired, "the agent is stopping, or a broker answered meanwhile")
	}
	run.end = time.Now().Add(left)
	run.timer = time.AfterFunc(left, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.running == run {
			r.endRun()
		}
	})
	r.running = run
	p, used := run.authority.Permit.Permit, run.authority.Permit.Restart
	r.cfg.Logger.Warn("NO BROKER ANSWERS: serving on a permit after a restart", "lease", p.Lease.String(), "restart", used.Number, "of", p.Restarts,
		"clock", used.Clock.String(), "until", run.end.UTC().Format(time.RFC3339))
	return run, nil
}

// lease is what the keeper takes for a while as it takes a lease: with copies of the keys, and the permit's chain.
func (r *Restarts) lease(run *running, away error) (*client.Lease, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	left := min(run.end.Sub(now), slice)
	if r.running != run || left <= 0 {
		return nil, errors.Join(away, refusal.New(ReasonExpired, "the permit has ended"))
	}
	c, used := run.authority.Lease, run.authority.Permit
	l := &client.Lease{
		ID: c.Lease.String(), PolicyID: c.PolicyID, PolicyVersion: c.PolicyVersion, BrokerTime: used.Restart.At.Time().Add(now.Sub(run.began)),
		TTL: left, Expires: now.Add(left), Keys: map[string]client.Key{}, EvidenceKind: c.Kind, EvidenceDigest: c.EvidenceDigest, SoftwareTEE: c.SoftwareTEE,
		Roles: map[string]protocol.Role{}, Tenant: c.Tenant, Image: c.Image, Certificate: run.chain, BrokerID: run.authority.Epoch.Broker,
		Epoch: run.authority.Epoch.Epoch, MinEpoch: run.authority.Epoch.MinEpoch, Running: used, RunsUntil: run.end,
	}
	for _, g := range c.Grants {
		k, ok := run.keys[g.Resource]
		if !ok {
			continue
		}
		copied, err := cloneOf(k)
		if err != nil {
			l.Wipe()
			return nil, errors.Join(away, err)
		}
		l.Keys[g.Resource], l.Roles[g.Resource] = copied, g.Roles&protocol.RoleServe
	}
	return l, nil
}
