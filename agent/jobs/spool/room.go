package spool

import (
	"sync"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// Reasons of a Room.
const (
	// ReasonFull: the limit of what is stored in all would be exceeded.
	ReasonFull refusal.Reason = "spool-full"
	// ReasonOwner: the limit of what is stored for one user would be exceeded.
	ReasonOwner refusal.Reason = "spool-owner-full"
	// ReasonDisk: less of the disk would stay free than has to be.
	ReasonDisk refusal.Reason = "disk-full"
	// ReasonBusy: too many files are being written.
	ReasonBusy refusal.Reason = "spool-busy"
)

// Limits bound what is stored. The zero value allows nothing.
type Limits struct {
	// Total is how many bytes there may be, PerOwner how many of one user.
	Total, PerOwner int64
	// Floor is how many bytes of the disk stay free.
	Floor int64
	// Writers is how many files may be written at the same time, WritersPerOwner how many
	// of one user.
	Writers, WritersPerOwner int
}

// Defaults are the limits of an agent that is not configured otherwise: 8 GiB in all and 4 GiB
// of one user; 512 MiB stay free; 16 files at a time and 8 of one user.
func Defaults() Limits {
	return Limits{Total: 8 << 30, PerOwner: 4 << 30, Floor: 512 << 20, Writers: 16, WritersPerOwner: 8}
}

// Room decides whether more may be stored in a directory. It asks its caller how much is stored
// there already, and keeps track only of what is being written. Its methods may be called from
// any goroutine.
type Room struct {
	dir    string
	limits Limits
	free   func(dir string) (int64, error) // tests replace it

	mu      sync.Mutex // guards the rest
	held    int64      // bytes reserved for files that are being written
	of      map[uint32]int64
	writers map[uint32]int
	writing int
}

// NewRoom makes a room for a directory.
func NewRoom(dir string, l Limits) *Room {
	return &Room{dir: dir, limits: l, free: disk.Free, of: map[uint32]int64{}, writers: map[uint32]int{}}
}

// Usage is how many bytes are stored already, in all and of one user, without those being
// written.
type Usage struct{ Total, Owner int64 }

// Reserve takes room for need bytes of a user, before the first of them is written. The caller
// releases it once the bytes are stored and counted by usage, or are gone.
func (r *Room) Reserve(owner uint32, need int64, usage func() (Usage, error)) (release func(), err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.writing >= r.limits.Writers || r.writers[owner] >= r.limits.WritersPerOwner {
		return nil, refusal.New(ReasonBusy, "%d files are being written, %d of them for this user; try again when one is finished", r.writing, r.writers[owner])
	}
	used, err := usage()
	if err != nil {
		return nil, err
	}
	if total := used.Total + r.held; need > r.limits.Total-total {
		return nil, refusal.New(ReasonFull, "%d bytes are stored, and %d more would exceed the limit of %d (spool.size_mb); space is freed when jobs are done or cancelled", total, need, r.limits.Total)
	}
	if own := used.Owner + r.of[owner]; need > r.limits.PerOwner-own {
		return nil, refusal.New(ReasonOwner, "%d bytes are stored for this user, and %d more would exceed the limit of %d (spool.size_per_uid_mb); space is freed when jobs are done or cancelled", own, need, r.limits.PerOwner)
	}
	free, err := r.free(r.dir)
	if err != nil {
		return nil, err
	}
	if need > free-r.held-r.limits.Floor {
		return nil, refusal.New(ReasonDisk, "%d bytes of the disk are free, of which %d are reserved; %d more would leave less than %d free (spool.free_mb)", free, r.held, need, r.limits.Floor)
	}
	r.add(owner, need, 1)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.add(owner, -need, -1)
	}), nil
}

// Above refuses if writing need bytes of what was reserved before would leave less of the disk
// free than has to be.
func (r *Room) Above(need int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	free, err := r.free(r.dir)
	if err == nil && need > free-r.limits.Floor {
		err = refusal.New(ReasonDisk, "%d bytes of the disk are free; %d more would leave less than %d free (spool.free_mb)", free, need, r.limits.Floor)
	}
	return err
}

// add changes what is being written.
func (r *Room) add(owner uint32, bytes int64, files int) {
	r.held += bytes
	r.writing += files
	r.of[owner] += bytes
	if r.writers[owner] += files; r.writers[owner] == 0 {
		delete(r.of, owner)
		delete(r.writers, owner)
	}
}
