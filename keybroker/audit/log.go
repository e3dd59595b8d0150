// Package audit keeps the broker's record of every decision.
//
// It guarantees that a record is on stable storage before Append returns, that
// many records share one fsync, and that no acknowledged record can later be
// changed, removed or reordered unseen: frames form a hash chain, records are
// the leaves of a Merkle tree (RFC 6962), and checkpoints over that tree are
// notes signed with the audit key, in the form that transparency logs share
// (c2sp.org/tlog-checkpoint). docs/audit-log.md describes all of it, so that
// another program can read and verify a log.
//
// It trusts the disk to keep what it synced. It refuses to open a log in which
// anything but a torn, never acknowledged write was found since the last
// checkpoint, or whose earlier hashes do not lead to that checkpoint, and it refuses every
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
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit/inputs"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

const (
	recordPrefix     = "log-"
	checkpointPrefix = "checkpoints-"
	lockName         = "lock"

	defaultSegmentBytes      = 64 << 20
	maxSegmentBytes          = 1 << 30 // an index counts bytes of a segment in 32 bits
	defaultCheckpointRecords = 1024
	maxBatchRecords          = 512
	maxDecisionRecords       = 17      // a grant and the release of 16 keys
	maxQueued                = 1 << 14 // more than the broker has connections
	lateAfter                = time.Second
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
	// Now is the clock of the records that the log itself writes; time.Now by default.
	Now func() time.Time
	// Progress hears, while the log opens or is verified, how many records of
	// about how many were read; nobody by default. It may be called often.
	Progress func(done, total uint64)
	// Budget bounds what AppendBounded may write.
	Budget Budget
	// InputsKeep and InputsBytes bound the store of what decisions were made on (package inputs);
	// 0 means its defaults, a negative time keeps none.
	InputsKeep  time.Duration
	InputsBytes int64
	// Logger hears when the log fails and heals; nobody by default.
	Logger *slog.Logger

	fs journal.FileSystem
}

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegmentBytes)
	if o.CheckpointRecords <= 0 {
		o.CheckpointRecords = defaultCheckpointRecords
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(_, _ uint64) {}
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
	Hash digest.Digest `json:"hash"`
}

// Log is an open audit log. Its methods may be called by many goroutines.
type Log struct {
	dir    string
	signer Signer
	opts   Options
	lock   *os.File

	// turn is held by the goroutine that commits, or does anything else that
	// touches the files. Whoever waits for a commit takes it when it is free, and
	// then commits for all who wait: no goroutine of the log's own has to be woken.
	turn    chan struct{}
	stopped chan struct{} // closed by Close, which has the turn then
	queue   struct {
		sync.Mutex
		waiting []*entry // in the order of their commit
	}
	late    *time.Timer // commits what AppendLater put in line
	lateSet atomic.Bool // whether it runs
	ended   sync.Once

	// Whoever has the turn owns these.
	records     *journal.Stream
	checkpoints *journal.Stream
	tree        tree
	last        Checkpoint
	stands      int64    // the latest time of any record, in nanoseconds since 1970
	batch       []*entry // used again by each commit
	bodies      [][]byte

	ledger ledger
	inputs *inputs.Store

	mu     sync.Mutex // guards what readers of the state see
	size   uint64
	newest time.Time // of the last record
	latest Checkpoint
	failed error
	closed []segmentIndex    // in order
	open   index             // of the segment that is being written
	pages  map[uint64][]page // of the closed segments whose index was checked
}

// entry is a decision waiting for its commit: one record or several that become
// durable together. Nobody waits for one without done.
type entry struct {
	bodies [][]byte
	keys   []key
	bytes  int
	leaves []Leaf
	err    error
	done   chan struct{}
	// stepsBack allows a time before that of the last record, which the one record is about.
	stepsBack bool
}

// Open opens the log in dir, checks it from the last signed checkpoint's segment
// on, and removes a torn write at its end. Anything else that is not as it was
// written is ErrTampered; what older segments hold is checked by Verify alone,
// so that opening takes no longer as the log grows. The signer signs checkpoints.
func Open(dir string, signer Signer, opts Options) (*Log, error) {
	if signer == nil {
		return nil, errors.New("open audit log: no audit key")
	}
	l := &Log{
		dir: dir, signer: signer, opts: opts.withDefaults(),
		turn: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
	budget, err := opts.Budget.withDefaults()
	if err != nil {
		return nil, err
	}
	l.ledger.limit = budget
	l.late = time.AfterFunc(lateAfter, l.commitLate)
	l.late.Stop()
	if err := l.acquire(); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	s, err := l.load()
	if err != nil {
		l.release()
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l.install(s)
	l.inputs = inputs.New(l.opts.fs, dir, inputs.Settings{Keep: opts.InputsKeep, MaxBytes: opts.InputsBytes, Now: l.opts.Now, Logger: l.opts.Logger})
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

// install makes what was loaded the log's state.
func (l *Log) install(s *loaded) {
	l.records, l.checkpoints, l.tree, l.last = s.records, s.checkpoints, s.tree, s.last
	l.stands = math.MinInt64
	if !s.newest.IsZero() {
		l.stands = s.newest.UnixNano()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.size, l.latest, l.failed, l.newest = s.tree.size, s.last, nil, s.newest
	l.closed, l.open, l.pages = s.closed, s.open, map[uint64][]page{}
}

// closeFiles closes the files of the log but its lock.
func (l *Log) closeFiles() {
	(&loaded{records: l.records, checkpoints: l.checkpoints, tree: l.tree}).close()
	l.records, l.checkpoints, l.tree.file = nil, nil, nil
}

func (l *Log) release() {
	l.closeFiles()
	if l.lock != nil {
		l.lock.Close()
	}
}

// Append records r and returns when it is on stable storage. After an error
// the record may or may not be in the log: the caller must act as if it were
// not, and release nothing.
func (l *Log) Append(ctx context.Context, r Record) (Leaf, error) {
	leaves, err := l.AppendAll(ctx, r)
	if err != nil {
		return Leaf{}, err
	}
	return leaves[0], nil
}

// AppendAll records several records of one decision, one behind the other, as one
// durable step: after a crash all of them are there or none. It returns as Append
// does.
func (l *Log) AppendAll(ctx context.Context, records ...Record) ([]Leaf, error) {
	if len(records) == 0 || len(records) > maxDecisionRecords {
		return nil, fmt.Errorf("%w: %d records at once (1 to %d)", ErrRecord, len(records), maxDecisionRecords)
	}
	e := &entry{bodies: make([][]byte, len(records)), keys: make([]key, len(records)), done: make(chan struct{})}
	for i, r := range records {
		body, err := r.Marshal()
		if err != nil {
			return nil, err
		}
		e.bodies[i], e.keys[i] = body, keyOf(&r)
		e.bytes += 4 + len(body)
	}
	return l.append(ctx, e)
}

// AppendLater records what nobody waits for, because nothing follows from it: it
// becomes durable with the next record that somebody waits for, or within a second.
// A crash before then loses it. It returns when the record is in line.
func (l *Log) AppendLater(ctx context.Context, r Record) error {
	body, err := r.Marshal()
	if err != nil {
		return err
	}
	if err := errors.Join(l.Err(), context.Cause(ctx)); err != nil {
		return err
	}
	if l.isStopped() {
		return ErrClosed
	}
	if err := l.enqueue(&entry{bodies: [][]byte{body}, keys: []key{keyOf(&r)}, bytes: 4 + len(body)}); err != nil {
		return err
	}
	if l.lateSet.CompareAndSwap(false, true) {
		l.late.Reset(lateAfter)
	}
	return nil
}

// commitLate is the timer's: it commits what still waits.
func (l *Log) commitLate() {
	l.lateSet.Store(false)
	_ = l.Flush(context.Background()) // a failure was reported, and so was what it lost
}

// Flush returns when everything that was appended before is durable.
func (l *Log) Flush(ctx context.Context) error {
	_ = l.inputs.Flush() // it reports and counts what it loses
	return l.command(ctx, func() error {
		l.commitAll()
		return l.Err()
	})
}

// append waits until an entry is durable, and commits for all who wait when it is
// its turn.
func (l *Log) append(ctx context.Context, e *entry) ([]Leaf, error) {
	if err := errors.Join(l.Err(), context.Cause(ctx)); err != nil {
		return nil, err
	}
	if err := l.enqueue(e); err != nil {
		return nil, err
	}
	for {
		select {
		case <-e.done:
			return e.leaves, e.err
		case <-ctx.Done():
			l.withdraw(e)
			return nil, context.Cause(ctx)
		case <-l.stopped:
			l.withdraw(e)
			select {
			case <-e.done:
				return e.leaves, e.err
			default:
				return nil, ErrClosed
			}
		case l.turn <- struct{}{}:
			if !l.isStopped() {
				l.commit(l.gather())
			}
			<-l.turn
		}
	}
}

// enqueue lets an entry wait for its commit.
func (l *Log) enqueue(e *entry) error {
	l.queue.Lock()
	defer l.queue.Unlock()
	if len(l.queue.waiting) >= maxQueued {
		return fmt.Errorf("%w: %d decisions are waiting already", ErrUnavailable, maxQueued)
	}
	l.queue.waiting = append(l.queue.waiting, e)
	return nil
}

// withdraw takes back an entry that nobody has begun to commit.
func (l *Log) withdraw(e *entry) {
	l.queue.Lock()
	defer l.queue.Unlock()
	if i := slices.Index(l.queue.waiting, e); i >= 0 {
		l.queue.waiting = slices.Delete(l.queue.waiting, i, i+1)
	}
}

func (l *Log) isStopped() bool {
	select {
	case <-l.stopped:
		return true
	default:
		return false
	}
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

// LastTime returns the time of the last durable record: the clock of a broker that starts must
// not be before it. It is zero for an empty log.
func (l *Log) LastTime() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest
}

// Dir returns the log's directory.
func (l *Log) Dir() string { return l.dir }

// Checkpoint writes what AppendBounded left out, signs the log as it stands and
// returns when that is durable. It signs nothing new if no record was added.
func (l *Log) Checkpoint(ctx context.Context) (Checkpoint, error) {
	if err := l.summarise(ctx); err != nil {
		return Checkpoint{}, err
	}
	l.inputs.Tend()
	var c Checkpoint
	err := l.command(ctx, func() error {
		l.commitAll()
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

// command runs f in the caller's turn.
func (l *Log) command(ctx context.Context, f func() error) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
		if l.isStopped() {
			return ErrClosed
		}
		return f()
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.stopped:
		return ErrClosed
	}
}

// Close signs a last checkpoint, waits for its turn and closes the files.
// Records that were not yet acknowledged fail with ErrClosed.
func (l *Log) Close() error {
	var err error
	l.ended.Do(func() {
		if l.Err() == nil {
			_ = l.summarise(context.Background()) // the log would have failed with it
		}
		l.late.Stop()
		_ = l.inputs.Close() // it reports and counts what it loses
		err = l.command(context.Background(), func() error {
			l.commitAll()
			return l.checkpoint()
		})
		if l.Err() != nil {
			err = nil // already reported to those it concerned
		}
		l.turn <- struct{}{}
		close(l.stopped)
		l.release()
		<-l.turn
	})
	return err
}
