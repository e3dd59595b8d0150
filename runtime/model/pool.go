package model

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// spins is how often a worker looks for the next job before it parks: some ten
// microseconds, longer than the caller works alone between two jobs of a forward
// pass, and than a task takes. To park and wake in each of these gaps costs more than half the speed. The caller
// does the same at the end of a job: what is left after that long is in the hands of a worker
// that lost its processor, and may get the caller's.
const spins = 40000

// none is the task of a job that is being prepared.
const none = 1<<32 - 1

// job is work that is shared out: do is called once for each task.
type job struct {
	do func(worker, task int) error
}

// all does every task, until one fails.
func (j *job) all(count int) error {
	for i := range count {
		if err := j.do(0, i); err != nil {
			return err
		}
	}
	return nil
}

// pool runs the tasks of one job at a time on a fixed number of workers, of
// which the caller is the first. Each takes the next task from a counter, and the caller waits for tasks
// under way, never for workers: one whose processor is taken away holds up at most the task in its
// hands. Where that costs more than workers contribute, the caller works alone for a while.
type pool struct {
	workers []*sleeper
	tasks   sync.WaitGroup // the goroutines

	job    atomic.Pointer[job]
	count  atomic.Uint32
	next   atomic.Uint64 // number of the job in the upper half, next task in the lower
	left   atomic.Int64  // tasks that are not done
	failed atomic.Bool
	closed atomic.Bool
	waiter sleeper // the caller

	mu  sync.Mutex
	err error // first error of the job

	// The caller's own: one for few tokens, one for many, whose tasks take times that have nothing to do with each other.
	balances [2]balance
	many     int // which of them
}

// sleeper is a goroutine that parks.
type sleeper struct {
	wake   chan struct{}
	parked atomic.Bool
}

// sleep parks unless there is something to do: what is done before rouse is not slept through.
func (s *sleeper) sleep(awake func() bool) {
	s.parked.Store(true)
	if awake() && s.parked.CompareAndSwap(true, false) {
		return
	}
	<-s.wake
}

func (s *sleeper) rouse() {
	if s.parked.Load() && s.parked.CompareAndSwap(true, false) {
		s.wake <- struct{}{}
	}
}

func newPool(threads int) *pool {
	p := &pool{waiter: sleeper{wake: make(chan struct{}, 1)}}
	for i := 1; i < threads; i++ {
		w := &sleeper{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		p.tasks.Go(func() { p.work(i, w) })
	}
	return p
}

// close ends the workers.
func (p *pool) close() {
	p.closed.Store(true)
	for _, w := range p.workers {
		w.rouse()
	}
	p.tasks.Wait()
}

// run calls job for each task below count, on all workers, and returns the
// first error after all have stopped.
func (p *pool) run(count int, j *job) error {
	if count <= 1 || len(p.workers) == 0 {
		return j.all(count)
	}
	balance := &p.balances[p.many]
	if balance.alone() {
		begin := time.Now()
		err := j.all(count)
		balance.note(count, time.Since(begin), 0, processorsLost)
		return err
	}
	p.err = nil
	p.failed.Store(false)
	number := p.next.Load()>>32 + 1
	p.next.Store(number<<32 | none) // who still looks at the last job takes nothing of this one too early
	p.job.Store(j)
	p.count.Store(uint32(count))
	p.left.Store(int64(count))
	p.next.Store((number + 1) << 32)
	for _, w := range p.workers[:min(len(p.workers), count-1)] {
		w.rouse()
	}
	begin := time.Now()
	p.take(0)
	end := time.Now()
	p.await()
	balance.note(count, time.Since(begin), time.Since(end), processorsLost)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// await returns when no task is under way.
func (p *pool) await() {
	for i := 0; p.left.Load() > 0; i++ {
		if i > spins {
			p.waiter.sleep(func() bool { return p.left.Load() == 0 })
		}
	}
}

// available says whether a task of the job at hand is left to take.
func (p *pool) available() bool { return uint32(p.next.Load()) < p.count.Load() }

// take runs tasks until none is left. After an error the others are not run.
func (p *pool) take(worker int) {
	for {
		next := p.next.Load()
		// If the job changes meanwhile, so does the number, and the exchange fails.
		j, count := p.job.Load(), p.count.Load()
		task := uint32(next)
		if task >= count {
			return
		}
		if !p.next.CompareAndSwap(next, next+1) {
			continue
		}
		if !p.failed.Load() {
			if err := j.do(worker, int(task)); err != nil {
				p.fail(err)
			}
		}
		if p.left.Add(-1) == 0 {
			p.waiter.rouse()
		}
	}
}

func (p *pool) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.failed.Store(true)
}

func (p *pool) work(id int, w *sleeper) {
	awake := func() bool { return p.available() || p.closed.Load() }
	for {
		for i := 0; !awake(); i++ {
			if i >= spins {
				w.sleep(awake)
				i = 0
			}
		}
		if p.closed.Load() {
			return
		}
		p.take(id)
	}
}

// Workers are judged by windows of so many jobs, some tokens, or of so much time: long enough that which processor the scheduler
// took away meanwhile does not decide. What was found out holds for at most patience windows. Where processors are taken away once in
// lostEvery or more often, others want them.
const (
	window     = 2048
	windowTime = 200 * time.Millisecond
	patience   = 32
	lostEvery  = 20 * time.Millisecond
)

// balance finds out whether workers pay. On a machine that others use, a worker's processor may be gone for milliseconds, many
// times as long as a job takes; and one that computes alone may get more of its own. So where the caller waits for a quarter of the
// time, or the process loses processors to others, it works alone for a window, and goes on so for a while if tasks took less time.
type balance struct {
	jobs, tasks   int // of the window
	spent, waited time.Duration
	lost          int64 // processors, before the window

	together, single float64 // time of a task with workers and without, the last window's a quarter of it; 0 if not known
	solo             int     // windows to work alone
	trial            bool    // the first of them
	sure             int     // windows with workers until the next trial
	rest, hold       int     // how many windows the last findings held for
}

// alone says whether the caller works alone.
func (b *balance) alone() bool { return b.solo > 0 }

// note has the tasks of a job, the time that it took, and how long the caller waited at its end. lost says how often the process
// lost a processor so far.
func (b *balance) note(tasks int, spent, waited time.Duration, lost func() int64) {
	b.tasks, b.spent, b.waited = b.tasks+tasks, b.spent+spent, b.waited+waited
	if b.jobs++; b.jobs < window && b.spent < windowTime {
		return
	}
	each, before := float64(b.spent)/float64(b.tasks), b.lost
	b.lost = lost()
	switch {
	case b.solo > 0:
		b.single = smooth(b.single, each)
		if b.solo--; b.trial || b.single >= b.together { // the window of a trial can have been a lucky one
			b.decide()
		}
	default:
		b.together = smooth(b.together, each)
		switch {
		case b.sure > 0:
			b.sure--
		case 4*b.waited > b.spent, time.Duration(b.lost-before)*lostEvery > b.spent:
			b.solo, b.trial = 1, true
		default:
			b.single, b.rest, b.hold = 0, 0, 0
		}
	}
	b.jobs, b.tasks, b.spent, b.waited = 0, 0, 0, 0
}

func smooth(before, now float64) float64 {
	if before == 0 {
		return now
	}
	return (3*before + now) / 4
}

// decide ends a trial, or time alone that no longer pays.
func (b *balance) decide() {
	b.trial = false
	if b.single < b.together {
		b.rest, b.hold = min(max(1, 2*b.rest), patience), 0
		b.solo = b.rest
	} else {
		b.rest, b.hold = 0, min(max(4, 2*b.hold), patience)
		b.sure = b.hold
	}
}

// processorsLost is how often the kernel took a processor from one of this process's threads that wanted to go on.
func processorsLost() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0 // a sandbox that forbids it: waiting tells the rest
	}
	return u.Nivcsw
}
