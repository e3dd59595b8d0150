package audit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// ReasonCurrent means that the log is of the version that this release writes, and goes on.
const ReasonCurrent refusal.Reason = "audit-log-current"

// What stands beside a log's directory: where BeginAnew puts a log of the first version,
// and where it makes the new one.
const (
	formerSuffix = ".v1"
	nextSuffix   = ".new"
)

// Former is a log that was put away.
type Former struct {
	// Directory is where it is now, as it was.
	Directory string
	// Records is how many it has, and Chain the chain behind the last of them.
	Records uint64
	Chain   digest.Digest
	// Checkpoint is the SHA-256 of its last checkpoint.
	Checkpoint digest.Digest
	// Last is the time of its last record: the new log's first is not earlier.
	Last time.Time
}

// BeginAnew puts the log in dir away, if it is of the first version, into a directory of the
// same name and ".v1", and begins one of this version in its place, whose first record names
// it. It changes nothing in the old log, and refuses one of this version (ReasonCurrent), one
// that is open (ErrInUse) and one whose chain is broken (ErrTampered). After a crash the next
// call finishes.
func BeginAnew(ctx context.Context, dir string, signer Signer, opts Options) (Former, error) {
	f, err := beginAnew(ctx, filepath.Clean(dir), signer, opts)
	if err != nil {
		err = fmt.Errorf("begin a new audit log: %w", err)
	}
	return f, err
}

func beginAnew(ctx context.Context, dir string, signer Signer, opts Options) (f Former, err error) {
	former, next := dir+formerSuffix, dir+nextSuffix
	at := dir
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		at = former // a crash came after the old log was put away
	}
	old := &Log{dir: at, opts: Options{MustExist: true}.withDefaults()}
	if err := old.acquire(); err != nil {
		return f, err
	}
	defer old.release()
	if f, err = inspectFormer(at); err != nil {
		return f, err
	}
	f.Directory = former
	if at == dir {
		if _, err := os.Lstat(former); err == nil {
			return f, fmt.Errorf("%s is there already", former)
		}
	}
	if err := os.RemoveAll(next); err != nil { // what a crash left, with this record alone
		return f, err
	}
	if err := begin(ctx, next, signer, opts, f); err != nil {
		return f, err
	}
	if at == dir {
		if err := old.opts.fs.Rename(dir, former); err != nil {
			return f, err
		}
	}
	return f, old.opts.fs.Rename(next, dir)
}

// inspectFormer reads a log of the first version. Its segments are framed as today's are.
func inspectFormer(dir string) (f Former, err error) {
	var newest []byte
	if _, _, err := journal.Scan(journal.ReadOnly{}, dir, checkpointPrefix, func(e journal.Entry) error {
		newest = append(newest[:0], e.Body...)
		return nil
	}); err != nil {
		return f, err
	}
	_, err = ParseCheckpoint(newest)
	switch reason, _ := refusal.ReasonOf(err); {
	case newest == nil || err == nil:
		return f, refusal.New(ReasonCurrent, "the log in %s already has the current version; nothing to do", dir)
	case reason != ReasonCheckpointVersion:
		return f, err
	}
	end, _, err := journal.Scan(journal.ReadOnly{}, dir, recordPrefix, func(e journal.Entry) error {
		r, err := ParseRecord(e.Body) // a record is what it was in version 1
		f.Last = r.Time
		return err
	})
	f.Records, f.Chain, f.Checkpoint = end.Next, end.Chain, sha256.Sum256(newest)
	return f, err
}

// begin makes a log with one record, which names the log before it.
func begin(ctx context.Context, dir string, signer Signer, opts Options, f Former) error {
	opts.MustExist = false
	l, err := Open(dir, signer, opts)
	if err != nil {
		return err
	}
	now := l.opts.Now()
	if now.Before(f.Last) {
		return errors.Join(fmt.Errorf("the clock says %s, but the last record of the old log is of %s: set the clock", now, f.Last), l.Close())
	}
	_, err = l.Append(ctx, Record{Kind: KindService, Time: now, Action: "audit-log-begun", Resource: filepath.Base(f.Directory),
		Detail: fmt.Sprintf("behind a log of version 1 with %d records, chain %s, last checkpoint sha256 %s", f.Records, f.Chain, f.Checkpoint)})
	return errors.Join(err, l.Close())
}
