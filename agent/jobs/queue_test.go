package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func TestSameJobIsOneJob(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	same := job(1)
	same.Priority, same.Memory, same.TimeMax = 9, 9, 9
	for range 2 {
		got, created, err := q.Submit(t.Context(), same)
		if err != nil || created || got.ID != info.ID || got.Priority != 0 || got.Memory != 1<<20 {
			t.Fatalf("created %t, %v: %+v", created, err, got)
		}
		q = reopen(t, q)
	}
	ok(t, must(t, q, info).Complete([]byte(`"r"`)))
	if got, created, err := q.Submit(t.Context(), same); err != nil || created || got.State != Done || string(got.Result) != `"r"` {
		t.Fatalf("created %t, %v: %+v", created, err, got)
	}
	for name, change := range map[string]func(*Job){
		"class": func(j *Job) { j.Class = "ad" },
		"owner": func(j *Job) { j.Owner++ },
		"spec":  func(j *Job) { j.Spec = json.RawMessage(`{"n":1}`) }, // another white space is another job
	} {
		other := job(1)
		change(&other)
		if got := submit(t, q, other); got.ID == info.ID {
			t.Errorf("another %s has the same name", name)
		}
	}
}

// TestNameIsInjective moves bytes between the fields that make a name.
func TestNameIsInjective(t *testing.T) {
	a, b := Job{Class: "ab", Spec: []byte(`1`)}, Job{Class: "a", Spec: []byte(`b1`)}
	if a.id() == b.id() {
		t.Fatal("class and specification run together")
	}
	// Made with another implementation of SHA-256 over fields behind their lengths.
	const want = "307ac5cc3339b82d8c23492b842aca8b8be42869cb747db621b56ddcb1734fe3"
	j := job(1)
	id := j.id()
	if parsed, err := ParseID(want); err != nil || parsed != id || id.String() != want {
		t.Fatalf("%s is not %s (%v)", id, want, err)
	}
	for _, bad := range []string{"", "0", strings.Repeat("0", 63), strings.Repeat("0", 66), strings.Repeat("g", 64)} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q is an id", bad)
		}
	}
}

// TestTextsAreKeptByteForByte: what was signed or hashed over must not be laid out anew.
func TestTextsAreKeptByteForByte(t *testing.T) {
	q, _ := newQueue(t)
	j := job(1)
	spec, result := "{ \"a\" :\t\"<&>\u2028\" }\n", "[ 1,\n\"<&>\u2028\" ]"
	j.Spec = json.RawMessage(spec)
	info := submit(t, q, j)
	copy(j.Spec, "overwritten") // the caller's memory is the caller's
	l := must(t, q, info)
	copy(l.Info.Spec, "overwritten")
	raw := []byte(result)
	ok(t, l.Complete(raw))
	copy(raw, "overwritten")
	copy(show(t, q, info.ID).Spec, "overwritten")
	for range 2 {
		if got := show(t, q, info.ID); string(got.Spec) != spec || string(got.Result) != result {
			t.Fatalf("%q %q", got.Spec, got.Result)
		}
		q = reopen(t, q)
	}
}

func TestJobsThatAreNone(t *testing.T) {
	q, _ := newQueue(t)
	for name, change := range map[string]func(*Job){
		"no class":     func(j *Job) { j.Class = "" },
		"long class":   func(j *Job) { j.Class = strings.Repeat("a", maxClassBytes+1) },
		"class":        func(j *Job) { j.Class = "a\"b" },
		"upper case":   func(j *Job) { j.Class = "Add" },
		"no spec":      func(j *Job) { j.Spec = nil },
		"no JSON":      func(j *Job) { j.Spec = []byte(`{`) },
		"long spec":    func(j *Job) { j.Spec = []byte(`"` + strings.Repeat("x", MaxSpecBytes-1) + `"`) },
		"minus memory": func(j *Job) { j.Memory = -1 },
		"minus time":   func(j *Job) { j.TimeMax = -1 },
	} {
		j := job(1)
		change(&j)
		if _, _, err := q.Submit(t.Context(), j); err == nil {
			t.Errorf("%s: accepted", name)
		} else if reason, _ := refusal.ReasonOf(err); reason != ReasonJob {
			t.Errorf("%s: %v", name, err)
		}
	}
	j := job(1)
	j.Spec = []byte(`"` + strings.Repeat("x", MaxSpecBytes-2) + `"`)
	submit(t, q, j)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := q.Submit(ctx, job(2)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestQueueFullOfJobs(t *testing.T) {
	q, _ := newQueue(t, func(o *Options) { o.MaxJobs = 2 })
	first := submit(t, q, job(1))
	submit(t, q, job(2))
	_, _, err := q.Submit(t.Context(), job(3))
	wantReason(t, err, ReasonFull)
	if _, created, err := q.Submit(t.Context(), job(2)); created || err != nil {
		t.Fatalf("a job that is there: %t, %v", created, err)
	}
	l := must(t, q, first)
	_, _, err = q.Submit(t.Context(), job(3)) // a leased job counts
	wantReason(t, err, ReasonFull)
	ok(t, l.Fail(BadInput, "", ""))
	submit(t, q, job(3))
	_, err = q.Retry(first.ID) // a retried one too
	wantReason(t, err, ReasonFull)
	wantState(t, q, first.ID, Dead)
}

// TestQueueFullOfBytes: room for the result is set aside, so that no result is refused.
func TestQueueFullOfBytes(t *testing.T) {
	size := int64(len(job(1).Spec))
	q, _ := newQueue(t, func(o *Options) { o.MaxBytes = 2 * (size + MaxResultBytes) })
	first, second := submit(t, q, job(1)), submit(t, q, job(2))
	_, _, err := q.Submit(t.Context(), job(3))
	wantReason(t, err, ReasonFull)
	large := []byte(`"` + strings.Repeat("x", MaxResultBytes-2) + `"`)
	ok(t, must(t, q, first).Complete(large))
	ok(t, must(t, q, second).Complete(large))
	if u := q.Usage(); u.Bytes != u.MaxBytes || u.Unfinished != 0 {
		t.Fatalf("%+v", u)
	}
	// What is over gives way, the oldest first, and no more of it than must.
	submit(t, q, job(3))
	if u := q.Usage(); u.Bytes > u.MaxBytes || u.Unfinished != 1 {
		t.Fatalf("%+v", u)
	}
	_, err = q.Show(first.ID)
	wantReason(t, err, ReasonUnknown)
	q = reopen(t, q)
	_, err = q.Show(first.ID)
	wantReason(t, err, ReasonUnknown)
	wantState(t, q, second.ID, Done)
	// A job that could never fit makes nothing give way.
	q = reopen(t, q, func(o *Options) { o.MaxBytes = 1 })
	_, _, err = q.Submit(t.Context(), job(4))
	wantReason(t, err, ReasonFull)
	wantState(t, q, second.ID, Done)
}

func TestRetriedJobNeedsRoom(t *testing.T) {
	size := int64(len(job(1).Spec))
	q, c := newQueue(t, func(o *Options) { o.MaxBytes = 2*(size+MaxResultBytes) + size })
	dead, done := submit(t, q, job(1)), submit(t, q, job(2))
	ok(t, must(t, q, dead).Fail(BadInput, "", ""))
	c.add(time.Second)
	ok(t, must(t, q, done).Complete([]byte(`"`+strings.Repeat("x", MaxResultBytes-2)+`"`)))
	submit(t, q, job(3))
	_, err := q.Retry(dead.ID)
	ok(t, err)
	if u := q.Usage(); u.Bytes > u.MaxBytes {
		t.Fatalf("%+v", u)
	}
	_, err = q.Show(done.ID)
	wantReason(t, err, ReasonUnknown)
	wantState(t, q, dead.ID, Queued)
	q = reopen(t, q)
	_, err = q.Show(done.ID)
	wantReason(t, err, ReasonUnknown)
	wantState(t, q, dead.ID, Queued)
}

// TestRetriedJobCountsOnce: what it kept as a dead letter is not room that it lacks.
func TestRetriedJobCountsOnce(t *testing.T) {
	size := int64(len(job(1).Spec))
	q, _ := newQueue(t, func(o *Options) { o.MaxBytes = 2*(size+MaxResultBytes) + size + 1 })
	dead, done := submit(t, q, job(1)), submit(t, q, job(2))
	ok(t, must(t, q, dead).Fail(BadInput, "", "bad"))
	ok(t, must(t, q, done).Complete([]byte(`1`)))
	submit(t, q, job(3))
	_, err := q.Retry(dead.ID)
	ok(t, err)
	wantState(t, q, done.ID, Done)
	if u := q.Usage(); u.Bytes != u.MaxBytes {
		t.Fatalf("%+v", u)
	}
}

func TestOldestFinalJobsAreForgotten(t *testing.T) {
	q, c := newQueue(t, func(o *Options) { o.MaxKept = 2 })
	var ids []ID
	for i := range 6 {
		info := submit(t, q, job(i))
		ids = append(ids, info.ID)
		ok(t, must(t, q, info).Complete([]byte(`1`)))
		c.add(time.Second)
	}
	submit(t, q, job(9))
	q = reopen(t, q)
	for i, id := range ids {
		if _, err := q.Show(id); (err == nil) != (i >= 4) {
			t.Errorf("job %d: %v", i, err)
		}
	}
}

func TestPrune(t *testing.T) {
	q, c := newQueue(t)
	done, dead, queued := submit(t, q, job(1)), submit(t, q, job(2)), submit(t, q, job(3))
	ok(t, must(t, q, done).Complete([]byte(`1`)))
	c.add(time.Hour)
	ok(t, must(t, q, dead).Fail(BadInput, "", ""))
	if n, err := q.Prune(t.Context(), time.Hour); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	c.add(1)
	if n, err := q.Prune(t.Context(), time.Hour); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c.add(100 * time.Hour)
	q = reopen(t, q)
	_, err := q.Show(done.ID)
	wantReason(t, err, ReasonUnknown)
	if n, err := q.Prune(t.Context(), 0); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	_, err = q.Show(dead.ID)
	wantReason(t, err, ReasonUnknown)
	wantState(t, q, queued.ID, Queued)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := q.Prune(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestCancelAndRetry(t *testing.T) {
	q, _ := newQueue(t, func(o *Options) { o.MemoryCeiling = 1 << 30 })
	info := submit(t, q, job(1))
	_, err := q.Retry(info.ID)
	wantReason(t, err, ReasonState)
	ok(t, must(t, q, info).Fail(OutOfMemory, "", ""))
	c := q.opt.Now().Add(time.Hour)
	q.opt.Now = func() time.Time { return c }
	_, err = q.Retry(info.ID) // waits for its second try
	wantReason(t, err, ReasonState)
	ok(t, must(t, q, info).Fail(BadInput, "", "bad"))
	got, err := q.Retry(info.ID)
	if err != nil || got.State != Queued || got.Tries != 0 || got.Grown || got.Detail != "bad" {
		t.Fatalf("%+v, %v", got, err)
	}
	q = reopen(t, q)
	got, err = q.Cancel(info.ID)
	if err != nil || got.State != Cancelled || got.Detail != "" {
		t.Fatalf("%+v, %v", got, err)
	}
	for range 2 {
		_, err = q.Cancel(info.ID)
		wantReason(t, err, ReasonState)
		_, err = q.Retry(info.ID)
		wantReason(t, err, ReasonState)
	}
	for _, f := range []func(ID) (Info, error){q.Cancel, q.Retry, q.Show} {
		_, err := f(ID{1})
		wantReason(t, err, ReasonUnknown)
	}
	if try(t, q) != nil {
		t.Fatal("a cancelled job was leased")
	}
}

func TestOnce(t *testing.T) {
	q, _ := newQueue(t, func(o *Options) { o.MaxOnce = 2 })
	one, two := [32]byte{1}, [32]byte{2}
	for range 2 {
		ok(t, q.Once("round/a", one))
		ok(t, q.Once("round/a", one))
		wantReason(t, q.Once("round/a", two), ReasonConsumed)
		if d, err := q.Consumed("round/a"); d != one || err != nil {
			t.Fatal(d, err)
		}
		q = reopen(t, q)
	}
	if d, err := q.Consumed("round/b"); d != [32]byte{} || err != nil {
		t.Fatal(d, err)
	}
	ok(t, q.Once("round/b", two))
	wantReason(t, q.Once("round/c", two), ReasonFull)
	q = reopen(t, q)
	wantReason(t, q.Once("round/c", two), ReasonFull)
	ok(t, q.Once("round/b", two))
	// Zero means "not used": it can be no digest, or its effect would be free.
	wantReason(t, q.Once("round/d", [32]byte{}), ReasonJob)
	wantReason(t, q.Once("", one), ReasonJob)
	wantReason(t, q.Once(strings.Repeat("x", maxNameBytes+1), one), ReasonJob)
	if q.Usage().Once != 2 {
		t.Fatalf("%+v", q.Usage())
	}
}

func TestListAndCounts(t *testing.T) {
	q, _ := newQueue(t)
	var infos []Info
	for i := range 5 {
		infos = append(infos, submit(t, q, job(i)))
	}
	must(t, q, infos[0])
	ok(t, must(t, q, infos[1]).Complete([]byte(`1`)))
	ok(t, must(t, q, infos[2]).Fail(BadInput, "", ""))
	_, err := q.Cancel(infos[3].ID)
	ok(t, err)
	for s, n := range q.Counts() {
		if n != 1 {
			t.Errorf("%d jobs %s", n, s)
		}
	}
	list := q.List(nil)
	for i, info := range list {
		if info.ID != infos[len(infos)-1-i].ID {
			t.Fatalf("place %d: %+v", i, info)
		}
	}
	if list = q.List(func(i *Info) bool { return i.Final() }); len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	if list = q.List(func(*Info) bool { return false }); list == nil || len(list) != 0 {
		t.Fatal("an empty list is null in JSON")
	}
	b, err := json.Marshal(show(t, q, infos[1].ID))
	ok(t, err)
	for _, field := range []string{`"id":"` + infos[1].ID.String() + `"`, `"class":"add"`, `"owner":1000`, `"state":"done"`, `"exit":"ok"`, `"tries":1`, `"result":1`, `"spec":{"n":1}`} {
		if !bytes.Contains(b, []byte(field)) {
			t.Errorf("%s lacks %s", b, field)
		}
	}
	var back Info
	if err := json.Unmarshal(b, &back); err != nil || back.ID != infos[1].ID {
		t.Fatal(err)
	}
}

func TestOptionsThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"logger":  func(o *Options) { o.Logger = nil },
		"boot":    func(o *Options) { o.Boot = strings.Repeat("x", maxBootBytes+1) },
		"jobs":    func(o *Options) { o.MaxJobs = -1 },
		"kept":    func(o *Options) { o.MaxKept = -1 },
		"bytes":   func(o *Options) { o.MaxBytes = -1 },
		"once":    func(o *Options) { o.MaxOnce = -1 },
		"ceiling": func(o *Options) { o.MemoryCeiling = -1 },
		"lease":   func(o *Options) { o.LeaseTime = -1 },
	} {
		o := options(newClock())
		change(&o)
		if q, err := Open(t.TempDir()+"/jobs.db", testKey(t, 1), o); err == nil {
			q.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClosedQueueChangesNothing(t *testing.T) {
	q, _ := newQueue(t)
	info := submit(t, q, job(1))
	ok(t, q.Close())
	ok(t, q.Close())
	if q.key.Len() != 0 || q.tags.Len() != 0 {
		t.Error("a key outlives its queue")
	}
	_, _, err := q.Submit(t.Context(), job(2))
	wantReason(t, err, ReasonClosed)
	_, err = q.Cancel(info.ID)
	wantReason(t, err, ReasonClosed)
	_, err = q.Prune(t.Context(), 0)
	wantReason(t, err, ReasonClosed)
	wantReason(t, q.Once("a", [32]byte{1}), ReasonClosed)
	_, err = q.Consumed("a")
	wantReason(t, err, ReasonClosed)
}
