package keybroker

import (
	"sync"
	"time"
)

// maxPaced bounds the guests whose pace is remembered.
const maxPaced = 1 << 16

// pace bounds how often one guest gets a decision, for each is a durable record and some
// milliseconds of work: a guest that the policy allows must not fill the log's disk, on
// which every other guest's release depends.
type pace struct {
	burst int           // decisions at once
	each  time.Duration // and one more in this time

	mu     sync.Mutex
	guests map[[32]byte]time.Time // when a guest's allowance is whole again
}

func newPace(burst int, window time.Duration) *pace {
	return &pace{burst: burst, each: window / time.Duration(burst), guests: map[[32]byte]time.Time{}}
}

// take uses n of a guest's allowance, one for each resource that is decided about, and says
// whether there were so many.
func (p *pace) take(guest [32]byte, n int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	whole := p.guests[guest]
	if whole.Before(now) {
		whole = now
	}
	if whole.Sub(now) > time.Duration(p.burst-n)*p.each {
		return false
	}
	if len(p.guests) >= maxPaced {
		p.forget(now)
	}
	p.guests[guest] = whole.Add(time.Duration(n) * p.each)
	return true
}

// forget drops guests whose allowance is whole, and as many others as it takes: they begin
// anew, which costs less than refusing a fleet.
func (p *pace) forget(now time.Time) {
	for guest, whole := range p.guests {
		if whole.Before(now) {
			delete(p.guests, guest)
		}
	}
	for guest := range p.guests {
		if len(p.guests) < maxPaced/2 {
			return
		}
		delete(p.guests, guest)
	}
}
