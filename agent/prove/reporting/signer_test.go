package reporting

import (
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// TestSignerOfARetiredEpochIsForgotten: a chain that was verified once is held against the
// lowest epoch of now, each time.
func TestSignerOfARetiredEpochIsForgotten(t *testing.T) {
	w := federationtest.New(t)
	agent, stranger := w.Agent(t, nil), w.Agent(t, nil)
	agent.Grant(t, [32]byte{5})
	answer := func(a *federationtest.Agent) receipt.Receipt {
		issued, err := receipt.Issue(a.Key, receipt.Lease{ID: a.Lease.Lease, EvidenceDigest: a.Lease.EvidenceDigest, Chain: a.Chain, Now: federationtest.Begin},
			receipt.Answer{ID: digest.ReceiptID{1}, ModelID: [32]byte{5}, ModelName: "m"})
		if err != nil {
			t.Fatal(err)
		}
		return issued.Receipt
	}
	now, none := attested.Signer{Lowest: protocol.AtLeast(1)}, error(nil)
	find := KeyOf(w.Roots(), func() (attested.Signer, error) { return now, none })
	r := answer(agent)
	for range 2 {
		if id, err := find(r); err != nil || id != agent.Key.Public().ID() {
			t.Errorf("%s, %v", id, err)
		}
	}
	if _, err := find(answer(stranger)); err == nil {
		t.Error("a guest that was not granted the model's key is its signer")
	} else if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonNotGranted {
		t.Error(err)
	}
	now.Lowest = protocol.AtLeast(2)
	if _, err := find(r); err == nil {
		t.Error("its epoch is retired")
	} else if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonEpochRetired {
		t.Error(err)
	}
	now.Lowest, none = protocol.AtLeast(1), errors.New("no lease")
	if _, err := find(r); !errors.Is(err, none) {
		t.Errorf("without a lease nobody knows the lowest epoch: %v", err)
	}
}
