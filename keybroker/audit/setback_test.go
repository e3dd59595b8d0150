package audit

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// hour is a record so many hours after the first ones.
func hour(i int, hours float64) Record {
	r := sample(i)
	r.Time = time.Unix(1_700_000_000, 123_456_789).UTC().Add(time.Duration(hours * float64(time.Hour)))
	return r
}

func add(t *testing.T, l *Log, records ...Record) {
	t.Helper()
	for _, r := range records {
		if _, err := l.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

func wantReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestTheLogGoesBackOnceFromItsLastRecord: a step must name the last record's time to the
// nanosecond, is recorded, and cannot be made again.
func TestTheLogGoesBackOnceFromItsLastRecord(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	add(t, l, hour(0, 0), hour(1, 1000))
	ahead := l.LastTime()
	add(t, l, hour(2, 1)) // stands at 1000
	before, err := l.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, step := range map[string][2]time.Time{
		"another from": {ahead.Add(time.Nanosecond), hour(0, 1).Time},
		"no from":      {{}, hour(0, 1).Time},
		"forwards":     {ahead, ahead.Add(time.Second)},
		"nowhere":      {ahead, ahead},
	} {
		_, err := l.SetBack(t.Context(), step[0], step[1], "")
		if got, _ := refusal.ReasonOf(err); got != ReasonSetBack {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if l.Size() != 3 {
		t.Errorf("refused steps left %d records, want 3", l.Size())
	}
	leaf, err := l.SetBack(t.Context(), ahead, hour(0, 2).Time, "why")
	if err != nil || leaf.Index != 3 {
		t.Fatal(leaf, err)
	}
	_, err = l.SetBack(t.Context(), ahead, hour(0, 1).Time, "again")
	wantReason(t, err, ReasonSetBack)
	add(t, l, hour(4, 2.5), hour(5, 2.25)) // the latter stands at 2.5
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = openLog(t, dir, k, Options{})
	defer l.Close()
	if want := hour(4, 2.5).Time; !l.LastTime().Equal(want) {
		t.Errorf("opened, the last record is of %s, want %s", l.LastTime(), want)
	}
	for at, want := range map[time.Time]bool{ahead: true, ahead.Add(1): false} {
		if is, err := l.SetBackFrom(at); is != want || err != nil {
			t.Errorf("set back from %s: %t, %v", at, is, err)
		}
	}
	if err := l.Extends([]byte(before.Note)); err != nil {
		t.Errorf("a checkpoint from before the step: %v", err)
	}
	r, err := Check{Keys: []identity.Public{k.Public()}, Kept: [][]byte{[]byte(before.Note)}}.Verify(t.Context(), dir)
	if err != nil || r.SetBack != 1 || r.Records != 6 {
		t.Errorf("verified: %+v, %v", r, err)
	}
}

// TestOnlyTheRecordOfAStepBackMayBeEarlier writes what a log never writes by itself.
func TestOnlyTheRecordOfAStepBackMayBeEarlier(t *testing.T) {
	ahead := hour(1, 1000)
	step := Record{Kind: KindService, Time: hour(0, 2).Time, Action: ActionSetBack, Resource: Instant(ahead.Time)}
	for name, c := range map[string]struct {
		change func(*Record)
		want   refusal.Reason
	}{
		"the step":               {func(*Record) {}, ""},
		"an operator's record":   {func(r *Record) { r.Kind = KindOperator }, ReasonTimeWentBack},
		"another action":         {func(r *Record) { r.Action = "start" }, ReasonTimeWentBack},
		"a step from elsewhere":  {func(r *Record) { r.Resource = Instant(ahead.Time.Add(1)) }, ReasonTimeWentBack},
		"a step from nowhere":    {func(r *Record) { r.Resource = "" }, ReasonTimeWentBack},
		"what old brokers wrote": {func(r *Record) { *r = ahead; r.Time = r.Time.Add(-slack) }, ""},
		"a little more":          {func(r *Record) { *r = ahead; r.Time = r.Time.Add(-slack - 1) }, ReasonTimeWentBack},
	} {
		t.Run(name, func(t *testing.T) {
			dir, k := t.TempDir(), newSigner(t)
			l := openLog(t, dir, k, Options{})
			add(t, l, hour(0, 0), ahead)
			r := step
			c.change(&r)
			body, err := r.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := l.append(t.Context(), &entry{bodies: [][]byte{body}, keys: []key{keyOf(&r)}, bytes: 4 + len(body), stepsBack: true, done: make(chan struct{})}); err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			_, err = Verify(dir, k.Public())
			wantReason(t, err, c.want)
		})
	}
}

// TestRecordsOfManyStandInTheOrderOfTheirTimes: the time is held still in the order of the
// commit, whoever was first to ask for a place in it.
func TestRecordsOfManyStandInTheOrderOfTheirTimes(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{})
	var wg sync.WaitGroup
	start := time.Now()
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				r := sample(g*100 + i)
				r.Time = start.Add(time.Since(start))
				if err := l.AppendLater(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	if err := Iterate(dir, func(e Entry) bool {
		if e.Record.Time.Before(last) {
			t.Errorf("record %d is of %s, the one before it of %s", e.Index, e.Record.Time, last)
		}
		last = e.Record.Time
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRefusalsFromBeforeAStepBackAreExplained: segments of the new time lie behind them.
func TestRefusalsFromBeforeAStepBackAreExplained(t *testing.T) {
	dir, k := t.TempDir(), newSigner(t)
	l := openLog(t, dir, k, Options{SegmentBytes: 600})
	defer l.Close()
	for i := range 4 { // of one exchange
		r := hour(i, 1000)
		r.Connection, r.RefusalID = "the exchange", fmt.Sprintf("refusal-%d", i)
		add(t, l, r)
	}
	if _, err := l.SetBack(t.Context(), l.LastTime(), hour(0, 2).Time, ""); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		add(t, l, hour(10+i, 3))
	}
	if found, err := Explain(dir, "refusal-2"); err != nil || len(found) != 4 {
		t.Errorf("%d records of the exchange, want 4: %v", len(found), err)
	}
}
