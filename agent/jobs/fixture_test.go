package jobs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// clock is a clock that a test sets.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func testKey(t testing.TB, n byte) *keybuf.Buffer {
	t.Helper()
	k, err := keybuf.Take(bytes.Repeat([]byte{n}, chunkseal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

func options(c *clock) Options {
	// One owner may have all here; owner_test.go has what he may have.
	return Options{Boot: "boot-1", Logger: slog.New(slog.DiscardHandler), Now: c.Now, OwnerJobs: 1 << 20, OwnerBytes: 1 << 40}
}

func openQueue(t testing.TB, path string, o Options) *Queue {
	t.Helper()
	q, err := Open(path, testKey(t, 1), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return q
}

func newQueue(t testing.TB, change ...func(*Options)) (*Queue, *clock) {
	t.Helper()
	c := newClock()
	o := options(c)
	for _, f := range change {
		f(&o)
	}
	return openQueue(t, filepath.Join(t.TempDir(), "jobs.db"), o), c
}

// reopen closes the queue and opens its file again.
func reopen(t testing.TB, q *Queue, change ...func(*Options)) *Queue {
	t.Helper()
	path, o := q.db.Path(), q.opt
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&o)
	}
	return openQueue(t, path, o)
}

func job(n int) Job {
	return Job{Class: "add", Owner: 1000, Spec: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n)), Memory: 1 << 20, TimeMax: time.Minute}
}

func submit(t testing.TB, q *Queue, j Job) Info {
	t.Helper()
	info, created, err := q.Submit(t.Context(), j)
	if err != nil || !created {
		t.Fatalf("created %t: %v", created, err)
	}
	return info
}

// try leases without waiting; nil if there is no work.
func try(t testing.TB, q *Queue, classes ...string) *Lease {
	t.Helper()
	if len(classes) == 0 {
		classes = []string{"add"}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	l, _, err := q.take(t.Context(), classes)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// must is try where work waits.
func must(t testing.TB, q *Queue, want Info) *Lease {
	t.Helper()
	l := try(t, q)
	if l == nil || l.Info.ID != want.ID || l.Info.State != Leased {
		t.Fatalf("leased %+v, want job %s", l, want.ID)
	}
	return l
}

func show(t testing.TB, q *Queue, id ID) Info {
	t.Helper()
	info, err := q.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func wantState(t testing.TB, q *Queue, id ID, want State) Info {
	t.Helper()
	info := show(t, q, id)
	if info.State != want {
		t.Fatalf("job is %s (exit %q: %s), want %s", info.State, info.Exit, info.Detail, want)
	}
	return info
}

func wantReason(t testing.TB, err error, want refusal.Reason) {
	t.Helper()
	if reason, ok := refusal.ReasonOf(err); !ok || reason != want {
		t.Fatalf("error %v, want reason %s", err, want)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
