// Package decrypt is a decrypting guest's side of federated rounds: when the broker has closed a
// round, it has a worker open the sum, signs the result and publishes it.
//
// Only what the broker's ticket closes is decrypted. Every block is checked against its signed
// hash before the worker sees it. If the round demands it, the contributions are added up again
// here, so that the aggregators need not be trusted with the sum. The round's key is in memory
// only while the lease lasts that released it. If parties hold the key, their shares are used
// instead.
//
// It trusts the broker's root identities and its worker's arithmetic. It refuses sums that do not
// match the ticket, and shares that were not made for each other.
//
// The local API asks [Service] for decryptions and results; package fed has it do the jobs.
package decrypt

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/roundkey"
	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonSum: what the aggregators have does not match the ticket.
	ReasonSum refusal.Reason = "sum-mismatch"
	// ReasonShares: shares of the round's parties are missing, or were not made for the same
	// set of parties.
	ReasonShares refusal.Reason = "shares-missing"
)

// Config is what the service needs. All fields are required.
type Config struct {
	Queue *jobs.Queue
	Pool  *worker.Pool
	// Shards are the aggregators, in the order of their parts.
	Shards []*uplink.Client
	Rounds *rounds.Verifier
	Store  *store.Store
	Keys   *roundkey.Keys
	// Sign returns who signs now, or why nothing may be signed.
	Sign func() (attested.Signer, error)
	// Limits bound each worker.
	Limits worker.Limits
	Logger *slog.Logger
}

// Service decrypts. It has no state of its own, and may be used by any goroutine.
type Service struct{ cfg Config }

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Queue == nil || cfg.Pool == nil || len(cfg.Shards) == 0 || cfg.Rounds == nil || cfg.Store == nil || cfg.Keys == nil || cfg.Sign == nil || cfg.Logger == nil {
		return nil, errors.New("fed/decrypt: all fields of Config are required")
	}
	return &Service{cfg}, nil
}

// decryptSpec is the specification of a job that decrypts.
type decryptSpec struct {
	Round  digest.RoundID `json:"round"`
	Ticket digest.Digest  `json:"ticket"`
}

// Decrypt queues the decryption of a round that the broker closed.
func (s *Service) Decrypt(ctx context.Context, uid uint32, id digest.RoundID) (jobs.Info, error) {
	h, err := s.cfg.Rounds.Past(ctx, id)
	if err != nil {
		return jobs.Info{}, err
	}
	_, signed, err := s.ticket(ctx, h)
	if err != nil {
		return jobs.Info{}, err
	}
	spec, err := json.Marshal(decryptSpec{Round: id, Ticket: digest.Of(signed)})
	if err != nil {
		return jobs.Info{}, err
	}
	info, _, err := s.cfg.Queue.Submit(ctx, jobs.Job{Class: fedtask.ClassDecrypt, Owner: uid, Spec: spec, Priority: 1, Memory: s.cfg.Limits.Memory, TimeMax: s.cfg.Limits.Time})
	return info, err
}

// ticket fetches a round's ticket, which the broker signed in an epoch that runs: only
// what the broker closes now is decrypted.
func (s *Service) ticket(ctx context.Context, h rounds.Round) (federation.Ticket, []byte, error) {
	floor, err := s.cfg.Rounds.Live()
	if err != nil {
		return federation.Ticket{}, nil, err
	}
	return s.cfg.Shards[0].Ticket(ctx, floor, h.Round, h.Digest)
}

// Do does one job of the queue: it obtains the key, has a worker decrypt the sum, and signs and
// publishes the result.
func (s *Service) Do(ctx context.Context, l *jobs.Lease) (_ json.RawMessage, err error) {
	var spec decryptSpec
	if err := json.Unmarshal(l.Info.Spec, &spec); err != nil {
		return nil, refusal.New(ReasonSum, "%v", err)
	}
	h, err := s.cfg.Rounds.Past(ctx, spec.Round)
	if err != nil {
		return nil, err
	}
	ticket, signedTicket, err := s.ticket(ctx, h)
	if err != nil {
		return nil, err
	}
	if digest.Of(signedTicket) != spec.Ticket {
		return nil, refusal.New(ReasonSum, "the round's ticket has changed since this job was queued")
	}
	sources, err := s.sources(ctx, h, ticket, spec.Ticket)
	if err != nil {
		return nil, err
	}
	values, err := s.cfg.Store.NewScratch(l.Info.Owner, 8*int64(h.Length))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, values.Close()) }()
	key, err := s.obtain(ctx, h)
	if err != nil {
		return nil, err
	}
	if key.Secret != nil {
		sources = slices.Insert(sources, 0, secretSource(key.Secret.Use))
	}
	under, release := s.cfg.Keys.Hold(ctx, h.Round, &key)
	done, err := s.runDecrypt(under, l, h, ticket, spec.Ticket, sources, values.File.File)
	ended := context.Cause(under)
	release()
	if err != nil && reasonOf(ended) == protocol.ReasonLeaseExpired {
		err = ended // tried again, under another lease
	}
	if err != nil {
		return nil, err
	}
	signer, err := s.decryptor(ctx, h, key)
	if err != nil {
		return nil, err
	}
	result := federation.Result{Round: h.ID, RoundDigest: h.Digest, TicketDigest: spec.Ticket, Agent: signer.Key.Public().ID(), Length: h.Length,
		Values: done.Values, Step: done.Step, Divisor: done.Divisor, Sigma: done.Sigma, Time: signer.Now}
	if got, err := digestOf(io.NewSectionReader(values, 0, math.MaxInt64)); err != nil || got != done.Values {
		return nil, errors.Join(errors.New("the worker's output does not match the digest that it reported"), err)
	}
	signed, err := federation.SignResult(signer.Key, signer.Chain, result)
	if err != nil {
		return nil, err
	}
	out, err := published(h, ticket, result, signed)
	if err != nil {
		return nil, err
	}
	for _, shard := range s.cfg.Shards {
		err := s.publish(ctx, shard, h, ticket, result, signed, values)
		if reason, _ := refusal.ReasonOf(err); h.Parties != nil && reason == uplink.ReasonNoResult {
			out.AwaitsParties, err = true, nil // the word is there; the values come with the last one's
		}
		if err != nil {
			return nil, err
		}
	}
	return json.Marshal(out)
}

// publish hands result and values to one aggregator. A result is written once: if another
// try, or another guest, published the same values there, that is as good.
func (s *Service) publish(ctx context.Context, shard *uplink.Client, h rounds.Round, t federation.Ticket, result federation.Result, signed []byte, values io.ReaderAt) error {
	err := shard.Publish(ctx, h.ID, signed, io.NewSectionReader(values, 0, 8*int64(h.Length)))
	if reason, _ := refusal.ReasonOf(err); reason != uplink.ReasonPublished {
		return err
	}
	floor, wrong := s.cfg.Rounds.Live()
	if wrong != nil {
		return wrong
	}
	there, _, wrong := shard.Result(ctx, floor.Kept(), h.Round, t, result.TicketDigest)
	if wrong != nil || there.Values != result.Values || there.Divisor != result.Divisor || there.Step != result.Step {
		return errors.Join(err, wrong)
	}
	return shard.PublishValues(ctx, h.ID, io.NewSectionReader(values, 0, 8*int64(h.Length)))
}

// obtain gets the round's key, which parties hold among themselves if there are any.
func (s *Service) obtain(ctx context.Context, h rounds.Round) (roundkey.Key, error) {
	if h.Parties != nil {
		return roundkey.Key{}, nil
	}
	return s.cfg.Keys.Obtain(ctx, h.Round)
}

// decryptor is who signs the result: under the lease that brought the round's key, or
// under another that does if that one ended meanwhile; as a party, under the agent's own.
func (s *Service) decryptor(ctx context.Context, h rounds.Round, key roundkey.Key) (attested.Signer, error) {
	signer, err := s.cfg.Sign()
	if err != nil || h.Parties != nil {
		return signer, err
	}
	if signer.Now >= key.Until {
		if key, err = s.cfg.Keys.Obtain(ctx, h.Round); err != nil {
			return attested.Signer{}, err
		}
		key.Secret.Wipe()
	}
	signer.Chain = key.Chain
	return signer, nil
}

func digestOf(r io.Reader) (digest.Digest, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return digest.Sum(h), err
}

// progress hands a worker's word on to the queue. A lease that was lost shows when the job ends.
func (s *Service) progress(l *jobs.Lease) func(worker.Progress) {
	return func(p worker.Progress) {
		if err := l.Heartbeat(jobs.Progress(p)); err != nil {
			s.cfg.Logger.Debug("heartbeat", "job", l.Info.ID.String(), "err", err)
		}
	}
}

func reasonOf(err error) refusal.Reason {
	reason, _ := refusal.ReasonOf(err)
	return reason
}

// secretSource writes a key into a pipe: it is never in a file, and once it is read it is gone.
func secretSource(use func(func(secret []byte) error) error) source {
	return func(w io.Writer) error { // the pipe has room for it: use is short
		return use(func(b []byte) error { _, err := w.Write(b); return err })
	}
}

// runDecrypt gives the worker its task, with what it reads after the round.
func (s *Service) runDecrypt(ctx context.Context, l *jobs.Lease, h rounds.Round, t federation.Ticket, ticket digest.Digest, sources []source, out *os.File) (done fedtask.Decrypted, err error) {
	round, err := h.Sealed()
	if err != nil {
		return done, err
	}
	defer round.Close() // memory
	in := []*os.File{round}
	feeds := make([]*worker.Feed, 0, len(sources))
	defer func() {
		for _, f := range feeds {
			err = errors.Join(f.End(), err)
		}
	}()
	for _, src := range sources {
		f, err := worker.NewFeed(src)
		if err != nil {
			return done, err
		}
		feeds, in = append(feeds, f), append(in, f.Reader)
	}
	task, err := json.Marshal(fedtask.Decrypt{Ticket: ticket, Count: int(t.Count), TotalWeight: t.TotalWeight})
	if err != nil {
		return done, err
	}
	limits := s.cfg.Limits
	limits.Memory = max(limits.Memory, l.Info.Memory) // a retry may have raised it
	limits.Output = 8 * int64(h.Length)
	raw, err := s.cfg.Pool.Run(ctx, worker.Task{Class: fedtask.ClassDecrypt, Spec: task, In: in, Out: []*os.File{out}, Limits: limits}, s.progress(l))
	if err != nil {
		return done, err
	}
	return done, json.Unmarshal(raw, &done)
}
