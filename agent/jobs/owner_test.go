package jobs

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func jobOf(owner uint32, n int) Job {
	j := job(n)
	j.Owner = owner
	return j
}

// TestOneOwnerLeavesRoomForOthers: a user could have all places of the queue.
func TestOneOwnerLeavesRoomForOthers(t *testing.T) {
	q, _ := newQueue(t, func(o *Options) { o.MaxJobs, o.OwnerJobs = 8, 0 })
	var own []Info
	for n := range 6 { // three quarters
		own = append(own, submit(t, q, jobOf(1, n)))
	}
	_, _, err := q.Submit(t.Context(), jobOf(1, 6))
	wantReason(t, err, ReasonOwner)
	if _, created, err := q.Submit(t.Context(), jobOf(1, 5)); created || err != nil {
		t.Errorf("one that is there: %t %v", created, err)
	}
	submit(t, q, jobOf(2, 0))
	ok(t, must(t, q, own[0]).Fail(BadInput, "", ""))
	submit(t, q, jobOf(1, 6))
	_, err = q.Retry(own[0].ID) // a retried one counts
	wantReason(t, err, ReasonOwner)
	if _, created, err := q.SubmitForAgent(t.Context(), jobOf(1, 7)); !created || err != nil {
		t.Errorf("what the agent has to do: %v", err)
	}
	_, _, err = q.SubmitForAgent(t.Context(), jobOf(1, 8))
	wantReason(t, err, ReasonFull)
}

func TestOneOwnerLeavesBytesForOthers(t *testing.T) {
	size := int64(len(job(1).Spec))
	q, _ := newQueue(t, func(o *Options) { o.MaxBytes, o.OwnerBytes = 4*(size+MaxResultBytes), 0 })
	for n := range 3 {
		submit(t, q, jobOf(1, n))
	}
	_, _, err := q.Submit(t.Context(), jobOf(1, 3))
	wantReason(t, err, ReasonOwner)
	submit(t, q, jobOf(2, 3))
}

// What is final gives way by whom it is: one user's jobs drove out another's results.
func TestFinalJobsOfWhoeverHasTheMostAreForgotten(t *testing.T) {
	q, c := newQueue(t, func(o *Options) { o.MaxKept = 4 })
	finish := func(j Job, result string) ID {
		info := submit(t, q, j)
		ok(t, must(t, q, info).Complete(json.RawMessage(result)))
		c.add(time.Second)
		return info.ID
	}
	quiet := finish(jobOf(2, 0), `1`)
	var flood []ID
	for n := range 10 {
		flood = append(flood, finish(jobOf(1, n), `1`))
	}
	submit(t, q, jobOf(3, 0))
	wantState(t, q, quiet, Done)
	wantState(t, q, flood[9], Done)
	_, err := q.Show(flood[6])
	wantReason(t, err, ReasonUnknown)
}

func TestLargeResultsOfOneOwnerGiveWayToThoseOfOthers(t *testing.T) {
	size := int64(len(job(1).Spec))
	q, c := newQueue(t, func(o *Options) { o.MaxBytes = 3 * (size + MaxResultBytes) })
	finish := func(j Job, result string) ID {
		info := submit(t, q, j)
		ok(t, must(t, q, info).Complete(json.RawMessage(result)))
		c.add(time.Second)
		return info.ID
	}
	large := `"` + strings.Repeat("x", MaxResultBytes-2) + `"`
	var small []ID
	for n := range 3 {
		small = append(small, finish(jobOf(2, n), `1`))
	}
	first := finish(jobOf(1, 0), large)
	second := finish(jobOf(1, 1), large)
	submit(t, q, jobOf(3, 0))
	for _, id := range small {
		wantState(t, q, id, Done)
	}
	_, err := q.Show(first)
	wantReason(t, err, ReasonUnknown)
	wantState(t, q, second, Done)
}

func TestFinalJobsGoWithTheirAge(t *testing.T) {
	q, c := newQueue(t, func(o *Options) { o.KeptAge = time.Hour })
	done, waits := submit(t, q, job(1)), submit(t, q, job(2))
	ok(t, must(t, q, done).Complete([]byte(`1`)))
	c.add(time.Hour)
	if n, err := q.Expire(t.Context()); n != 0 || err != nil {
		t.Error(n, err)
	}
	c.add(1)
	submit(t, q, job(3)) // makes them go, too
	_, err := q.Show(done.ID)
	wantReason(t, err, ReasonUnknown)
	q = reopen(t, q)
	_, err = q.Show(done.ID)
	wantReason(t, err, ReasonUnknown)
	c.add(100 * time.Hour)
	if n, err := q.Expire(t.Context()); n != 0 || err != nil {
		t.Error("a job that waits has no age:", n, err)
	}
	wantState(t, q, waits.ID, Queued)
}

// Owners take turns: one's thousand jobs do not keep another's one waiting.
func TestOwnersTakeTurns(t *testing.T) {
	q, _ := newQueue(t)
	for n := range 4 {
		submit(t, q, jobOf(1, n))
	}
	submit(t, q, jobOf(2, 0))
	submit(t, q, jobOf(3, 0))
	urgent := jobOf(1, 9)
	urgent.Priority = 1
	submit(t, q, urgent)
	var got []uint32
	for range 7 {
		l := try(t, q)
		got = append(got, l.Info.Owner)
		ok(t, l.Complete([]byte(`1`)))
	}
	if want := []uint32{1, 2, 3, 1, 1, 1, 1}; !slices.Equal(got, want) {
		t.Errorf("leased %v, want %v", got, want)
	}
}
