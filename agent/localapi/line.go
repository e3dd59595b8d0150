package localapi

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// Line lets a number of requests run and a number wait. Users take turns: of those that wait for a
// slot that is free, one of the user who was served longest ago is next, of that user's one for the
// model that was served longest ago, and of those the first. What comes beyond is refused with a
// guess at when to come again.
//
// No model keeps out requests for another. Each has slots of its own, as many as it computes answers
// at a time, and some of the places are kept for it ([kept]); those that are kept for no other are
// for whoever comes first. Of each user's places the same holds.
type Line struct {
	slots, places int
	models        func() []Slots // as in Config; never nil
	memory        int64          // that requests for one model may hold while they wait, if there are several; 0 is any

	mu      sync.Mutex
	count   int            // that run
	running map[string]int // by model
	waiting []*turn
	served  map[uint32]uint64 // when a user that waits was served last
	turned  map[string]uint64 // when a model was
	clock   uint64
	average float64 // seconds of a request, moving
}

// Slots is how many requests for a model run at a time.
type Slots struct {
	Model string
	N     int
}

// turn is a request that runs or waits.
type turn struct {
	uid   uint32
	model string        // empty for classifiers and updates
	bytes int64         // that it holds
	begin chan struct{} // closed when the slot is its own
}

// NewLine makes a line for so many at the same time, and so many that wait, which does not tell models
// apart.
func NewLine(slots, places int) *Line {
	return &Line{slots: max(slots, 1), places: max(places, 0), models: func() []Slots { return nil },
		running: map[string]int{}, served: map[uint32]uint64{}, turned: map[string]uint64{}, average: 1}
}

// Place is a request's place in a line: a slot, or one where it waits for a slot.
type Place struct {
	line  *Line
	turn  *turn
	began time.Time // once it runs
	once  sync.Once
}

// Join takes a place for a request of a user for a model, or refuses if there is none. A model that
// the line does not know is as none. Held is what the request holds meanwhile; it may be nil. Whoever
// joins leaves.
func (l *Line) Join(uid uint32, model string, held *Held) (*Place, error) {
	t := &turn{uid, model, held.size(), make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	models, known := l.models(), false
	for i := range models {
		known = known || models[i].Model == model
	}
	if !known {
		t.model = ""
	}
	p := &Place{line: l, turn: t}
	if l.slot(models, t.model) {
		p.began = time.Now()
		l.run(t)
		return p, nil
	}
	if !l.room(models, t) {
		wait := l.average * float64(len(l.waiting)+1) / float64(l.slots)
		return nil, Busy(int(math.Ceil(min(max(wait, 1), 60))), "too many requests are waiting")
	}
	l.waiting = append(l.waiting, t)
	return p, nil
}

// slot says whether a request for a model may run; mu is held.
func (l *Line) slot(models []Slots, model string) bool {
	slots, own := 0, 0
	for i := range models {
		if slots += models[i].N; models[i].Model == model {
			own = models[i].N
		}
	}
	return l.count < max(slots, l.slots) && (own == 0 || l.running[model] < own)
}

// room says whether a request may wait; mu is held.
func (l *Line) room(models []Slots, t *turn) bool {
	if n, bytes := l.wait(anyone, t.model); len(models) > 1 && l.memory > 0 && n > 0 && bytes+t.bytes > l.memory {
		return false
	}
	return l.mayWait(l.places, models, anyone, t.model) && l.mayWait(fairPart(l.places), models, int64(t.uid), t.model)
}

// anyone is no user.
const anyone = -1

// wait returns how many requests of a user for a model wait, and what they hold; mu is held.
func (l *Line) wait(uid int64, model string) (n int, bytes int64) {
	for _, t := range l.waiting {
		if t.model == model && (uid == anyone || uid == int64(t.uid)) {
			n++
			bytes += t.bytes
		}
	}
	return n, bytes
}

// mayWait says whether one more request of a user may wait for a model in so many places: if it takes none of
// those that are kept for others; mu is held.
func (l *Line) mayWait(places int, models []Slots, uid int64, model string) bool {
	all := 0
	for _, t := range l.waiting {
		if uid == anyone || uid == int64(t.uid) {
			all++
		}
	}
	if all >= places {
		return false
	}
	each := kept(places, len(models))
	for i := range models {
		name := models[i].Model
		n, _ := l.wait(uid, name)
		if n >= each {
			continue
		}
		if name == model {
			return true
		}
		places -= each - n
	}
	return all < places
}

// kept is how many of the places are kept for each of so many models: of one in four, an equal part for
// each of the others beside one that has all the rest, and at least one if there are enough.
func kept(places, models int) int {
	if models < 2 {
		return 0
	}
	return min(max(1, places/4/(models-1)), places/models)
}

// Wait waits for the slot.
func (p *Place) Wait(ctx context.Context) error {
	select {
	case <-p.turn.begin:
		if p.began.IsZero() {
			p.began = time.Now()
		}
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
		select {
		case <-p.turn.begin: // the slot is its own, whether it knows or not
		default:
			l.waiting = slices.DeleteFunc(l.waiting, func(o *turn) bool { return o == p.turn })
			return
		}
		if !p.began.IsZero() {
			l.average += (time.Since(p.began).Seconds() - l.average) / 8
		}
		l.free(p.turn)
	})
}

// Enter joins for no model, waits for a slot, and returns what gives it back.
func (l *Line) Enter(ctx context.Context, uid uint32, held *Held) (leave func(), err error) {
	p, err := l.Join(uid, "", held)
	if err != nil {
		return nil, err
	}
	if err := p.Wait(ctx); err != nil {
		p.Leave()
		return nil, err
	}
	return p.Leave, nil
}

// run gives a request a slot; mu is held.
func (l *Line) run(t *turn) {
	l.count++
	l.running[t.model]++
	l.clock++
	l.served[t.uid], l.turned[t.model] = l.clock, l.clock
	close(t.begin)
}

// free takes the slot of a request back, and gives those that are free to the next in turn; mu is held.
func (l *Line) free(ended *turn) {
	l.count--
	if l.running[ended.model]--; l.running[ended.model] == 0 {
		delete(l.running, ended.model)
	}
	models := l.models()
	for {
		var next *turn
		for _, t := range l.waiting {
			if l.slot(models, t.model) && (next == nil || l.before(t, next)) {
				next = t
			}
		}
		if next == nil {
			break
		}
		l.waiting = slices.DeleteFunc(l.waiting, func(o *turn) bool { return o == next })
		l.run(next)
	}
	if len(l.waiting) == 0 {
		clear(l.served) // or they would grow with all that ever came
		clear(l.turned)
	}
}

// before says whether a request's turn is before that of one that came earlier.
func (l *Line) before(t, o *turn) bool {
	if t.uid != o.uid {
		return l.served[t.uid] < l.served[o.uid]
	}
	return l.turned[t.model] < l.turned[o.model]
}

// Load returns how many requests run and wait.
func (l *Line) Load() (running, waiting int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count, len(l.waiting)
}

// LoadOf returns how many requests for a model run and wait.
func (l *Line) LoadOf(model string) (running, waiting int) {
	l.mu.Lock()
	running = l.running[model]
	waiting, _ = l.wait(anyone, model)
	l.mu.Unlock()
	return running, waiting
}
