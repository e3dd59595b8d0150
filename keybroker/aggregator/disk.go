package aggregator

import (
	"sync"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonDisk means that less of the disk would stay free than has to.
const ReasonDisk refusal.Reason = "disk-full"

// floor keeps a part of the disk free: for tickets and results, which end rounds and are small,
// and for whatever else writes there.
type floor struct {
	dir   string
	bytes int64
	free  func(dir string) (int64, error) // tests replace it

	mu   sync.Mutex
	held int64 // by what is being written
}

func newFloor(dir string, bytes int64) *floor { return &floor{dir: dir, bytes: bytes, free: disk.Free} }

// room is a part of the disk that something is being written to.
type room struct {
	of   *floor
	left int64
}

// claim takes room for so many bytes, before the first of them is read or written.
func (f *floor) claim(need int64) (*room, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	free, err := f.free(f.dir)
	if err != nil {
		return nil, err
	}
	if need > free-f.held-f.bytes {
		return nil, refusal.New(ReasonDisk, "%d bytes of the aggregator's disk are free and %d of them reserved; after %d more bytes, less than %d would remain (free_mb): free space, or remove finished rounds", free, f.held, need, f.bytes)
	}
	f.held += need
	return &room{f, need}, nil
}

// wrote gives back what was written: the disk itself counts it from now on.
func (r *room) wrote(bytes int64) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	bytes = min(bytes, r.left)
	r.left -= bytes
	r.of.held -= bytes
}

// release gives back what was not written.
func (r *room) release() { r.wrote(r.left) }
