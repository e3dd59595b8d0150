// Package session has the guest's queue open while a lease lasts, and what works on it
// running.
//
// It guarantees that nothing begins before the first lease, which brings the queue's key;
// and that the queue is closed and its key wiped when the lease ends, or the agent, within a
// grace that nothing can draw out. Jobs that were under way are given back then and go on
// when another lease brings the same key. One secret is no lease's, and stays until the agent
// ends: the key that this run of the agent drew for itself. It trusts its caller to say when a
// lease ends. It refuses to give access between leases, with the reason.
//
// It knows neither the configuration nor what is mounted on the queue: that is the caller's,
// who mounts it with a function. The agent has one [Sessions].
package session

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons of this package, which are the agent's.
const (
	ReasonAttesting refusal.Reason = "attesting"
	ReasonDraining  refusal.Reason = "draining"
	ReasonExpired   refusal.Reason = "lease-expired"
)

// pauseGrace is how long jobs have to be given back at the end of a lease, and the
// queue to be closed.
const pauseGrace = 2 * time.Second

// Sessions are the times in which the queue is open, one after another. W is what the caller
// mounts on the queue of each.
type Sessions[W any] struct {
	log   *slog.Logger
	began chan *session[W] // to Run
	first chan struct{}    // closed when the first session begins

	mu      sync.Mutex       // guards the rest
	own     *keybuf.Buffer   // never changed once it is drawn; nil before
	session *session[W]      // nil before the first lease and between leases
	opening []*keybuf.Buffer // the keys that a queue has which is being opened
	pauses  int              // how many there were
	err     error            // why there is no session
	over    bool             // the agent stops
}

// New makes sessions of which none has begun.
func New[W any](log *slog.Logger) *Sessions[W] {
	return &Sessions[W]{log: log, began: make(chan *session[W], 1), first: make(chan struct{}),
		err: refusal.New(ReasonAttesting, "the agent has not been granted a lease yet")}
}

// Opening says which queue a lease opens.
type Opening struct {
	// Dir is the queue's directory. It is made if it is missing.
	Dir string
	// Key is what the lease brought for the queue; Begin takes it over. Without one the queue
	// is of this run alone, under a key that it draws itself, and what an earlier run left
	// cannot be read: it is removed.
	Key *keybuf.Buffer
	// Options are the queue's bounds. Boot and Holds are set here.
	Options jobs.Options
}

// Opened is the queue of a session while work is mounted on it.
type Opened struct {
	Queue *jobs.Queue
	// Key is the queue's, wiped at the session's end.
	Key *keybuf.Buffer
	// Own is this run's own key, which no lease brought, wiped at the agent's end.
	Own *keybuf.Buffer
	// Dir is the queue's directory.
	Dir string

	runs []func(context.Context) error // the mounting function's, then the session's
}

// Run has f run for as long as the session does: from when it has begun until the context
// ends. When f returns, the session ends, and Sessions.Run with f's error if there is one.
func (o *Opened) Run(f func(context.Context) error) { o.runs = append(o.runs, f) }

// Work is what is mounted on the queue of the session that runs, or why there is none.
func (s *Sessions[W]) Work() (W, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		var none W
		return none, s.err
	}
	return s.session.work, nil
}

// Err is why there is no session; nil while there is one.
func (s *Sessions[W]) Err() error {
	_, err := s.Work()
	return err
}

// Begin opens the queue that a lease has the key of and mounts work on it, unless it is open
// under the same key already. It is called for one lease at a time.
func (s *Sessions[W]) Begin(o Opening, mount func(*Opened) (W, error)) error {
	key, err := s.key(o)
	if err != nil {
		o.Key.Wipe()
		return err
	}
	s.mu.Lock()
	running := s.session
	s.mu.Unlock()
	if running != nil && running.queue.Key.Equal(key) {
		key.Wipe()
		return nil
	}
	if running != nil { // the broker has another version of the key now
		s.pause(running, refusal.New(ReasonAttesting, "the queue's key has changed"))
	}
	return s.open(o, key, mount)
}

// key is the queue's key of a lease, or a copy of this run's own. The caller owns it.
func (s *Sessions[W]) key(o Opening) (*keybuf.Buffer, error) {
	first, err := s.draw()
	switch {
	case err != nil:
		return nil, err
	case o.Key != nil:
		return o.Key, nil
	case first: // nobody can read what is there
		if err := os.RemoveAll(o.Dir); err != nil {
			return nil, err
		}
	}
	return s.own.Clone()
}

// draw makes this run's own key when it is first needed.
func (s *Sessions[W]) draw() (first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return false, s.err
	}
	if s.own == nil {
		first = true
		s.own, err = keybuf.Random(32)
	}
	return first, err
}

// open begins a session under a key, which it takes over.
func (s *Sessions[W]) open(o Opening, key *keybuf.Buffer, mount func(*Opened) (W, error)) error {
	next := &session[W]{queue: Opened{Key: key, Own: s.own, Dir: o.Dir}, ended: make(chan struct{})}
	next.run, next.stop = context.WithCancel(context.Background())
	s.mu.Lock()
	pauses := s.pauses
	s.mu.Unlock()
	err := os.MkdirAll(o.Dir, 0o700)
	if err == nil {
		o.Options.Boot, o.Options.Holds = bootID(), func(keys ...*keybuf.Buffer) { s.holds(pauses, keys) }
		next.queue.Queue, err = jobs.Open(filepath.Join(o.Dir, "queue.db"), key, o.Options)
	}
	if err == nil {
		next.work, err = mount(&next.queue)
	}
	if err == nil {
		err = s.begin(next, pauses)
	}
	s.holds(pauses, nil)
	if err != nil {
		next.stop()
		return errors.Join(err, next.close())
	}
	return nil
}

// holds notes the keys that Pause wipes while a queue is being opened. A Pause that came
// after the copies were made, and before they were known, did not find them: they are wiped
// here.
func (s *Sessions[W]) holds(pauses int, keys []*keybuf.Buffer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = keys
	if s.pauses != pauses {
		wipe(keys)
	}
}

func wipe(keys []*keybuf.Buffer) {
	for _, key := range keys {
		key.Wipe()
	}
}

// begin hands a session to Run and to whoever asks for its work, unless its lease ended
// meanwhile.
func (s *Sessions[W]) begin(next *session[W], pauses int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return s.err
	}
	if next.queue.Key.Len() == 0 || s.pauses != pauses {
		return refusal.New(ReasonExpired, "the lease ended while the queue was being opened")
	}
	s.began <- next // there is room: the one before was taken, or paused
	if s.session = next; !s.opened() {
		close(s.first)
	}
	return nil
}

func (s *Sessions[W]) opened() bool {
	select {
	case <-s.first:
		return true
	default:
		return false
	}
}

// Pause ends the session at the end of a lease: jobs under way are given back, the
// queue's key is wiped and the queue closed. The key is gone within pauseGrace, whatever
// hangs, and Pause returns within two. The next lease with the same key resumes.
func (s *Sessions[W]) Pause() {
	s.mu.Lock()
	running := s.session
	s.pauses++
	wipe(s.opening)
	s.mu.Unlock()
	if running != nil {
		s.pause(running, refusal.New(ReasonExpired, "the lease ended; jobs wait for the next one"))
	}
}

// pause ends a session for a reason.
func (s *Sessions[W]) pause(running *session[W], why error) {
	s.mu.Lock()
	if s.session == running {
		s.session, s.err = nil, why
	}
	select {
	case unseen := <-s.began: // Run has not taken it yet, and will not
		close(unseen.ended)
	default:
	}
	s.mu.Unlock()
	running.stop()
	late := !within(pauseGrace, func() { <-running.ended })
	running.wipe()
	closed := make(chan error, 1)
	hangs := !within(pauseGrace, func() { closed <- running.close() })
	// A log may hang as well: it comes last.
	if late {
		s.log.Error("jobs did not stop at the lease's end; the queue's key was wiped while they ran", "after", pauseGrace)
	}
	if hangs {
		s.log.Error("the job queue does not close: its disk does not answer")
	} else if err := <-closed; err != nil {
		s.log.Error("close the job queue", "err", err)
	}
}

// within calls f and says whether it came back in time.
func within(limit time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// bootID names this boot, so that a person can tell what a reboot interrupted.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// Run works in one session after another until ctx ends, then closes the queue. beside runs
// once, from the first session on until ctx ends or a session fails.
func (s *Sessions[W]) Run(ctx context.Context, beside func(context.Context)) error {
	select {
	case <-ctx.Done():
		return s.end(nil)
	case <-s.first:
	}
	var others sync.WaitGroup
	defer others.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	others.Go(func() { beside(ctx) })
	for {
		select {
		case <-ctx.Done():
			return s.end(nil)
		case next := <-s.began:
			if err := next.serve(ctx); err != nil {
				return s.end(err)
			}
		}
	}
}

// end closes what is open for good.
func (s *Sessions[W]) end(err error) error {
	s.mu.Lock()
	s.over = true
	draining := refusal.New(ReasonDraining, "the agent is stopping")
	running := s.session
	s.err = draining
	s.mu.Unlock()
	if running != nil {
		s.pause(running, draining)
	}
	s.own.Wipe()
	return err
}
