package aggregator

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// The files of a round, in a directory named by its ID:
//
//	round            as the broker signed it
//	uploads/DIGEST/  manifest, blocks, and the empty file complete
//	sums/DIGEST/     manifest (JSON), blocks
//	results/AGENT    of each party, where parties hold the round's key
//	ticket, result, values
const (
	fileRound    = "round"
	fileManifest = "manifest"
	fileBlocks   = "blocks"
	fileComplete = "complete"
	fileTicket   = "ticket"
	fileResult   = "result"
	fileValues   = "values"
	dirResults   = "results"
)

// round is one round that is held.
type round struct {
	dir     string
	signed  []byte
	digest  digest.Digest
	def     federation.Round
	set     params.Set
	columns federation.Columns // of this shard

	mu      sync.Mutex
	uploads map[digest.Digest]*upload       // by digest of the signed contribution
	agents  map[digest.Digest]digest.Digest // agent -> contribution
	// processors are the uploads of each, waiting those that were not complete when a place was
	// last looked for: who comes is not held against all who came before.
	processors map[protocol.Processor]map[digest.Digest]*upload
	waiting    map[digest.Digest]*upload
	order      uint64     // of what uploads did last
	summing    sync.Mutex // one sum at a time
}

// RoundStatus is a round at a glance.
type RoundStatus struct {
	Round      digest.RoundID `json:"round"`
	Model      string         `json:"model"`
	Set        string         `json:"set"`
	Length     uint64         `json:"length"`
	Minimum    uint32         `json:"minimum"`
	Maximum    uint32         `json:"maximum"`
	Complete   int            `json:"complete"`
	Incomplete int            `json:"incomplete"`
	Bytes      int64          `json:"bytes"`
	Closed     bool           `json:"closed"`
	Published  bool           `json:"published"`
}

func (r *round) status() RoundStatus {
	s := RoundStatus{Round: r.def.ID, Model: r.def.Model, Set: r.def.Set, Length: r.def.Length, Minimum: r.def.Minimum, Maximum: r.def.Maximum,
		Closed: disk.Exists(r.path(fileTicket)), Published: disk.Exists(r.path(fileResult))}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.uploads {
		if u.complete.Load() {
			s.Complete++
		} else {
			s.Incomplete++
		}
		s.Bytes += int64(u.next.Load()) * int64(r.set.BlockBytes())
	}
	return s
}

// has says whether an agent has an upload here, whole or not.
func (r *round) has(by *federation.Reader) bool {
	if by == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.agents[by.Agent()]
	return ok
}

func (r *round) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// create makes the directory of a round that was verified.
func (a *Aggregator) create(def federation.Round, signed []byte) (*round, error) {
	r, err := a.newRound(def, signed)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{"uploads", "sums"} {
		if err := os.MkdirAll(r.path(dir), 0o700); err != nil {
			return nil, err
		}
	}
	return r, disk.Write(r.path(fileRound), signed)
}

func (a *Aggregator) newRound(def federation.Round, signed []byte) (*round, error) {
	set, _, err := def.Parameters()
	if err != nil {
		return nil, err
	}
	blocks := federation.BlockCount(def.Length, set.ValuesPerBlock())
	if blocks > federation.MaxManifestBlocks {
		return nil, refusal.New(federation.ReasonRound, "%d blocks exceed this aggregator's limit", blocks)
	}
	columns, err := federation.Shard(blocks, a.cfg.Shard, a.cfg.Shards)
	return &round{dir: a.roundDir(def.ID), signed: signed, digest: digest.Of(signed), def: def, set: set,
		columns: columns, uploads: map[digest.Digest]*upload{}, agents: map[digest.Digest]digest.Digest{},
		processors: map[protocol.Processor]map[digest.Digest]*upload{}, waiting: map[digest.Digest]*upload{}}, err
}

// hold adds an upload. r.mu is held, or nobody else knows r.
func (r *round) hold(u *upload) {
	r.uploads[u.digest], r.agents[u.contribution.Agent] = u, u.digest
	own := r.processors[u.processor]
	if own == nil {
		own = map[digest.Digest]*upload{}
		r.processors[u.processor] = own
	}
	own[u.digest] = u
	if !u.complete.Load() {
		r.waiting[u.digest] = u
	}
}

// drop removes an upload. r.mu is held.
func (r *round) drop(u *upload) {
	delete(r.uploads, u.digest)
	delete(r.agents, u.contribution.Agent)
	delete(r.waiting, u.digest)
	delete(r.processors[u.processor], u.digest)
	if len(r.processors[u.processor]) == 0 {
		delete(r.processors, u.processor)
	}
}

// load reads every round of an earlier run.
func (a *Aggregator) load() error {
	base := filepath.Join(a.cfg.StateDir, "rounds")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(base)
	if err = errors.Join(err, disk.Sweep(a.cfg.StateDir), a.board.Sweep()); err != nil {
		return err
	}
	for _, e := range entries {
		signed, err := os.ReadFile(filepath.Join(base, e.Name(), fileRound))
		if errors.Is(err, fs.ErrNotExist) { // interrupted before the round was taken
			continue
		}
		if err != nil {
			return err
		}
		// It was held against the epochs when it was taken, and is again when it is used.
		def, err := federation.VerifyRound(signed, a.cfg.Roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
		if reason, _ := refusal.ReasonOf(err); reason == federation.ReasonVersion {
			a.cfg.Logger.Warn("a round of an earlier version is not served; remove it", "round", e.Name())
			continue
		}
		if err != nil || def.ID.String() != e.Name() {
			return fmt.Errorf("round %s in the state directory: %w", e.Name(), errors.Join(err, errors.New("remove it if it is not wanted")))
		}
		r, err := a.newRound(def, signed)
		if err != nil {
			return err
		}
		if err := errors.Join(r.sweep(), r.dropFormer(a.cfg.Logger), r.loadUploads(a.cfg.Roots)); err != nil {
			return fmt.Errorf("round %s: %w", def.ID, err)
		}
		a.rounds[def.ID] = r
	}
	return nil
}

func (r *round) loadUploads(roots []identity.Public) error {
	entries, err := os.ReadDir(r.path("uploads"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		sum, err := digest.Parse(e.Name())
		if err != nil {
			continue // a temporary name of an interrupted write
		}
		manifest, err := r.readManifest(sum)
		if errors.Is(err, fs.ErrNotExist) { // interrupted when it began, or when it gave way
			if err := os.RemoveAll(r.path("uploads", e.Name())); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		c, by, err := federation.VerifyContribution(manifest.Signed, roots, protocol.Recorded(protocol.AtLeast(1)), r.def)
		if err != nil {
			return fmt.Errorf("upload %s: %w", sum, err)
		}
		u := &upload{contribution: c, digest: sum, processor: by.Lease.Processor, source: fmt.Sprintf("processor %x", by.Lease.Processor), restored: true}
		next := r.columns.Count
		if disk.Exists(r.path("uploads", e.Name(), fileComplete)) {
			u.complete.Store(true)
		} else if next, err = r.recount(u, manifest); err != nil {
			return err
		}
		u.next.Store(next)
		r.hold(u)
	}
	return nil
}

// sweep deletes what interrupted sums and other writes left.
func (r *round) sweep() error {
	left, err := filepath.Glob(r.path("sums", ".work-*"))
	for _, dir := range left {
		err = errors.Join(err, os.RemoveAll(dir))
	}
	return errors.Join(err, disk.Sweep(r.dir, r.path("uploads", "*"), r.path("shares", "*"), r.path(dirResults)))
}

func (a *Aggregator) roundDir(id digest.RoundID) string {
	return filepath.Join(a.cfg.StateDir, "rounds", id.String())
}

func writeJSONFile(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return disk.Write(path, data)
}
