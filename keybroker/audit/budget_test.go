package audit

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func refusalAt(at time.Time, code string) Record {
	return Record{Kind: KindRefusal, Time: at, Decision: "refused", Reasons: []Reason{{code, strings.Repeat("x", 200)}}, Detail: strings.Repeat("d", 800)}
}

// bounded appends n refusals of a source and returns how many were written.
func bounded(t *testing.T, l *Log, source string, proven bool, at time.Time, n int) (written int) {
	t.Helper()
	for range n {
		ok, err := l.AppendBounded(t.Context(), source, proven, refusalAt(at, "code-"+source))
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			written++
		}
	}
	return written
}

const noon = 1_700_006_400 // a full hour

// TestAStrangerSpendsItsOwnBudget: one source runs out, the others do not, until
// the hour's share of the day is spent; who has evidence has a budget apart.
func TestAStrangerSpendsItsOwnBudget(t *testing.T) {
	at := time.Unix(noon, 0)
	size := int64(len(mustMarshal(t, refusalAt(at, "code-a")))) + recordOverhead
	l := openLog(t, t.TempDir(), newSigner(t), Options{Budget: Budget{DayBytes: 24 * 10 * size, SourceBytes: 24 * 4 * size}})
	defer l.Close()
	for _, step := range []struct {
		source string
		proven bool
		at     time.Time
		want   int
	}{
		{"a", false, at, 4},
		{"a", false, at.Add(59 * time.Minute), 0},
		{"b", false, at, 4},
		{"c", false, at, 2}, // the hour's share is spent
		{"d", false, at, 0},
		{"e", true, at, 4},
		{"a", false, at.Add(-time.Hour), 0}, // a clock that goes back
		{"a", false, at.Add(time.Hour), 4},
		{"e", true, at.Add(time.Hour), 4},
	} {
		if got := bounded(t, l, step.source, step.proven, step.at, 20); got != step.want {
			t.Errorf("%+v: %d were written", step, got)
		}
	}
	if l.Suppressed() == 0 {
		t.Error("nothing was left out")
	}
}

func mustMarshal(t *testing.T, r Record) []byte {
	t.Helper()
	b, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestADayOfOneStrangerIsBounded prevents 10.6 GB of records in a day: a flood from
// one source, from as many as there are, and from guests, an hour after the other.
func TestADayOfOneStrangerIsBounded(t *testing.T) {
	var g ledger
	limit, err := Budget{}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	g.limit = limit
	r := refusalAt(time.Unix(noon, 0), "flood")
	const bytes = 2400
	var one, all, guests int64
	for hour := range 24 {
		r.Time = time.Unix(noon, 0).Add(time.Duration(hour) * time.Hour)
		for i := range 20_000 {
			if ok, _ := g.take("one", false, &r, bytes); ok {
				one += bytes
			}
			if ok, _ := g.take(strconv.Itoa(i), false, &r, bytes); ok {
				all += bytes
			}
			if ok, _ := g.take(strconv.Itoa(i), true, &r, bytes); ok {
				guests += bytes
			}
		}
		if len(g.pools[0].sources) > maxSources+1 {
			t.Fatalf("%d sources are remembered", len(g.pools[0].sources))
		}
	}
	if one > limit.SourceBytes || one < limit.SourceBytes/2 || one+all > limit.DayBytes || one+all < limit.DayBytes/2 || guests > limit.DayBytes {
		t.Errorf("a day took %d bytes of one source, %d of all, %d of guests; the limits are %+v", one, one+all, guests, limit)
	}
}

func TestWhatIsLeftOutIsCountedInARecord(t *testing.T) {
	at := time.Unix(noon, 0)
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{Budget: Budget{DayBytes: 24 << 20, SourceBytes: 24}, Now: func() time.Time { return at.Add(time.Minute) }})
	for i := range 200 {
		bounded(t, l, fmt.Sprintf("s%d", i%100), false, at, 1+i%2)
	}
	checkpointOf(t, l)
	if len(showSuppressed(t, dir)) != 1 || l.Suppressed() != 300 {
		t.Fatalf("%d left out, %+v", l.Suppressed(), showSuppressed(t, dir))
	}
	r := showSuppressed(t, dir)[0].Record
	sum := 0
	for _, reason := range r.Reasons {
		n, err := strconv.Atoi(reason.Detail)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if r.Kind != KindAnomaly || !strings.HasPrefix(r.Detail, "300 records over the budget were not written, from ") || !strings.Contains(r.Detail, "; most from ") || len(r.Reasons) != 16 || sum < 100 {
		t.Errorf("%+v", r)
	}
	// Nothing new: nothing is written. A decision always is.
	checkpointOf(t, l)
	if _, err := l.Append(t.Context(), grantRecord(1)); err != nil {
		t.Error(err)
	}
	bounded(t, l, "last", false, at, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	list := showSuppressed(t, dir)
	if len(list) != 2 || !strings.HasPrefix(list[1].Record.Detail, "2 records") {
		t.Errorf("%+v", list)
	}
	if size := len(mustMarshal(t, list[0].Record)); size > 2048 {
		t.Errorf("a summary has %d bytes", size)
	}
}

func showSuppressed(t *testing.T, dir string) (out []Entry) {
	t.Helper()
	list, err := Show(dir, Filter{Kind: KindAnomaly})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestCountsSurviveAFullDisk: a summary that cannot be written is written later,
// with what was counted meanwhile.
func TestCountsSurviveAFullDisk(t *testing.T) {
	k := newSigner(t)
	p := newPlatter()
	p.files["d/x"] = &spinning{p: p, existsStably: true}
	at := time.Unix(noon, 0)
	meanwhile := func() {}
	l, err := Open("d", k, Options{fs: p, Budget: Budget{SourceBytes: 24}, Now: func() time.Time { meanwhile(); return at }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	meanwhile = func() { bounded(t, l, "b", false, at, 2) } // while the summary is being made
	bounded(t, l, "a", false, at, 3)
	p.mu.Lock()
	p.writes, p.cause = 0, syscall.ENOSPC
	p.mu.Unlock()
	if _, err := l.Checkpoint(t.Context()); err == nil {
		t.Fatal("the disk is full")
	}
	if _, err := l.AppendBounded(t.Context(), "a", false, refusalAt(at, "code-a")); err == nil {
		t.Error("a log that cannot record says nothing of it")
	}
	p.mu.Lock()
	p.writes = 1 << 60
	p.mu.Unlock()
	if err := l.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.ledger.mu.Lock()
	left := l.ledger.left
	l.ledger.mu.Unlock()
	if left.Count != 6 || left.Reasons["code-a"] != 4 || left.Sources["a"] != 4 || left.Sources["b"] != 2 || left.Reasons["code-b"] != 2 {
		t.Errorf("%+v", left)
	}
	meanwhile = func() {}
	checkpointOf(t, l)
	if l.ledger.left.Count != 0 {
		t.Error("what was written is counted again")
	}
}

// TestSourcesAreBounded: those beyond the limit share one budget, whatever was
// configured.
func TestSourcesAreBounded(t *testing.T) {
	g := ledger{limit: Budget{DayBytes: 1 << 40, SourceBytes: 24 * 10}}
	r := refusalAt(time.Unix(noon, 0), "flood")
	written := 0
	for i := range maxSources + 100 {
		if ok, _ := g.take(strconv.Itoa(i), false, &r, 1); ok {
			written++
		}
	}
	if written != maxSources+10 || len(g.pools[0].sources) != maxSources+1 {
		t.Errorf("%d were written, %d sources are remembered", written, len(g.pools[0].sources))
	}
}

func TestNegativeBudgetsAreRefused(t *testing.T) {
	for _, b := range []Budget{{DayBytes: -1}, {SourceBytes: -1}} {
		if _, err := Open(t.TempDir(), newSigner(t), Options{Budget: b}); err == nil {
			t.Errorf("%+v was accepted", b)
		}
	}
}
