package roundkey

import (
	"errors"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

const (
	// burst is how many round keys are asked for in window: a quarter of what
	// the broker grants a guest by default (limits.per_guest), so that renewals of the lease,
	// on which everything depends, have the rest whatever local users do.
	burst  = 30
	window = 10 * time.Minute
	each   = window / burst
	// The pause after the broker refused a round's key is doubled each time. The longest is
	// not longer than the queue lets a job wait.
	refusedFirst   = time.Second
	refusedLongest = time.Minute
	// maxRefused bounds the resources that are remembered as refused.
	maxRefused = 256
)

// pace is how often the agent asks for round keys. A local user causes each request,
// by a decryption that is tried again as often as its owner likes. The zero value has its
// whole allowance.
type pace struct {
	mu      sync.Mutex         // guards the rest
	whole   time.Time          // when the allowance is whole again
	refused map[string]refused // by resource
}

// refused is a resource whose key the broker did not give.
type refused struct {
	pause time.Duration
	until time.Time
}

// ask takes one request for a resource's key from the allowance, or says when to come again.
// What was refused before has half of the allowance: the other is for rounds that the broker
// has not said no to.
func (p *pace) ask(resource string, now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	allowed := burst
	if r, ok := p.refused[resource]; ok {
		if wait := r.until.Sub(now); wait > 0 {
			return paced(wait, "the broker refused the key of %s; it will be asked again in %s", resource, wait.Round(time.Second))
		}
		allowed /= 2
	}
	if p.whole.Before(now) {
		p.whole = now
	}
	if wait := p.whole.Sub(now) - time.Duration(allowed-1)*each; wait > 0 {
		return paced(wait, "this agent has used up its requests for round keys per %s; the key of %s will be requested in %s", window, resource, wait.Round(time.Second))
	}
	p.whole = p.whole.Add(each)
	return nil
}

func paced(wait time.Duration, format string, args ...any) error {
	return &jobs.Postponed{Pause: wait, Err: refusal.New(ReasonPaced, format, args...)}
}

// told takes note of the broker's answer, if it was one.
func (p *pace) told(resource string, err error, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		delete(p.refused, resource)
		return
	}
	if e, ok := errors.AsType[*client.Error](err); !ok || !e.ByBroker() {
		return // a network that is away is no word of the broker's
	}
	pause := refusedFirst
	if r, again := p.refused[resource]; again {
		pause = min(2*r.pause, refusedLongest)
	} else if len(p.refused) >= maxRefused {
		p.forget()
	}
	if p.refused == nil {
		p.refused = map[string]refused{}
	}
	p.refused[resource] = refused{pause, now.Add(pause)}
}

// forget drops the resource that was refused longest ago.
func (p *pace) forget() {
	oldest := ""
	for resource, r := range p.refused {
		if oldest == "" || r.until.Before(p.refused[oldest].until) {
			oldest = resource
		}
	}
	delete(p.refused, oldest)
}
