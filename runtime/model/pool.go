package model

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// spins is how often a worker looks for the next job before it parks: some ten
// microseconds, longer than the caller works alone between two jobs of a forward
// pass. To park and wake in each of these gaps costs more than half the speed. A
// processor that the hypervisor takes away meanwhile holds nobody up: jobs are
// taken one by one by whoever runs.
const spins = 40000

// pool runs the tasks of one job at a time on a fixed number of workers, of
// which the caller is the first.
type pool struct {
	workers []*worker
	tasks   sync.WaitGroup // the goroutines

	job        func(worker, task int) error
	count      int64
	next       atomic.Int64 // next task
	busy       atomic.Int64 // workers that have not finished the job
	generation atomic.Uint64
	closed     atomic.Bool

	mu  sync.Mutex
	err error // first error of the job
}

type worker struct {
	wake   chan struct{}
	parked atomic.Bool
}

func newPool(threads int) *pool {
	p := &pool{}
	for i := 1; i < threads; i++ {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		p.tasks.Go(func() { p.work(i, w) })
	}
	return p
}

// close ends the workers.
func (p *pool) close() {
	p.closed.Store(true)
	p.announce()
	p.tasks.Wait()
}

// run calls job for each task below count, on all workers, and returns the
// first error after all have stopped.
func (p *pool) run(count int, job func(worker, task int) error) error {
	if count == 1 || len(p.workers) == 0 {
		for i := range count {
			if err := job(0, i); err != nil {
				return err
			}
		}
		return nil
	}
	p.job, p.count, p.err = job, int64(count), nil
	p.next.Store(0)
	p.busy.Store(int64(len(p.workers)))
	p.announce()
	p.take(0)
	for i := 0; p.busy.Load() > 0; i++ {
		if i > spins {
			runtime.Gosched()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// announce starts a generation and wakes the workers that sleep.
func (p *pool) announce() {
	p.generation.Add(1)
	for _, w := range p.workers {
		if w.parked.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
}

// take runs tasks until none is left, or one failed.
func (p *pool) take(worker int) {
	for {
		task := p.next.Add(1) - 1
		if task >= p.count {
			return
		}
		if err := p.job(worker, int(task)); err != nil {
			p.mu.Lock()
			if p.err == nil {
				p.err = err
			}
			p.mu.Unlock()
			p.next.Store(p.count)
			return
		}
	}
}

func (p *pool) work(id int, w *worker) {
	var seen uint64
	for {
		for i := 0; p.generation.Load() == seen; i++ {
			if i < spins {
				continue
			}
			w.parked.Store(true)
			// A job announced between the last look and parking must not be slept through.
			if p.generation.Load() != seen && w.parked.CompareAndSwap(true, false) {
				break
			}
			<-w.wake
		}
		seen = p.generation.Load()
		if p.closed.Load() {
			return
		}
		p.take(id)
		p.busy.Add(-1)
	}
}
