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
// before it reads anything, and waits while it may not come in.
//
// A request may come in if it fits, and if each that waits ahead of it would still fit
// beside it and all others that came in past that one. So a waiting request keeps out
// nobody who leaves room for it, and waits for nobody but those that were there before.
//
// No user gets more than his share: half of the budget, or what the largest request needs.
// A request beyond what its user's share has room for, those of his that wait ahead of it
// included, keeps out nobody. It stands behind all others until there is room, so that
// users take turns.
type Budget struct {
	limit, share int64
	places       int // requests that may wait
	grace        time.Duration

	mu      sync.Mutex
	held    []*Held // those that came in, in that order
	line    []*Held // those that wait, by their numbers
	numbers uint64  // given so far
}

// NewBudget makes a budget of so many bytes, of which one request needs at most largest,
// and for which so many requests may wait. A body that is not whole after grace gives way
// to a request that comes in by that.
func NewBudget(limit, largest int64, places int, grace time.Duration) *Budget {
	limit = max(limit, largest)
	return &Budget{limit: limit, share: max(limit/2, largest), places: places, grace: grace}
}

// Held is what one request holds, or waits for. It belongs to one goroutine; budget.mu
// guards its fields.
type Held struct {
	budget *Budget
	uid    uint32
	bytes  int64
	number uint64        // of its arrival
	in     chan struct{} // closed when the bytes are its own
	began  time.Time     // of the reading of its body
	cut    func()        // ends that reading; nil when there is none
	slow   bool          // it was cut
}

// Used returns how many bytes are held.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return sum(b.held, func(*Held) bool { return true })
}

func sum(list []*Held, counts func(*Held) bool) (bytes int64) {
	for _, h := range list {
		if counts(h) {
			bytes += h.bytes
		}
	}
	return bytes
}

// Reserve waits until a user's request may hold n bytes. What it returns is given back
// with Release.
func (b *Budget) Reserve(ctx context.Context, uid uint32, n int64) (*Held, error) {
	h, err := b.ask(uid, n)
	if err != nil {
		return nil, err
	}
	again := time.NewTicker(max(b.grace/2, time.Millisecond))
	defer again.Stop()
	for {
		select {
		case <-h.in:
			return h, nil
		case <-again.C: // a body may have become slow
			b.mu.Lock()
			b.settle()
			b.mu.Unlock()
		case <-ctx.Done():
			h.Release()
			return nil, context.Cause(ctx)
		}
	}
}

// ask lets a request in, or has it wait if there is a place.
func (b *Budget) ask(uid uint32, n int64) (*Held, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.share {
		return nil, tooLarge(fmt.Sprintf("the request would take %d bytes of memory; one request gets %d (socket.memory_mb)", n, b.share))
	}
	h := &Held{budget: b, uid: uid, bytes: n, number: b.next(), in: make(chan struct{})}
	if b.full(uid) && !b.room(b.held, b.line, h) {
		return nil, Busy(1, "as many requests as may are waiting for memory")
	}
	b.line = append(b.line, h)
	b.settle()
	return h, nil
}

func (b *Budget) next() uint64 { b.numbers++; return b.numbers }

// full says whether nobody, or not this user, may wait any more: one place in four is
// kept from him who has all others.
func (b *Budget) full(uid uint32) bool {
	own := 0
	for _, h := range b.line {
		if h.uid == uid {
			own++
		}
	}
	return len(b.line) >= b.places || own >= fairPart(b.places)
}

// fairPart is how many of the places one user may have.
func fairPart(places int) int { return places - places/4 }

// room says whether h may come in beside those that hold bytes, past those that wait ahead
// of it.
func (b *Budget) room(held, ahead []*Held, h *Held) bool {
	if b.beyond(held, nil, h) || sum(held, func(*Held) bool { return true })+h.bytes > b.limit {
		return false
	}
	for i, o := range ahead {
		passed := sum(held, func(p *Held) bool { return p.number > o.number })
		if passed+h.bytes+o.bytes > b.limit && !b.beyond(held, ahead[:i], o) {
			return false
		}
	}
	return true
}

// beyond says whether a user's share has no room for h, because of what he holds or waits
// for ahead of it.
func (b *Budget) beyond(held, ahead []*Held, h *Held) bool {
	own := func(o *Held) bool { return o.uid == h.uid }
	return sum(held, own)+sum(ahead, own)+h.bytes > b.share
}

// settle follows a change: it lets in those that may come in, and has slow bodies give way
// to those that then could. Who comes in may put another of its user's beyond the share, and
// so out of a third one's way; hence it looks again.
func (b *Budget) settle() {
	for b.letIn() {
	}
	var line, behind []*Held
	for _, h := range b.line {
		if b.beyond(b.held, line, h) {
			h.number = b.next()
			behind = append(behind, h)
			continue
		}
		line = append(line, h)
	}
	b.line = append(line, behind...)
	for i, h := range b.line {
		b.evict(b.line[:i], h)
	}
}

// letIn lets in, of those that wait, who may come in, and says whether anybody did.
func (b *Budget) letIn() bool {
	var left []*Held
	for _, h := range b.line {
		if b.room(b.held, left, h) {
			b.held = append(b.held, h)
			close(h.in)
			continue
		}
		left = append(left, h)
	}
	came := len(left) < len(b.line)
	b.line = left
	return came
}

// evict cuts off bodies that have not arrived within the grace, if h comes in by that: no
// more than it takes, the oldest first.
func (b *Budget) evict(ahead []*Held, h *Held) {
	var stay, slow []*Held
	for _, o := range b.held {
		switch {
		case o.slow: // it is about to go
		case o.cut != nil && time.Since(o.began) >= b.grace:
			slow = append(slow, o)
		default:
			stay = append(stay, o)
		}
	}
	if !b.room(stay, ahead, h) {
		return
	}
	for _, o := range slices.Backward(slow) {
		if with := append(stay, o); b.room(with, ahead, h) {
			stay = with
			continue
		}
		o.slow = true
		o.cut()
	}
}

// Shrink gives back all but n bytes.
func (h *Held) Shrink(n int64) {
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	h.bytes = min(h.bytes, n)
	b.settle()
}

// Release gives everything back. It may be called again, and on nil.
func (h *Held) Release() {
	if h == nil {
		return
	}
	b := h.budget
	b.mu.Lock()
	defer b.mu.Unlock()
	h.bytes = 0
	this := func(o *Held) bool { return o == h }
	b.held, b.line = slices.DeleteFunc(b.held, this), slices.DeleteFunc(b.line, this)
	b.settle()
}

// begin and end mark the time in which the body is read. One that was cut off is about to go
// until it is released, so that nobody else is cut off in its stead meanwhile.
func (h *Held) begin(cut func()) {
	h.budget.mu.Lock()
	defer h.budget.mu.Unlock()
	h.began, h.cut = time.Now(), cut
}

// end says whether the body was cut off; one that is whole all the same stays.
func (h *Held) end(whole bool) (slow bool) {
	h.budget.mu.Lock()
	defer h.budget.mu.Unlock()
	h.slow, h.cut = h.slow && !whole, nil
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
