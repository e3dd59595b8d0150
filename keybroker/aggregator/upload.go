package aggregator

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// upload is one contribution that is under way or complete.
type upload struct {
	contribution federation.Contribution
	digest       digest.Digest      // of the signed contribution
	processor    protocol.Processor // of its guest, by the lease that it was signed under

	mu        sync.Mutex    // held while blocks are written
	next      atomic.Uint64 // blocks that are here, from the shard's first; its writer holds mu
	complete  atomic.Bool
	verifying sync.Mutex // held while its proof is verified and kept
	// unsound is the refusal of the one proof that its contribution names, once it was
	// verified and does not hold: it never will. It is verifying's.
	unsound error

	// source is where its manifest came from; since, the order in which uploads of the round
	// began or got on. Both are the round's mu's, and forgotten with a restart: until its agent
	// comes back, the source of a restored one is its processor.
	source   string
	restored bool
	since    uint64
	gone     bool // it gave way; mu's
}

// UploadStatus says where an upload stands. Blocks count from the shard's first.
type UploadStatus struct {
	Contribution digest.Digest `json:"contribution"`
	First        uint64        `json:"first"` // block of the vector that this shard begins with
	Next         uint64        `json:"next"`
	Blocks       uint64        `json:"blocks"` // of this shard
	Complete     bool          `json:"complete"`
}

func (r *round) statusOf(u *upload) UploadStatus {
	complete := u.complete.Load() // before next, which is the last one's then
	return UploadStatus{Contribution: u.digest, First: r.columns.First, Next: u.next.Load(), Blocks: r.columns.Count, Complete: complete}
}

// Begin takes a manifest, signed under a lease that runs, and says where to go on. Again
// with the same manifest it goes on where it stopped.
func (a *Aggregator) Begin(id digest.RoundID, raw []byte) (UploadStatus, error) {
	return a.take(id, raw, peer{})
}

// take is Begin of whoever is at the other end of a connection.
func (a *Aggregator) take(id digest.RoundID, raw []byte, from peer) (UploadStatus, error) {
	r, err := a.round(id)
	if err != nil {
		return UploadStatus{}, err
	}
	manifest, err := federation.ParseManifest(raw)
	if err != nil {
		return UploadStatus{}, err
	}
	c, authority, err := federation.VerifyContribution(manifest.Signed, a.cfg.Roots, a.floor(), r.def)
	if err != nil {
		return UploadStatus{}, err
	}
	if err := a.lowest.Raise(authority.Epoch.Broker, authority.Epoch.MinEpoch); err != nil {
		return UploadStatus{}, err
	}
	if err := errors.Join(c.Follows(r.def, r.digest), manifest.Matches(c)); err != nil {
		return UploadStatus{}, err
	}
	sum := digest.Of(manifest.Signed)
	if !a.now().before(r.def.Closes) || disk.Exists(r.path(fileTicket)) {
		return UploadStatus{}, refusal.New(ReasonRoundOver, "round %s accepts no more contributions", id)
	}
	u, err := r.upload(sum)
	if err != nil { // what was taken while its lease ran goes on after it
		if err := a.mayRestate(&authority, from.shown); err != nil {
			return UploadStatus{}, err
		}
		fresh := &upload{contribution: c, digest: sum, processor: authority.Lease.Processor, source: from.source}
		if u, err = r.admit(fresh, raw); err != nil {
			return UploadStatus{}, err
		}
	}
	r.cameBack(u, from)
	return r.statusOf(u), nil // not under u.mu: that is held while its blocks come
}

// admit takes the upload of a contribution that was verified, or finds it.
func (r *round) admit(u *upload, raw []byte) (*upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if held, ok := r.uploads[u.digest]; ok {
		return held, nil
	}
	if other, ok := r.agents[u.contribution.Agent]; ok {
		return nil, refusal.New(ReasonDuplicate, "this agent's contribution is already %s", other)
	}
	if err := r.makeRoom(u); err != nil {
		return nil, err
	}
	dir := r.path("uploads", u.digest.String())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := disk.Write(r.path("uploads", u.digest.String(), fileManifest), raw); err != nil {
		return nil, err
	}
	if err := disk.SyncDir(r.path("uploads")); err != nil {
		return nil, err
	}
	r.gotOn(u)
	r.hold(u)
	return u, nil
}

// cameBack gives an upload of before a restart the source that its agent sends it from now.
func (r *round) cameBack(u *upload, from peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u.restored && from.source != "" && (from.shown == nil || from.shown.Agent() == u.contribution.Agent) {
		u.source, u.restored = from.source, false
	}
}

func (r *round) upload(sum digest.Digest) (*upload, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u, ok := r.uploads[sum]
	if !ok {
		return nil, refusal.New(ReasonUnknown, "no upload %s; send its manifest first", sum)
	}
	return u, nil
}

func (r *round) readManifest(sum digest.Digest) (federation.Manifest, error) {
	raw, err := os.ReadFile(r.path("uploads", sum.String(), fileManifest))
	if err != nil {
		return federation.Manifest{}, err
	}
	return federation.ParseManifest(raw)
}

// Receive takes blocks from a position on, checks each, and completes the upload
// when the last one is there. What was taken before an error stays.
func (a *Aggregator) Receive(id digest.RoundID, sum digest.Digest, from uint64, body io.Reader) (UploadStatus, error) {
	return a.receiveFrom(id, sum, from, &patient{r: body, idle: a.cfg.Idle})
}

func (a *Aggregator) receiveFrom(id digest.RoundID, sum digest.Digest, from uint64, body *patient) (UploadStatus, error) {
	r, err := a.round(id)
	if err != nil {
		return UploadStatus{}, err
	}
	u, err := r.upload(sum)
	if err != nil {
		return UploadStatus{}, err
	}
	if !u.mu.TryLock() {
		return UploadStatus{}, refusal.New(ReasonBusy, "this upload is in progress on another connection")
	}
	defer u.mu.Unlock()
	switch {
	case u.gone:
		return UploadStatus{}, refusal.New(ReasonUnknown, "upload %s was displaced by another; send its manifest again", sum)
	case u.complete.Load():
		return r.statusOf(u), nil
	case from != u.next.Load():
		return r.statusOf(u), refusal.New(ReasonGap, "block %d is next, not %d", u.next.Load(), from)
	case !a.now().before(r.def.Closes):
		return r.statusOf(u), refusal.New(ReasonRoundOver, "round %s takes no more blocks", id)
	}
	if err := r.proven(u); err != nil {
		return r.statusOf(u), err
	}
	manifest, err := r.readManifest(sum)
	if err != nil {
		return r.statusOf(u), err
	}
	room, err := a.disk.claim(int64(r.columns.Count-from) * int64(r.set.BlockBytes()))
	if err != nil {
		return r.statusOf(u), err
	}
	defer room.release()
	if err := a.sending.enter(body); err != nil {
		return r.statusOf(u), err
	}
	defer a.sending.leave(body)
	err = a.append(r, u, manifest, body, room)
	if u.next.Load() > from {
		r.mu.Lock()
		r.gotOn(u)
		r.mu.Unlock()
	}
	return r.statusOf(u), err
}

// append writes checked blocks, and completes the upload with the last one.
func (a *Aggregator) append(r *round, u *upload, manifest federation.Manifest, body io.Reader, room *room) (err error) {
	f, err := os.OpenFile(r.path("uploads", u.digest.String(), fileBlocks), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size := r.set.BlockBytes()
	check := a.checker(r)
	defer a.buffers.Put(check)
	for next := u.next.Load(); next < r.columns.Count; next = u.next.Add(1) {
		n, err := io.ReadFull(body, check.block[:size])
		if n == 0 && errors.Is(err, io.EOF) {
			return f.Sync()
		}
		if _, refused := refusal.ReasonOf(err); refused { // it creeps, or gave way
			return errors.Join(err, f.Sync())
		}
		if err != nil {
			return errors.Join(refusal.New(ReasonIncomplete, "the connection ended inside block %d; continue from there", next), f.Sync())
		}
		if !a.now().before(r.def.Closes) { // an upload may take as long as the round, not longer
			return errors.Join(refusal.New(ReasonRoundOver, "round %s takes no more blocks", r.def.ID), f.Sync())
		}
		index := r.columns.First + next
		if err := manifest.CheckBlock(r.def.ID, index, check.block[:size]); err != nil {
			return err
		}
		if err := check.canonical(check.block[:size]); err != nil {
			return refusal.New(ReasonResidue, "block %d: %v", index, err)
		}
		if _, err := f.WriteAt(check.block[:size], int64(next)*int64(size)); err != nil {
			return err
		}
		room.wrote(int64(size))
	}
	if n, _ := io.ReadFull(body, check.block[:1]); n != 0 { // an error here is the end that is wanted
		return refusal.New(ReasonSurplus, "bytes after the last block")
	}
	return errors.Join(f.Sync(), r.finish(u))
}

// finish marks an upload complete; it counts from the moment that this is durable.
func (r *round) finish(u *upload) error {
	if err := disk.Write(r.path("uploads", u.digest.String(), fileComplete), nil); err != nil {
		return err
	}
	u.complete.Store(true)
	return nil
}

// recount finds how many blocks of an interrupted upload are whole.
func (r *round) recount(u *upload, manifest federation.Manifest) (next uint64, err error) {
	f, err := os.Open(r.path("uploads", u.digest.String(), fileBlocks))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	block := make([]byte, r.set.BlockBytes())
	for ; next < r.columns.Count; next++ {
		if _, err := io.ReadFull(f, block); err != nil {
			return next, nil // the rest is to be sent again
		}
		if manifest.CheckBlock(r.def.ID, r.columns.First+next, block) != nil {
			return next, nil
		}
	}
	return next, r.finish(u)
}

// checker holds what one upload or one adding worker needs: a block and a sum.
type checker struct {
	set   string
	block []byte
	sum   federation.Adder
}

func (a *Aggregator) checker(r *round) *checker {
	if c, ok := a.buffers.Get().(*checker); ok && c.set == r.set.ID {
		return c
	}
	sum, _ := federation.NewAdder(r.set) // every set that a round may name has one: newRound's test
	return &checker{set: r.set.ID, block: make([]byte, r.set.BlockBytes()), sum: sum}
}

func (c *checker) canonical(block []byte) error {
	c.sum.Reset()
	return c.sum.Add(block)
}
