package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// ArchiveName is the directory, inside the log's, that archived segments are moved
// to. The broker needs nothing that is in it: the operator may take its files
// anywhere.
const ArchiveName = "archive"

// keptCheckpointSegments stay: opening reads the last checkpoint, which is in the
// last segment or the one before.
const keptCheckpointSegments = 2

// ErrArchive means that nothing can be archived.
var ErrArchive = errors.New("nothing to archive")

// Archived says what Archive did.
type Archived struct {
	// Directory is where the segments are now.
	Directory string `json:"directory"`
	// Segments are the names that were moved, oldest first.
	Segments []string `json:"segments"`
	// Bytes is their length together.
	Bytes int64 `json:"bytes"`
	// Records is how many of the log's first records are archived, in all.
	Records uint64 `json:"records"`
	// Checkpoint covers them: with the log's file of hashes it proves each of them.
	Checkpoint Checkpoint `json:"checkpoint"`
}

// Archive moves the closed segments of records, all but the newest keep of them,
// and of checkpoints into the archive directory. Their hashes and indexes stay, so
// that proofs, Find, Extends and Verify go on as before. Only what a signed
// checkpoint covers is moved. Archiving again after a crash finishes what was
// begun.
func (l *Log) Archive(ctx context.Context, keep int) (Archived, error) {
	if keep < 1 {
		return Archived{}, fmt.Errorf("%w: at least one closed segment stays", ErrArchive)
	}
	if _, err := l.Checkpoint(ctx); err != nil {
		return Archived{}, err
	}
	var out Archived
	err := l.command(ctx, func() (err error) {
		if err := l.Err(); err != nil {
			return err
		}
		out, err = l.archive(keep)
		return err
	})
	return out, err
}

// archive runs in its caller's turn.
func (l *Log) archive(keep int) (Archived, error) {
	fs := l.opts.fs
	out := Archived{Directory: filepath.Join(l.dir, ArchiveName), Checkpoint: l.last, Segments: []string{}}
	before, err := readArchived(fs, l.dir)
	if err != nil {
		return out, err
	}
	out.Records = before
	for _, x := range l.closed[:max(0, len(l.closed)-keep)] {
		if x.end() <= l.last.Size {
			out.Records = max(out.Records, x.end())
		}
	}
	names, err := l.movable(out.Records)
	if err != nil {
		return out, err
	}
	if len(names) == 0 {
		return out, fmt.Errorf("%w: %d segments are closed, the newest %d of them stay, and older ones are archived already", ErrArchive, len(l.closed), keep)
	}
	if err := fs.MakeDir(out.Directory); err != nil {
		return out, err
	}
	// The mark comes first: a crash then leaves segments that may go but are still
	// here, never a segment that is gone and must be here.
	if out.Records > before {
		if err := writeWhole(fs, filepath.Join(l.dir, archivedName), fmt.Appendf(nil, "%d\n", out.Records)); err != nil {
			return out, err
		}
	}
	for _, name := range names {
		size, err := l.sizeOf(name)
		if err != nil {
			return out, err
		}
		if err := fs.Rename(filepath.Join(l.dir, name), filepath.Join(out.Directory, name)); err != nil {
			return out, err
		}
		out.Segments, out.Bytes = append(out.Segments, name), out.Bytes+size
	}
	l.opts.Logger.Info("audit segments archived", "segments", len(out.Segments), "records", out.Records, "directory", out.Directory)
	return out, nil
}

// movable lists the segments to move: those of records below the mark that are
// still here, and of checkpoints all but the last.
func (l *Log) movable(below uint64) (names []string, err error) {
	records, err := journal.Segments(l.opts.fs, l.dir, recordPrefix)
	if err != nil {
		return nil, err
	}
	for _, seg := range records {
		if seg.First < below {
			names = append(names, seg.Name)
		}
	}
	checkpoints, err := journal.Segments(l.opts.fs, l.dir, checkpointPrefix)
	if err != nil {
		return nil, err
	}
	for _, seg := range checkpoints[:max(0, len(checkpoints)-keptCheckpointSegments)] {
		names = append(names, seg.Name)
	}
	return names, nil
}

// readFrame reads a frame of a segment that may have been archived but not taken
// away yet.
func (l *Log) readFrame(seg journal.Segment, offset int64) (first uint64, entries [][]byte, err error) {
	first, entries, err = journal.ReadFrame(l.opts.fs, l.dir, seg, offset)
	if errors.Is(err, os.ErrNotExist) {
		return journal.ReadFrame(l.opts.fs, filepath.Join(l.dir, ArchiveName), seg, offset)
	}
	return first, entries, err
}
