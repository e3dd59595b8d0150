package aggregator

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// ReasonSlow means that a body creeps.
const ReasonSlow refusal.Reason = "request-too-slow"

// leastRate is how many bytes a second a body brings at least, on average over twice
// Config.Idle: one that creeps holds a place, or half a file, for as long as it likes.
const leastRate = 4 << 10

// patient reads a body that may take as long as it needs, but neither stand still nor creep,
// and that gives way to others.
type patient struct {
	r      io.Reader
	c      *http.ResponseController // nil where no connection is behind it
	source string                   // whence it comes
	idle   time.Duration

	mu       sync.Mutex
	reading  time.Time // since when the peer is waited for; zero if it is not
	now, was pace      // of the last two stretches
	gaveWay  bool
}

// pace is what came while the peer was waited for. Our own time, on the disk, does not count.
type pace struct {
	waited time.Duration
	came   int64
}

func (p pace) slow() bool { return float64(p.came) < p.waited.Seconds()*leastRate }

func (p pace) plus(q pace) pace { return pace{p.waited + q.waited, p.came + q.came} }

func (a *Aggregator) patient(w http.ResponseWriter, r *http.Request) *patient {
	return &patient{r: r.Body, c: http.NewResponseController(w), source: listen.From(r.Context()).Source(), idle: a.cfg.Idle}
}

// Read reads under a new deadline.
func (p *patient) Read(b []byte) (int, error) {
	if err := p.begin(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	if ended := p.end(n); ended != nil && !errors.Is(err, io.EOF) {
		err = ended
	}
	return n, err
}

func (p *patient) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gaveWay {
		return p.refusal()
	}
	p.reading = time.Now()
	return p.deadline(p.reading.Add(p.idle))
}

func (p *patient) end(n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.plus(pace{time.Since(p.reading), int64(n)})
	p.reading = time.Time{}
	if p.gaveWay {
		return p.refusal()
	}
	if p.now.waited < 2*p.idle {
		return nil
	}
	p.was, p.now = p.now, pace{}
	if p.was.slow() {
		return refusal.New(ReasonSlow, "received %d bytes of the body in %s; send at least %d bytes a second", p.was.came, p.was.waited.Round(time.Second), leastRate)
	}
	return nil
}

func (p *patient) refusal() error {
	return refusal.New(ReasonBusy, "this upload was displaced by another; continue when there is room again")
}

func (p *patient) deadline(t time.Time) error {
	if p.c == nil {
		return nil
	}
	if err := p.c.SetReadDeadline(t); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// pace is that of the last while.
func (p *patient) pace() pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.was.plus(p.now)
	if !p.reading.IsZero() {
		all.waited += time.Since(p.reading)
	}
	return all
}

// giveWay ends the body, in the middle of a read as well.
func (p *patient) giveWay() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gaveWay = true
	_ = p.deadline(time.Now()) // a connection that is gone has ended already
}

// places are those of the uploads that send blocks at the same time.
type places struct {
	most int

	mu   sync.Mutex
	held map[*patient]bool
}

// enter takes a place, if need be that of an upload that creeps, or of the slowest from a
// source that holds more of them than the newcomer's would: one guest has agent keys as it
// likes, and would otherwise hold all. Who lost it goes on later where it stopped.
func (p *places) enter(newcomer *patient) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) >= p.most {
		victim := p.victim(newcomer.source)
		if victim == nil {
			return refusal.New(ReasonBusy, "%d uploads are in progress; try again later", len(p.held))
		}
		delete(p.held, victim)
		victim.giveWay()
	}
	p.held[newcomer] = true
	return nil
}

func (p *places) leave(u *patient) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, u)
}

func (p *places) victim(newcomer string) *patient {
	count, most := map[string]int{}, 0
	for u := range p.held {
		count[u.source]++
		most = max(most, count[u.source])
	}
	var creeps, slowest *patient
	for u := range p.held {
		pace := u.pace()
		if pace.waited >= u.idle && pace.slow() && (creeps == nil || slower(u, creeps)) {
			creeps = u
		}
		if count[u.source] == most && (slowest == nil || slower(u, slowest)) {
			slowest = u
		}
	}
	if creeps == nil && most > count[newcomer]+1 {
		return slowest
	}
	return creeps
}

func slower(u, v *patient) bool {
	a, b := u.pace(), v.pace()
	return float64(a.came)*b.waited.Seconds() < float64(b.came)*a.waited.Seconds()
}
