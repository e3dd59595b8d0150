package tenure

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestRefusalEndsAPermitAtOnce, with its keys, and no lease: that runs to its end.
func TestRefusalEndsAPermitAtOnce(t *testing.T) {
	for _, permitted := range []bool{true, false} {
		held := New(slog.New(slog.DiscardHandler))
		now := time.Now()
		l := &client.Lease{ID: "1", TTL: time.Minute, Expires: now.Add(time.Minute), RunsUntil: now.Add(time.Hour),
			Keys: map[string]client.Key{"models/test": {Version: 1, Key: tenuretest.Key(t, tenuretest.ModelKey)}}}
		if permitted {
			l.Running = &protocol.Running{Permit: protocol.Permit{Restarts: 3, Sealing: protocol.SealingTPM, NotAfter: protocol.TimeOf(now.Add(time.Hour))},
				Restart: protocol.Restart{Number: 2, At: protocol.TimeOf(now)}}
		}
		if err := errors.Join(held.adopt(l), held.serve(l, nil)); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(held.Status("test", false, 0))
		if shown := strings.Contains(string(raw), `"permit":{"restart":2,"restarts":3,"sealing":"tpm"`); err != nil || shown != permitted || (held.Permit() != nil) != permitted {
			t.Errorf("permit %v: %s", permitted, raw)
		}
		on := -1.0
		for _, g := range held.Gauges() {
			if g.Name == "anchorhold_on_permit" {
				on = g.Value
			}
		}
		if on != map[bool]float64{true: 1, false: 0}[permitted] {
			t.Errorf("permit %v: the gauge is %v", permitted, on)
		}
		why := refusal.New("ended-by-operator", "an operator ended it")
		held.Withdraw(why)
		if ended := l.Keys["models/test"].Key.Len() == 0; ended != permitted || permitted != errors.Is(held.Serving(), why) || !permitted && held.Serving() != nil {
			t.Errorf("permit %v: wiped %v, %v", permitted, ended, held.Serving())
		}
		held.Withdraw(why) // nothing is left
		if err := held.refuse(ReasonDraining, "the test is over"); err != nil {
			t.Error(err)
		}
	}
}

// TestTheJournalSaysUnderWhoseWord the agent serves: where a permit is used nobody granted a lease.
func TestTheJournalSaysUnderWhoseWord(t *testing.T) {
	var log bytes.Buffer
	k := &Keeper{log: slog.New(slog.NewTextHandler(&log, nil))}
	l := &client.Lease{ID: "1", PolicyID: "clinic", TTL: time.Minute}
	k.logTaken(l)
	if text := log.String(); !strings.Contains(text, `msg="lease granted" lease=1`) || strings.Contains(text, "permit") {
		t.Errorf("under a lease: %s", text)
	}
	log.Reset()
	l.Running = &protocol.Running{Permit: protocol.Permit{Restarts: 3}, Restart: protocol.Restart{Number: 2}}
	k.logTaken(l)
	if text := log.String(); !strings.Contains(text, `msg="restart permit used in place of a lease" lease=1`) || !strings.Contains(text, "restart=2 of=3") || strings.Contains(text, "granted") {
		t.Errorf("on a permit: %s", text)
	}
}
