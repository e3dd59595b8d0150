package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
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
type roundLog struct{ d *daemon }

// Append implements rounds.Log.
func (l roundLog) Append(ctx context.Context, events ...rounds.Event) error {
	records := make([]audit.Record, len(events))
	for i, e := range events {
		records[i] = audit.Record{Kind: audit.KindService, Time: l.d.opts.Now(), Action: e.Action, Resource: e.About, Detail: e.Detail}
	}
	_, err := l.d.log.AppendAll(ctx, records...)
	return err
}

// Find implements rounds.Log.
func (l roundLog) Find(_ context.Context, action, about string) ([]rounds.Event, error) {
	found, err := l.d.log.Find(audit.Query{Kind: audit.KindService, Action: action, Resource: about})
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
	path := l.d.opts.Config.Rounds.Checkpoint
	if path == "" {
		return nil
	}
	var kept []byte
	if err := l.d.kept.do(ctx, func() (err error) {
		if kept, err = readKept(path); err != nil {
			err = refusal.New(ReasonCheckpoint, "rounds.checkpoint cannot be read (begin it with anchorhold audit checkpoint --out %s): %w", path, explainAccess(err))
		}
		return err
	}); err != nil {
		return err
	}
	return l.d.log.Extends(kept)
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
	path := l.d.opts.Config.Rounds.Checkpoint
	if path == "" {
		return nil
	}
	select {
	case l.d.keeping <- struct{}{}:
		defer func() { <-l.d.keeping }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := l.Kept(ctx); err != nil {
		return err
	}
	c, err := l.d.log.Checkpoint(ctx)
	if err != nil {
		return err
	}
	// Written late, after whoever waited for it gave up, it is a checkpoint of this log still,
	// and whoever comes next reads the file after that.
	return l.d.kept.do(ctx, func() error {
		if err := statedir.ReplaceFile(path, []byte(c.Note), 0o600); err != nil {
			return refusal.New(ReasonCheckpoint, "rounds.checkpoint cannot be brought up to date: %w", explainAccess(err))
		}
		return nil
	})
}
