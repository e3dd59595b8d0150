package jobs

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// modelJob and model say in the plainest way what a queue must do. They share no code
// with it.
type modelJob struct {
	seq, tries     int
	class          string
	state          State
	exit           Exit
	priority       int8
	memory         int64
	grown          bool
	result         string
	ready, changed time.Time
	expires        time.Time
	holder         *Lease
}

type model struct {
	now     time.Time
	seq     int
	jobs    map[ID]*modelJob
	journal map[string][32]byte
	ceiling int64
	maxJobs int
	maxKept int
}

func (m *model) unfinished() (n int) {
	for _, j := range m.jobs {
		if j.state == Queued || j.state == Leased {
			n++
		}
	}
	return n
}

func (m *model) submit(id ID, class string, priority int8) (created, full bool) {
	if m.jobs[id] != nil {
		return false, false
	}
	if m.unfinished() >= m.maxJobs {
		return false, true
	}
	m.evict(ID{})
	m.seq++
	m.jobs[id] = &modelJob{seq: m.seq, class: class, state: Queued, priority: priority, memory: 1 << 20, changed: m.now}
	return true, false
}

// evict forgets the finished jobs beyond maxKept, those that ended first in front.
func (m *model) evict(except ID) {
	var over []ID
	for id, j := range m.jobs {
		if id != except && j.state != Queued && j.state != Leased {
			over = append(over, id)
		}
	}
	slices.SortFunc(over, func(a, b ID) int {
		return cmp.Or(m.jobs[a].changed.Compare(m.jobs[b].changed), m.jobs[a].seq-m.jobs[b].seq)
	})
	for ; len(over) > m.maxKept; over = over[1:] {
		delete(m.jobs, over[0])
	}
}

func (j *modelJob) fail(m *model, e Exit) {
	j.exit, j.changed, j.holder = e, m.now, nil
	switch {
	case e == WasCancelled:
		j.state = Cancelled
	case e == OutOfMemory && !j.grown && 2*j.memory <= m.ceiling && j.tries < 3:
		j.memory, j.grown = 2*j.memory, true
		j.state, j.ready = Queued, m.now.Add([]time.Duration{0, 4, 16}[j.tries]*time.Second)
	case (e == Crash || e == TimeOut) && j.tries < 3:
		j.state, j.ready = Queued, m.now.Add([]time.Duration{0, 4, 16}[j.tries]*time.Second)
	default:
		j.state = Dead
	}
}

func (j *modelJob) lose(m *model) {
	j.fail(m, Crash)
	j.ready = time.Time{}
}

// take says which job must be leased, if any.
func (m *model) take(class string, leaseTime time.Duration) (best ID, found bool) {
	for _, j := range m.jobs {
		if j.class == class && j.state == Leased && !m.now.Before(j.expires) {
			j.lose(m)
		}
	}
	for id, j := range m.jobs {
		if j.class != class || j.state != Queued || m.now.Before(j.ready) {
			continue
		}
		b := m.jobs[best]
		if !found || j.priority > b.priority || j.priority == b.priority && j.seq < b.seq {
			best, found = id, true
		}
	}
	if found {
		j := m.jobs[best]
		j.state, j.tries, j.expires, j.changed = Leased, j.tries+1, m.now.Add(leaseTime), m.now
	}
	return best, found
}

// run drives queue and model with the same random operations and compares them after
// each one.
type run struct {
	t      *testing.T
	r      *rand.Rand
	q      *Queue
	c      *clock
	m      *model
	leases []*Lease // all that were ever given, lost ones too
	ids    map[ID]Job
}

func TestQueueIsWhatItsModelSays(t *testing.T) {
	seeds := uint64(2)
	if longtest.All() {
		seeds = 6
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			q, c := newQueue(t, func(o *Options) { o.MaxJobs, o.MaxKept, o.MemoryCeiling = 8, 5, 4<<20 })
			m := &model{jobs: map[ID]*modelJob{}, journal: map[string][32]byte{}, ceiling: 4 << 20, maxJobs: 8, maxKept: 5}
			r := &run{t: t, r: rand.New(rand.NewPCG(seed, 7)), q: q, c: c, m: m, ids: map[ID]Job{}}
			done := map[State]int{}
			for range 600 {
				r.step()
				r.compare()
				for _, j := range m.jobs {
					done[j.state]++
				}
			}
			for _, s := range []State{Queued, Leased, Done, Dead, Cancelled} {
				if done[s] == 0 {
					t.Errorf("no job was ever %s: the test does not reach it", s)
				}
			}
		})
	}
}

func (r *run) step() {
	r.m.now = r.c.Now()
	switch n := r.r.IntN(100); {
	case n < 25:
		r.submit()
	case n < 50:
		r.take()
	case n < 75:
		r.end()
	case n < 79:
		r.cancel()
	case n < 83:
		r.retry()
	case n < 88:
		r.c.add(time.Duration(r.r.IntN(40)) * time.Second)
	case n < 92:
		r.once()
	case n < 94:
		r.prune()
	case n < 97:
		r.q = reopen(r.t, r.q)
		for _, j := range r.m.jobs {
			if j.state == Leased {
				j.lose(r.m)
			}
		}
	default:
		r.beat()
	}
}

func (r *run) submit() {
	j := job(r.r.IntN(16))
	j.Class = []string{"add", "prove"}[r.r.IntN(2)]
	j.Priority = int8(r.r.IntN(3))
	r.ids[j.id()] = j
	created, full := r.m.submit(j.id(), j.Class, j.Priority)
	info, got, err := r.q.Submit(r.t.Context(), j)
	if reason, _ := refusal.ReasonOf(err); got != created || (reason == ReasonFull) != full || !full && info.ID != j.id() {
		r.t.Fatalf("submit: created %t, %v; want %t, full %t", got, err, created, full)
	}
}

func (r *run) take() {
	class := []string{"add", "prove"}[r.r.IntN(2)]
	want, found := r.m.take(class, time.Minute)
	l := try(r.t, r.q, class)
	if (l != nil) != found || found && l.Info.ID != want {
		r.t.Fatalf("leased %+v, want %t %s", l, found, want)
	}
	if found {
		r.m.jobs[want].holder = l
		r.leases = append(r.leases, l)
	}
}

// held picks any lease that was ever given, and says whether it must be in force.
func (r *run) held() (*Lease, *modelJob) {
	if len(r.leases) == 0 {
		return nil, nil
	}
	recent := r.leases[max(0, len(r.leases)-8):]
	l := recent[r.r.IntN(len(recent))]
	if j := r.m.jobs[l.Info.ID]; j != nil && j.state == Leased && j.holder == l {
		return l, j
	}
	return l, nil
}

func (r *run) wantHeld(err error, j *modelJob) {
	r.t.Helper()
	reason, _ := refusal.ReasonOf(err)
	if (err == nil) != (j != nil) || err != nil && reason != ReasonLeaseLost && reason != ReasonClosed {
		r.t.Fatalf("in force %t, but %v", j != nil, err)
	}
}

func (r *run) end() {
	l, j := r.held()
	if l == nil {
		return
	}
	exits := []Exit{Ok, Ok, Ok, "release", BadInput, Refused, OutOfMemory, OutOfMemory, Crash, Crash, TimeOut, WasCancelled}
	switch e := exits[r.r.IntN(len(exits))]; e {
	case Ok:
		result := fmt.Sprintf(`"%d"`, l.number)
		r.wantHeld(l.Complete(json.RawMessage(result)), j)
		if j != nil {
			j.state, j.exit, j.result, j.changed, j.holder = Done, Ok, result, r.m.now, nil
		}
	case "release":
		r.wantHeld(l.Release(), j)
		if j != nil {
			j.state, j.holder, j.changed = Queued, nil, r.m.now
			j.tries--
		}
	default:
		r.wantHeld(l.Fail(e, "code", "detail"), j)
		if j != nil {
			j.fail(r.m, e)
		}
	}
}

func (r *run) beat() {
	if l, j := r.held(); l != nil {
		r.wantHeld(l.Heartbeat(Progress{Done: 1}), j)
		if j != nil {
			j.expires = r.m.now.Add(time.Minute)
		}
	}
}

func (r *run) any() (ID, *modelJob) {
	var ids []ID
	for id := range r.ids {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return ID{}, nil
	}
	slices.SortFunc(ids, func(a, b ID) int { return slices.Compare(a[:], b[:]) })
	id := ids[r.r.IntN(len(ids))]
	return id, r.m.jobs[id]
}

func (r *run) cancel() {
	id, j := r.any()
	_, err := r.q.Cancel(id)
	may := j != nil && (j.state == Queued || j.state == Leased)
	if (err == nil) != may {
		r.t.Fatalf("cancel: %v, want %t", err, may)
	}
	if may {
		j.fail(r.m, WasCancelled)
	}
}

func (r *run) retry() {
	id, j := r.any()
	_, err := r.q.Retry(id)
	may := j != nil && j.state == Dead && r.m.unfinished() < r.m.maxJobs
	if (err == nil) != may {
		r.t.Fatalf("retry: %v, want %t", err, may)
	}
	if !may {
		return
	}
	j.state, j.tries, j.grown, j.ready, j.changed = Queued, 0, false, time.Time{}, r.m.now
	r.m.evict(id)
}

func (r *run) prune() {
	age := time.Duration(r.r.IntN(60)) * time.Second
	want := 0
	for id, j := range r.m.jobs {
		if j.state != Queued && j.state != Leased && j.changed.Before(r.m.now.Add(-age)) {
			delete(r.m.jobs, id)
			want++
		}
	}
	if n, err := r.q.Prune(r.t.Context(), age); n != want || err != nil {
		r.t.Fatalf("pruned %d, %v; want %d", n, err, want)
	}
}

func (r *run) once() {
	name, digest := fmt.Sprint("name", r.r.IntN(6)), [32]byte{byte(1 + r.r.IntN(3))}
	held, used := r.m.journal[name]
	if !used {
		r.m.journal[name], held = digest, digest
	}
	if err := r.q.Once(name, digest); (err == nil) != (held == digest) {
		r.t.Fatalf("once: %v, but the journal has %x", err, held[:1])
	}
}

func (r *run) compare() {
	r.t.Helper()
	list := r.q.List(nil)
	if len(list) != len(r.m.jobs) {
		r.t.Fatalf("%d jobs, want %d", len(list), len(r.m.jobs))
	}
	for _, got := range list {
		j := r.m.jobs[got.ID]
		if j == nil {
			r.t.Fatalf("a job that should be gone: %+v", got)
		}
		if got.State != j.state || got.Tries != j.tries || got.Exit != j.exit || got.Priority != j.priority || got.Memory != j.memory ||
			string(got.Result) != j.result || string(got.Spec) != string(r.ids[got.ID].Spec) || got.Class != j.class {
			r.t.Fatalf("is %+v,\nmust be %+v", got, *j)
		}
	}
	for name, want := range r.m.journal {
		if got, err := r.q.Consumed(name); err != nil || got != want {
			r.t.Fatalf("journal %s: %x %v", name, got, err)
		}
	}
}
