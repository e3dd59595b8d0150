package decrypt

import (
	"context"
	"errors"
	"io"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// source streams one vector of blocks that is checked on its way.
type source func(io.Writer) error

// sources returns what the worker reads: the sum, every contribution, or the sum and
// the shares of the parties.
func (s *Service) sources(ctx context.Context, h rounds.Round, t federation.Ticket, ticket digest.Digest) ([]source, error) {
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
func (s *Service) sumHashes(ctx context.Context, h rounds.Round, t federation.Ticket) (hashes []digest.Digest, err error) {
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
			return nil, refusal.New(ReasonSum, "aggregator %d has %d blocks of the sum from block %d, want %d from block %d, or it has the sum of another cohort", i, len(sum.Hashes), sum.First, part.Count, part.First)
		}
		hashes = append(hashes, sum.Hashes...)
	}
	if federation.UploadDigest(h.ID, hashes) != t.Sum {
		return nil, refusal.New(ReasonSum, "the aggregators' sum does not match the ticket")
	}
	return hashes, nil
}

// stream is the blocks of one vector from every shard in turn, checked.
func (s *Service) stream(h rounds.Round, hashes []digest.Digest, get func(*uplink.Client) (io.ReadCloser, error)) source {
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
	digest digest.Digest
	hashes []digest.Digest
}

// cohort fetches and verifies the manifest of every member. Nobody is a member twice: a
// contribution that is added four times is one person's vector, whatever the minimum says.
func (s *Service) cohort(ctx context.Context, h rounds.Round, t federation.Ticket) ([]member, error) {
	sum, err := s.cfg.Shards[0].SumManifest(ctx, h.Round)
	if err != nil {
		return nil, err
	}
	if federation.CohortDigest(sum.Contributions) != t.Cohort || len(sum.Contributions) != int(t.Count) {
		return nil, refusal.New(ReasonSum, "the aggregator's cohort does not match the ticket")
	}
	floor, err := s.cfg.Rounds.Live()
	if err != nil {
		return nil, err
	}
	list := make([]member, 0, len(sum.Contributions))
	agents, uploads := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, d := range sum.Contributions {
		c, m, err := s.cfg.Shards[0].UploadManifest(ctx, floor.Kept(), h.Round, h.Digest, d)
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
func (s *Service) contributions(ctx context.Context, h rounds.Round, t federation.Ticket) ([]source, error) {
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

// checker passes blocks on only after their hash was checked. It is its feed's alone.
type checker struct {
	w      io.Writer
	h      rounds.Round
	hashes []digest.Digest
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
			return 0, refusal.New(ReasonSum, "block %d does not match its announced hash", c.next)
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
