package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Budget bounds what peers can make the log grow by refusals: a stranger costs
// nothing to send, and its refusal would be kept for ever. It is counted in bytes
// on disk and given out by the hour, a twenty-fourth of the day's at a time, so
// that who spends it early in the day does not blind the log for the rest of it.
// Decisions have no budget: they are never left out.
type Budget struct {
	// DayBytes is what all strangers together may add in a day, and once more
	// what peers may that have shown evidence; 64 MiB by default.
	DayBytes int64
	// SourceBytes is what one source may add in a day; a sixteenth of DayBytes by
	// default.
	SourceBytes int64
}

const (
	defaultDayBytes  = 64 << 20
	sourceShare      = 16
	hoursPerDay      = 24
	maxSources       = 1 << 14 // that are told apart; the others share one budget
	recordOverhead   = 160     // a frame of its own, and two hashes of the tree
	maxTallies       = 64      // reasons and sources that a summary tells apart while it counts
	maxTalliedShown  = 8       // sources that it names, and half the reasons
	actionSuppressed = "records-suppressed"
)

func (b Budget) withDefaults() (Budget, error) {
	if b.DayBytes < 0 || b.SourceBytes < 0 {
		return b, errors.New("audit budget: a negative number of bytes")
	}
	if b.DayBytes == 0 {
		b.DayBytes = defaultDayBytes
	}
	if b.SourceBytes == 0 {
		b.SourceBytes = max(b.DayBytes/sourceShare, 1)
	}
	return b, nil
}

// ledger is what was spent in the current hour, and what was left out since the
// last summary.
type ledger struct {
	mu      sync.Mutex
	limit   Budget
	hour    int64
	pools   [2]pool // strangers; peers that have shown evidence
	left    suppressed
	total   uint64 // left out since the log was opened
	spoken  bool   // a warning was logged in this hour
	summing sync.Mutex
}

type pool struct {
	used    int64
	sources map[string]int64
}

// suppressed counts records that were not written.
type suppressed struct {
	Count       uint64
	First, Last time.Time
	Reasons     map[string]uint64
	Sources     map[string]uint64
}

func tally(m map[string]uint64, name string, n uint64) {
	if _, known := m[name]; !known && len(m) >= maxTallies {
		name = "others"
	}
	m[name] += n
}

func (s *suppressed) add(source string, r *Record) {
	if s.Count == 0 {
		*s = suppressed{First: r.Time, Reasons: map[string]uint64{}, Sources: map[string]uint64{}}
	}
	s.Count++
	s.Last = r.Time
	tally(s.Sources, source, 1)
	for _, reason := range r.Reasons[:min(1, len(r.Reasons))] {
		tally(s.Reasons, reason.Code, 1)
	}
}

// merge adds what was counted later.
func (s *suppressed) merge(later suppressed) {
	if later.Count == 0 {
		return
	}
	s.Count, s.Last = s.Count+later.Count, later.Last
	for name, n := range later.Sources {
		tally(s.Sources, name, n)
	}
	for name, n := range later.Reasons {
		tally(s.Reasons, name, n)
	}
}

// take says whether a record of so many bytes is within the budget, and spends it.
func (g *ledger) take(source string, proven bool, r *Record, bytes int64) (ok, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	// A clock that goes back opens no new hour.
	if hour := r.Time.Unix() / 3600; hour > g.hour {
		g.hour, g.spoken = hour, false
		g.pools = [2]pool{{sources: map[string]int64{}}, {sources: map[string]int64{}}}
	}
	p := &g.pools[0]
	if proven {
		p = &g.pools[1]
	}
	if p.sources == nil {
		p.sources = map[string]int64{}
	}
	entry := source
	if _, known := p.sources[entry]; !known && len(p.sources) >= maxSources {
		entry = ""
	}
	if p.used+bytes > g.limit.DayBytes/hoursPerDay || p.sources[entry]+bytes > g.limit.SourceBytes/hoursPerDay {
		first, g.spoken = !g.spoken, true
		g.left.add(source, r)
		g.total++
		return false, first
	}
	p.used += bytes
	p.sources[entry] += bytes
	return true, false
}

// AppendBounded records what a peer caused and nobody decided in its favour, as
// far as the budget goes: r's source is a key such as the prefix of its address,
// and proven says that it has shown evidence that holds. A record over the budget
// is not written but counted, by source and reason, in a record of its own within
// a minute. It reports whether r was written.
func (l *Log) AppendBounded(ctx context.Context, source string, proven bool, r Record) (recorded bool, err error) {
	body, err := r.Marshal()
	if err != nil {
		return false, err
	}
	ok, first := l.ledger.take(source, proven, &r, int64(len(body))+recordOverhead)
	if !ok {
		if first {
			l.opts.Logger.Warn("the audit budget of this hour is spent; further refusals are only counted", "source", source)
		}
		return false, l.Err()
	}
	_, err = l.append(ctx, &entry{bodies: [][]byte{body}, keys: []key{keyOf(&r)}, bytes: 4 + len(body), done: make(chan struct{})})
	return err == nil, err
}

// Suppressed returns how many records were left out since the log was opened.
func (l *Log) Suppressed() uint64 {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	return l.ledger.total
}

// summarise writes what was left out, if anything was. Checkpoint and Close call
// it, so a crash loses at most what was counted since the last checkpoint.
func (l *Log) summarise(ctx context.Context) error {
	g := &l.ledger
	g.summing.Lock()
	defer g.summing.Unlock()
	g.mu.Lock()
	left := g.left
	g.left = suppressed{}
	g.mu.Unlock()
	if left.Count == 0 {
		return nil
	}
	if _, err := l.Append(ctx, left.record(l.opts.Now())); err != nil {
		g.mu.Lock()
		left.merge(g.left)
		g.left = left
		g.mu.Unlock()
		return err
	}
	return nil
}

// record says what was left out: each reason with its number, and the sources
// with the most.
func (s *suppressed) record(now time.Time) Record {
	r := Record{Kind: KindAnomaly, Time: now, Action: actionSuppressed}
	for _, code := range largest(s.Reasons, 2*maxTalliedShown) {
		r.Reasons = append(r.Reasons, Reason{code, fmt.Sprint(s.Reasons[code])})
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d records over the budget were not written, from %s to %s", s.Count, s.First.UTC().Format(time.RFC3339), s.Last.UTC().Format(time.RFC3339))
	for i, source := range largest(s.Sources, maxTalliedShown) {
		fmt.Fprintf(&text, "%s%s (%d)", map[bool]string{true: "; most from ", false: ", "}[i == 0], clip(source), s.Sources[source])
	}
	r.Detail = text.String()
	return r
}

// largest returns the names with the highest numbers.
func largest(m map[string]uint64, most int) []string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int { return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b)) })
	return names[:min(len(names), most)]
}
