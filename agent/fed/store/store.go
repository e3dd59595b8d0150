// Package store keeps the files of federated rounds on the guest's disk: vectors that wait to be
// encrypted, ciphertexts that wait to be sent, what was signed about them, and published values
// while they are being checked.
//
// A vector is measured as it comes in, and is never on the disk in the clear. It is sealed under
// the queue's key, which comes with a lease. For a round whose key is held by parties, a key that
// no broker knows is mixed in, so that a restart of the agent loses such vectors. The store holds
// no more than its limits allow, in all and for each user, and removes what no job needs.
//
// Packages fed and decrypt keep the files of their jobs in a [Store].
package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonVectorLost means that the stored vector was sealed under a key of an earlier run of the agent,
// which nobody has any more.
const ReasonVectorLost refusal.Reason = "vector-lost"

// The directories.
const (
	vectors = "spool"
	uploads = "uploads"
	scratch = "results"
)

// directories are where files of users lie.
var directories = [...]string{vectors, uploads, scratch}

// Part is one file of an upload.
type Part string

// The parts of an upload. All but the first are kept after it is complete.
const (
	Blocks   Part = ".blocks"   // the ciphertexts
	Manifest Part = ".manifest" // what was signed of them
	Restated Part = ".again"    // the same, signed again by a later run
	Result   Part = ".result"   // what the job tells its user
	Proof    Part = ".proof"    // that the norm is inside its bound
)

// Config is what a store needs. All fields are required; limits of zero allow nothing.
type Config struct {
	// Queue has the jobs that the files belong to.
	Queue *jobs.Queue
	Dir   string
	// Key seals the vectors.
	Key *keybuf.Buffer
	// Own is a key of 32 bytes that this run of the agent drew, and that no lease brought.
	// Vectors for rounds whose key parties hold are sealed under both: the broker may know
	// Key, and must not read them with the guest's disk. A restart loses them.
	Own    *keybuf.Buffer
	Limits spool.Limits
}

// Store keeps files. It has no state of its own but the room of those that are being written,
// and may be used by any goroutine.
type Store struct {
	cfg  Config
	run  string // names Own
	room *spool.Room
}

// New makes the directories.
func New(cfg Config) (*Store, error) {
	if cfg.Queue == nil || cfg.Key.Len() != 32 || cfg.Own.Len() != 32 {
		return nil, errors.New("fed/store: Queue, and Key and Own of 32 bytes each, are required")
	}
	run, err := nameOf(cfg.Own)
	if err != nil {
		return nil, err
	}
	for _, dir := range directories {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, dir), 0o700); err != nil {
			return nil, err
		}
	}
	return &Store{cfg: cfg, run: run, room: spool.NewRoom(cfg.Dir, cfg.Limits)}, nil
}

func (s *Store) path(dir, name string) string { return filepath.Join(s.cfg.Dir, dir, name) }

// NewUpload begins a file of an upload, whose place is taken already. It is kept under
// UploadPath, or discarded.
func (s *Store) NewUpload() (*disk.File, error) { return disk.Create(s.path(uploads, "")) }

// UploadPath is where a part of a round's upload lies.
func (s *Store) UploadPath(round digest.RoundID, p Part) string {
	return s.path(uploads, round.String()+string(p))
}

// WriteUpload makes a small part of an upload durable.
func (s *Store) WriteUpload(round digest.RoundID, p Part, data []byte) error {
	return disk.Write(s.UploadPath(round, p), data)
}

// Above says whether need bytes that were reserved before may be written now.
func (s *Store) Above(need int64) error { return s.room.Above(need) }

// Scratch is a file that is gone when it is closed.
type Scratch struct {
	*disk.File
	release func()
}

// NewScratch makes a file of at most size bytes, which take room of a user until it is closed.
func (s *Store) NewScratch(uid uint32, size int64) (*Scratch, error) {
	release, err := s.reserve(uid, size)
	if err != nil {
		return nil, err
	}
	f, err := disk.Create(s.path(scratch, ""))
	if err != nil {
		release()
		return nil, err
	}
	return &Scratch{f, release}, nil
}

// Close removes the file and gives its room back.
func (f *Scratch) Close() error {
	defer f.release()
	return f.Discard()
}

// reserve takes room of a user before the first byte is written.
func (s *Store) reserve(uid uint32, need int64) (release func(), err error) {
	return s.room.Reserve(uid, need, func() (spool.Usage, error) { return s.usage(uid) })
}

// usage is what is stored, and what jobs that wait have still to write. Files that are
// being written hold their room themselves.
func (s *Store) usage(uid uint32) (u spool.Usage, err error) {
	size := map[string]int64{}
	for _, dir := range directories {
		entries, err := os.ReadDir(s.path(dir, ""))
		if err != nil {
			return u, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) || disk.Unfinished(e.Name()) {
				continue
			}
			if err != nil {
				return u, err
			}
			size[s.path(dir, e.Name())] = info.Size()
			u.Total += info.Size()
		}
	}
	s.contributing(func(info jobs.Info, c claim) {
		blocks, written := size[s.UploadPath(c.Round, Blocks)]
		if !written && !info.Final() {
			blocks = c.Upload
			u.Total += blocks
		}
		if info.Owner == uid {
			u.Owner += size[s.path(vectors, c.Vector)] + blocks
		}
	})
	return u, nil
}
