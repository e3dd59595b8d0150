package decrypt

import (
	"context"
	"io"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// maxRecountHashes bounds the hash lists that a recount holds: 64 MiB.
const maxRecountHashes = 2 << 20

// recountBlocks are fetched of each contribution at a time.
const recountBlocks = 4

// recount adds the cohort's contributions once more, from the blocks that their
// agents signed, and passes a block of the sum on only if it is the one that the
// ticket closes. Memory is a few blocks, whatever the cohort, and the hash lists.
func (s *Service) recount(ctx context.Context, h rounds.Round, t federation.Ticket, sum []digest.Digest) ([]source, error) {
	if int(t.Count)*len(sum) > maxRecountHashes { // before the lists are fetched
		return nil, refusal.New(ReasonSum, "%d contributions of %d blocks are too many to recount here", t.Count, len(sum))
	}
	members, err := s.cohort(ctx, h, t)
	if err != nil {
		return nil, err
	}
	set, _, err := h.Parameters()
	if err != nil {
		return nil, err
	}
	r := &recount{s: s, h: h, members: members, sum: sum, size: set.BlockBytes(), buf: make([]byte, recountBlocks*set.BlockBytes())}
	for range recountBlocks {
		a, err := federation.NewAdder(set)
		if err != nil {
			return nil, err
		}
		r.adders = append(r.adders, a)
	}
	return []source{func(w io.Writer) error { return r.run(ctx, w) }}, nil
}

// recount is one recount under way. It is its feed's alone.
type recount struct {
	s       *Service
	h       rounds.Round
	members []member
	sum     []digest.Digest
	size    int
	buf     []byte
	adders  []federation.Adder
}

func (r *recount) run(ctx context.Context, w io.Writer) error {
	for shard := range r.s.cfg.Shards {
		part, err := federation.Shard(uint64(len(r.sum)), shard, len(r.s.cfg.Shards))
		if err != nil {
			return err
		}
		for at := uint64(0); at < part.Count; at += recountBlocks {
			if err := r.blocks(ctx, shard, part.First, at, int(min(recountBlocks, part.Count-at)), w); err != nil {
				return err
			}
		}
	}
	return nil
}

// blocks recounts n blocks from a place in one shard's part.
func (r *recount) blocks(ctx context.Context, shard int, first, at uint64, n int, w io.Writer) error {
	for _, a := range r.adders[:n] {
		a.Reset()
	}
	for _, m := range r.members {
		if err := r.s.cfg.Shards[shard].UploadRange(ctx, r.h.ID, m.digest, int64(at)*int64(r.size), r.buf[:n*r.size]); err != nil {
			return err
		}
		for i, a := range r.adders[:n] {
			block, index := r.buf[i*r.size:(i+1)*r.size], first+at+uint64(i)
			if index >= uint64(len(m.hashes)) || federation.BlockHash(r.h.ID, index, block) != m.hashes[index] {
				return refusal.New(ReasonSum, "block %d of contribution %s does not match its signed hash", index, m.digest)
			}
			if err := a.Add(block); err != nil {
				return refusal.New(ReasonSum, "block %d of contribution %s: %v", index, m.digest, err)
			}
		}
	}
	for i, a := range r.adders[:n] {
		block, index := r.buf[i*r.size:(i+1)*r.size], first+at+uint64(i)
		if err := a.Write(block); err != nil {
			return err
		}
		if federation.BlockHash(r.h.ID, index, block) != r.sum[index] {
			return refusal.New(ReasonSum, "block %d of the aggregator's sum is not the sum of the contributions", index)
		}
	}
	_, err := w.Write(r.buf[:n*r.size])
	return err
}
