package localapi

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

// Place is a request's place in a line: a slot, or one where it waits for a slot.
type Place struct {
	line  *Line
	turn  *turn // nil if there was a slot at once
	began time.Time
	once  sync.Once
}

// Join takes a place, or refuses if there is none. Whoever joins leaves.
func (l *Line) Join(uid uint32) (*Place, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running < l.slots {
		l.run(uid)
		return &Place{line: l, began: time.Now()}, nil
	}
	own := 0
	for _, t := range l.waiting {
		if t.uid == uid {
			own++
		}
	}
	if len(l.waiting) >= l.places || own >= fairPart(l.places) {
		wait := l.average * float64(len(l.waiting)+1) / float64(l.slots)
		return nil, Busy(int(math.Ceil(min(max(wait, 1), 60))), "too many requests are waiting")
	}
	t := &turn{uid, make(chan struct{})}
	l.waiting = append(l.waiting, t)
	return &Place{line: l, turn: t}, nil
}

// Wait waits for the slot.
func (p *Place) Wait(ctx context.Context) error {
	if p.turn == nil {
		return nil
	}
	select {
	case <-p.turn.begin:
		p.began = time.Now()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Leave gives back the slot, or the place where a request waited for one. It may be called
// more than once.
func (p *Place) Leave() {
	p.once.Do(func() {
		l := p.line
		l.mu.Lock()
		defer l.mu.Unlock()
		if p.turn != nil {
			select {
			case <-p.turn.begin: // the slot is its own, whether it knows or not
			default:
				l.waiting = slices.DeleteFunc(l.waiting, func(o *turn) bool { return o == p.turn })
				return
			}
		}
		if !p.began.IsZero() {
			l.average += (time.Since(p.began).Seconds() - l.average) / 8
		}
		l.free()
	})
}

// Enter joins, waits for a slot, and returns what gives it back.
func (l *Line) Enter(ctx context.Context, uid uint32) (leave func(), err error) {
	p, err := l.Join(uid)
	if err != nil {
		return nil, err
	}
	if err := p.Wait(ctx); err != nil {
		p.Leave()
		return nil, err
	}
	return p.Leave, nil
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

// Load returns how many requests run and wait.
func (l *Line) Load() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running, len(l.waiting)
}
