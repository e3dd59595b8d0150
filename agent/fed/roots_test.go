package fed_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestRoundsAreOfTheLeasesBroker: under the lease of another root's broker a round is
// refused, be it remembered or fetched.
func TestRoundsAreOfTheLeasesBroker(t *testing.T) {
	w, other := newWorld(t), federationtest.New(t)
	r, _, _ := w.open(t, nil)
	under := w.Agent(t, nil)
	w.sign = func(*federationtest.Agent) *federationtest.Agent { return under }
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	if _, err := g.Round(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	under = other.Agent(t, nil)
	_, err := g.Round(t.Context(), r.ID)
	if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonAnotherBroker {
		t.Errorf("under another broker's lease: %v", err)
	}
}
