package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Task is one unit of work for one process.
type Task struct {
	// Class selects the worker's handler: lower-case words joined by '-'.
	Class string
	// Spec is what the handler is told, at most maxSpec bytes.
	Spec []byte
	// In are the inputs: regular files or memfds that the worker cannot write
	// to (read-only, or sealed: see Sealed), or the reading ends of pipes. They
	// stay the caller's to close.
	In []*os.File
	// Out are the outputs: regular files or the writing ends of pipes.
	Out []*os.File
	// Limits bound the worker. A limit of zero is refused.
	Limits Limits
}

// Limits bound one worker.
type Limits struct {
	// Memory is the most private memory in bytes that the worker may use, its
	// runtime's own included: at least minMemory.
	Memory int64
	// Time is the longest time from the start of the process to its end.
	Time time.Duration
	// Output is the longest that the worker may make a file, in bytes; zero forbids it to
	// write to any. Pipes are bounded by who reads them.
	Output int64
}

// Progress is what a worker says about itself while it works. It is the
// worker's claim and proves nothing.
type Progress struct {
	// Phase is a short word: lower-case letters, digits and '-'.
	Phase string `json:"phase"`
	// Done and Total count whatever the phase counts; Total 0 is unknown.
	Done  uint64 `json:"done"`
	Total uint64 `json:"total"`
}

// Runner starts one worker: Exec or Socket.
type Runner interface {
	// start returns a worker that waits for its header; ctx bounds the start
	// alone.
	start(ctx context.Context, limits Limits) (process, error)
}

// process is one started worker as its supervisor sees it.
type process interface {
	// channel is the agent's end of the connection; the supervisor closes it.
	channel() channel
	// kill ends the process as surely as the runner can. It may be called at
	// any time, more than once, from any goroutine.
	kill()
	// wait returns when the process has ended, once it has or was killed.
	wait() status
	// isolated is false if the kernel gave the worker no network of its own, so
	// that the filter alone keeps it from the network.
	isolated() bool
}

// Pool bounds the number of workers at one time, and their memory together. Its
// methods may be called from any goroutine.
type Pool struct {
	runner Runner
	slots  chan struct{}
	log    *slog.Logger
	warn   sync.Once

	turn   chan struct{} // held by the one task that waits for memory
	mu     sync.Mutex    // guards the rest
	unread bool          // workers end before they read a task, and the log says so
	memory int64         // bound of all that run; 0 is none
	used   int64         // of those that run
	freed  chan struct{} // closed and replaced when one ends
}

// NewPool returns a pool that runs at most so many workers at one time; the
// others wait in Run.
func NewPool(runner Runner, most int, log *slog.Logger) (*Pool, error) {
	if runner == nil || log == nil || most < 1 || most > maxWorkers {
		return nil, fmt.Errorf("a pool needs a runner, a logger and 1 to %d workers, got %d", maxWorkers, most)
	}
	return &Pool{runner: runner, slots: make(chan struct{}, most), log: log, turn: make(chan struct{}, 1), freed: make(chan struct{})}, nil
}

// Bound bounds the memory limits of those that run at one time, in bytes, before the
// first Run. A task whose own limit is larger runs alone.
func (p *Pool) Bound(memory int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.memory = memory
}

// admit waits until the task has a slot and its memory is free, and returns what gives
// both back. Tasks wait for memory one after the other, so that a large one has its turn.
func (p *Pool) admit(ctx context.Context, need int64) (release func(), err error) {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := p.reserve(ctx, need); err != nil {
		<-p.slots
		return nil, err
	}
	return func() {
		p.mu.Lock()
		p.used -= need
		close(p.freed)
		p.freed = make(chan struct{})
		p.mu.Unlock()
		<-p.slots
	}, nil
}

func (p *Pool) reserve(ctx context.Context, need int64) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		p.mu.Lock()
		fits := p.memory == 0 || p.used == 0 || p.used <= p.memory-need
		if fits {
			p.used += need
		}
		freed := p.freed
		p.mu.Unlock()
		if fits {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Run gives the task to a new worker and returns its result when the worker is
// gone. report is called for each progress message, by this goroutine; it may
// be nil. An error is a *Failure. When ctx ends, the worker is killed.
func (p *Pool) Run(ctx context.Context, task Task, report func(Progress)) ([]byte, error) {
	head, err := task.header()
	if err != nil {
		return nil, fail(Refused, "%w", err)
	}
	release, err := p.admit(ctx, task.Limits.Memory)
	if err != nil {
		return nil, fail(Cancelled, "before a worker was free: %w", err)
	}
	defer release()
	ctx, cancel := context.WithTimeoutCause(ctx, task.Limits.Time, errTimeUp)
	defer cancel()
	proc, err := p.runner.start(ctx, task.Limits)
	if err != nil {
		return nil, ended(ctx, fail(Crash, "start a worker: %w", err))
	}
	if !proc.isolated() {
		p.warn.Do(func() {
			p.log.Warn("worker without a network namespace of its own; the system call filter alone forbids sockets")
		})
	}
	result, failure := supervise(ctx, proc, head, task, report)
	p.note(failure)
	if failure != nil {
		return nil, failure
	}
	return result, nil
}

// note logs that workers end before they are any, once until one does its task.
func (p *Pool) note(f *Failure) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case f == nil:
		p.unread = false
	case errors.Is(f.Err, errUnread) && !p.unread:
		p.unread = true
		p.log.Error("workers end before they read a task", "err", f.Detail)
	}
}
