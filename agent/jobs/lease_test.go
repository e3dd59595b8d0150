package jobs

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func TestHighestPriorityThenOldest(t *testing.T) {
	q, c := newQueue(t)
	var want []Info
	for i, p := range []int8{0, 5, -128, 5, 127, 0} {
		j := job(i)
		j.Priority = p
		want = append(want, submit(t, q, j))
		c.add(-time.Hour) // the clock goes back; the order does not care
	}
	q = reopen(t, q)
	for _, i := range []int{4, 1, 3, 0, 5, 2} {
		must(t, q, want[i])
	}
	if l := try(t, q); l != nil {
		t.Fatalf("leased %+v twice", l.Info)
	}
}

// TestOrderGoesOnAfterARestart: neither places nor lease numbers begin anew.
func TestOrderGoesOnAfterARestart(t *testing.T) {
	q, _ := newQueue(t)
	want := []Info{submit(t, q, job(0)), submit(t, q, job(1)), submit(t, q, job(2))}
	q = reopen(t, q)
	want = append(want, submit(t, q, job(3)), submit(t, q, job(4)))
	last := uint64(0)
	for _, info := range want {
		l := must(t, q, info)
		if l.number <= last {
			t.Fatalf("lease %d after %d", l.number, last)
		}
		last = l.number
		ok(t, l.Complete([]byte(`1`)))
		q = reopen(t, q)
	}
}

func TestOnlyItsClass(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	if l := try(t, q, "prove", "ad", "adds"); l != nil {
		t.Fatal("leased to another class")
	}
	if l := try(t, q, "prove", "add"); l == nil || l.Info.ID != info.ID {
		t.Fatal("not leased to its class")
	}
}

func TestExitTable(t *testing.T) {
	const again, more, dead, cancelled = "again", "more", "dead", "cancelled"
	for _, tc := range []struct {
		exits   []Exit
		ceiling int64
		want    []string
	}{
		{[]Exit{BadInput}, 1 << 30, []string{dead}},
		{[]Exit{Refused}, 1 << 30, []string{dead}},
		{[]Exit{WasCancelled}, 1 << 30, []string{cancelled}},
		{[]Exit{Crash, Crash, Crash}, 0, []string{again, again, dead}},
		{[]Exit{TimeOut, Crash, TimeOut}, 0, []string{again, again, dead}},
		{[]Exit{Crash, BadInput}, 0, []string{again, dead}},
		{[]Exit{OutOfMemory}, 0, []string{dead}},
		{[]Exit{OutOfMemory}, 2<<20 - 1, []string{dead}},
		{[]Exit{OutOfMemory, OutOfMemory}, 1 << 30, []string{more, dead}}, // one retry, not two
		{[]Exit{OutOfMemory, Crash, Crash}, 2 << 20, []string{more, again, dead}},
		{[]Exit{Crash, Crash, OutOfMemory}, 1 << 30, []string{again, again, dead}}, // three tries in all
	} {
		t.Run(fmt.Sprint(tc.exits, tc.ceiling), func(t *testing.T) {
			q, c := newQueue(t, func(o *Options) { o.MemoryCeiling = tc.ceiling })
			info := submit(t, q, job(1))
			memory := info.Memory
			for i, exit := range tc.exits {
				c.add(maxBackoff)
				l := must(t, q, info)
				if l.Info.Memory != memory || l.Info.Tries != i+1 {
					t.Fatalf("try %d with %d bytes, want %d", l.Info.Tries, l.Info.Memory, memory)
				}
				ok(t, l.Fail(exit, "some-code", "why it failed"))
				wantReason(t, l.Complete([]byte(`1`)), ReasonLeaseLost)
				if l.Context.Err() == nil {
					t.Fatal("the lease's context goes on")
				}
				q = reopen(t, q)
				got := show(t, q, info.ID)
				if got.Exit != exit || got.Reason != "some-code" || got.Detail != "why it failed" {
					t.Fatalf("says %q %q %q", got.Exit, got.Reason, got.Detail)
				}
				state := map[string]State{again: Queued, more: Queued, dead: Dead, cancelled: Cancelled}[tc.want[i]]
				if got.State != state {
					t.Fatalf("after %v: %s, want %s", tc.exits[:i+1], got.State, state)
				}
				if tc.want[i] == more {
					memory *= 2
				}
			}
			c.add(time.Hour)
			if try(t, q) != nil {
				t.Fatal("a job that is over was leased")
			}
		})
	}
}

// TestADeferredJobSpendsNoTry: it waits for as long as it must, says for what, and others go
// before it meanwhile.
func TestADeferredJobSpendsNoTry(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	for range 3 * MaxTries {
		l := must(t, q, info)
		if l.Info.Tries != 1 {
			t.Fatalf("try %d", l.Info.Tries)
		}
		wantReason(t, l.Defer(time.Hour, refusal.Reason(strings.Repeat("x", maxDetailBytes+1)), ""), ReasonJob)
		ok(t, l.Defer(time.Hour, "some-code", "for a proof"))
		wantReason(t, l.Complete([]byte(`1`)), ReasonLeaseLost)
		q = reopen(t, q)
		if got := show(t, q, info.ID); got.State != Queued || got.Tries != 0 || got.Reason != "some-code" || got.Detail != "for a proof" {
			t.Fatalf("%+v", got)
		}
		if try(t, q) != nil {
			t.Fatal("leased before its pause is over")
		}
		c.add(maxBackoff) // no clock that was set back makes it longer
	}
	l := must(t, q, info)
	if l.Info.Reason != "some-code" {
		t.Errorf("who goes on does not learn what it waited for: %q", l.Info.Reason)
	}
	ok(t, l.Fail(Crash, "", "no"))
	if got := show(t, q, info.ID); got.Tries != 1 || got.Reason != "" {
		t.Errorf("the first try: %+v", got)
	}
}

func TestEndingsThatAreNone(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	l := must(t, q, info)
	for _, e := range []Exit{"", Ok, "unknown", "OK"} {
		wantReason(t, l.Fail(e, "", ""), ReasonJob)
	}
	for _, r := range []string{"", "{", "1 2", `"` + strings.Repeat("x", MaxResultBytes) + `"`} {
		wantReason(t, l.Complete([]byte(r)), ReasonJob)
	}
	wantState(t, q, info.ID, Leased)
	ok(t, l.Complete([]byte(`"`+strings.Repeat("x", MaxResultBytes-2)+`"`)))
	wantState(t, reopen(t, q), info.ID, Done)
}

func TestFailedJobsWaitLongerEachTime(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	for _, wait := range []time.Duration{4 * time.Second, 16 * time.Second} {
		ok(t, must(t, q, info).Fail(Crash, "", ""))
		c.add(wait - 1)
		if try(t, q) != nil {
			t.Fatalf("tried again before %s", wait)
		}
		c.add(1)
	}
	ok(t, must(t, q, info).Release())
	must(t, q, info)
}

// TestClockSetBackDoesNotHoldAJob: the host sets the guest's clock.
func TestClockSetBackDoesNotHoldAJob(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	ok(t, must(t, q, info).Fail(Crash, "", ""))
	c.add(-1000 * time.Hour)
	must(t, q, info)
}

func TestLostLeaseCannotComplete(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	first := must(t, q, info)
	if at := c.Now().Add(time.Minute); !first.Info.Expires.Equal(at) || !show(t, q, info.ID).Expires.Equal(at) || first.Info.Boot != "boot-1" {
		t.Fatalf("%+v", first.Info)
	}
	c.add(time.Minute - 1)
	if try(t, q) != nil {
		t.Fatal("leased twice at once")
	}
	ok(t, first.Heartbeat(Progress{Phase: "add\x1b[2J" + strings.Repeat("x", 100), Done: 1, Total: 2}))
	if p := show(t, q, info.ID).Progress; p == nil || p.Done != 1 || p.Total != 2 || strings.Contains(p.Phase, "\x1b") || len(p.Phase) > 90 {
		t.Fatalf("progress %+v", p)
	}
	c.add(time.Minute - 1)
	if try(t, q) != nil {
		t.Fatal("a heartbeat did not keep the lease")
	}
	c.add(1)
	second := must(t, q, info)
	if first.Context.Err() == nil || second.Context.Err() != nil || second.Info.Tries != 2 {
		t.Fatalf("first %v, second %v", first.Context.Err(), second.Context.Err())
	}
	for name, use := range map[string]func() error{
		"complete":  func() error { return first.Complete([]byte(`"first"`)) },
		"fail":      func() error { return first.Fail(BadInput, "", "") },
		"release":   first.Release,
		"heartbeat": func() error { return first.Heartbeat(Progress{}) },
	} {
		if reason, _ := refusal.ReasonOf(use()); reason != ReasonLeaseLost {
			t.Errorf("%s under a lost lease: %v", name, reason)
		}
	}
	ok(t, second.Complete([]byte(`"second"`)))
	wantReason(t, second.Complete([]byte(`"third"`)), ReasonLeaseLost)
	if got := wantState(t, reopen(t, q), info.ID, Done); string(got.Result) != `"second"` || got.Progress != nil || !got.Expires.IsZero() {
		t.Fatalf("result %s", got.Result)
	}
}

func TestLeasesThatRunOutThreeTimesAreADeadLetter(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	for range MaxTries {
		must(t, q, info)
		c.add(time.Minute)
	}
	if try(t, q) != nil {
		t.Fatal("a fourth try")
	}
	if got := wantState(t, q, info.ID, Dead); got.Exit != Crash || !strings.Contains(got.Detail, "no sign of life") || got.Tries != MaxTries {
		t.Fatalf("%+v", got)
	}
}

// TestJobThatEndsTheAgentIsADeadLetter: neither restart nor reboot gives more tries.
func TestJobThatEndsTheAgentIsADeadLetter(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	for i, detail := range []string{"agent ended", "rebooted", "agent ended"} {
		l := must(t, q, info)
		q = reopen(t, q, func(o *Options) {
			if i == 1 {
				o.Boot = "boot-2"
			}
		})
		wantReason(t, l.Complete([]byte(`1`)), ReasonClosed)
		if got := show(t, q, info.ID); !strings.Contains(got.Detail, detail) || got.Exit != Crash || got.Tries != i+1 {
			t.Fatalf("try %d: %+v", i+1, got)
		}
	}
	wantState(t, q, info.ID, Dead)
}

// TestLeaseOfAForgottenJobIsNoLeaseOfItsSuccessor: cancelled, forgotten, and submitted
// again while its first worker still runs.
func TestLeaseOfAForgottenJobIsNoLeaseOfItsSuccessor(t *testing.T) {
	q, c := newQueue(t)
	info := submit(t, q, job(1))
	first := must(t, q, info)
	_, err := q.Cancel(info.ID)
	ok(t, err)
	c.add(time.Second)
	if n, err := q.Prune(t.Context(), 0); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	wantReason(t, first.Complete([]byte(`"first"`)), ReasonLeaseLost)
	if again := submit(t, q, job(1)); again.ID != info.ID {
		t.Fatal("another name")
	}
	second := must(t, q, info)
	wantReason(t, first.Complete([]byte(`"first"`)), ReasonLeaseLost)
	ok(t, second.Complete([]byte(`"second"`)))
}

func TestReleaseDoesNotCountTheTry(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	for range 2 * MaxTries {
		l := must(t, q, info)
		if l.Info.Tries != 1 {
			t.Fatal(l.Info.Tries)
		}
		ok(t, l.Release())
		wantReason(t, l.Release(), ReasonLeaseLost)
	}
}

func TestCancelledWhileLeased(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	l := must(t, q, info)
	got, err := q.Cancel(info.ID)
	ok(t, err)
	if got.State != Cancelled || got.Exit != WasCancelled || !errors.Is(context.Cause(l.Context), ErrCancelled) {
		t.Fatalf("%+v, cause %v", got, context.Cause(l.Context))
	}
	wantReason(t, l.Complete([]byte(`1`)), ReasonLeaseLost)
	wantState(t, reopen(t, q), info.ID, Cancelled)
}

// waiting opens a queue in a bubble, where it follows the bubble's clock.
func waiting(t *testing.T) *Queue {
	return openQueue(t, filepath.Join(t.TempDir(), "jobs.db"), Options{Boot: "b", Logger: options(newClock()).Logger})
}

func TestLeaseWaitsForWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := waiting(t)
		got := make(chan *Lease)
		go func() {
			l, err := q.Lease(t.Context(), []string{"add"})
			if err != nil {
				t.Error(err)
			}
			got <- l
		}()
		other := job(1)
		other.Class = "prove"
		submit(t, q, other)
		synctest.Wait()
		select {
		case l := <-got:
			t.Fatalf("leased %+v", l.Info)
		default:
		}
		info := submit(t, q, job(1))
		if l := <-got; l.Info.ID != info.ID {
			t.Fatalf("leased %+v", l.Info)
		}
	})
}

// TestLeaseWaitsUntilALeaseRunsOut: nobody polls, and nobody sleeps too long.
func TestLeaseWaitsUntilALeaseRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := waiting(t)
		q.opt.LeaseTime = 10 * time.Second
		info := submit(t, q, job(1))
		first := must(t, q, info)
		start := time.Now()
		second, err := q.Lease(t.Context(), []string{"add"})
		ok(t, err)
		if waited := time.Since(start); waited != 10*time.Second || second.Info.Tries != 2 || first.Context.Err() == nil {
			t.Fatalf("waited %s, try %d", waited, second.Info.Tries)
		}
		ok(t, second.Fail(TimeOut, "", ""))
		start = time.Now()
		if _, err = q.Lease(t.Context(), []string{"add"}); err != nil || time.Since(start) != 16*time.Second {
			t.Fatalf("waited %s, %v", time.Since(start), err)
		}
	})
}

func TestWaitingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := waiting(t)
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 2)
		lease := func(ctx context.Context) { _, err := q.Lease(ctx, []string{"add"}); ends <- err }
		go lease(ctx)
		synctest.Wait()
		cancel()
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		info := submit(t, q, job(1))
		lease(ctx)
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Fatalf("leased for a caller that is gone: %v", err)
		}
		l := must(t, q, info)
		go lease(t.Context())
		go func() { _, err := q.Wait(t.Context(), info.ID); ends <- err }()
		synctest.Wait()
		ok(t, q.Close())
		for range 2 {
			wantReason(t, <-ends, ReasonClosed)
		}
		if reason, _ := refusal.ReasonOf(context.Cause(l.Context)); reason != ReasonClosed {
			t.Fatal(context.Cause(l.Context))
		}
		_, err := q.Lease(t.Context(), nil)
		wantReason(t, err, ReasonJob)
	})
}

func TestWaitForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := waiting(t)
		info := submit(t, q, job(1))
		got := make(chan Info)
		go func() {
			i, err := q.Wait(t.Context(), info.ID)
			if err != nil {
				t.Error(err)
			}
			got <- i
		}()
		l := must(t, q, info)
		synctest.Wait()
		ok(t, l.Complete([]byte(`{"sum": 3}`)))
		if i := <-got; i.State != Done || string(i.Result) != `{"sum": 3}` {
			t.Fatalf("%+v", i)
		}
		_, err := q.Wait(t.Context(), ID{})
		wantReason(t, err, ReasonUnknown)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		other := submit(t, q, job(2))
		if _, err := q.Wait(ctx, other.ID); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}
