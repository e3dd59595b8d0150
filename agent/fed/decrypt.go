package fed

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"

	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/store"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/worker"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// decryptSpec is the specification of a job that decrypts.
type decryptSpec struct {
	Round  federation.ID     `json:"round"`
	Ticket federation.Digest `json:"ticket"`
}

// Decrypt queues the decryption of a round that the broker closed.
func (s *Service) Decrypt(ctx context.Context, uid uint32, id federation.ID) (jobs.Info, error) {
	h, err := s.past(ctx, id)
	if err != nil {
		return jobs.Info{}, err
	}
	_, signed, err := s.ticket(ctx, h)
	if err != nil {
		return jobs.Info{}, err
	}
	spec, err := json.Marshal(decryptSpec{Round: id, Ticket: federation.DigestOf(signed)})
	if err != nil {
		return jobs.Info{}, err
	}
	info, _, err := s.cfg.Queue.Submit(ctx, jobs.Job{Class: fedtask.ClassDecrypt, Owner: uid, Spec: spec, Priority: 1, Memory: s.cfg.Limits.Memory, TimeMax: s.cfg.Limits.Time})
	return info, err
}

// ticket fetches a round's ticket, which the broker signed in an epoch that runs: only
// what the broker closes now is decrypted.
func (s *Service) ticket(ctx context.Context, h held) (federation.Ticket, []byte, error) {
	floor, err := s.floor()
	if err != nil {
		return federation.Ticket{}, nil, err
	}
	return s.cfg.Shards[0].Ticket(ctx, floor, h.Round, h.digest)
}

// Published is the result of a job that decrypts, and of Result.
type Published struct {
	Round                federation.ID     `json:"round"`
	Model                string            `json:"model"`
	Count                uint32            `json:"count"`
	TotalWeight          uint64            `json:"total_weight"`
	Length               uint64            `json:"length"`
	Step                 float64           `json:"step"`
	Divisor              float64           `json:"divisor"`
	Sigma                float64           `json:"sigma"`
	Values               federation.Digest `json:"values"`
	Result               federation.Digest `json:"result"`
	SpentEpsilon         float64           `json:"spent_epsilon"`
	SpentEpsilonSampling float64           `json:"spent_epsilon_with_sampling"`
	Delta                float64           `json:"delta"`
	// Adjacency is between what the epsilons are.
	Adjacency string `json:"adjacency"`
	// ExpectedError is of the mean of this cohort, with the weights that it has.
	ExpectedError federation.Accuracy `json:"expected_error"`
	// AwaitsParties means that the values count only when more parties of the round's key
	// have decrypted and signed the same.
	AwaitsParties bool `json:"awaits_parties,omitempty"`
}

func published(h held, t federation.Ticket, r federation.Result, signed []byte) (Published, error) {
	off, err := h.AccuracyOf(t.Count, t.TotalWeight)
	return Published{ExpectedError: off, Round: h.ID, Model: h.Model, Count: t.Count, TotalWeight: t.TotalWeight, Length: r.Length, Step: r.Step, Divisor: r.Divisor, Sigma: r.Sigma,
		Values: r.Values, Result: federation.DigestOf(signed), SpentEpsilon: t.Spent, SpentEpsilonSampling: t.SpentWithSampling, Delta: t.Delta, Adjacency: federation.Adjacency}, err
}

// decrypt does one job: key, sum, worker, signature, publication.
func (s *Service) decrypt(ctx context.Context, l *jobs.Lease) (_ json.RawMessage, err error) {
	var spec decryptSpec
	if err := json.Unmarshal(l.Info.Spec, &spec); err != nil {
		return nil, refusal.New(ReasonSum, "%v", err)
	}
	h, err := s.past(ctx, spec.Round)
	if err != nil {
		return nil, err
	}
	ticket, signedTicket, err := s.ticket(ctx, h)
	if err != nil {
		return nil, err
	}
	if federation.DigestOf(signedTicket) != spec.Ticket {
		return nil, refusal.New(ReasonSum, "the round has another ticket than when this job was queued")
	}
	sources, err := s.sources(ctx, h, ticket, spec.Ticket)
	if err != nil {
		return nil, err
	}
	values, err := s.store.NewScratch(l.Info.Owner, 8*int64(h.Length))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, values.Close()) }()
	key, err := s.obtain(ctx, h)
	if err != nil {
		return nil, err
	}
	under, release := s.hold(ctx, h, &key)
	done, err := s.runDecrypt(under, l, h, ticket, spec.Ticket, key.Key, sources, values.File.File)
	ended := context.Cause(under)
	release()
	if err != nil && reasonOf(ended) == store.ReasonExpired {
		err = ended // tried again, under another lease
	}
	if err != nil {
		return nil, err
	}
	signer, err := s.decryptor(ctx, h, key)
	if err != nil {
		return nil, err
	}
	result := federation.Result{Round: h.ID, RoundDigest: h.digest, TicketDigest: spec.Ticket, Agent: signer.Key.Public().ID(), Length: h.Length,
		Values: done.Values, Step: done.Step, Divisor: done.Divisor, Sigma: done.Sigma, Time: signer.Now}
	if got, err := digestOf(io.NewSectionReader(values, 0, math.MaxInt64)); err != nil || got != done.Values {
		return nil, errors.Join(errors.New("the worker's output is not what it says"), err)
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
func (s *Service) publish(ctx context.Context, shard *uplink.Client, h held, t federation.Ticket, result federation.Result, signed []byte, values io.ReaderAt) error {
	err := shard.Publish(ctx, h.ID, signed, io.NewSectionReader(values, 0, 8*int64(h.Length)))
	if reason, _ := refusal.ReasonOf(err); reason != uplink.ReasonPublished {
		return err
	}
	floor, wrong := s.floor()
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
func (s *Service) obtain(ctx context.Context, h held) (Released, error) {
	if h.Parties != nil {
		return Released{}, nil
	}
	return s.cfg.RoundKey(ctx, h.Resource())
}

// decryptor is who signs the result: under the lease that brought the round's key, or
// under another that does if that one ended meanwhile; as a party, under the agent's own.
func (s *Service) decryptor(ctx context.Context, h held, key Released) (Signer, error) {
	signer, err := s.cfg.Sign()
	if err != nil || h.Parties != nil {
		return signer, err
	}
	if signer.Now >= key.Until {
		if key, err = s.cfg.RoundKey(ctx, h.Resource()); err != nil {
			return Signer{}, err
		}
		key.Key.Wipe()
	}
	signer.Chain = key.Chain
	return signer, nil
}

func digestOf(r io.Reader) (federation.Digest, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return federation.Digest(h.Sum(nil)), err
}

// source streams one vector of blocks that is checked on its way.
type source func(io.Writer) error

// sources returns what the worker reads: the sum, every contribution, or the sum and
// the shares of the parties.
func (s *Service) sources(ctx context.Context, h held, t federation.Ticket, ticket federation.Digest) ([]source, error) {
	if h.Rule != federation.WeightedMean {
		return s.contributions(ctx, h, t)
	}
	hashes, err := s.sumHashes(ctx, h, t)
	if err != nil {
		return nil, err
	}
	if h.Recount {
		sum, err := s.recount(ctx, h, t, hashes)
		if err != nil || h.Parties == nil {
			return sum, err
		}
		shares, err := s.shares(ctx, h, ticket)
		return append(sum, shares...), err
	}
	return []source{s.stream(h, hashes, func(c *uplink.Client) (io.ReadCloser, error) { return c.SumBlocks(ctx, h.ID) })}, nil
}

// sumHashes are the hashes of the sum that the ticket closes: the parts of the shards,
// in their order, are the whole. The broker signs a digest of them, and an aggregator told it
// which: that each part has the blocks that the round's vector has there is checked here.
func (s *Service) sumHashes(ctx context.Context, h held, t federation.Ticket) (hashes []federation.Digest, err error) {
	blocks, err := h.Blocks()
	if err != nil {
		return nil, err
	}
	for i, shard := range s.cfg.Shards {
		sum, err := shard.SumManifest(ctx, h.Round)
		if err != nil {
			return nil, err
		}
		part, err := federation.Shard(blocks, i, len(s.cfg.Shards))
		if err != nil {
			return nil, err
		}
		if sum.First != part.First || uint64(len(sum.Hashes)) != part.Count || sum.Cohort != t.Cohort {
			return nil, refusal.New(ReasonSum, "aggregator %d has %d blocks from %d of the sum, not %d from %d, or the sum of another cohort", i, len(sum.Hashes), sum.First, part.Count, part.First)
		}
		hashes = append(hashes, sum.Hashes...)
	}
	if federation.UploadDigest(h.ID, hashes) != t.Sum {
		return nil, refusal.New(ReasonSum, "the aggregators' sum is not the one that the ticket closes")
	}
	return hashes, nil
}

// stream is the blocks of one vector from every shard in turn, checked.
func (s *Service) stream(h held, hashes []federation.Digest, get func(*uplink.Client) (io.ReadCloser, error)) source {
	return func(w io.Writer) error {
		check := &checker{w: w, h: h, hashes: hashes}
		for _, shard := range s.cfg.Shards {
			body, err := get(shard)
			if err != nil {
				return err
			}
			_, err = io.Copy(check, body)
			if err = errors.Join(err, body.Close()); err != nil {
				return err
			}
		}
		return check.end()
	}
}

// member is one contribution of the cohort, as its agent signed it.
type member struct {
	digest federation.Digest
	hashes []federation.Digest
}

// cohort fetches and verifies the manifest of every member. Nobody is a member twice: a
// contribution that is added four times is one person's vector, whatever the minimum says.
func (s *Service) cohort(ctx context.Context, h held, t federation.Ticket) ([]member, error) {
	sum, err := s.cfg.Shards[0].SumManifest(ctx, h.Round)
	if err != nil {
		return nil, err
	}
	if federation.CohortDigest(sum.Contributions) != t.Cohort || len(sum.Contributions) != int(t.Count) {
		return nil, refusal.New(ReasonSum, "the aggregator's list is not the cohort that the ticket closes")
	}
	floor, err := s.floor()
	if err != nil {
		return nil, err
	}
	list := make([]member, 0, len(sum.Contributions))
	agents, uploads := map[federation.Digest]bool{}, map[federation.Digest]bool{}
	for _, d := range sum.Contributions {
		c, m, err := s.cfg.Shards[0].UploadManifest(ctx, floor.Kept(), h.Round, h.digest, d)
		if err != nil {
			return nil, err
		}
		if agents[c.Agent] || uploads[c.Upload] {
			return nil, refusal.New(ReasonSum, "contribution %s, or its agent %s, is in the cohort twice", d, c.Agent)
		}
		agents[c.Agent], uploads[c.Upload] = true, true
		list = append(list, member{d, m.Hashes})
	}
	return list, nil
}

// contributions are the cohort's vectors apart, for rules that need them so.
func (s *Service) contributions(ctx context.Context, h held, t federation.Ticket) ([]source, error) {
	members, err := s.cohort(ctx, h, t)
	if err != nil {
		return nil, err
	}
	var list []source
	for _, m := range members {
		list = append(list, s.stream(h, m.hashes, func(c *uplink.Client) (io.ReadCloser, error) { return c.UploadBlocks(ctx, h.ID, m.digest) }))
	}
	return list, nil
}

// checker passes blocks on only after their hash was checked.
type checker struct {
	w      io.Writer
	h      held
	hashes []federation.Digest
	next   uint64
	buf    []byte
}

// Write takes bytes and passes whole blocks on.
func (c *checker) Write(p []byte) (int, error) {
	set, _, err := c.h.Parameters()
	if err != nil {
		return 0, err
	}
	size, n := set.BlockBytes(), len(p)
	for len(p) > 0 {
		k := min(size-len(c.buf), len(p))
		c.buf, p = append(c.buf, p[:k]...), p[k:]
		if len(c.buf) < size {
			continue
		}
		if c.next >= uint64(len(c.hashes)) || federation.BlockHash(c.h.ID, c.next, c.buf) != c.hashes[c.next] {
			return 0, refusal.New(ReasonSum, "block %d is not the one that was announced", c.next)
		}
		if _, err := c.w.Write(c.buf); err != nil {
			return 0, err
		}
		c.next, c.buf = c.next+1, c.buf[:0]
	}
	return n, nil
}

func (c *checker) end() error {
	if c.next != uint64(len(c.hashes)) || len(c.buf) != 0 {
		return refusal.New(ReasonSum, "the blocks end after %d of %d", c.next, len(c.hashes))
	}
	return nil
}

// runDecrypt gives the worker its task. The key is nil where parties gave shares.
func (s *Service) runDecrypt(ctx context.Context, l *jobs.Lease, h held, t federation.Ticket, ticket federation.Digest, secret *keybuf.Buffer, sources []source, out *os.File) (done fedtask.Decrypted, err error) {
	var key []source
	if h.Parties == nil {
		// The key goes through a pipe: it is never in a file, and once it is read it
		// is gone.
		key = []source{func(w io.Writer) error { // the pipe has room for it: Use is short
			return secret.Use(func(b []byte) error { _, err := w.Write(b); return err })
		}}
	}
	round, err := sealedRound(h.Round)
	if err != nil {
		return done, err
	}
	defer round.Close() // memory
	in := []*os.File{round}
	feeds := make([]*worker.Feed, 0, 1+len(sources))
	defer func() {
		for _, f := range feeds {
			err = errors.Join(f.End(), err)
		}
	}()
	for _, src := range append(key, sources...) {
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
	limits := s.limits(l)
	limits.Output = 8 * int64(h.Length)
	raw, err := s.cfg.Pool.Run(ctx, worker.Task{Class: fedtask.ClassDecrypt, Spec: task, In: in, Out: []*os.File{out}, Limits: limits}, s.progress(l))
	if err != nil {
		return done, err
	}
	return done, json.Unmarshal(raw, &done)
}

// Result returns what was published of a round.
func (s *Service) Result(ctx context.Context, id federation.ID) (Published, error) {
	h, t, r, signed, err := s.result(ctx, id)
	if err != nil {
		return Published{}, err
	}
	return published(h, t, r, signed)
}

func (s *Service) result(ctx context.Context, id federation.ID) (h held, t federation.Ticket, r federation.Result, signed []byte, err error) {
	if h, err = s.past(ctx, id); err != nil {
		return
	}
	floor, err := s.floor()
	if err != nil {
		return
	}
	t, ticket, err := s.cfg.Shards[0].Ticket(ctx, floor.Kept(), h.Round, h.digest)
	if err != nil {
		return
	}
	r, signed, err = s.cfg.Shards[0].Result(ctx, floor.Kept(), h.Round, t, federation.DigestOf(ticket))
	return
}

// Values writes the published mean as little-endian float32. All values were
// checked against the signed digest before the first is written; meanwhile they take room
// of the user who asks.
func (s *Service) Values(ctx context.Context, uid uint32, id federation.ID, w io.Writer) (err error) {
	h, _, r, _, err := s.result(ctx, id)
	if err != nil {
		return err
	}
	f, err := s.store.NewScratch(uid, 8*int64(h.Length))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	body, err := s.cfg.Shards[0].Values(ctx, id)
	if err != nil {
		return err
	}
	digest := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, digest), io.LimitReader(body, 8*int64(h.Length)+1))
	if err = errors.Join(err, body.Close()); err != nil {
		return err
	}
	if n != 8*int64(h.Length) || federation.Digest(digest.Sum(nil)) != r.Values {
		return refusal.New(ReasonSum, "the aggregator's values are not those that were signed")
	}
	buf, out := make([]byte, 64<<10), make([]byte, 32<<10)
	for at := int64(0); at < n; {
		k, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := range k / 8 {
			v := float64(int64(binary.LittleEndian.Uint64(buf[8*i:]))) * r.Step / r.Divisor
			binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(float32(v)))
		}
		if _, err := w.Write(out[:k/2]); err != nil {
			return err
		}
		at += int64(k)
	}
	return nil
}
