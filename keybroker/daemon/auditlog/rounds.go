package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// ReasonCheckpoint means that the checkpoint which is kept elsewhere cannot be read or
// brought up to date, so that nobody could tell an audit log that was put back.
const ReasonCheckpoint refusal.Reason = "checkpoint-not-kept"

// maxKeptBytes bounds the file of a checkpoint; the log's parser has a limit of its own.
const maxKeptBytes = 64 << 10

// keptWait bounds the wait for the checkpoint's file, which lies on another machine's disk.
const keptWait = 5 * time.Second

// roundLog is the audit log as rounds see it: service records that are found again by
// what they are about.
type roundLog struct {
	log        *Log          // never changed, as checkpoint
	checkpoint string        // the file that is kept elsewhere; none if empty
	aside      *aside        // does what the file's mount may hang on
	keeping    chan struct{} // holds whoever brings the file up to date
	sweep      *sync.Once    // done by the first of them
}

// Rounds is the log as rounds see it, with the file of rounds.checkpoint.
func (l *Log) Rounds() rounds.Log {
	return roundLog{log: l, checkpoint: l.cfg.RoundsCheckpoint, aside: newAside(keptWait), keeping: make(chan struct{}, 1), sweep: new(sync.Once)}
}

// Append implements rounds.Log.
func (l roundLog) Append(ctx context.Context, events ...rounds.Event) error {
	records := make([]audit.Record, len(events))
	for i, e := range events {
		records[i] = audit.Record{Kind: audit.KindService, Time: l.log.cfg.Now(), Action: e.Action, Resource: e.About, Detail: e.Detail}
	}
	_, err := l.log.AppendAll(ctx, records...)
	return err
}

// Find implements rounds.Log.
func (l roundLog) Find(_ context.Context, action, about string) ([]rounds.Event, error) {
	found, err := l.log.Find(audit.Query{Kind: audit.KindService, Action: action, Resource: about})
	if err != nil {
		return nil, err
	}
	events := make([]rounds.Event, len(found))
	for i, f := range found {
		events[i] = rounds.Event{Action: action, About: about, Away: f.Record == nil}
		if f.Record != nil {
			events[i].Detail = f.Record.Detail
		}
	}
	return events, nil
}

// Kept implements rounds.Log.
func (l roundLog) Kept(ctx context.Context) error {
	path := l.checkpoint
	if path == "" {
		return nil
	}
	var kept []byte
	if err := l.aside.do(ctx, func() (err error) {
		if kept, err = readKept(path); err != nil {
			err = refusal.New(ReasonCheckpoint, "cannot read rounds.checkpoint (create it with anchorhold audit checkpoint --out %s): %w", path, statedir.ExplainAccess(err))
		}
		return err
	}); err != nil {
		return err
	}
	return l.log.Extends(kept)
}

func readKept(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxKeptBytes+1))
	if err == nil && len(b) > maxKeptBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, maxKeptBytes)
	}
	return b, err
}

// Keep implements rounds.Log. The new checkpoint is of a log that extends the one which
// it replaces, and never older than it: one is made and written at a time.
func (l roundLog) Keep(ctx context.Context) error {
	path := l.checkpoint
	if path == "" {
		return nil
	}
	select {
	case l.keeping <- struct{}{}:
		defer func() { <-l.keeping }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.Kept(ctx); err != nil {
		return err
	}
	c, err := l.log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	// Written late, after whoever waited for it gave up, it is a checkpoint of this log still,
	// and whoever comes next reads the file after that.
	return l.aside.do(ctx, func() error {
		l.sweep.Do(func() {
			if err := sweepKept(path); err != nil { // it does no harm
				l.log.cfg.Logger.Warn("an unfinished checkpoint is left beside rounds.checkpoint", "err", err)
			}
		})
		if err := disk.Write(path, []byte(c.Note)); err != nil {
			return refusal.New(ReasonCheckpoint, "cannot update rounds.checkpoint: %w", statedir.ExplainAccess(err))
		}
		return nil
	})
}

// sweepKept deletes what a crash left beside the checkpoint's file, by this version or by an
// earlier one, which had one name for what was unfinished.
func sweepKept(path string) error {
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return disk.SweepFile(path)
}
