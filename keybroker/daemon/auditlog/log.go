// Package auditlog is a broker's audit log with what is kept beside it: the checkpoints on
// other machines, the clock, and the key store.
//
// Each of them could be older than the log, or the log than it, after somebody put one back
// from a copy. It refuses a log that extends no kept checkpoint, a clock that is behind the
// log, and a key store that lacks what the log tells of, unless the configuration says why in
// writing. The daemon opens it before it serves anybody.
package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// Config says which log it is. Dir, Key, Now and Logger are required.
type Config struct {
	// Dir is the log's directory, Key signs its checkpoints.
	Dir string
	Key audit.Signer
	Now func() time.Time
	// RefusalBytesPerDay and RefusalBytesPerSource bound what refusals add (audit.Budget).
	RefusalBytesPerDay, RefusalBytesPerSource int64
	// InputsKeep and InputsBytes bound what is kept of decisions' inputs (audit.Options).
	InputsKeep  time.Duration
	InputsBytes int64
	// Checkpoints are files that the log must extend, audit.checkpoints of the configuration.
	Checkpoints []string
	// RoundsCheckpoint is the file that rounds bring up to date; none if empty.
	RoundsCheckpoint string
	// SetBack is the instant of clock.set_back; zero for none.
	SetBack time.Time
	// RestoredStore is the reason in secrets.restored_store; empty for none.
	RestoredStore string
	// Logger gets what an operator should know of the log.
	Logger *slog.Logger
	// Progress is told how far the reading of the log is.
	Progress func(done, total uint64)
}

// Log is the open log.
type Log struct {
	*audit.Log
	cfg      Config    // never changed
	setsBack time.Time // the last record's time, if the log goes on from an earlier one; owned by the start
}

// Open opens the log, which must extend every checkpoint that is kept elsewhere. A log that
// does not is returned with the error, to be closed.
func Open(c Config) (_ *Log, err error) {
	l := &Log{cfg: c}
	l.Log, err = audit.Open(c.Dir, c.Key, audit.Options{MustExist: true, Now: c.Now, Logger: c.Logger, Progress: c.Progress, InputsKeep: c.InputsKeep, InputsBytes: c.InputsBytes,
		Budget: audit.Budget{DayBytes: c.RefusalBytesPerDay, SourceBytes: c.RefusalBytesPerSource}})
	if errors.Is(err, audit.ErrInUse) {
		return nil, fmt.Errorf("%w: a broker is already running on this state directory; stop it first (to make it check what changed, use anchorhold-broker reload)", err)
	}
	if err != nil {
		return nil, err
	}
	if len(c.Checkpoints) == 0 {
		c.Logger.Warn("no checkpoint kept elsewhere is configured: an audit log that is put back from an old copy will not be noticed", "see", "audit.checkpoints")
	}
	var errs []error
	for _, path := range c.Checkpoints {
		kept, err := readSmall(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("audit.checkpoints: %w", err))
			continue
		}
		if err := l.Extends(kept); err != nil {
			errs = append(errs, fmt.Errorf("audit.checkpoints: %s: %w", path, err))
		}
	}
	return l, errors.Join(errs...)
}

// readSmall reads a checkpoint's file; more than one could have is refused by its parser.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

// Begin puts a log of the first version away and begins one in its place (audit.BeginAnew).
func Begin(ctx context.Context, c Config) error {
	former, err := audit.BeginAnew(ctx, c.Dir, c.Key, audit.Options{Now: c.Now, Logger: c.Logger})
	if err != nil {
		return err
	}
	c.Logger.Info("an audit log was begun; the old one is kept as it was", "former", former.Directory, "records", former.Records, "chain", former.Chain)
	return nil
}

// Event records what the broker itself did.
func (l *Log) Event(ctx context.Context, action, detail string) error {
	_, err := l.Append(ctx, audit.Record{Kind: audit.KindService, Time: l.cfg.Now(), Action: action, Detail: detail})
	return err
}
