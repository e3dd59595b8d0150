package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit/inputs"
	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// Report is what Verify found in a sound log.
type Report struct {
	// Records is the number of records.
	Records uint64 `json:"records"`
	// Archived is how many of them were not read, because their segments are
	// elsewhere; their hashes lead to the signed root.
	Archived uint64 `json:"archived"`
	// Checkpoints is the number of signed checkpoints; each was checked.
	Checkpoints uint64 `json:"checkpoints"`
	// Kept is the number of checkpoints kept elsewhere that the log extends; one of an empty
	// log does not count.
	Kept int `json:"kept"`
	// Last is the last checkpoint.
	Last Checkpoint `json:"last"`
	// Unsigned is the number of records behind the last checkpoint, the log's own or one kept
	// elsewhere. They are chained but nobody has signed for them yet.
	Unsigned uint64 `json:"unsigned"`
	// SetBack is the number of recorded steps back of the broker's clock.
	SetBack uint64 `json:"clock_set_back,omitempty"`
	// InputsKept is how many of the decisions that were read name an input that is kept and has the
	// digest that the record says; InputsMissing is how many name one that is not.
	InputsKept    uint64 `json:"inputs_kept,omitempty"`
	InputsMissing uint64 `json:"inputs_missing,omitempty"`
	// TornTail reports a write that a crash cut short; it was never acknowledged.
	TornTail bool `json:"torn_tail"`
	// Root is the Merkle root over all records.
	Root digest.Digest `json:"root"`
}

// Check says what a log is verified with.
type Check struct {
	// Keys are the audit keys that the caller trusts.
	Keys []identity.Public
	// Archives are directories with archived segments, beside the log's own.
	Archives []string
	// Kept are checkpoints that were kept elsewhere: the log must extend each.
	Kept [][]byte
	// Names are what errors call those, such as their files; else they are numbered.
	Names []string
	// Own and Acknowledged are what the running broker that writes this log knows of it: the
	// last checkpoint that it wrote, and how many records it acknowledged. A log on disk with
	// less, or another one, is refused. Zero for a copy.
	Own          Checkpoint
	Acknowledged uint64
	// Progress hears how many records of how many were read; optional.
	Progress func(done, total uint64)

	fs journal.FileSystem
}

// Verify reads the log in dir and checks every record, the chain, and every
// checkpoint's signatures with the audit keys that the caller trusts. It
// changes nothing. A flipped bit, a removed, reordered or inserted record, and
// a log cut off behind a checkpoint are ErrTampered.
func Verify(dir string, keys ...identity.Public) (Report, error) {
	return Check{Keys: keys}.Verify(context.Background(), dir)
}

// Verify does what the function of this name does until ctx ends, with archives and against
// checkpoints that were kept elsewhere. A log that is shorter than one of those
// is refused with ReasonRolledBack, one that is another with ReasonForked. Of
// segments that are in no archive given, it checks that their hashes lead to the
// signed root, and counts their records in Report.Archived.
//
// A log without a checkpoint of its own is refused with ReasonNoCheckpoint, whatever was kept
// elsewhere: anybody can write records that chain, and an empty directory chains as well. A log that
// was put back as it stood at an older checkpoint of its own is not refused: only Kept can show that.
func (c Check) Verify(ctx context.Context, dir string) (Report, error) {
	if len(c.Keys) == 0 {
		return Report{}, fmt.Errorf("verify audit log: %w: no audit key to verify with", ErrCheckpoint)
	}
	if c.Progress == nil {
		c.Progress = func(_, _ uint64) {}
	}
	if c.fs == nil {
		c.fs = journal.ReadOnly{}
	}
	v := verification{Check: c, dir: dir, ended: ctx.Err}
	err := v.run()
	if v.tree.file != nil {
		v.tree.file.Close()
	}
	if err != nil {
		return v.report, fmt.Errorf("verify audit log: %w", err)
	}
	return v.report, nil
}

// verification is one run of Verify.
type verification struct {
	Check
	dir         string
	ended       func() error
	report      Report
	checkpoints []mark // in order
	kept        []mark
	tree        tree
	archived    uint64
	order       order
	inputs      *inputs.Reader
	missed      []digest.Digest // inputs that were not found at first
}

func (v *verification) run() error {
	if err := v.readCheckpoints(); err != nil {
		return err
	}
	for i, b := range v.Kept {
		name := fmt.Sprintf("the checkpoint kept elsewhere (number %d)", i+1)
		if i < len(v.Names) {
			name = "the checkpoint " + clip(v.Names[i])
		}
		c, err := OpenCheckpoint(b, v.Keys...)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if c.Size > 0 { // every log extends one of no records, which shows nothing
			v.report.Kept++
			v.kept = append(v.kept, mark{c.Size, c.Root, name})
		}
	}
	if own := v.Own; own.Size > 0 {
		if v.report.Last.Size < own.Size {
			return journal.Tampered("the checkpoint that the running broker signed at %d records is missing", own.Size)
		}
		v.kept = append(v.kept, mark{own.Size, own.Root, ownLast})
	}
	var err error
	if v.archived, err = readArchived(v.fs, v.dir, v.Keys...); err != nil {
		return err
	}
	// Without archived segments a copy of the log is whole without this file.
	if v.tree.file, err = v.fs.Open(filepath.Join(v.dir, treeName), false); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err != nil {
		v.tree.file = nil
	}
	if err := v.verifyInputs(); err != nil {
		return err
	}
	if err := v.readSegments(); err != nil {
		return err
	}
	if err := v.settle(); err != nil {
		return err
	}
	if err := v.recountInputs(); err != nil {
		return err
	}
	return v.conclude()
}

// readCheckpoints verifies the checkpoints. Those that were archived count when
// their archive was given.
func (v *verification) readCheckpoints() error {
	sources, last, err := v.sources(checkpointPrefix)
	if err != nil {
		return err
	}
	for next := uint64(0); len(sources) > 0; {
		dir, ok := sources[next]
		if !ok { // archived, and the archive was not given
			if next = least(sources); v.report.Checkpoints > 0 {
				return journal.Tampered("checkpoints are missing from number %d on", v.report.Checkpoints)
			}
			dir = sources[next]
		}
		delete(sources, next)
		name := fmt.Sprintf("%s%016x.seg", checkpointPrefix, next)
		after, _, err := journal.ScanSegment(v.fs, dir, journal.Segment{Name: name, First: next}, next == last, v.checkpoint)
		if err != nil {
			return err
		}
		next = after.Next
	}
	return nil
}

func (v *verification) checkpoint(e journal.Entry) error {
	c, err := ParseCheckpoint(e.Body)
	if err == nil && !slices.ContainsFunc(v.Keys, func(k identity.Public) bool { return Origin(k) == c.Origin }) {
		err = refusal.New(ReasonOtherKey, "the log is signed by %s, but the given key is %s", c.Origin, Origin(v.Keys[0]))
	}
	if err == nil {
		err = c.Verify(v.Keys...)
	}
	if err != nil {
		return err
	}
	if v.report.Checkpoints > 0 && v.report.Last.Size >= c.Size {
		return journal.Tampered("checkpoints do not grow")
	}
	v.report.Checkpoints++
	v.report.Last = c
	v.checkpoints = append(v.checkpoints, mark{size: c.Size, root: c.Root, what: "their checkpoint"})
	return nil
}

// sources finds the segments of a stream in the log's directory and the archives,
// by their first entry, and the last of them.
func (v *verification) sources(prefix string) (found map[uint64]string, last uint64, err error) {
	found = map[uint64]string{}
	own := filepath.Join(v.dir, ArchiveName)
	for _, dir := range append([]string{v.dir, own}, v.Archives...) {
		segments, err := journal.Segments(v.fs, dir, prefix)
		if dir == own && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		for _, seg := range segments {
			if _, ok := found[seg.First]; !ok {
				found[seg.First] = dir
			}
			last = max(last, seg.First)
		}
	}
	return found, last, nil
}

func least(m map[uint64]string) uint64 {
	low := ^uint64(0)
	for k := range m {
		low = min(low, k)
	}
	return low
}

// readSegments grows the tree by every record, or by its hash where the record
// was archived.
func (v *verification) readSegments() error {
	sources, last, err := v.sources(recordPrefix)
	if err != nil {
		return err
	}
	var at journal.Position
	chained := true // whether what stands before was read
	for len(sources) > 0 {
		next := v.tree.size
		dir, here := sources[next]
		delete(sources, next)
		switch {
		case here:
			seg := segmentOf(next)
			from, err := journal.Start(v.fs, dir, seg)
			if err != nil {
				return err
			}
			if chained && from != at {
				return journal.Tampered("segment %s does not continue the one before it", seg.Name)
			}
			if at, err = v.readSegment(dir, seg, next == last); err != nil {
				return err
			}
			chained = true
		case next < v.archived:
			if err := v.readHashes(next); err != nil {
				return err
			}
			chained = false
		default:
			return journal.Tampered("segment %s is missing or misnamed", segmentOf(next).Name)
		}
	}
	return nil
}

// readSegment checks one segment and, if it is closed, its index.
func (v *verification) readSegment(dir string, seg journal.Segment, last bool) (journal.Position, error) {
	found := index{}
	at, torn, err := journal.ScanSegment(v.fs, dir, seg, last, func(e journal.Entry) error {
		r, err := ParseRecord(e.Body)
		if err != nil {
			return journal.Tampered("record %d: %v", e.Index, err)
		}
		if err := v.order.next(e.Index, &r); err != nil {
			return err
		}
		found.add(keyOf(&r), e.Index-seg.First, e.Frame)
		v.countInput(&r)
		return v.add(leafHash(e.Body))
	})
	if err != nil {
		return at, err
	}
	v.report.TornTail = torn
	if last {
		return at, nil
	}
	x, err := v.index(seg.First)
	if errors.Is(err, errNoIndex) {
		return at, nil // opening makes it anew
	}
	if err != nil {
		return at, err
	}
	if err := v.endsAs(x); err != nil {
		return at, err
	}
	if digest.Digest(sha256.Sum256(found.encode())) != x.Digest {
		return at, journal.Tampered("the index of segment %s is not that of its records", seg.Name)
	}
	return at, nil
}

// index reads a segment's index and checks all of it.
func (v *verification) index(first uint64) (segmentIndex, error) {
	x, err := readIndex(v.fs, v.dir, first, verifyIndex(v.Keys...))
	if err != nil {
		return x, err
	}
	f, err := v.fs.Open(filepath.Join(v.dir, indexName(first)), false)
	if err != nil {
		return x, err
	}
	defer f.Close()
	_, err = x.check(f)
	return x, err
}

// readHashes takes the leaves of an archived segment from the tree's file.
func (v *verification) readHashes(first uint64) error {
	if v.tree.file == nil {
		return journal.Tampered("segment %s is archived, and the file %s with its hashes is missing", segmentOf(first).Name, treeName)
	}
	x, err := v.index(first)
	if errors.Is(err, errNoIndex) {
		return journal.Tampered("segment %s is missing, and so is its index", segmentOf(first).Name)
	}
	if err != nil {
		return err
	}
	v.order.unknown()
	var h digest.Digest
	for i := first; i < x.end(); i++ {
		if _, err := v.tree.file.ReadAt(h[:], tlog.StoredHashIndex(0, int64(i))*tlog.HashSize); err != nil {
			return lostHash(tlog.StoredHashIndex(0, int64(i)), err)
		}
		if err := v.add(h); err != nil {
			return err
		}
	}
	v.report.Archived += x.Count
	return v.endsAs(x)
}

// endsAs checks that an index is about the segment that the tree ends with.
func (v *verification) endsAs(x segmentIndex) error {
	root, err := v.tree.root()
	if err == nil && (x.end() != v.tree.size || x.Root != root) {
		err = journal.Tampered("the index of segment %s is of another log", segmentOf(x.First).Name)
	}
	return err
}

// add grows the tree by a leaf and holds it against every checkpoint of its size.
func (v *verification) add(leaf digest.Digest) error {
	if err := v.tree.add(leaf); err != nil {
		return err
	}
	if v.tree.size%progressEvery == 0 {
		v.Progress(v.tree.size, max(v.report.Last.Size, v.tree.size))
		if err := v.ended(); err != nil {
			return err
		}
	}
	for _, m := range v.kept {
		if m.size == v.tree.size {
			if root, err := v.tree.root(); err != nil || root != m.root {
				return errors.Join(err, m.refuseForked())
			}
		}
	}
	for len(v.checkpoints) > 0 && v.checkpoints[0].size <= v.tree.size {
		if err := passes(&v.tree, v.checkpoints[:1]); err != nil {
			return err
		}
		v.checkpoints = v.checkpoints[1:]
	}
	if len(v.tree.pending) >= loadFlush {
		return v.settle()
	}
	return nil
}

// Whose checkpoint a log is held against, beside its own on disk.
const (
	keptElsewhere = "a checkpoint that was kept elsewhere"
	ownLast       = "the running broker's last checkpoint"
)

func (m mark) refuseForked() error {
	return refusal.New(ReasonForked, "the log's first %d records differ from those of %s", m.size, m.what)
}

func (m mark) refuseRolledBack(records uint64) error {
	return refusal.New(ReasonRolledBack, "%s counts %d records, but the log has %d: it was restored or truncated", m.what, m.size, records)
}

// settle compares the hashes that were computed with those on disk that a
// checkpoint covers, and forgets all but the right edge.
func (v *verification) settle() error {
	t := &v.tree
	edge, err := edgeOf(t.size, t)
	if err != nil {
		return err
	}
	covered := min(tlog.StoredHashCount(int64(v.report.Last.Size))-t.base, int64(len(t.pending)))
	if t.file != nil && covered > 0 {
		b := make([]byte, covered*tlog.HashSize)
		if _, err := t.file.ReadAt(b, t.base*tlog.HashSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i, h := range t.pending[:covered] {
			if !bytes.Equal(b[i*tlog.HashSize:(i+1)*tlog.HashSize], h[:]) {
				return journal.Tampered("hash %d in the file %s is not that of the records", t.base+int64(i), treeName)
			}
		}
	}
	t.base += int64(len(t.pending))
	t.edge, t.pending = edge, t.pending[:0]
	return nil
}

// conclude reports what was found, or what is missing.
func (v *verification) conclude() (err error) {
	r := &v.report
	r.Records = v.tree.size
	signed := r.Last.Size
	for _, m := range v.kept {
		if m.size > r.Records {
			return m.refuseRolledBack(r.Records)
		}
		signed = max(signed, m.size)
	}
	if len(v.checkpoints) > 0 {
		return journal.Tampered("a checkpoint counts %d records, the log has %d", v.checkpoints[len(v.checkpoints)-1].size, r.Records)
	}
	if r.Records < v.Acknowledged {
		return refusal.New(ReasonRolledBack, "the running broker acknowledged %d records, but its disk has %d: the log was truncated", v.Acknowledged, r.Records)
	}
	if r.Checkpoints == 0 {
		return refusal.New(ReasonNoCheckpoint, "%s has %d records and no signed checkpoint, so none of them is authenticated; is this the whole directory of the log?", v.dir, r.Records)
	}
	r.SetBack = v.order.steps
	r.Unsigned = r.Records - signed
	r.Root, err = v.tree.root()
	v.Progress(r.Records, r.Records)
	return err
}
