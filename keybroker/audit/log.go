// Package audit keeps the broker's record of every decision.
//
// It guarantees that a record is on stable storage before Append returns, that
// many records share one fsync, and that no acknowledged record can later be
// changed, removed or reordered unseen: frames form a hash chain, records are
// the leaves of a Merkle tree (RFC 6962), and checkpoints over that tree are
// signed with the audit key. It was a choice between signing the head of a
// chain and a tree: only the tree can prove one record without showing the
// others.
//
// It trusts the disk to keep what it synced. It refuses to open a log in which
// anything but a torn, never acknowledged write was found, and it refuses every
// further record after a failed write until the log was opened anew, so a full
// disk stops releases and is never hidden. Whoever holds the disk can cut the
// log back to its last checkpoint but one, or replace it by nothing at all;
// checkpoints kept elsewhere, and the leaf hashes in the agents' leases, show
// that.
//
// The broker appends, the operator socket and the command line read.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

const (
	recordPrefix     = "log-"
	checkpointPrefix = "checkpoints-"
	lockName         = "lock"

	defaultSegmentBytes      = 64 << 20
	defaultCheckpointRecords = 1024
	maxBatchRecords          = 512
	maxQueued                = 1024
)

var (
	// ErrUnavailable means that the log cannot record: nothing may be released.
	ErrUnavailable = errors.New("the audit log is not available")
	// ErrClosed means that the log was closed.
	ErrClosed = errors.New("the audit log is closed")
	// ErrTampered means that bytes of the log were changed after they had been
	// acknowledged. The log refuses to open.
	ErrTampered = journal.ErrTampered
	// ErrInUse means that another process has the log open.
	ErrInUse = errors.New("another process has the audit log open")
)

// Options are the log's settings. The zero value is good.
type Options struct {
	// SegmentBytes is the size after which a new segment file starts; 64 MiB by default.
	SegmentBytes int64
	// CheckpointRecords is how many records may follow the last checkpoint
	// before a new one is signed; 1024 by default.
	CheckpointRecords int
	// MustExist refuses to start an empty log, so that a lost directory is
	// noticed. A running broker sets it.
	MustExist bool
	// Now is the clock of checkpoints; time.Now by default.
	Now func() time.Time
	// Logger hears when the log fails and heals; nobody by default.
	Logger *slog.Logger

	fs journal.FileSystem
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	if o.CheckpointRecords <= 0 {
		o.CheckpointRecords = defaultCheckpointRecords
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.fs == nil {
		o.fs = journal.Disk{}
	}
	return o
}

// Leaf names a record's place in the log.
type Leaf struct {
	// Index counts records from 0.
	Index uint64 `json:"index"`
	// Hash is the record's leaf hash (RFC 6962).
	Hash Digest `json:"hash"`
}

// Log is an open audit log. Its methods may be called by many goroutines.
type Log struct {
	dir    string
	signer Signer
	opts   Options
	lock   *os.File

	queue    chan *entry
	commands chan func()
	closing  chan struct{}
	stopped  chan struct{}
	closed   sync.Once

	// The writer goroutine owns these.
	records     *journal.Stream
	checkpoints *journal.Stream
	tree        tree
	last        Checkpoint

	mu     sync.Mutex // guards what readers of the state see
	size   uint64
	opened time.Time // of the last record when the log was opened
	latest Checkpoint
	failed error
}

// entry is one record waiting for its commit.
type entry struct {
	body []byte
	leaf Leaf
	err  error
	done chan struct{}
}

// Open opens the log in dir, checks all of it, and removes a torn write at its
// end. Anything else that is not as it was written is ErrTampered. The signer
// signs checkpoints.
func Open(dir string, signer Signer, opts Options) (*Log, error) {
	if signer == nil {
		return nil, errors.New("open audit log: no audit key")
	}
	l := &Log{
		dir: dir, signer: signer, opts: opts.withDefaults(),
		queue: make(chan *entry, maxQueued), commands: make(chan func()),
		closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	if err := l.acquire(); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := l.load(); err != nil {
		l.release()
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	go l.write()
	return l, nil
}

func (l *Log) acquire() error {
	if _, real := l.opts.fs.(journal.Disk); !real {
		return nil
	}
	if l.opts.MustExist {
		names, err := journal.Segments(l.opts.fs, l.dir, recordPrefix)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			return fmt.Errorf("%s holds no audit log", l.dir)
		}
	} else if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return ErrInUse
	}
	l.lock = f
	return nil
}

func (l *Log) release() {
	for _, s := range []*journal.Stream{l.records, l.checkpoints} {
		if s != nil {
			s.Close()
		}
	}
	if l.lock != nil {
		l.lock.Close()
	}
}

// load reads both streams from disk and checks the records against the last
// checkpoint.
func (l *Log) load() error {
	var last Checkpoint
	checkpoints, err := journal.Open(l.opts.fs, l.dir, checkpointPrefix, l.opts.SegmentBytes, func(_ uint64, e []byte) error {
		c, err := ParseCheckpoint(e)
		last = c
		return err
	})
	if err != nil {
		return err
	}
	if last.Size > 0 && last.Key == Digest(l.signer.Public().ID()) {
		if err := last.Verify(l.signer.Public()); err != nil {
			checkpoints.Close()
			return journal.Tampered("%v", err)
		}
	}
	var grown tree
	var newest []byte
	audit := against(last)
	records, err := journal.Open(l.opts.fs, l.dir, recordPrefix, l.opts.SegmentBytes, func(_ uint64, e []byte) error {
		grown.add(leafHash(e))
		newest = append(newest[:0], e...)
		return audit(&grown)
	})
	if err == nil && grown.size < last.Size {
		records.Close()
		err = journal.Tampered("%d records are missing behind record %d", last.Size-grown.size, grown.size)
	}
	if err != nil {
		checkpoints.Close()
		return err
	}
	l.records, l.checkpoints, l.tree, l.last = records, checkpoints, grown, last
	var opened time.Time
	if len(newest) > 0 {
		r, err := ParseRecord(newest)
		if err != nil {
			records.Close()
			checkpoints.Close()
			return journal.Tampered("the last record: %v", err)
		}
		opened = r.Time
	}
	l.mu.Lock()
	l.size, l.latest, l.failed, l.opened = grown.size, last, nil, opened
	l.mu.Unlock()
	return nil
}

// against returns a check that a growing tree passes through the checkpoint.
func against(c Checkpoint) func(*tree) error {
	return func(t *tree) error {
		if t.size == c.Size && t.root() != c.Root {
			return journal.Tampered("the records up to %d are not those of their checkpoint", c.Size)
		}
		return nil
	}
}

// Append records r and returns when it is on stable storage. After an error
// the record may or may not be in the log: the caller must act as if it were
// not, and release nothing.
func (l *Log) Append(ctx context.Context, r Record) (Leaf, error) {
	body, err := r.Marshal()
	if err != nil {
		return Leaf{}, err
	}
	if err := l.Err(); err != nil {
		return Leaf{}, err
	}
	e := &entry{body: body, done: make(chan struct{})}
	select {
	case l.queue <- e:
	case <-ctx.Done():
		return Leaf{}, context.Cause(ctx)
	case <-l.stopped:
		return Leaf{}, ErrClosed
	}
	select {
	case <-e.done:
	case <-ctx.Done():
		return Leaf{}, context.Cause(ctx)
	case <-l.stopped:
		select {
		case <-e.done:
		default:
			return Leaf{}, ErrClosed
		}
	}
	return e.leaf, e.err
}

// Err returns why the log cannot record, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, l.failed)
	}
	return nil
}

// Size returns the number of durable records.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Latest returns the last signed checkpoint; its Size is 0 before the first.
func (l *Log) Latest() Checkpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// LastTime returns the time of the last record that was there when the log was
// opened: the broker's clock must not be before it. It is zero for an empty log.
func (l *Log) LastTime() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// Dir returns the log's directory.
func (l *Log) Dir() string { return l.dir }

// Checkpoint signs the log as it stands and returns when that is durable. It
// signs nothing new if no record was added.
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) {
	var c Checkpoint
	err := l.command(ctx, func() error {
		err := l.checkpoint()
		c = l.last
		return err
	})
	return c, err
}

// Heal opens the log's files anew after a failure, checks them, and accepts
// records again. It refuses if an acknowledged record is gone.
func (l *Log) Heal(ctx context.Context) error {
	return l.command(ctx, l.reopen)
}

// command runs f in the writer goroutine.
func (l *Log) command(ctx context.Context, f func() error) error {
	result := make(chan error, 1)
	select {
	case l.commands <- func() { result <- f() }:
		return <-result
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.stopped:
		return ErrClosed
	}
}

// Close signs a last checkpoint, waits for the writer and closes the files.
// Records that were not yet acknowledged fail with ErrClosed.
func (l *Log) Close() error {
	var err error
	l.closed.Do(func() {
		err = l.command(context.Background(), l.checkpoint)
		if l.Err() != nil {
			err = nil // already reported to those it concerned
		}
		close(l.closing)
		<-l.stopped
		l.release()
	})
	return err
}
