package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Options of a queue. Zero limits take the defaults named.
type Options struct {
	// Boot names this boot of the machine, as /proc/sys/kernel/random/boot_id.
	Boot string
	// MaxJobs that are not final; 1024. MaxKept that are; 4096, of which the oldest of
	// whoever has the most are forgotten first. KeptAge is how long final ones are kept;
	// 30 days.
	MaxJobs, MaxKept int
	KeptAge          time.Duration
	// MaxBytes of specifications and results; 256 MiB. A job that is not final
	// counts with a result of MaxResultBytes, so that its result always has room.
	MaxBytes int64
	// OwnerJobs and OwnerBytes are the part of MaxJobs and MaxBytes that the jobs of one
	// owner may have which are not final; three quarters.
	OwnerJobs  int
	OwnerBytes int64
	// MaxOnce bounds the entries of the journal; 1 Mi. They are kept for ever.
	MaxOnce int
	// MemoryCeiling is the most memory that a retry may be given; none by default.
	MemoryCeiling int64
	// LeaseTime is how long a lease lasts without a heartbeat; one minute.
	LeaseTime time.Duration
	// Holds, if set, is told of the queue's own copy of the key, and of what it derived
	// from it, before the file is touched: so that they can be wiped while Open waits for a
	// disk that hangs.
	Holds  func(keys ...*keybuf.Buffer)
	Now    func() time.Time
	Logger *slog.Logger
}

const maxBootBytes = 256

// complete checks the options and fills in the defaults.
func (o *Options) complete() error {
	switch {
	case o.Logger == nil:
		return refusal.New(ReasonJob, "a logger is required")
	case len(o.Boot) > maxBootBytes:
		return refusal.New(ReasonJob, "the name of the boot has more than %d bytes", maxBootBytes)
	case o.MaxJobs < 0, o.MaxKept < 0, o.MaxBytes < 0, o.MaxOnce < 0, o.MemoryCeiling < 0, o.LeaseTime < 0, o.KeptAge < 0, o.OwnerJobs < 0, o.OwnerBytes < 0:
		return refusal.New(ReasonJob, "a limit is negative")
	}
	for v, d := range map[*int]int{&o.MaxJobs: 1024, &o.MaxKept: 4096, &o.MaxOnce: 1 << 20} {
		if *v == 0 {
			*v = d
		}
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.OwnerJobs == 0 {
		o.OwnerJobs = o.MaxJobs - o.MaxJobs/4
	}
	if o.OwnerBytes == 0 {
		o.OwnerBytes = o.MaxBytes - o.MaxBytes/4
	}
	if o.KeptAge == 0 {
		o.KeptAge = 30 * 24 * time.Hour
	}
	if o.LeaseTime == 0 {
		o.LeaseTime = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}

// Queue holds jobs. Its methods may be called from any goroutine.
type Queue struct {
	opt    Options
	db     *bolt.DB
	key    *keybuf.Buffer          // the queue's own copy
	tags   *keybuf.Buffer          // key of the ledger's tags
	commit func(tx *bolt.Tx) error // tests fail it

	mu      sync.Mutex
	stopped error // why nothing can be changed any more
	closed  bool
	jobs    map[ID]*Info
	next    uint64            // number of the next submission or lease
	served  map[uint32]uint64 // the last lease of an owner's job in this run
	writing ledger            // of the last transaction
	once    int               // entries of the journal
	expires map[ID]time.Time  // of leases in force
	changed chan struct{}     // closed and replaced at each change
	waiting map[ID]context.CancelCauseFunc
}

const (
	bucketMeta = "meta"
	bucketJobs = "jobs"
	bucketOnce = "once"
	metaKey    = "key"
	keyLabel   = "anchorhold/jobs/key/1"
	sealLabel  = "anchorhold/jobs/record/1"
	onceLabel  = "anchorhold/jobs/once/1"
)

// Open opens or makes a queue under a key of chunkseal.KeySize bytes; the caller keeps
// and wipes key. Jobs that were leased when the last process ended wait again; their
// try counts.
func Open(path string, key *keybuf.Buffer, opt Options) (*Queue, error) {
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if key.Len() != chunkseal.KeySize {
		return nil, refusal.New(ReasonWrongKey, "the queue's key must have %d bytes, got %d", chunkseal.KeySize, key.Len())
	}
	own, err := key.Clone()
	if err != nil {
		return nil, err
	}
	tags, err := tagKey(own)
	if err != nil {
		own.Wipe()
		return nil, err
	}
	if opt.Holds != nil {
		opt.Holds(own, tags)
	}
	q, err := openWith(path, own, tags, opt)
	if err != nil {
		own.Wipe()
		tags.Wipe()
		return nil, fmt.Errorf("open job queue %s: %w", path, err)
	}
	return q, nil
}

// openWith takes over both keys if it succeeds.
func openWith(path string, key, tags *keybuf.Buffer, opt Options) (*Queue, error) {
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	q := &Queue{opt: opt, db: db, key: key, tags: tags, commit: (*bolt.Tx).Commit, jobs: map[ID]*Info{}, next: 1, served: map[uint32]uint64{}, expires: map[ID]time.Time{},
		changed: make(chan struct{}), waiting: map[ID]context.CancelCauseFunc{}}
	if err := q.transact(q.load); err != nil {
		if _, named := refusal.ReasonOf(err); !named {
			err = refusal.New(ReasonFile, "%w", err)
		}
		return nil, errors.Join(err, db.Close())
	}
	return q, nil
}

// openFile opens the database; a new file is durable under its name before it is used.
func openFile(path string) (*bolt.DB, error) {
	st, err := os.Stat(path)
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		return nil, refusal.New(ReasonFile, "%s has mode %#o; only its owner may have access (0600)", path, st.Mode().Perm())
	}
	var db *bolt.DB
	err = guarded(func() (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second, FreelistType: bolt.FreelistMapType})
		return err
	})
	if err != nil {
		return nil, refusal.New(ReasonFile, "%w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return nil, errors.Join(refusal.New(ReasonFile, "%s: %w", path, err), db.Close())
	}
	return db, nil
}

// load checks the key, reads every job and gives those that were leased back.
func (q *Queue) load(tx *bolt.Tx) error {
	if tx.Bucket([]byte(bucketMeta)) == nil {
		return q.initialise(tx)
	}
	check := tx.Bucket([]byte(bucketMeta)).Get([]byte(metaKey))
	if _, err := chunkseal.OpenBlob(q.key, keyLabel, nil, check); err != nil {
		return refusal.New(ReasonWrongKey, "the queue was sealed under another key: %w", err)
	}
	jobs, once := tx.Bucket([]byte(bucketJobs)), tx.Bucket([]byte(bucketOnce))
	if jobs == nil || once == nil {
		return damaged(nil, "a part of the queue is missing")
	}
	q.once = once.Stats().KeyN
	if err := jobs.ForEach(func(k, v []byte) error {
		info, err := q.open(k, v)
		if err != nil {
			return err
		}
		q.jobs[info.ID] = info
		q.next = max(q.next, info.Seq+1, info.Lease+1)
		return nil
	}); err != nil {
		return err
	}
	if err := q.checkLedger(tx); err != nil {
		return err
	}
	for _, info := range q.jobs {
		if info.State != Leased {
			continue
		}
		detail := "the agent ended during the try"
		if info.Boot != q.opt.Boot {
			detail = "the machine was rebooted during the try"
		}
		q.lost(info, detail)
		info.Updated = q.opt.Now().UTC()
		if err := q.put(tx, info); err != nil {
			return err
		}
	}
	return nil
}

// firstWrite is the number of a new database's first transaction.
const firstWrite = 2

// initialise makes an empty queue, in a file that never held anything: damage that
// hides what is there must not look like a beginning.
func (q *Queue) initialise(tx *bolt.Tx) error {
	if tx.ID() > firstWrite {
		return damaged(nil, "the queue's head is missing")
	}
	for _, name := range []string{bucketMeta, bucketJobs, bucketOnce} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	check, err := chunkseal.SealBlob(q.key, keyLabel, nil, nil)
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaKey), check)
}

// lost ends a try whose worker is gone.
func (q *Queue) lost(info *Info, detail string) {
	info.end(Crash, q.opt.MemoryCeiling, q.opt.Now())
	info.Reason, info.Detail, info.NotBefore, info.Progress = "", detail, time.Time{}, nil
	q.opt.Logger.Warn("a lease was lost", "job", info.ID.String(), "class", info.Class, "try", info.Tries, "state", string(info.State), "detail", detail)
}

// Wipe wipes the key at once and waits for nothing. A queue without its key can only be
// closed.
func (q *Queue) Wipe() {
	q.key.Wipe() // before that of the tags: see turn
	q.tags.Wipe()
}

// Close wipes the key and closes the file. Waiting calls and leases end. The key
// goes first, before any lock: a disk that hangs keeps Close waiting, not the key.
// A write under way fails without it, and changes nothing.
func (q *Queue) Close() error {
	q.Wipe()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil
	}
	q.closed = true
	q.stop(refusal.New(ReasonClosed, "the queue was closed"))
	return q.db.Close()
}

func (q *Queue) put(tx *bolt.Tx, info *Info) error {
	sealed, err := q.seal(info)
	if err != nil {
		return err
	}
	return q.set(tx, bucketJobs, info.ID[:], sealed)
}

// update makes what f writes durable, or stops the queue: after a write that failed
// nobody knows what the file holds. q.mu is held.
func (q *Queue) update(f func(tx *bolt.Tx) error) error {
	if q.stopped != nil {
		return q.stopped
	}
	err := q.transact(f)
	if err == nil {
		return nil
	}
	q.opt.Logger.Error("the job queue stops", "err", err)
	q.stop(refusal.New(ReasonStorage, "a write failed; the queue must be opened again: %w", err))
	return q.stopped
}

// stop ends leases and waiting calls: their results could not be stored.
func (q *Queue) stop(why error) {
	q.stopped = why
	for id := range q.waiting {
		q.drop(id, why)
	}
	q.signal()
}

func (q *Queue) transact(f func(tx *bolt.Tx) error) error {
	return guarded(func() error {
		tx, err := q.db.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback() // does nothing after a commit
		if err := f(tx); err != nil {
			return err
		}
		if err := q.keepLedger(tx); err != nil {
			return err
		}
		return q.commit(tx)
	})
}

// guarded runs f. The database panics on pages that are not what they should be, and
// reading a mapped page that the file lacks is a fault; here both are damage like any
// other, and not the end of the agent.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(nil, "the file's structure: %v", p)
		}
	}()
	return f()
}

// change makes a changed copy of a job durable and takes it over; q.mu is held.
func (q *Queue) change(info *Info, f func(*Info)) error {
	next := *info
	f(&next)
	next.Updated = q.opt.Now().UTC()
	if err := q.update(func(tx *bolt.Tx) error { return q.put(tx, &next) }); err != nil {
		return err
	}
	if next.State == Dead && info.State != Dead {
		q.opt.Logger.Warn("dead letter", "job", next.ID.String(), "class", next.Class, "tries", next.Tries, "exit", string(next.Exit), "reason", string(next.Reason))
	}
	*info = next
	q.signal()
	return nil
}

func (q *Queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

// clone copies what a caller could change.
func (i *Info) clone() Info {
	c := *i
	c.Spec, c.Result = bytes.Clone(i.Spec), bytes.Clone(i.Result)
	return c
}
