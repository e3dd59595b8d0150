package audit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/identity"
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
	before, err := readArchived(fs, l.dir, l.signer.Public())
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
		return out, fmt.Errorf("%w: %d segments are closed, the newest %d of them stay, and older ones are already archived", ErrArchive, len(l.closed), keep)
	}
	if err := fs.MakeDir(out.Directory); err != nil {
		return out, err
	}
	// The mark comes first: a crash then leaves segments that may go but are still
	// here, never a segment that is gone and must be here.
	if out.Records > before {
		mark, err := signArchived(l.signer, out.Records)
		if err != nil {
			return out, err
		}
		if err := writeWhole(fs, filepath.Join(l.dir, archivedName), mark); err != nil {
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
	if err := l.archiveInputs(&out); err != nil {
		return out, err
	}
	l.opts.Logger.Info("audit segments archived", "segments", len(out.Segments), "records", out.Records, "directory", out.Directory)
	return out, nil
}

// archiveInputs moves what the archived decisions were made on along with them.
func (l *Log) archiveInputs(out *Archived) error {
	_, entries, err := journal.ReadFrame(l.opts.fs, l.dir, segmentOf(out.Records), journal.SegmentHeaderBytes)
	if err != nil {
		return err
	}
	first, err := ParseRecord(entries[0])
	if err != nil {
		return err
	}
	names, bytes, err := l.inputs.Archive(first.Time, out.Directory)
	out.Segments, out.Bytes = append(out.Segments, names...), out.Bytes+bytes
	return err
}

// ArchivedContext is the signing context of the mark that says how many records were
// archived: without the signature whoever writes the disk could remove segments and say
// that they were.
const ArchivedContext = "anchorhold/audit/archived/1"

const maxArchivedBytes = 16 << 10

// signArchived encodes the mark: the number and its signature, a line each.
func signArchived(signer Signer, records uint64) ([]byte, error) {
	number := strconv.FormatUint(records, 10)
	sig, err := signer.Sign(ArchivedContext, []byte(number))
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s\n%s\n", number, base64.StdEncoding.EncodeToString(sig)), nil
}

// readArchived returns how many of the first records were archived, by the word of one
// of the keys.
func readArchived(fs journal.FileSystem, dir string, keys ...identity.Public) (uint64, error) {
	f, err := fs.Open(filepath.Join(dir, archivedName), false)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, maxArchivedBytes)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	number, encoded, _ := strings.Cut(string(b[:n]), "\n")
	encoded, ended := strings.CutSuffix(encoded, "\n")
	records, err := strconv.ParseUint(number, 10, 62)
	sig, bad := base64.StdEncoding.Strict().DecodeString(encoded)
	if !ended || err != nil || bad != nil || strconv.FormatUint(records, 10) != number {
		return 0, journal.Tampered("the file %s holds no signed number of records", archivedName)
	}
	for _, k := range keys {
		if k.Verify(ArchivedContext, []byte(number), sig) == nil {
			return records, nil
		}
	}
	return 0, journal.Tampered("the audit key did not sign the number in the file %s", archivedName)
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
