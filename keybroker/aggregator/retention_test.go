package aggregator_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
)

// take adds a round of the world to an aggregator.
func take(t *testing.T, s *site, change func(*federation.Round)) (federation.Round, []byte) {
	t.Helper()
	r, signed, _ := s.Round(t, length, change)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	return r, signed
}

// TestRoundsThatAreOverGoInTime: an aggregator held them until somebody removed them, and
// then took no other.
func TestRoundsThatAreOverGoInTime(t *testing.T) {
	const day = 24 * time.Hour
	dir := t.TempDir()
	s := open(t, federationtest.New(t), dir, func(c *aggregator.Config) { c.Rounds, c.Kept, c.Unfinished = 2, 10*day, 30*day })
	published, signed := take(t, s, nil)
	unfinished, _ := take(t, s, func(r *federation.Round) { r.Model = "other" })
	for _, name := range []string{"result", "values"} {
		if err := os.WriteFile(filepath.Join(dir, "rounds", published.ID.String(), name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, third, _ := s.Round(t, length, func(r *federation.Round) { r.Model = "third" })
	_, err := s.agg.AddRound(third)
	wantReason(t, err, aggregator.ReasonBusy)
	expire := func(at time.Time, want int) {
		t.Helper()
		s.setNow(at)
		if n, err := s.agg.Expire(t.Context()); n != want || err != nil {
			t.Errorf("at %s %d went, want %d: %v", at, n, want, err)
		}
	}
	closes := published.Closes.Time()
	expire(closes.Add(10*day), 0)
	expire(closes.Add(10*day+time.Second), 1)
	if list := s.agg.Rounds(); len(list) != 1 || list[0].Round != unfinished.ID {
		t.Errorf("%+v", list)
	}
	if _, err := os.Stat(filepath.Join(dir, "rounds", published.ID.String())); !os.IsNotExist(err) {
		t.Error("its files are there:", err)
	}
	expire(closes.Add(30*day), 0)
	expire(closes.Add(30*day+time.Second), 1)
	// What went is not taken again.
	_, err = s.agg.AddRound(signed)
	wantReason(t, err, aggregator.ReasonRoundOver)
	expire(time.Unix(1000, 0), 0) // a clock without time
}

func TestRoundsOfOneModelLeaveRoomForOthers(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Rounds = 4 })
	for range 3 { // three quarters
		take(t, s, nil)
	}
	_, signed, _ := s.Round(t, length, nil)
	_, err := s.agg.AddRound(signed)
	wantReason(t, err, aggregator.ReasonModel)
	take(t, s, func(r *federation.Round) { r.Model = "other" })
}

// A set-up that never became a round goes as rounds do.
func TestSetupsThatAreOverGoInTime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, federationtest.New(t), dir, func(c *aggregator.Config) { c.Rounds, c.Unfinished = 1, 24*time.Hour })
	setup, signed := s.Setup(t, 2, s.Agent(t, nil), s.Agent(t, nil))
	if err := s.public.AddSetup(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct {
		now  time.Time
		want int
	}{{setup.Closes.Time().Add(24 * time.Hour), 0}, {setup.Closes.Time().Add(24*time.Hour + time.Second), 1}} {
		s.setNow(at.now)
		if n, err := s.agg.Expire(t.Context()); n != at.want || err != nil {
			t.Errorf("%d went, want %d: %v", n, at.want, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "setups")); err != nil || len(left) != 0 {
		t.Errorf("%v, %v", left, err)
	}
}
