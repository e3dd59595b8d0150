package fetch

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Pace is how fast a host may be asked: Burst requests at once, then one each Interval.
type Pace struct {
	Burst    int
	Interval time.Duration
}

// host is a token bucket with a queue before it. Requests are let through one after the other by
// a timer, which runs only while some wait.
type host struct {
	mu       sync.Mutex
	pacing   Pace
	limit    int
	slowdown float64 // 1 is the pace; more after the host said that it is busy
	tokens   float64
	counted  time.Time // when tokens was right
	resumes  time.Time // before that the host wants to be left alone
	refused  int       // in a row
	waiting  []*waiter
	timer    *time.Timer // nil while none waits
	gone     error       // the host's name could not be resolved
	goneTo   time.Time   // until when that counts
}

// waiter is a request that waits for its turn.
type waiter struct {
	rank  int // lower ranks first
	ready chan struct{}
}

// Ranks of waiting requests. One that the host sent away keeps its place.
const (
	rankAgain = iota
	rankUrgent
	rankNormal
)

func newHost(p Pace, limit int) *host {
	p.Burst, p.Interval = max(p.Burst, 1), max(p.Interval, time.Millisecond)
	return &host{pacing: p, limit: limit, slowdown: 1, tokens: float64(p.Burst), counted: time.Now()}
}

// turn waits until the host may be asked once.
func (h *host) turn(ctx context.Context, urgent, again bool) error {
	w := &waiter{rank: rankNormal, ready: make(chan struct{})}
	switch {
	case again:
		w.rank = rankAgain
	case urgent:
		w.rank = rankUrgent
	}
	h.mu.Lock()
	// The limit holds back certificates for guests; what the broker itself needs is a few lists.
	if n := len(h.waiting); n >= h.limit && w.rank == rankNormal || n >= 2*h.limit {
		h.mu.Unlock()
		return queueError(n)
	}
	at := len(h.waiting)
	for at > 0 && h.waiting[at-1].rank > w.rank {
		at--
	}
	h.waiting = slices.Insert(h.waiting, at, w)
	h.admit()
	h.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		h.leave(w)
		return ctx.Err()
	}
}

// leave takes a request out of the queue; a turn that it got meanwhile goes back.
func (h *host) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.waiting, w); i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
		return
	}
	h.tokens++
	h.admit()
}

// interval is the time between two requests now. The lock is held.
func (h *host) interval() time.Duration {
	return time.Duration(float64(h.pacing.Interval) * h.slowdown)
}

// admit lets through as many as may go now, and sets the timer for the next. The lock is held.
func (h *host) admit() {
	now := time.Now()
	h.tokens = min(h.tokens+float64(now.Sub(h.counted))/float64(h.interval()), float64(h.pacing.Burst))
	h.counted = now
	for len(h.waiting) > 0 && h.tokens >= 1 && !now.Before(h.resumes) {
		h.tokens--
		close(h.waiting[0].ready)
		h.waiting = slices.Delete(h.waiting, 0, 1)
	}
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	if len(h.waiting) == 0 {
		return
	}
	wait := time.Duration((1 - h.tokens) * float64(h.interval()))
	wait = max(wait, h.resumes.Sub(now), time.Millisecond) // a rounded fraction must not spin
	h.timer = time.AfterFunc(wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.admit()
	})
}

// answered says that the host served a request: its pace recovers slowly.
func (h *host) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = 0
	h.slowdown = max(1, h.slowdown*recovery)
}

// giveUp lets every request fail for a while: they would all wait for the same name.
func (h *host) giveUp(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone, h.goneTo = err, time.Now().Add(unresolvedFor)
}

// lost is why the host was given up; nil if it was not, or not lately.
func (h *host) lost() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !time.Now().Before(h.goneTo) {
		return nil
	}
	return h.gone
}

// recovery is what one answer leaves of the slowdown.
const recovery = 0.97

// busy leaves the host alone for as long as it asks for, or ever longer if it does not say, and
// asks more slowly then. Requests that were under way when the host had enough count once.
func (h *host) busy(asked time.Duration) {
	h.mu.Lock()
	if now := time.Now(); !now.Before(h.resumes) {
		h.slowdown = min(2*h.slowdown, maxSlowdown)
		h.refused++
	}
	if asked == 0 {
		asked = min(firstPause<<min(h.refused-1, 8), maxPause)
	}
	h.mu.Unlock()
	h.pause(asked)
}

// pause asks the host nothing for a while. After it the bucket is empty but for one: the host
// does not see a burst.
func (h *host) pause(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if until := time.Now().Add(jitter(d)); until.After(h.resumes) {
		h.resumes = until
	}
	h.tokens, h.counted = 0, h.resumes.Add(-h.interval())
	h.admitLater()
}

// admitLater moves the timer. The lock is held.
func (h *host) admitLater() {
	if len(h.waiting) == 0 {
		return
	}
	if h.timer != nil {
		h.timer.Stop()
	}
	h.timer = time.AfterFunc(time.Until(h.resumes), func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.admit()
	})
}

func (h *host) waitingNow() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.waiting)
}
