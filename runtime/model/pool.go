package model

import (
	"sync"
	"sync/atomic"
	"time"
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

	balance balance // the caller's own
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
	if count <= 1 || len(p.workers) == 0 || p.balance.alone() {
		for i := range count {
			if err := j.do(0, i); err != nil {
				return err
			}
		}
		return nil
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
	own := p.take(0)
	end := time.Now()
	p.await()
	p.balance.note(own, count-own, end.Sub(begin), time.Since(end))
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

// take runs tasks until none is left, and returns how many. After an error the others are not run.
func (p *pool) take(worker int) (taken int) {
	for {
		next := p.next.Load()
		// If the job changes meanwhile, so does the number, and the exchange fails.
		j, count := p.job.Load(), p.count.Load()
		task := uint32(next)
		if task >= count {
			return taken
		}
		if !p.next.CompareAndSwap(next, next+1) {
			continue
		}
		taken++
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

// Workers are judged after window jobs, some tokens. The caller then works alone for that many jobs, for twice as many the next
// time, and so on up to patience windows, if it waited longer for them than it would have worked without them.
const (
	window   = 512
	patience = 64
)

// balance weighs what workers contribute against the wait for them. On a machine that others use, a worker's processor
// may be gone for milliseconds, many times as long as a job takes.
type balance struct {
	jobs, rest, solo int
	gained, waited   time.Duration
}

// alone says whether the caller works alone, and counts the job.
func (b *balance) alone() bool {
	if b.solo > 0 {
		b.solo--
		return true
	}
	return false
}

// note has the tasks of the caller and of the others, and for how long the caller worked and then waited.
func (b *balance) note(own, others int, worked, waited time.Duration) {
	b.waited += waited
	if own > 0 {
		b.gained += worked * time.Duration(others) / time.Duration(own)
	}
	if b.jobs++; b.jobs < window {
		return
	}
	if b.waited > b.gained {
		b.rest = min(max(1, 2*b.rest), patience)
		b.solo = b.rest * window
	} else {
		b.rest = b.rest / 2
	}
	b.jobs, b.gained, b.waited = 0, 0, 0
}
