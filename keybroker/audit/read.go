package audit

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"

	"github.com/anchorhold/anchorhold/keybroker/audit/journal"
)

// errStop ends a scan early.
var errStop = errors.New("stop")

// Entry is one record with its place.
type Entry struct {
	Leaf
	Record Record `json:"record"`
}

// Iterate gives the records of the log in dir to visit, in order, until visit
// returns false. It begins at the first segment that was not archived, checks the
// chain inside each segment as it goes and may run beside a writer: a frame that
// is still being written counts as not there.
func Iterate(dir string, visit func(Entry) bool) error {
	return iterateIn([]string{dir}, visit)
}

// IterateArchived is Iterate with the archived segments that are still in the log's own directory for
// them, or in others. Records between segments that are in none of them are passed over.
func IterateArchived(dir string, archives []string, visit func(Entry) bool) error {
	return iterateIn(append([]string{dir, filepath.Join(dir, ArchiveName)}, archives...), visit)
}

// iterateIn visits the segments in some directories, of which the first must be there.
func iterateIn(dirs []string, visit func(Entry) bool) error {
	type place struct {
		dir string
		journal.Segment
	}
	var places []place
	for i, dir := range dirs {
		segments, err := journal.Segments(journal.ReadOnly{}, dir, recordPrefix)
		if i > 0 && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, seg := range segments {
			if !slices.ContainsFunc(places, func(p place) bool { return p.Name == seg.Name }) {
				places = append(places, place{dir, seg})
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.First, b.First) })
	for i, p := range places {
		more, err := iterate(p.dir, p.Segment, i == len(places)-1, visit)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// iterate visits one segment and says whether the visit wants more.
func iterate(dir string, seg journal.Segment, last bool, visit func(Entry) bool) (more bool, err error) {
	_, _, err = journal.ScanSegment(journal.ReadOnly{}, dir, seg, last, func(e journal.Entry) error {
		r, err := ParseRecord(e.Body)
		if err != nil {
			return journal.Tampered("record %d: %v", e.Index, err)
		}
		if !visit(Entry{Leaf{Index: e.Index, Hash: leafHash(e.Body)}, r}) {
			return errStop
		}
		return nil
	})
	if errors.Is(err, errStop) {
		return false, nil
	}
	return err == nil, err
}

// backwards visits segments, the newest first, with the last keep matches of each, until
// enough says so or a segment begins before the time that matters.
func backwards(dir string, f Filter, keep int, segment func([]Entry) (enough bool)) error {
	segments, err := journal.Segments(journal.ReadOnly{}, dir, recordPrefix)
	if err != nil {
		return err
	}
	for i, seg := range slices.Backward(segments) {
		if f.To != 0 && seg.First >= f.To || i+1 < len(segments) && segments[i+1].First <= f.From {
			continue
		}
		var matched []Entry
		before := false
		// No more than keep at a time: a segment may hold more than memory should.
		add := func(e Entry) {
			if len(matched) == 2*keep {
				matched = matched[:copy(matched, matched[keep:])]
			}
			matched = append(matched, e)
		}
		if _, err := iterate(dir, seg, i == len(segments)-1, func(e Entry) bool {
			before = before || e.Index == seg.First && !f.Since.IsZero() && e.Record.Time.Before(f.Since.Add(-clockSlack))
			if f.Match(e) {
				add(e)
			}
			return f.To == 0 || e.Index+1 < f.To
		}); err != nil {
			return err
		}
		if segment(matched[max(0, len(matched)-keep):]) || before && (f.reach == 0 || seg.First < f.reach) {
			return nil
		}
	}
	return nil
}
