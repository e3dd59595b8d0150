// Package volumes is the broker's part in generations of encrypted volumes (docs/protocol.md 17): it remembers
// which state of each volume was confirmed last, and confirms a next one only after that.
//
// It guarantees that a guest whose volume is in any other state is refused, so that a host gains nothing by
// putting back an old copy, or by running two guests on copies of one volume: one of them goes on, the other
// is refused for good. A state is durable in store and audit log before the guest hears that it is current.
// It believes an attested guest about what its volume holds. It refuses everybody whose lease was not granted
// the key of that very volume.
//
// The brokers of a fleet share a store, a database, and no audit log. Each keeps in a store of its own what it confirmed
// or saw, and the log vouches for the former. So a database that was put back from an old copy is brought up to
// date by whoever knows better; where a volume went on from the older state meanwhile it is disputed, and opens no
// more until an operator looked.
//
// The broker's daemon makes a [Service]; package keybroker speaks to guests, and asks it.
package volumes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonStore: an entry of the store is not as it was written.
	ReasonStore refusal.Reason = "volume-store-damaged"
	// ReasonConflict: two changes at the same time; the second is refused.
	ReasonConflict refusal.Reason = "volume-conflict"
	// ReasonFull: too many volumes.
	ReasonFull refusal.Reason = "volumes-full"
	// ReasonUnknownState: the audit log knows of a later state, and its text was archived.
	ReasonUnknownState refusal.Reason = "volume-state-unknown"
	// ReasonDatabase: the fleet's database cannot be believed.
	ReasonDatabase refusal.Reason = "volume-database-refused"
	// ReasonDisputed: the fleet's store was put back from an old copy, and a volume went on from there before the
	// broker that knew better could say so.
	ReasonDisputed refusal.Reason = "volume-disputed"
	// ReasonName: an operator named something else than a volume.
	ReasonName refusal.Reason = "volume-name"
	// ReasonUnknown: an operator named a volume that no guest has opened and that has no key.
	ReasonUnknown refusal.Reason = "volume-unknown"
)

// The actions of records about volumes.
const (
	actionOpened = "opened"
	actionReset  = "reset"
)

// Log is the audit log.
type Log interface {
	Append(ctx context.Context, r audit.Record) (audit.Leaf, error)
	FindLast(q audit.Query) (found audit.Found, there bool, err error)
}

// Config is what the service needs. All fields are required, but for what is said.
type Config struct {
	// Store is this broker's own.
	Store Store
	// Shared is the store of a fleet, nil for a single broker, and Self names this broker there: by its audit key,
	// which is put back together with the broker's own store.
	Shared Store
	Self   digest.Digest
	Log    Log
	// Roots are the broker's root alone; Lowest is the lowest epoch that it accepts.
	Roots  []identity.Public
	Lowest func() uint64
	Signer func() (protocol.ActiveEpoch, error)
	// HasKey says whether the key store has a secret of that name.
	HasKey func(ctx context.Context, volume string) (bool, error)
	Now    func() time.Time
	Logger *slog.Logger
}

// Service confirms generations.
type Service struct {
	cfg  Config
	busy chan struct{} // full while a volume is changed, from its reading to its record
	// together is set once the fleet's store was told everything that this broker knows.
	together atomic.Bool
}

// New makes the service.
func New(c Config) (*Service, error) {
	if c.Store == nil || c.Log == nil || len(c.Roots) != 1 || c.Lowest == nil || c.Signer == nil || c.HasKey == nil || c.Now == nil || c.Logger == nil || (c.Shared != nil) == c.Self.IsZero() {
		return nil, fmt.Errorf("volumes: a part is missing")
	}
	return &Service{cfg: c, busy: make(chan struct{}, 1)}, nil
}

// Close closes the stores. Called on nil too.
func (s *Service) Close() error {
	switch {
	case s == nil:
		return nil
	case s.cfg.Shared == nil:
		return s.cfg.Store.Close()
	}
	return errors.Join(s.cfg.Store.Close(), s.cfg.Shared.Close())
}

// enter begins a change, which the caller ends with what is returned.
func (s *Service) enter(ctx context.Context) (end func(), err error) {
	select {
	case s.busy <- struct{}{}:
		return func() { <-s.busy }, nil
	case <-ctx.Done():
		return nil, refusal.New(protocol.ReasonBusy, "another volume is being changed: %w", context.Cause(ctx))
	}
}

// clockSkew is how far the clock of the broker that granted a lease, which may be another of the root's, may
// be from this one's.
const clockSkew = time.Minute

// maxStep bounds how far a generation is from the one before. Attempts that fail leave gaps, of one each. Without a bound a
// single statement could make the last number current, after which no opening, and no reset, lets the volume go on.
const maxStep = 1 << 20

// Answer takes one signed opening of a connection and returns the signed answer, or why it is refused. now is
// broker time. admit is told whose word it is, once that is verified, and may refuse it. A fleet's store may take its time:
// what admit returns is asked after that, before a state is recorded, and stays allowed until done.
func (s *Service) Answer(ctx context.Context, connection digest.Digest, signed []byte, now protocol.Time, admit func(volume string, lease *protocol.LeaseCertificate) (still func() (done func(), err error), err error)) (answer []byte, err error) {
	broker := protocol.Of(s.cfg.Roots[0].ID())
	o, a, err := generation.VerifyOpening(signed, s.cfg.Roots, broker, protocol.Live(protocol.AtLeast(s.cfg.Lowest()), now), connection)
	if err != nil {
		return nil, err
	}
	still, err := admit(o.Volume, &a.Lease)
	if err != nil {
		return nil, err
	}
	if now.Add(clockSkew) < a.Lease.NotBefore || now >= a.Lease.NotAfter {
		return nil, refusal.New(protocol.ReasonLeaseExpired, "the lease is valid from %s to %s, the time is %s", a.Lease.NotBefore.Time(), a.Lease.NotAfter.Time(), now.Time())
	}
	state, err := s.advance(ctx, &o, &a.Lease, still)
	if err != nil {
		return nil, err
	}
	epoch, err := s.cfg.Signer()
	if err != nil {
		return nil, err
	}
	return generation.SignCurrent(epoch.Key, epoch.Statement, generation.Current{Broker: epoch.Broker, Epoch: epoch.Epoch,
		Answers: sha256.Sum256(signed), Volume: o.Volume, State: state, Time: now})
}

// advance holds what a volume holds against what was confirmed, makes the next state current if there is one,
// and returns the state that is current then.
func (s *Service) advance(ctx context.Context, o *generation.Opening, lease *protocol.LeaseCertificate, still func() (func(), error)) (State, error) {
	ctx, cancel := s.patience(ctx)
	defer cancel()
	end, err := s.enter(ctx)
	if err != nil {
		return State{}, err
	}
	defer end()
	// A store that is a broker's own has no conflicts.
	for range tries {
		var current State
		if current, err = s.step(ctx, o, lease, still); !isConflict(err) {
			return current, err
		}
	}
	return State{}, err
}

// step is one try of advance: all of it is asked again if another broker came in between.
func (s *Service) step(ctx context.Context, o *generation.Opening, lease *protocol.LeaseCertificate, still func() (func(), error)) (State, error) {
	v, err := s.known(ctx, o.Volume)
	if err != nil {
		return State{}, err
	}
	e := v.inForce()
	if err := e.admits(o); err != nil {
		return State{}, err
	}
	if o.Next.Zero() {
		return e.State, nil
	}
	if o.Next.Generation <= e.State.Generation {
		return State{}, refusal.New(generation.ReasonRolledBack, "%s: generation %d does not follow %d", o.Volume, o.Next.Generation, e.State.Generation)
	}
	if o.Next.Generation-e.State.Generation > maxStep {
		return State{}, refusal.New(generation.ReasonMalformed, "%s: generation %d is more than %d after %d", o.Volume, o.Next.Generation, uint64(maxStep), e.State.Generation)
	}
	// The stores first: a crash before the record leaves a state that no guest was told of, and that is
	// still inside the volume as its unconfirmed one. A record first could tell of a state that lost to
	// another broker's. For the same reason the fleet's store comes before this broker's own.
	opened := Entry{State: o.Next, Agent: lease.AgentKey.ID(), Lease: lease.Lease, At: s.cfg.Now().UTC()}
	if s.cfg.Shared != nil {
		v.shared.take(opened)
		v.shared.Disputed = false
		v.shared.see(s.cfg.Self, o.Next)
		if _, err := s.putShared(ctx, v.shared); err != nil {
			return State{}, err
		}
	}
	// Whoever is refused here leaves what a crash here leaves.
	done, err := still()
	if err != nil {
		return State{}, err
	}
	defer done()
	v.own.take(opened)
	v.own.Seen = v.shared.Seen
	if v.own, err = s.put(ctx, v.own); err != nil {
		return State{}, err
	}
	_, err = s.record(ctx, v.own, audit.Record{Action: actionOpened, Decision: "allowed", AgentKey: opened.Agent, Grant: opened.Lease.String(), Epoch: lease.Epoch,
		EvidenceKind: string(lease.Kind), EvidenceDigest: lease.EvidenceDigest, Detail: fmt.Sprintf("follows generation %d, image %q, tenant %q", o.Confirmed.Generation, lease.ImageID, lease.Tenant)})
	return o.Next, err
}

// take makes the state of another entry this one's, after which a reset is used up.
func (e *Entry) take(from Entry) {
	e.State, e.Reset, e.Agent, e.Lease, e.At = from.State, false, from.Agent, from.Lease, from.At
}

// admits enforces that a volume goes on from the state that was confirmed last. Its unconfirmed state counts
// too: that one was confirmed if the guest ended before it heard so.
func (e *Entry) admits(o *generation.Opening) error {
	if e.Reset || !e.Disputed && (o.Confirmed == e.State || !o.Unconfirmed.Zero() && o.Unconfirmed == e.State) {
		return nil
	}
	switch {
	case e.Disputed:
		return e.disputed()
	case e.State.Zero():
		return refusal.New(generation.ReasonRolledBack, "%s says that generation %d was confirmed, and this broker has confirmed none (if it was put back from a backup: anchorhold volume reset)", o.Volume, o.Confirmed.Generation)
	case o.Confirmed.Zero():
		return refusal.New(generation.ReasonRolledBack, "%s is new, and generation %d was confirmed on %s", o.Volume, e.State.Generation, e.At.Format(time.RFC3339))
	case o.Confirmed.Generation == e.State.Generation:
		return refusal.New(generation.ReasonRolledBack, "%s is a copy: another generation %d was confirmed on %s", o.Volume, e.State.Generation, e.At.Format(time.RFC3339))
	}
	return refusal.New(generation.ReasonRolledBack, "%s is in generation %d, and generation %d was confirmed on %s", o.Volume, o.Confirmed.Generation, e.State.Generation, e.At.Format(time.RFC3339))
}

// put stores an entry and returns it as it is stored.
func (s *Service) put(ctx context.Context, e Entry) (Entry, error) {
	if err := s.cfg.Store.Put(ctx, e); err != nil {
		return e, err
	}
	e.Version++
	return e, nil
}

// record makes the record of a change durable, and stores the entry as it is then.
func (s *Service) record(ctx context.Context, e Entry, r audit.Record) (Entry, error) {
	r.Kind, r.Time, r.Resource, r.ResourceVersion, r.MessageDigest = audit.KindVolume, s.cfg.Now(), e.Volume, e.State.Generation, e.State.Mark
	leaf, err := s.cfg.Log.Append(ctx, r)
	if err != nil {
		return e, refusal.New(protocol.ReasonAuditUnavailable, "%s: %w", e.Volume, err)
	}
	e.Logged = leaf.Index + 1
	return s.put(ctx, e)
}

// entry reads a volume's entry in this broker's own store. One that was put back from an old copy is brought up to
// date by the audit log, whose own rollback is noticed elsewhere (audit.checkpoints).
func (s *Service) entry(ctx context.Context, volume string) (Entry, error) {
	e, err := s.cfg.Store.Get(ctx, volume)
	if err != nil {
		return e, err
	}
	found, there, err := s.cfg.Log.FindLast(audit.Query{Kind: audit.KindVolume, Resource: volume})
	if err != nil {
		return e, err
	}
	if !there || found.Index < e.Logged {
		return e, nil
	}
	r := found.Record
	if r == nil {
		return e, refusal.New(ReasonUnknownState, "record %d is about a later state of %s, and its segment was archived: put the segment or a newer volumes.db back, or use anchorhold volume reset", found.Index, volume)
	}
	e.State, e.Reset = State{Generation: r.ResourceVersion, Mark: r.MessageDigest}, r.Action == actionReset
	e.Agent, e.At, e.Logged = r.AgentKey, r.Time.UTC(), found.Index+1
	if e.Lease, err = digest.ParseID[digest.Lease](r.Grant); r.Grant == "" {
		err = nil
	}
	if err != nil {
		return e, err
	}
	s.cfg.Logger.Warn("the audit log knows a later state of a volume than the store: the log counts", "volume", volume, "generation", r.ResourceVersion, "record", found.Index)
	return s.put(ctx, e)
}
