package auditlog

import (
	"context"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// aside does what a mount that hangs may never finish, one thing at a time. A system call
// cannot be taken back: one that hangs costs one goroutine, which nobody waits for, and
// whoever asked waits no longer than wait.
type aside struct {
	wait  time.Duration // never changed
	place chan struct{} // holds what is being done

	mu    sync.Mutex // owns since
	since time.Time  // when what is done began; zero when nothing is
}

func newAside(wait time.Duration) *aside {
	return &aside{wait: wait, place: make(chan struct{}, 1)}
}

// do runs f, or refuses: when it takes too long, and at once while something before it has
// taken too long already. f may end after that, and must do no harm then.
func (a *aside) do(ctx context.Context, f func() error) error {
	late := refusal.New(ReasonCheckpoint, "rounds.checkpoint did not respond within %s: check its mount", a.wait)
	if a.hangs() {
		return late
	}
	ctx, cancel := context.WithTimeoutCause(ctx, a.wait, late)
	defer cancel()
	select {
	case a.place <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	a.begin(time.Now())
	done := make(chan error, 1)
	go func() {
		err := f()
		a.begin(time.Time{})
		<-a.place
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *aside) begin(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since = t
}

// hangs says whether something has been done for too long.
func (a *aside) hangs() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.since.IsZero() && time.Since(a.since) >= a.wait
}
