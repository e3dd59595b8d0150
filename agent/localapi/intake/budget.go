package intake

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi/problem"
)

// Budget counts the bytes that requests hold together. A request asks for its bytes
// before it reads anything; while there is no room it waits, first come first served.
// No user gets more than half of it, or what the largest request needs.
type Budget struct {
	limit, share int64
	places       int // requests that may wait
	grace        time.Duration

	mu      sync.Mutex
	used    int64
	of      map[uint32]int64 // by user; no entry is 0
	line    []*asking
	reading []*Held // those that still read their bodies, the oldest first
}

// asking is a request that waits for room.
type asking struct {
	uid  uint32
	n    int64
	room chan struct{} // closed when the bytes are its own
}

// NewBudget makes a budget of so many bytes, of which one request needs at most largest,
// and for which so many requests may wait. While others wait, a body that is not whole
// after grace gives way to them.
func NewBudget(limit, largest int64, places int, grace time.Duration) *Budget {
	limit = max(limit, largest)
	return &Budget{limit: limit, share: max(limit/2, largest), places: places, grace: grace, of: map[uint32]int64{}}
}

// Held is what one request holds. It belongs to one goroutine.
type Held struct {
	budget *Budget
	uid    uint32
	bytes  int64
	began  time.Time
	cut    func() // ends the reading of its body
	slow   bool   // it was cut; guarded by budget.mu
}

// Used returns how many bytes are held.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// Reserve waits until a user's request may hold n bytes. What it returns is given back
// with Release.
func (b *Budget) Reserve(ctx context.Context, uid uint32, n int64) (*Held, error) {
	b.mu.Lock()
	if n > b.share {
		b.mu.Unlock()
		return nil, tooLarge(fmt.Sprintf("the request would take %d bytes of memory; one request gets %d (socket.memory_mb)", n, b.share))
	}
	if b.fits(uid, n) && !b.blocked() {
		b.take(uid, n)
		b.mu.Unlock()
		return &Held{budget: b, uid: uid, bytes: n}, nil
	}
	if b.full(uid) {
		b.mu.Unlock()
		return nil, Busy(1, "as many requests as may are waiting for memory")
	}
	a := &asking{uid, n, make(chan struct{})}
	b.line = append(b.line, a)
	b.mu.Unlock()
	return b.wait(ctx, a)
}

// wait waits for room. Those who do not send their bodies have to make it.
func (b *Budget) wait(ctx context.Context, a *asking) (*Held, error) {
	again := time.NewTicker(max(b.grace/2, time.Millisecond))
	defer again.Stop()
	for {
		select {
		case <-a.room:
			return &Held{budget: b, uid: a.uid, bytes: a.n}, nil
		case <-again.C:
			b.evict(a)
		case <-ctx.Done():
			b.mu.Lock()
			defer b.mu.Unlock()
			select {
			case <-a.room: // both came at once
				b.give(a.uid, a.n)
			default:
				b.line = slices.DeleteFunc(b.line, func(o *asking) bool { return o == a })
			}
			b.admit()
			return nil, context.Cause(ctx)
		}
	}
}

// evict cuts off the bodies that have not arrived within the grace: the user's own, and
// everybody's where the budget is short, not his share of it.
func (b *Budget) evict(a *asking) {
	b.mu.Lock()
	defer b.mu.Unlock()
	short := b.used+a.n > b.limit
	for _, h := range b.reading {
		if time.Since(h.began) >= b.grace && (short || h.uid == a.uid) {
			h.slow = true
			h.cut()
		}
	}
}

// full says whether nobody, or not this user, may wait any more: one place in four is
// kept from him who has all others.
func (b *Budget) full(uid uint32) bool {
	own := 0
	for _, a := range b.line {
		if a.uid == uid {
			own++
		}
	}
	return len(b.line) >= b.places || own >= fairPart(b.places)
}

// fairPart is how many of the places one user may have.
func fairPart(places int) int { return places - places/4 }

func (b *Budget) fits(uid uint32, n int64) bool {
	return b.used+n <= b.limit && b.of[uid]+n <= b.share
}

func (b *Budget) take(uid uint32, n int64) {
	b.used += n
	b.of[uid] += n
}

func (b *Budget) give(uid uint32, n int64) {
	b.used -= n
	if b.of[uid] -= n; b.of[uid] <= 0 {
		delete(b.of, uid)
	}
}

// mine says whether a request that waits does so for its user's share, not for the
// budget. It holds up nobody: small requests pass it, its user's too.
func (b *Budget) mine(a *asking) bool { return b.of[a.uid]+a.n > b.share }

// blocked says whether a request waits that nobody may pass, or it would never come.
func (b *Budget) blocked() bool {
	return slices.ContainsFunc(b.line, func(a *asking) bool { return !b.mine(a) })
}

// admit lets in those that wait, in their order.
func (b *Budget) admit() {
	var left []*asking
	blocked := false
	for _, a := range b.line {
		if !blocked && b.fits(a.uid, a.n) {
			b.take(a.uid, a.n)
			close(a.room)
			continue
		}
		blocked = blocked || !b.mine(a)
		left = append(left, a)
	}
	b.line = left
}

// Shrink gives back all but n bytes.
func (h *Held) Shrink(n int64) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < h.bytes {
		b.give(h.uid, h.bytes-n)
		h.bytes = n
		b.admit()
	}
}

// Release gives everything back. It may be called again, and on nil.
func (h *Held) Release() {
	if h != nil {
		h.Shrink(0)
	}
}

// begin and end mark the time in which the body is read.
func (h *Held) begin(cut func()) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	h.began, h.cut = time.Now(), cut
	b.reading = append(b.reading, h)
}

// end says whether the body was cut off.
func (h *Held) end() (slow bool) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = slices.DeleteFunc(b.reading, func(o *Held) bool { return o == h })
	return h.slow
}

// Busy refuses a request because of what others do now.
func Busy(seconds int, why string) error {
	return &problem.Error{Status: http.StatusTooManyRequests, RetryAfter: seconds, Type: "rate_limit_error", Code: string(ReasonQueue),
		Message: fmt.Sprintf("%s; try again in %d seconds", why, seconds)}
}

func tooLarge(message string) error {
	return &problem.Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: string(ReasonTooLarge), Message: message}
}
