package daemon

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestAClockThatWasAheadIsSetBackOnce: without the setting the broker waits, with another
// instant it does not start, with the last record's it goes on, once, under leases that are no
// longer than any.
func TestAClockThatWasAheadIsSetBackOnce(t *testing.T) {
	s := releasing(t)
	var skew atomic.Int64
	s.options.Now = func() time.Time { return time.Now().Add(time.Duration(skew.Load())) }
	acquire := func(address string) error {
		l, err := s.client(t, address).Acquire(t.Context(), []string{"models/a"})
		if err == nil {
			l.Wipe()
		}
		return err
	}
	refused := func(err error) {
		t.Helper()
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Reason != protocol.ReasonClockBackwards {
			t.Errorf("got %v, want %s", err, protocol.ReasonClockBackwards)
		}
	}
	const month = 30 * 24 * time.Hour
	skew.Store(int64(month))
	op, address, stop := s.run(t)
	if err := acquire(address); err != nil {
		t.Fatal(err)
	}
	kept, err := op.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop()

	skew.Store(0)
	_, address, stop = s.run(t)
	refused(acquire(address))
	stop()
	newest := func() audit.Record {
		t.Helper()
		last, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Last: 1})
		if err != nil {
			t.Fatal(err)
		}
		return last[0].Record
	}
	ahead := newest().Time
	if want := "set_back=" + audit.Instant(ahead); !strings.Contains(s.log.String(), want) {
		t.Errorf("the log does not say %s:\n%s", want, s.log)
	}

	ended, end := context.WithCancel(t.Context())
	end()
	s.options.Config.Clock.SetBack = audit.Instant(ahead.Add(-1))
	for name, start := range map[string]func() error{"check": func() error { return Check(s.options) }, "run": func() error { return Run(ended, s.options) }} {
		err := start()
		if reason, _ := refusal.ReasonOf(err); reason != audit.ReasonSetBack || !strings.Contains(err.Error(), audit.Instant(ahead)) {
			t.Errorf("%s with another instant: %v", name, err)
		}
	}
	s.options.Config.Clock.SetBack = audit.Instant(ahead)
	if err := Check(s.options); err != nil || !newest().Time.Equal(ahead) {
		t.Errorf("a check says %v and changes the log to %+v", err, newest())
	}
	for range 2 { // the setting may stay
		_, address, stop = s.run(t)
		if err := acquire(address); err != nil {
			t.Error(err)
		}
		stop()
	}
	if !strings.Contains(s.log.String(), "clock.set_back is not needed") {
		t.Errorf("nothing says that the setting can go:\n%s", s.log)
	}
	steps, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindService, Resource: audit.Instant(ahead)})
	if err != nil || len(steps) != 1 || steps[0].Record.Action != audit.ActionSetBack {
		t.Fatalf("the log has the step as %+v (%v)", steps, err)
	}
	releases, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindRelease, From: steps[0].Index})
	if err != nil || len(releases) != 2 {
		t.Fatalf("%d releases since: %v", len(releases), err)
	}
	for _, r := range releases {
		if l := r.Record.Expiry.Sub(r.Record.Time); l > 5*time.Minute || r.Record.Expiry.After(time.Now().Add(5*time.Minute)) {
			t.Errorf("a lease of %s to %s, want 5 minutes", l, r.Record.Expiry)
		}
	}
	key, err := identity.ReadPublicFile(s.result.Layout.AuditPublic())
	if err != nil {
		t.Fatal(err)
	}
	report, err := audit.Check{Keys: []identity.Public{key}, Kept: [][]byte{[]byte(kept.Note)}}.Verify(t.Context(), s.result.Layout.Audit())
	if err != nil || report.SetBack != 1 {
		t.Errorf("verified: %+v, %v", report, err)
	}

	// Ahead and back again: what was used once allows nothing.
	skew.Store(int64(month))
	_, _, stop = s.run(t)
	stop()
	skew.Store(0)
	_, address, stop = s.run(t)
	refused(acquire(address))
	stop()
	if !strings.Contains(s.log.String(), "clock.set_back was used") {
		t.Errorf("nothing says that the setting was used:\n%s", s.log)
	}
}
