package aggregator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// SumManifest describes a sum: over which cohort, and the hash of each block.
type SumManifest struct {
	Round  digest.RoundID `json:"round"`
	Cohort digest.Digest  `json:"cohort"` // federation.CohortDigest
	Count  int            `json:"count"`
	// Contributions are the cohort's members, sorted by nothing in particular.
	Contributions []digest.Digest `json:"contributions"`
	First         uint64          `json:"first"` // block of the vector that this shard begins with
	Hashes        []digest.Digest `json:"hashes"`
}

// Complete returns the signed contributions of the complete uploads.
func (a *Aggregator) Complete(id digest.RoundID) ([][]byte, error) {
	r, err := a.round(id)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	var digests []digest.Digest
	for d, u := range r.uploads {
		if u.complete.Load() {
			digests = append(digests, d)
		}
	}
	r.mu.Unlock()
	signed := make([][]byte, 0, len(digests))
	for _, d := range digests {
		m, err := r.readManifest(d)
		if err != nil {
			return nil, err
		}
		signed = append(signed, m.Signed)
	}
	return signed, nil
}

// Sum adds the uploads of a cohort, all of them complete, block by block: each
// accumulator stays in a cache while the blocks of all participants stream past.
// progress is told after each block. A sum that was made before is returned as it
// is.
func (a *Aggregator) Sum(ctx context.Context, id digest.RoundID, cohort []digest.Digest, progress func(done, total uint64)) (SumManifest, error) {
	r, err := a.round(id)
	if err != nil {
		return SumManifest{}, err
	}
	if len(cohort) < int(r.def.Minimum) {
		return SumManifest{}, refusal.New(ReasonIncomplete, "got %d contributions, the round's minimum is %d", len(cohort), r.def.Minimum)
	}
	seen := map[digest.Digest]bool{}
	for _, d := range cohort {
		u, err := r.upload(d)
		if err != nil {
			return SumManifest{}, err
		}
		if !u.complete.Load() || seen[d] {
			return SumManifest{}, refusal.New(ReasonIncomplete, "upload %s is incomplete or listed twice", d)
		}
		seen[d] = true
	}
	r.summing.Lock()
	defer r.summing.Unlock()
	name := federation.CohortDigest(cohort)
	if m, err := r.readSum(name); err == nil {
		return m, nil
	}
	return a.add(ctx, r, cohort, name, progress)
}

// add computes the sum into a directory of its own and gives it its name when it
// is whole.
func (a *Aggregator) add(ctx context.Context, r *round, cohort []digest.Digest, name digest.Digest, progress func(done, total uint64)) (m SumManifest, err error) {
	room, err := a.disk.claim(int64(r.columns.Count) * int64(r.set.BlockBytes()))
	if err != nil {
		return m, err
	}
	defer room.release()
	work, err := os.MkdirTemp(r.path("sums"), ".work-*")
	if err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(work))
		}
	}()
	sources := make([]*os.File, 0, len(cohort))
	defer func() {
		for _, f := range sources {
			err = errors.Join(err, f.Close())
		}
	}()
	for _, d := range cohort {
		f, err := os.Open(r.path("uploads", d.String(), fileBlocks))
		if err != nil {
			return m, err
		}
		sources = append(sources, f)
	}
	out, err := os.Create(filepath.Join(work, fileBlocks))
	if err != nil {
		return m, err
	}
	m = SumManifest{Round: r.def.ID, Cohort: name, Count: len(cohort), Contributions: cohort, First: r.columns.First, Hashes: make([]digest.Digest, r.columns.Count)}
	err = a.addColumns(ctx, r, sources, out, m.Hashes, progress)
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return m, err
	}
	if err := writeJSONFile(filepath.Join(work, fileManifest), m); err != nil {
		return m, err
	}
	if err := os.Rename(work, r.path("sums", name.String())); err != nil {
		return m, err
	}
	return m, disk.SyncDir(r.path("sums"))
}

// addColumns lets the workers take blocks in turn.
func (a *Aggregator) addColumns(ctx context.Context, r *round, sources []*os.File, out *os.File, hashes []digest.Digest, progress func(done, total uint64)) error {
	var next, done atomic.Uint64
	var wg sync.WaitGroup
	var telling sync.Mutex
	errs := make([]error, a.cfg.Workers)
	for w := range errs {
		wg.Go(func() {
			c := a.checker(r)
			defer a.buffers.Put(c)
			for {
				at := next.Add(1) - 1
				if at >= r.columns.Count {
					return
				}
				if errs[w] = ctx.Err(); errs[w] == nil {
					hashes[at], errs[w] = r.addBlock(c, sources, out, at)
				}
				if errs[w] != nil {
					next.Store(r.columns.Count) // the others stop as well
					return
				}
				if n := done.Add(1); progress != nil {
					telling.Lock()
					progress(n, r.columns.Count)
					telling.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// addBlock adds one block of every source.
func (r *round) addBlock(c *checker, sources []*os.File, out *os.File, at uint64) (digest.Digest, error) {
	offset := int64(at) * int64(len(c.block))
	c.sum.Reset()
	for _, f := range sources {
		if _, err := f.ReadAt(c.block, offset); err != nil {
			return digest.Digest{}, fmt.Errorf("%s: block %d: %w", f.Name(), at, err)
		}
		if err := c.sum.Add(c.block); err != nil {
			return digest.Digest{}, fmt.Errorf("%s: block %d: %w", f.Name(), at, err)
		}
	}
	if err := c.sum.Write(c.block); err != nil {
		return digest.Digest{}, err
	}
	_, err := out.WriteAt(c.block, offset)
	return federation.BlockHash(r.def.ID, r.columns.First+at, c.block), err
}

func (r *round) readSum(name digest.Digest) (m SumManifest, err error) {
	data, err := os.ReadFile(r.path("sums", name.String(), fileManifest))
	if err != nil {
		return m, refusal.New(ReasonNoSum, "there is no sum of this cohort")
	}
	return m, json.Unmarshal(data, &m)
}
