package receipt

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// issueOnPermit is an answer of the world's guest after a restart, with a new agent key.
func (w *world) issueOnPermit(t testing.TB, now protocol.Time) Issued {
	t.Helper()
	leased, err := protocol.PermitOf(w.chain(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	key, boot := newKey(t, identity.LevelEpoch), newKey(t, identity.LevelEpoch)
	permit := protocol.Permit{Broker: w.epoch.Broker, Epoch: 3, Lease: w.lease.Lease, Certificate: digest.Of(leased.Lease), RestartKey: key.Public(),
		Sealing: protocol.SealingTPM, Restarts: 2, Keys: []protocol.Permitted{{Resource: "models/demo", Version: 4}}, NotBefore: begin, NotAfter: begin.Add(time.Hour)}
	if leased.Permit, err = protocol.SignPermit(w.epochKey, permit); err != nil {
		t.Fatal(err)
	}
	restart := protocol.Restart{Permit: digest.Of(leased.Permit), Number: 2, AgentKey: boot.Public(), At: begin.Add(10 * time.Minute), Clock: evidence.ClockParavirtual}
	if leased.Restart, err = protocol.SignRestart(key, restart); err != nil {
		t.Fatal(err)
	}
	chain, err := leased.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	answer := answer
	out, err := Issue(boot, Lease{ID: w.lease.Lease, EvidenceDigest: w.lease.EvidenceDigest, Chain: chain, Now: now}, answer)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestAnswersOnAPermitAreTakenWhereThatIsWrittenOut: and then the report says what they were given on.
func TestAnswersOnAPermitAreTakenWhereThatIsWrittenOut(t *testing.T) {
	w := newWorld(t)
	r := w.issueOnPermit(t, begin.Add(30*time.Minute)).Receipt
	_, err := Verify(r, w.roots(), Options{})
	wantReason(t, err, protocol.ReasonOnPermit)
	report, err := Verify(r, w.roots(), Options{Expect: Expect{Permits: true}})
	if err != nil {
		t.Fatal(err)
	}
	if p := report.Permit; p == nil || p.Restart != 2 || p.Restarts != 2 || p.Sealing != "tpm" || !p.LeaseEnded.Equal(w.lease.NotAfter.Time()) {
		t.Errorf("%+v", p)
	}
	if !slices.ContainsFunc(report.Links, func(l Link) bool { return l.Name == "permit" && strings.Contains(l.Detail, "number 2 of 2") }) {
		t.Errorf("%+v", report.Links)
	}
	if !slices.ContainsFunc(report.NotChecked, func(u Unchecked) bool { return u.Name == "since the restart" }) {
		t.Errorf("%+v", report.NotChecked)
	}
	for name, at := range map[string]protocol.Time{"before the restart": begin.Add(9 * time.Minute), "after the permit": begin.Add(time.Hour)} {
		_, err := Verify(w.issueOnPermit(t, at).Receipt, w.roots(), Options{Expect: Expect{Permits: true}})
		if reason, _ := refusal.ReasonOf(err); reason != ReasonTime {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A receipt under a lease is what it was.
	if report, err := Verify(w.issue(t, begin).Receipt, w.roots(), Options{Expect: Expect{Permits: true}}); err != nil || report.Permit != nil {
		t.Error(err, report.Permit)
	}
}
