package localapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
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
	settled time.Time
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
	more   int64         // that More gave
	number uint64        // of its arrival
	in     chan struct{} // closed when the bytes are its own
	began  time.Time     // of the reading of its body
	cut    func()        // ends that reading; nil when there is none
	slow   bool          // it was cut
}

// Limit returns how many bytes may be held.
func (b *Budget) Limit() int64 { return b.limit }

// Used returns how many bytes are held.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var bytes int64
	for _, h := range b.held {
		bytes += h.bytes
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
			if time.Since(b.settled) >= b.grace/8 { // one of those that wait is enough
				b.settle()
			}
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
		return nil, tooLarge(fmt.Sprintf("the request needs %d bytes of memory; one request gets at most %d (socket.memory_mb)", n, b.share))
	}
	h := &Held{budget: b, uid: uid, bytes: n, number: b.next(), in: make(chan struct{})}
	if b.full(uid) && !b.fits(b.held, append(b.line, h))[len(b.line)] {
		return nil, Busy(1, "too many requests are already waiting for memory")
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

// fits says of each of line, whose numbers grow, whether it may come in beside those that
// hold bytes, past those that wait ahead of it. It looks at each of them once: it runs under
// the lock that every request takes.
func (b *Budget) fits(held, line []*Held) []bool {
	fits, passed := make([]bool, len(line)), make([]int64, len(line))
	all, own := int64(0), map[uint32]int64{}
	last := slices.SortedFunc(slices.Values(held), func(x, y *Held) int { return cmp.Compare(y.number, x.number) })
	for i, o := range slices.Backward(line) { // what came in past it
		for ; len(last) > 0 && last[0].number > o.number; last = last[1:] {
			all += last[0].bytes
		}
		passed[i] = all
	}
	all = 0
	for _, o := range held {
		all += o.bytes
		own[o.uid] += o.bytes
	}
	var kept int64 // the most that anybody ahead needs, with those that came in past it
	ahead := map[uint32]int64{}
	for i, o := range line {
		fits[i] = own[o.uid]+o.bytes <= b.share && max(all, kept)+o.bytes <= b.limit
		if own[o.uid]+ahead[o.uid]+o.bytes <= b.share {
			kept = max(kept, passed[i]+o.bytes)
		}
		ahead[o.uid] += o.bytes
	}
	return fits
}

// settle follows a change: it lets in those that may come in, and has slow bodies give way
// to those that then could. Who comes in may put another of its user's beyond the share, and
// so out of a third one's way; hence it looks again.
func (b *Budget) settle() {
	b.settled = time.Now()
	for len(b.line) > 0 {
		next := slices.Index(b.fits(b.held, b.line), true)
		if next < 0 {
			break
		}
		h := b.line[next]
		b.line = slices.Delete(b.line, next, next+1)
		b.held = append(b.held, h)
		close(h.in)
	}
	var line, behind []*Held
	own := map[uint32]int64{} // held, and waited for ahead
	for _, h := range b.held {
		own[h.uid] += h.bytes
	}
	for _, h := range b.line {
		if own[h.uid]+h.bytes > b.share {
			h.number = b.next()
			behind = append(behind, h)
			continue
		}
		own[h.uid] += h.bytes
		line = append(line, h)
	}
	b.line = append(line, behind...)
	for b.evict() {
	}
}

// evict cuts off bodies that have not arrived within the grace, if another comes in by that:
// no more than the first such one takes, the oldest first. It says whether it cut any off.
func (b *Budget) evict() bool {
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
	if len(slow) == 0 {
		return false
	}
	with, without := b.fits(append(stay, slow...), b.line), b.fits(stay, b.line)
	for i := range b.line {
		if !without[i] || with[i] {
			continue
		}
		for _, o := range slices.Backward(slow) {
			if all := append(stay, o); b.fits(all, b.line[:i+1])[i] {
				stay = all
				continue
			}
			o.slow = true
			o.cut()
		}
		return true
	}
	return false
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

// size is how many bytes are held; none of nil.
func (h *Held) size() int64 {
	if h == nil {
		return 0
	}
	h.budget.mu.Lock()
	n := h.bytes + h.more
	h.budget.mu.Unlock()
	return n
}

// More asks for n more bytes for the same request, as one more of its user's: whoever holds bytes
// does not wait for others to give back theirs. What it returns is given back with Release, and
// is nil for no bytes.
func (h *Held) More(n int64) (*Held, error) {
	if n <= 0 {
		return nil, nil
	}
	bytes := h.size()
	if most := h.budget.share; n > most-bytes {
		return nil, tooLarge(fmt.Sprintf("the answers need up to %d bytes of memory beside the request's %d; one request gets at most %d (socket.memory_mb): ask for fewer choices, tokens or top_logprobs, or for a stream", n, bytes, most))
	}
	more, err := h.budget.ask(h.uid, n)
	if err != nil {
		return nil, err
	}
	select {
	case <-more.in:
		h.budget.mu.Lock()
		h.more += n
		h.budget.mu.Unlock()
		return more, nil
	default:
		more.Release()
		return nil, Busy(1, "other requests hold the memory that the answers need")
	}
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
	return &Error{Status: http.StatusTooManyRequests, RetryAfter: seconds, Type: "rate_limit_error", Code: string(ReasonQueue),
		Message: fmt.Sprintf("%s; try again in %d seconds", why, seconds)}
}

func tooLarge(message string) error {
	return &Error{Status: http.StatusRequestEntityTooLarge, Type: "invalid_request_error", Code: string(ReasonTooLarge), Message: message}
}
