package intake

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// Line lets a number of requests run and a number wait. Users take turns: of those that
// wait, one of the user who was served longest ago is next, and of that user's the first.
// What comes beyond is refused with a guess at when to come again.
type Line struct {
	slots, places int

	mu      sync.Mutex
	running int
	waiting []*turn
	served  map[uint32]uint64 // when a user that waits was served last
	clock   uint64
	average float64 // seconds of a request, moving
}

type turn struct {
	uid   uint32
	begin chan struct{} // closed when the slot is its own
}

// NewLine makes a line for so many at the same time, and so many that wait.
func NewLine(slots, places int) *Line {
	return &Line{slots: max(slots, 1), places: max(places, 0), served: map[uint32]uint64{}, average: 1}
}

// Enter waits for a slot and returns what gives it back.
func (l *Line) Enter(ctx context.Context, uid uint32) (leave func(), err error) {
	l.mu.Lock()
	if l.running < l.slots {
		l.run(uid)
		l.mu.Unlock()
		return l.leave(time.Now()), nil
	}
	own := 0
	for _, t := range l.waiting {
		if t.uid == uid {
			own++
		}
	}
	if len(l.waiting) >= l.places || own >= fairPart(l.places) {
		defer l.mu.Unlock()
		wait := l.average * float64(len(l.waiting)+1) / float64(l.slots)
		return nil, Busy(int(math.Ceil(min(max(wait, 1), 60))), "too many requests are waiting")
	}
	t := &turn{uid, make(chan struct{})}
	l.waiting = append(l.waiting, t)
	l.mu.Unlock()
	select {
	case <-t.begin:
		return l.leave(time.Now()), nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-t.begin: // both came at once
		l.free()
	default:
		l.waiting = slices.DeleteFunc(l.waiting, func(o *turn) bool { return o == t })
	}
	return nil, context.Cause(ctx)
}

func (l *Line) run(uid uint32) {
	l.running++
	l.clock++
	l.served[uid] = l.clock
}

// free gives a slot to the next in turn.
func (l *Line) free() {
	l.running--
	if len(l.waiting) == 0 {
		clear(l.served) // or it would grow with the users that ever came
		return
	}
	next := 0
	for i, t := range l.waiting {
		if l.served[t.uid] < l.served[l.waiting[next].uid] {
			next = i
		}
	}
	t := l.waiting[next]
	l.waiting = slices.Delete(l.waiting, next, next+1)
	l.run(t.uid)
	close(t.begin)
}

func (l *Line) leave(began time.Time) func() {
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.average += (time.Since(began).Seconds() - l.average) / 8
		l.free()
	})
}

// Load returns how many requests run and wait.
func (l *Line) Load() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running, len(l.waiting)
}
