package rounds

import (
	"context"
	"testing"
	"time"
)

// silent is a store that, once it is asked to keep something, never answers.
type silent struct {
	Store
	asked chan struct{}
	end   chan struct{}
}

func (s silent) Update(context.Context, Record, *Charge) error {
	close(s.asked)
	<-s.end
	return context.Canceled
}

// TestAStoreThatNeverAnswersHoldsUpNobodyElse: whoever ends a round waits for a store that heeds
// no deadline; others who would end one wait no longer than their own time.
func TestAStoreThatNeverAnswersHoldsUpNobodyElse(t *testing.T) {
	m := newMachine(t)
	good := bolted(t)
	s := m.service(t, good, nil)
	stuck, _ := opened(t, s, nil)
	r, _ := opened(t, s, nil)
	hung := silent{good, make(chan struct{}), make(chan struct{})}
	s.cfg.Store = hung
	first := make(chan error, 1)
	go func() { first <- s.Abandon(context.WithoutCancel(t.Context()), stuck.ID) }()
	<-hung.asked
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for name, end := range map[string]func() error{
		"close":   func() error { _, err := s.Close(over, r.ID, Closing{}); return err },
		"finish":  func() error { _, err := s.Finish(over, r.ID, nil); return err },
		"abandon": func() error { return s.Abandon(over, r.ID) },
	} {
		done := make(chan error, 1)
		go func() { done <- end() }()
		select {
		case err := <-done:
			wantReason(t, name, err, ReasonEnding)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s waits past its deadline", name)
		}
	}
	close(hung.end)
	if err := <-first; err == nil {
		t.Error("the store did not keep it")
	}
	s.cfg.Store = good
	if err := s.Abandon(t.Context(), r.ID); err != nil {
		t.Errorf("once the store is back: %v", err)
	}
}
