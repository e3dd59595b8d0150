package aggregator_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// two opens an aggregator for the rounds of two brokers that do not trust each other.
func two(t *testing.T, a, b *federationtest.World, dir string) *site {
	t.Helper()
	return open(t, a, dir, func(c *aggregator.Config) { c.Roots = both(a, b) })
}

func both(a, b *federationtest.World) []identity.Public { return append(a.Roots(), b.Roots()...) }

// TestAnotherRootsBrokerSaysNothingAboutARound: its guests, with the same tenant and roles,
// neither read nor write there, and its epoch key does not close it.
func TestAnotherRootsBrokerSaysNothingAboutARound(t *testing.T) {
	a, b := federationtest.New(t), federationtest.New(t)
	s := two(t, a, b, t.TempDir())
	r, signed, _ := a.Round(t, length, nil)
	theirs, theirSigned, _ := b.Round(t, length, nil)
	for _, signed := range [][]byte{signed, theirSigned} {
		if err := s.public.AddRound(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
	}
	guest := b.Agent(t, nil)
	manifest, blocks := guest.Contribute(t, r, signed, make([]int32, length))
	if _, err := s.agg.Begin(r.ID, manifest); err == nil {
		t.Error("another broker's guest contributed")
	} else {
		wantReasonOf(t, "a contribution", err, protocol.ReasonAnotherBroker)
	}
	for range r.Minimum {
		m, blocks := a.Agent(t, nil).Contribute(t, r, signed, make([]int32, length))
		if _, err := s.send(t, r, m, blocks); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := s.admin.MakeSum(t.Context(), r.ID, s.cohort(t, r))
	if err != nil {
		t.Fatal(err)
	}
	closing := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: b.Epoch.Broker, Epoch: 1, Cohort: sum.Cohort, Count: r.Minimum, TotalWeight: uint64(r.Minimum),
		Sum: federation.UploadDigest(r.ID, sum.Hashes), Time: federationtest.Begin.Add(time.Minute)}
	ticket, err := federation.SignTicket(b.EpochKey, b.EpochSigned, closing)
	if err != nil {
		t.Fatal(err)
	}
	wantReasonOf(t, "a ticket", s.agg.SetTicket(r.ID, ticket), protocol.ReasonAnotherBroker)
	closing.Broker = a.Epoch.Broker
	if ticket, err = federation.SignTicket(a.EpochKey, a.EpochSigned, closing); err != nil {
		t.Fatal(err)
	}
	if err := s.agg.SetTicket(r.ID, ticket); err != nil {
		t.Fatal(err)
	}
	values := make([]byte, 8*length)
	binary.LittleEndian.PutUint64(values, 1)
	wantReasonOf(t, "a result", s.agg.SetResult(r.ID, s.result(t, b.Agent(t, nil).GrantRound(t, r, signed), r, signed, ticket, values)), protocol.ReasonAnotherBroker)

	visitor := closer(t, s.as(guest))
	terms, sums := readings(t, s, visitor, r, signed, s.cohort(t, r)[0])
	for _, refused := range []map[string]error{terms, sums} {
		for what, err := range refused {
			wantReasonOf(t, what, err, aggregator.ReasonNotNamed)
		}
	}
	_, err = visitor.Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
	wantReasonOf(t, "an upload", err, aggregator.ReasonNotNamed)
	own := closer(t, uplink.NewLocal(s.socket, both(a, b)))
	if _, _, err := own.Round(t.Context(), b.Broker(), s.Floor(), theirs.ID); err != nil {
		t.Errorf("the other broker's own round: %v", err)
	}
	_, _, err = own.Round(t.Context(), a.Broker(), s.Floor(), theirs.ID)
	wantReasonOf(t, "a round that this guest's broker did not open", err, protocol.ReasonAnotherBroker)
}

// TestAnotherRootsSetupIsNotRead by a guest that it names, but of which its broker knows
// nothing.
func TestAnotherRootsSetupIsNotRead(t *testing.T) {
	a, b := federationtest.New(t), federationtest.New(t)
	s := two(t, a, b, t.TempDir())
	guest := b.Agent(t, nil)
	setup, signed := a.Setup(t, 2, guest, a.Agent(t, nil))
	if err := s.public.AddSetup(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	_, _, err := closer(t, s.as(guest)).Setup(t.Context(), s.Broker(), s.Floor(), setup.Round)
	wantReasonOf(t, "a set-up", err, aggregator.ReasonNotNamed)
}

// TestALeaseOfAnotherBrokerRestatesNothing: a guest whose lease its broker did not renew
// dates nothing back into it from a connection under another broker's lease.
func TestALeaseOfAnotherBrokerRestatesNothing(t *testing.T) {
	a, b := federationtest.New(t), federationtest.New(t)
	s := two(t, a, b, t.TempDir())
	guest := a.Agent(t, nil)
	s.setNow(guest.Lease.NotAfter.Time().Add(5 * time.Minute))
	at := protocol.TimeOf(s.now())
	for w, want := range map[*federationtest.World]bool{a: true, b: false} {
		lease := w.Agent(t, func(c *protocol.LeaseCertificate) {
			c.AgentKey, c.NotBefore, c.NotAfter = guest.Key.Public(), at, at.Add(15*time.Minute)
		})
		shown, err := federation.SignAccess(guest.Key, lease.Chain, federation.Access{Binding: digest.Digest{1}, Agent: guest.Key.Public().ID(), Time: at})
		if err != nil {
			t.Fatal(err)
		}
		reader, err := federation.VerifyAccess(shown, both(a, b), protocol.Live(protocol.AtLeast(1), at), digest.Digest{1})
		if err != nil {
			t.Fatal(err)
		}
		err = s.agg.MayRestate(&protocol.Authority{Lease: guest.Lease, Epoch: a.Epoch}, &reader)
		if (err == nil) != want {
			t.Errorf("under a lease of the same broker %t: %v", want, err)
		}
	}
}

// TestARootRetiresItsOwnEpochsAlone, now and after a restart.
func TestARootRetiresItsOwnEpochsAlone(t *testing.T) {
	a, b, dir := federationtest.New(t), federationtest.New(t), t.TempDir()
	s := two(t, a, b, dir)
	r, signed, _ := a.Round(t, length, nil)
	theirs, theirSigned, _ := b.Round(t, length, nil)
	next := b.NextEpoch(t, 1<<40)
	_, nextSigned, _ := next.Round(t, length, nil)
	for _, signed := range [][]byte{signed, theirSigned, nextSigned} {
		if err := s.public.AddRound(t.Context(), signed); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		m, blocks := a.Agent(t, nil).Contribute(t, r, signed, make([]int32, length))
		if _, err := s.send(t, r, m, blocks); err != nil {
			t.Errorf("a guest of the broker that retired nothing: %v", err)
		}
		m, _ = b.Agent(t, nil).Contribute(t, theirs, theirSigned, make([]int32, length))
		_, err := s.agg.Begin(theirs.ID, m)
		wantReasonOf(t, "a guest of the retired epoch", err, protocol.ReasonEpochRetired)
		s.stop()
		s = two(t, a, b, dir)
	}
}

// TestTheFloorOfAnEarlierVersionCountsForEachRoot: its file holds one number.
func TestTheFloorOfAnEarlierVersionCountsForEachRoot(t *testing.T) {
	a, b, dir := federationtest.New(t), federationtest.New(t), t.TempDir()
	path := filepath.Join(dir, "min-epoch")
	if err := os.WriteFile(path, []byte("2"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := two(t, a, b, dir)
	for _, w := range []*federationtest.World{a, b} {
		_, old, _ := w.Round(t, length, nil)
		_, err := s.agg.AddRound(old)
		wantReasonOf(t, "a round of epoch 1", err, protocol.ReasonEpochRetired)
		_, signed, _ := w.NextEpoch(t, 2).Round(t, length, nil)
		if _, err := s.agg.AddRound(signed); err != nil {
			t.Errorf("a round of epoch 2: %v", err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range both(a, b) {
		if line := fmt.Sprintf("%x 2\n", root.ID()); !strings.Contains(string(raw), line) {
			t.Errorf("%q has no line %q", raw, line)
		}
	}
}
