package registry_test

import (
	"bytes"
	"context"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// A receipt is challenged once, after it was announced, and only without a proof.
func TestChallengeNamesAnnouncedReceiptsOnce(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	agent := s.Agent(t, nil)
	if list := s.challenge(t, 10); len(list) != 0 {
		t.Error("a challenge of nothing")
	}
	proven, open := s.answer(t, agent, 1, 1), s.answer(t, agent, 2, 1)
	s.announce(t, proven, open)
	if _, err := s.Submit(t.Context(), &proven.bundle); err != nil {
		t.Fatal(err)
	}
	list := s.challenge(t, 10)
	if len(list) != 1 || !slices.Equal(list[0].Challenge.Receipts, open.ids) {
		t.Fatalf("%+v", list)
	}
	c, err := wire.VerifyChallenge(list[0].Signed, s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1)))
	if err != nil || c.Agent != digest.Digest(agent.Key.Public().ID()) || c.Time != s.now() || c.Nonce == (digest.Digest{}) {
		t.Errorf("%+v, %v", c, err)
	}
	if list := s.challenge(t, 10); len(list) != 0 {
		t.Error("challenged twice")
	}
	s.restart(t, nil)
	if list := s.challenge(t, 10); len(list) != 0 {
		t.Error("challenged twice after a restart")
	}
	pending, err := s.Pending(t.Context(), c.Agent)
	if err != nil || len(pending) != 1 || !bytes.Equal(pending[0], list[0].Signed) {
		t.Errorf("%d pending, %v", len(pending), err)
	}
	if pending, err := s.Pending(t.Context(), digest.Digest{}); err != nil || len(pending) != 0 {
		t.Errorf("another agent's: %d, %v", len(pending), err)
	}
	if _, err := s.Submit(t.Context(), &open.bundle); err != nil {
		t.Fatal(err)
	}
	if pending, _ := s.Pending(t.Context(), c.Agent); len(pending) != 0 {
		t.Error("answered and still pending")
	}
	if v, err := s.ShowChallenge(t.Context(), list[0].Digest); err != nil || v.State != wire.Answered || v.Missing != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = s.ShowChallenge(t.Context(), digest.Digest{})
	wantReason(t, err, registry.ReasonNoChallenge)
}

func TestChallengeSelects(t *testing.T) {
	one, two := digest.Digest{1}, digest.Digest{2}
	for name, tc := range map[string]struct {
		spec             registry.Spec
		receipts, agents int
	}{
		"all":       {registry.Spec{All: true, Count: 100}, 9, 2},
		"agent":     {registry.Spec{Agent: &one, Count: 100}, 5, 1},
		"model":     {registry.Spec{Model: &two, Count: 100}, 6, 2},
		"both":      {registry.Spec{Agent: &one, Model: &two, Count: 100}, 2, 1},
		"some":      {registry.Spec{All: true, Count: 4}, 4, 0},
		"rate 1":    {registry.Spec{All: true, Rate: 1}, 9, 2},
		"rate tiny": {registry.Spec{All: true, Rate: 1e-12}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, cheap)
			s.announceCheap(t, 1, 1, 0, 3)
			s.announceCheap(t, 1, 2, 0, 2)
			s.announceCheap(t, 2, 2, 0, 4)
			tc.spec.Before = s.now().Add(time.Hour).Time()
			list, err := s.Challenge(t.Context(), tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			n, agents := 0, map[digest.Digest]bool{}
			for _, c := range list {
				n += len(c.Challenge.Receipts)
				agents[c.Challenge.Agent] = true
				for _, id := range c.Challenge.Receipts {
					if id[0] != c.Challenge.Agent[0] {
						t.Error("a challenge of another agent's receipt")
					}
				}
			}
			if n != tc.receipts || tc.agents > 0 && len(agents) != tc.agents {
				t.Errorf("%d receipts of %d agents", n, len(agents))
			}
			if st := s.status(t); st.Kept != n || st.Waiting != 9-n || s.recorded("proof-challenge") != len(list) {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestChallengeOfManyIsSeveral(t *testing.T) {
	s := open(t, cheap)
	s.announceCheap(t, 1, 1, 0, wire.MaxChallenged+1)
	list := s.challenge(t, 1000)
	if len(list) != 2 || len(list[0].Challenge.Receipts) != wire.MaxChallenged || len(list[1].Challenge.Receipts) != 1 {
		t.Errorf("%d challenges", len(list))
	}
}

func TestChallengesThatAreRefused(t *testing.T) {
	s := open(t, cheap)
	s.announceCheap(t, 1, 1, 0, 3)
	one, hour := digest.Digest{1}, s.now().Add(time.Hour).Time()
	for name, spec := range map[string]registry.Spec{
		"zero":           {},
		"nothing chosen": {Count: 1, Before: hour},
		"all and agent":  {All: true, Agent: &one, Count: 1, Before: hour},
		"no number":      {All: true, Before: hour},
		"two numbers":    {All: true, Count: 1, Rate: 0.5, Before: hour},
		"negative":       {All: true, Count: -1, Before: hour},
		"rate":           {All: true, Rate: 1.5, Before: hour},
		"not a number":   {All: true, Rate: math.NaN(), Before: hour},
		"past":           {All: true, Count: 1, Before: s.now().Time()},
		"far":            {All: true, Count: 1, Before: s.now().Add(32 * 24 * time.Hour).Time()},
		"no time":        {All: true, Count: 1},
	} {
		_, err := s.Challenge(t.Context(), spec)
		t.Log(name)
		wantReason(t, err, registry.ReasonSpec)
	}
	s.failAudit(errDisk)
	if _, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: hour}); err == nil {
		t.Error("a challenge without audit record")
	}
	if st := s.status(t); st.Unanswered != 0 || st.Waiting != 3 {
		t.Errorf("%+v", st)
	}
	s.failAudit(nil)
	s.restart(t, func(c *registry.Config) { c.Kept = 2 })
	_, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: 3, Before: hour})
	wantReason(t, err, registry.ReasonFull)
	s.restart(t, func(c *registry.Config) { c.Roots = federationtest.New(t).Roots() })
	if _, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: hour}); err == nil {
		t.Error("a challenge that would not verify")
	}
}

func TestOverdueIsTold(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	agent := s.Agent(t, nil)
	a := s.answer(t, agent, 1, 1)
	s.announce(t, a)
	sum := s.challenge(t, 1)[0].Digest
	s.pass(time.Hour)
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("at the deadline itself: %d, %v", n, err)
	}
	s.pass(time.Millisecond)
	if st := s.status(t); st.Overdue != 1 || len(st.Challenges) != 1 || st.Challenges[0].State != wire.Overdue || st.Challenges[0].Missing != 1 {
		t.Errorf("%+v", st)
	}
	s.failAudit(errDisk)
	if _, err := s.Sweep(t.Context()); err == nil {
		t.Error("swept without an audit log")
	}
	s.failAudit(nil)
	if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	s.restart(t, nil)
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil || s.recorded("proof-overdue") != 1 {
		t.Errorf("twice: %d, %v", n, err)
	}
	// An answer that comes late is taken, and known as late.
	if pending, err := s.Pending(t.Context(), digest.Digest(agent.Key.Public().ID())); err != nil || len(pending) != 1 {
		t.Errorf("%d pending, %v", len(pending), err)
	}
	if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
		t.Fatal(err)
	}
	if v, err := s.ShowChallenge(t.Context(), sum); err != nil || v.State != wire.Late {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestPendingPutsWhatIsInTimeFirst(t *testing.T) {
	s := open(t, cheap)
	draw := func(i int, due time.Duration) []byte {
		s.announceCheap(t, 1, 1, i, 1)
		list, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: s.now().Add(due).Time()})
		if err != nil || len(list) != 1 {
			t.Fatal(err)
		}
		return list[0].Signed
	}
	late, fresh := draw(0, time.Second), draw(1, time.Hour)
	s.pass(time.Minute)
	if list, err := s.Pending(t.Context(), digest.Digest{1}); err != nil || len(list) != 2 || !bytes.Equal(list[0], fresh) || !bytes.Equal(list[1], late) {
		t.Errorf("%d, %v", len(list), err)
	}
	for i := range 70 {
		draw(2+i, time.Hour)
	}
	if list, err := s.Pending(t.Context(), digest.Digest{1}); err != nil || len(list) != 64 {
		t.Errorf("%d, %v", len(list), err)
	}
	if st := s.status(t); st.Unanswered != 72 || st.Overdue != 1 || len(st.Challenges) != 64 || st.Challenges[0].State != wire.Overdue {
		t.Errorf("%d unanswered, %d overdue", st.Unanswered, st.Overdue)
	}
}

func TestWatchSweepsUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, cheap)
		s.announceCheap(t, 1, 1, 0, 1)
		s.challenge(t, 1)
		s.pass(2 * time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		s.failAudit(errDisk)
		go func() { ended <- s.Watch(ctx, time.Minute) }()
		<-time.After(61 * time.Second) // of the bubble
		s.failAudit(nil)
		<-time.After(5 * time.Minute)
		cancel()
		if err := <-ended; err != nil || s.recorded("proof-overdue") != 1 {
			t.Errorf("%v, %d records", err, s.recorded("proof-overdue"))
		}
	})
}
