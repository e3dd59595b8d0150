package deadline

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// take returns what was written since the last call.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.b.String()
	l.b.Reset()
	return strings.Split(strings.TrimSpace(text), "\n")
}

// TestEachDateIsWarnedOfThirtySevenAndOneDaysBefore, once each, and once when it has passed.
func TestEachDateIsWarnedOfThirtySevenAndOneDaysBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &lines{}
		w, begin := New(slog.New(slog.NewTextHandler(out, nil))), time.Now()
		date := Date{Kind: "epoch", Name: "7", At: begin.Add(60 * day)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.Run(ctx, time.Now, func() []Date { return []Date{date} }); close(done) }()
		var said []string
		for hour := range 62 * 24 {
			synctest.Wait()
			for _, line := range out.take() {
				if line != "" {
					said = append(said, fmt.Sprintf("day %d: %s", hour/24, line[strings.Index(line, "level="):strings.Index(line, " kind=")]))
				}
			}
			time.Sleep(time.Hour)
		}
		cancel()
		<-done
		want := []string{"day 30: level=WARN msg=\"something the service needs expires soon\"", "day 53: level=WARN msg=\"something the service needs expires soon\"",
			"day 59: level=WARN msg=\"something the service needs expires soon\"", "day 60: level=ERROR msg=\"something the service needs has expired\""}
		if !reflect.DeepEqual(said, want) {
			t.Errorf("%s", strings.Join(said, "\n"))
		}
	})
}

// TestARenewalIsANewDate: what was warned of and renewed is warned of again when it is
// due again; a clock that was set back repeats nothing.
func TestARenewalIsANewDate(t *testing.T) {
	out := &lines{}
	w, now := New(slog.New(slog.NewTextHandler(out, nil))), time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	said := func() int {
		n := 0
		for _, line := range out.take() {
			n += len(line)
		}
		return n
	}
	d := Date{Kind: "policy", At: now.Add(3 * day)}
	for i, step := range []struct {
		now  time.Time
		date Date
		says bool
	}{
		{now, d, true},                        // close when first seen: once
		{now.Add(time.Hour), d, false},        //
		{now.Add(-40 * day), d, false},        // set back
		{now.Add(2 * time.Hour), d, false},    // and forth
		{now.Add(2*day + time.Hour), d, true}, // a day before
		{now.Add(2*day + time.Hour), Date{Kind: "policy", At: now.Add(100 * day)}, false}, // renewed
		{now.Add(80 * day), Date{Kind: "policy", At: now.Add(100 * day).In(time.FixedZone("x", 3600))}, true},
		{now.Add(80 * day), Date{Kind: "policy", At: now.Add(100 * day)}, false}, // the same time elsewhere
		{now.Add(101 * day), Date{Kind: "policy", At: now.Add(100 * day)}, true}, // over
		{now.Add(102 * day), Date{Kind: "policy", At: now.Add(100 * day)}, false},
	} {
		w.Look(step.now, []Date{step.date})
		if got := said() > 0; got != step.says {
			t.Errorf("step %d: says something: %t", i, got)
		}
	}
}

func TestEarliestAndSorted(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0) }
	list := []Date{{Kind: "a", At: at(5)}, {Kind: "b", At: at(3)}, {Kind: "a", Name: "x", At: at(2)}}
	if got := Earliest(list); !reflect.DeepEqual(got, map[string]int64{"a": 2, "b": 3}) {
		t.Error(got)
	}
	if got := Sorted(list); got[0].Name != "x" || got[2].At != at(5) || list[0].At != at(5) {
		t.Error(got)
	}
}
