package rounds_test

import (
	"context"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// aggregator has signed rounds, and verifies them as a client of a real one does.
type aggregator struct {
	*federationtest.World
	signed map[digest.RoundID][]byte
	asked  int
}

func (a *aggregator) Round(_ context.Context, broker protocol.Broker, floor protocol.Floor, id digest.RoundID) (federation.Round, []byte, error) {
	a.asked++
	r, err := federation.VerifyRound(a.signed[id], a.Roots(), broker, floor)
	return r, a.signed[id], err
}

func (a *aggregator) open(t *testing.T) federation.Round {
	t.Helper()
	r, signed, _ := a.World.Round(t, 4, nil)
	a.signed[r.ID] = signed
	return r
}

// TestARoundIsVerifiedAndRemembered: and asked for again only if what is remembered is not what
// is needed now.
func TestARoundIsVerifiedAndRemembered(t *testing.T) {
	a := &aggregator{World: federationtest.New(t), signed: map[digest.RoundID][]byte{}}
	r := a.open(t)
	begun := rounds.Standing{Broker: a.Epoch.Broker, Lowest: protocol.AtLeast(1), Now: federationtest.Begin.Add(time.Minute)}
	over, retired, other := begun, begun, begun
	over.Now = a.Epoch.NotAfter.Add(time.Minute)
	retired.Lowest = protocol.AtLeast(2)
	other.Broker = federationtest.New(t).Epoch.Broker
	now := begun
	v := rounds.New(a, func() (rounds.Standing, error) { return now, nil })
	for _, step := range []struct {
		name     string
		standing rounds.Standing
		ask      func(context.Context, digest.RoundID) (rounds.Round, error)
		asked    int
		want     refusal.Reason
	}{
		{"after its epoch, as open", over, v.Open, 1, protocol.ReasonEpochNotValid},
		{"after its epoch, as past", over, v.Past, 2, ""},
		{"once more", over, v.Past, 0, ""},
		{"as open: what is remembered was past", begun, v.Open, 1, ""},
		{"as past: an open one is as good", begun, v.Past, 0, ""},
		{"as open once more", begun, v.Open, 0, ""},
		{"under the lease of another broker", other, v.Past, 1, protocol.ReasonAnotherBroker},
		{"its epoch was retired", retired, v.Past, 1, protocol.ReasonEpochRetired},
		{"the first broker again", begun, v.Open, 0, ""},
	} {
		now, a.asked = step.standing, 0
		got, err := step.ask(t.Context(), r.ID)
		if reason, _ := refusal.ReasonOf(err); reason != step.want || (err == nil) != (step.want == "") || a.asked != step.asked {
			t.Errorf("%s: asked %d times, want %d: %v, want %q", step.name, a.asked, step.asked, err, step.want)
		}
		if err == nil && (got.ID != r.ID || got.Digest != digest.Of(a.signed[r.ID])) {
			t.Errorf("%s: another round", step.name)
		}
	}
}

// TestAskAsksAnAggregatorWhateverIsRemembered: only the verifier's own is then remembered.
func TestAskAsksAnAggregatorWhateverIsRemembered(t *testing.T) {
	w := federationtest.New(t)
	own, second := &aggregator{World: w, signed: map[digest.RoundID][]byte{}}, &aggregator{World: w, signed: map[digest.RoundID][]byte{}}
	r := own.open(t)
	second.signed[r.ID] = own.signed[r.ID]
	v := rounds.New(own, func() (rounds.Standing, error) {
		return rounds.Standing{Broker: w.Epoch.Broker, Lowest: protocol.AtLeast(1), Now: federationtest.Begin.Add(time.Minute)}, nil
	})
	for i, from := range []*aggregator{second, own, own} {
		if _, err := v.Ask(t.Context(), r.ID, from); err != nil {
			t.Fatal(err)
		}
		if want := []int{0, 1, 2}[i]; own.asked != want || second.asked != 1 {
			t.Errorf("question %d: asked %d and %d times", i, own.asked, second.asked)
		}
	}
	if _, err := v.Open(t.Context(), r.ID); err != nil || own.asked != 2 {
		t.Errorf("asked %d times: %v", own.asked, err)
	}
}

// TestWithoutALeaseThereAreNoRounds: nothing says whose word counts.
func TestWithoutALeaseThereAreNoRounds(t *testing.T) {
	a := &aggregator{World: federationtest.New(t), signed: map[digest.RoundID][]byte{}}
	r := a.open(t)
	v := rounds.New(a, func() (rounds.Standing, error) {
		return rounds.Standing{}, refusal.New(protocol.ReasonLeaseExpired, "the lease ended")
	})
	_, open := v.Open(t.Context(), r.ID)
	_, asked := v.Ask(t.Context(), r.ID, a)
	_, floor := v.Live()
	for name, err := range map[string]error{"open": open, "ask": asked, "live": floor} {
		if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonLeaseExpired {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a.asked != 0 {
		t.Errorf("asked %d times", a.asked)
	}
}
