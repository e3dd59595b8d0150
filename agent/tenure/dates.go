package tenure

import (
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/systemd/deadline"
)

// dates are the dates on which the broker would grant this guest nothing any more, as the
// last exchange showed them, by the broker's clock. They outlive their lease: while the
// broker is away they come nearer all the same.
type dates struct {
	watch *deadline.Watch

	mu     sync.Mutex // guards the rest
	list   []deadline.Date
	broker time.Time // the broker's time at the last grant
	seen   time.Time // the same moment here
}

// learn takes over what an exchange showed, and warns of what is near.
func (d *dates) learn(lease *client.Lease, now time.Time) {
	list := make([]deadline.Date, 0, len(lease.Ends))
	for _, e := range lease.Ends {
		list = append(list, deadline.Date{Kind: e.Kind, Name: e.Name, At: e.At})
	}
	d.mu.Lock()
	d.list, d.broker, d.seen = deadline.Sorted(list), lease.BrokerNow(now), now
	d.mu.Unlock()
	d.watch.Look(d.now(), d.known())
}

// now is the broker's clock, as far as this guest knows it. The guest's wall clock is not
// asked.
func (d *dates) now() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broker.Add(time.Since(d.seen))
}

func (d *dates) known() []deadline.Date {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.list
}

// show is for the status.
func (d *dates) show() map[string]time.Time {
	out := map[string]time.Time{}
	for _, date := range d.known() {
		out[date.Kind+" "+date.Name] = date.At.UTC()
	}
	return out
}

// gauges are the earliest date of each kind, as Unix seconds.
func (d *dates) gauges() (list []localapi.Gauge) {
	for kind, at := range deadline.Earliest(d.known()) {
		list = append(list, localapi.Gauge{Name: "anchorhold_" + kind + "_ends_seconds", Help: "When leases end for good unless it is renewed, Unix time.", Value: float64(at)})
	}
	return list
}
