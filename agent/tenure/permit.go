package tenure

import (
	"time"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// PermitStatus shows the permit that the agent serves on, after a restart without its broker.
type PermitStatus struct {
	// Restart is which one it is of Restarts; both are zero if nobody counts.
	Restart  uint16 `json:"restart"`
	Restarts uint16 `json:"restarts"`
	Sealing  string `json:"sealing"`
	// Restarted and Until are by this guest's own clock.
	Restarted        time.Time `json:"restarted"`
	Until            time.Time `json:"until"`
	RemainingSeconds float64   `json:"remaining_seconds"`
}

// permitStatus is nil under a lease.
func permitStatus(l *client.Lease, now time.Time) *PermitStatus {
	if l.Running == nil {
		return nil
	}
	p, used := l.Running.Permit, l.Running.Restart
	return &PermitStatus{used.Number, p.Restarts, p.Sealing.String(), used.At.Time(), p.NotAfter.Time(), l.RunsUntil.Sub(now).Seconds()}
}

// permitGauges say whether the agent serves on a permit, and for how long it may.
func permitGauges(l *client.Lease, now time.Time) []localapi.Gauge {
	on, left := 0.0, 0.0
	if p := permitOf(l); p != nil {
		on, left = 1, l.RunsUntil.Sub(now).Seconds()
	}
	return []localapi.Gauge{
		{Name: "anchorhold_on_permit", Help: "1 while the agent serves on a permit, after a restart without its broker.", Value: on},
		{Name: "anchorhold_permit_remaining_seconds", Help: "Time until that permit ends.", Value: left},
	}
}

func permitOf(l *client.Lease) *protocol.Running {
	if l == nil {
		return nil
	}
	return l.Running
}

// Permit returns the permit that is served on; nil under a lease, and where nothing is served.
func (t *Tenure) Permit() *protocol.Running {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return permitOf(t.lease)
}

// Withdraw ends at once what is served on a permit, because a broker refused this guest. Under a lease it changes nothing: that runs
// to its end.
func (t *Tenure) Withdraw(why error) {
	t.mu.RLock()
	lease := t.lease
	t.mu.RUnlock()
	if permitOf(lease) == nil {
		return
	}
	if err := t.finish(lease, why); err != nil {
		t.log.Error("end of the permit", "err", err)
	}
}
