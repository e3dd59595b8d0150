//go:build !release

package keybroker_test

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// keepingBut is keeping with another limit besides.
func keepingBut(change func(*keybroker.Limits)) []brokertest.Option {
	return append(keeping(), brokertest.WithConfig(func(c *keybroker.Config) { change(&c.Limits) }))
}

// waitKept waits until the broker keeps so many connections.
func waitKept(t testing.TB, f *brokertest.Fixture, want int) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for f.Broker.Connections().Kept != want {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%+v, want %d kept", f.Broker.Connections(), want)
		}
	}
}

// TestEachExchangeOnAKeptConnectionIsWhole: another nonce, exporter, grant and record each
// time, and another connection in none of them.
func TestEachExchangeOnAKeptConnectionIsWhole(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	seen := map[any]bool{}
	const exchanges = 3
	for i := range exchanges {
		if i == 0 {
			stay(g)
		} else {
			again(g)
		}
		for _, v := range []any{g.m2.Nonce, g.ekm, g.m4.Lease} {
			seen[v] = true
		}
	}
	if len(seen) != 3*exchanges {
		t.Errorf("%d different nonces, exporters and leases of %d exchanges", len(seen), exchanges)
	}
	waitKept(t, f, 1)
	if s := f.Broker.Connections(); s.Accepted != 1 || s.Reused != exchanges-1 || s.Unproven+s.Proven != 0 || s.BodyBytes != 0 {
		t.Errorf("%+v", s)
	}
	leave(g)
	waitKept(t, f, 0)
	f.Stop()
	count := map[audit.Kind]int{}
	named := map[string]bool{}
	for _, r := range f.Records() {
		count[r.Kind]++
		named[r.Connection] = true
	}
	if count[audit.KindGrant] != exchanges || count[audit.KindRelease] != exchanges || count[audit.KindReceipt] != exchanges || len(count) != 3 || len(named) != exchanges {
		t.Errorf("recorded %v in %d exchanges", count, len(named))
	}
}

// TestFirstMessageMayFollowAtOnce sends M1 of the next exchange with M7, in one record.
func TestFirstMessageMayFollowAtOnce(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	g.released()
	m7 := &protocol.Receipt{Release: protocol.HashMessage(g.frames[5])}
	m7.Prove(g.opened(), g.ekm)
	last, err := protocol.Marshal(m7)
	g.fatal(err)
	g.next()
	first, err := protocol.Marshal(hello())
	g.fatal(err)
	g.frames[0] = first
	g.write(slices.Concat(last, first))
	g.fatal(g.read(2, &g.m2))
	g.fatal(g.attest(g.attestation()))
	g.fatal(g.release())
	g.confirm()
	leave(g)
}

// TestGoal03EvidenceOfTheExchangeBefore offers what an exchange was given, or could have
// been, to the next one on its connection.
func TestGoal03EvidenceOfTheExchangeBefore(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	for name, tc := range map[string]struct {
		attest func(g *guest, m3 protocol.Attest, before [48]byte) error
		want   refusal.Reason
	}{
		"M3 as it was": {func(g *guest, m3 protocol.Attest, _ [48]byte) error {
			g.send(3, &m3)
			return g.read(4, &g.m4)
		}, protocol.ReasonAgentSignature},
		"its evidence, signed again": {func(g *guest, m3 protocol.Attest, _ [48]byte) error {
			return g.attest(&m3)
		}, reportDataMismatch},
		"its evidence for another KEM key": {func(g *guest, m3 protocol.Attest, _ [48]byte) error {
			m3.KEMKey = g.kem.PublicKey()
			return g.attest(&m3)
		}, reportDataMismatch},
		"evidence for this nonce under the exporter before": {func(g *guest, m3 protocol.Attest, before [48]byte) error {
			m3.KEMKey = g.kem.PublicKey()
			h1, h2 := g.hashes()
			m3.Evidence = g.quote(m3.Binding(before, h1, h2, g.claims.Digest()).Challenge())
			return g.attest(&m3)
		}, reportDataMismatch},
	} {
		t.Run(name, func(t *testing.T) {
			g := dial(t, f)
			g.begin()
			m3 := g.attestation()
			g.fatal(g.attest(m3))
			g.fatal(g.release())
			g.confirm()
			before := g.ekm
			g.next()
			g.begin()
			wantReason(t, tc.attest(g, *m3, before), tc.want)
			g.ended()
		})
	}
}

// TestGoal04NonceOfTheExchangeBefore: a second M3 in a later exchange is no better than in
// the first, and an exchange that was granted lends the next one nothing.
func TestGoal04NonceOfTheExchangeBefore(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	stay(g)
	g.next()
	g.send(5, request(brokertest.Resource)) // under the grant that was
	wantReason(t, g.read(6, &g.m6), protocol.ReasonUnexpectedMessage)
	g.ended()
}

// TestLaterExchangesAreJudgedAnew changes the policy between two exchanges.
func TestLaterExchangesAreJudgedAnew(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	stay(g)
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), "vmpl: 0", "vmpl: 1", 1))
	g.next()
	g.begin()
	wantReason(t, g.attest(g.attestation()), policy.ReasonVMPL)
	g.ended()
	waitKept(t, f, 0)
}

// TestAnotherAgentOnAKeptConnection is genuine in everything, but not who was there before.
func TestAnotherAgentOnAKeptConnection(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	stay(g)
	g.next()
	g.agent = f.NewKey(identity.LevelEpoch)
	g.begin()
	wantReason(t, g.attest(g.attestation()), protocol.ReasonAgentKeyChanged)
	g.ended()
}

// TestConnectionIsKeptAfterAReceiptAlone: a wrong M7, or none, ends it.
func TestConnectionIsKeptAfterAReceiptAlone(t *testing.T) {
	f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) { l.Step = time.Second })...)
	wrong := dial(t, f)
	wrong.released()
	m7 := &protocol.Receipt{Release: protocol.Digest{1}}
	m7.Prove(wrong.opened(), wrong.ekm)
	wrong.send(7, m7)
	wrong.ended()
	silent := dial(t, f)
	silent.released()
	silent.ended()
	if s := f.Broker.Connections(); s.Kept != 0 {
		t.Errorf("%+v", s)
	}
}

// TestKeptConnectionEndsWithItsLease lets the lease end, by the broker's clock, before M7
// arrives: what is left to wait is nothing.
func TestKeptConnectionEndsWithItsLease(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	g.released()
	f.Clock.Move(g.m4.LeaseEnd.Time().Sub(g.m4.BrokerTime.Time()) + time.Minute)
	g.confirm()
	g.ended()
	waitKept(t, f, 0)
}

func TestOneConnectionIsKeptOfAnAgent(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	first, second := dial(t, f), dial(t, f)
	second.agent = first.agent
	stay(first)
	waitKept(t, f, 1)
	stay(second)
	if _, err := first.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection before is still open")
	}
	again(second)
	leave(second)
}

// TestKeptConnectionsAreBounded keeps one more than may be.
func TestKeptConnectionsAreBounded(t *testing.T) {
	f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) { l.Kept = 2 })...)
	first, second, third := dial(t, f), dial(t, f), dial(t, f)
	stay(first)
	waitKept(t, f, 1)
	stay(second)
	waitKept(t, f, 2)
	third.whole() // it is closed
	again(first)
	again(second)
}

// TestKeptConnectionsGiveWay fills the broker's places with strangers and attested guests:
// of these none is ended for the sake of one that is kept.
func TestKeptConnectionsGiveWay(t *testing.T) {
	f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) {
		l.Listen = listen.Limits{Connections: 4, Unproven: 2, PerSource: 2}
	})...)
	var kept []*guest
	for i := range 4 {
		kept = append(kept, dial(t, f))
		stay(kept[i])
		waitKept(t, f, i+1)
	}
	attested := dial(t, f)
	attested.begin()
	attested.fatal(attested.attest(attested.attestation()))
	dial(t, f).begin()
	dial(t, f).begin()
	waitKept(t, f, 1)
	if s := f.Broker.Connections(); s.KeptEvicted != 3 || s.Evicted != 0 || s.Proven != 1 || s.Unproven != 2 {
		t.Errorf("%+v", s)
	}
	attested.fatal(attested.release())
	again(kept[0]) // the one that was kept first
	for _, g := range kept[1:] {
		if _, err := g.conn.Read(make([]byte, 1)); err == nil {
			t.Error("a connection that gave way is open")
		}
	}
}

// TestShutdownWaitsForNoKeptConnection drains for an hour.
func TestShutdownWaitsForNoKeptConnection(t *testing.T) {
	f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) { l.Drain = time.Hour })...)
	g := dial(t, f)
	stay(g)
	waitKept(t, f, 1)
	f.Stop()
	if _, err := g.conn.Read(make([]byte, 1)); err == nil {
		t.Error("a stopped broker keeps a connection")
	}
}

// TestServeEndsKeptConnectionsWithItsListener breaks the listener under a kept connection.
func TestServeEndsKeptConnectionsWithItsListener(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	stay(dial(t, f))
	waitKept(t, f, 1) // the fixture's own listener is counted no more once another is served
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	broken := &breakable{ln, make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- f.Broker.Serve(t.Context(), broken) }()
	f.Address = ln.Addr().String()
	g := dial(t, f)
	stay(g)
	waitKept(t, f, 1)
	close(broken.now)
	ln.Close()
	if err := <-ended; err == nil {
		t.Error("a broken listener is no error")
	}
}

// breakable fails for good when it is told to.
type breakable struct {
	net.Listener
	now chan struct{}
}

func (b *breakable) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	select {
	case <-b.now:
		return nil, errFault
	default:
		return c, err
	}
}

// TestConnectionsOfAnEarlierCertificateAreNotKept: those that are idle end, those in use
// after their exchange.
func TestConnectionsOfAnEarlierCertificateAreNotKept(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	idle, busy := dial(t, f), dial(t, f)
	stay(idle)
	waitKept(t, f, 1)
	busy.released()
	f.Broker.DropKept()
	if _, err := idle.conn.Read(make([]byte, 1)); err == nil {
		t.Error("the idle connection is still open")
	}
	busy.receipt()
	later := dial(t, f)
	stay(later)
	again(later)
}

// TestDeadlinesHoldInLaterExchanges: none of the time that an earlier one did not use is
// added, and none that it used or that lay between is missing.
func TestDeadlinesHoldInLaterExchanges(t *testing.T) {
	second := func(l *keybroker.Limits) {
		l.Step, l.NonceWindow, l.Exchange = time.Hour, protocol.MinNonceWindow, time.Hour
	}
	t.Run("M1", func(t *testing.T) {
		f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) { second(l); l.Step = time.Second })...)
		g := dial(t, f)
		stay(g)
		g.next()
		g.write([]byte{byte(len(protocol.TypeHello.String()))})
		wantReason(t, g.read(2, &g.m2), protocol.ReasonDeadline)
	})
	t.Run("M3", func(t *testing.T) {
		f := brokertest.New(t, keepingBut(second)...)
		g := dial(t, f)
		stay(g)
		g.next()
		g.begin()
		wantReason(t, g.read(4, &g.m4), protocol.ReasonDeadline)
	})
	t.Run("the whole exchange", func(t *testing.T) {
		f := brokertest.New(t, keepingBut(func(l *keybroker.Limits) { second(l); l.Exchange = 2 * time.Second })...)
		g := dial(t, f)
		stay(g)
		g.next()
		g.begin()
		g.fatal(g.attest(g.attestation()))
		if err := g.read(6, &g.m6); err == nil {
			t.Error("an exchange without end goes on")
		}
	})
}

// TestConnectionCarriesSoManyExchanges runs as many as it may.
func TestConnectionCarriesSoManyExchanges(t *testing.T) {
	f := brokertest.New(t, keeping()...)
	g := dial(t, f)
	stay(g)
	for range protocol.MaxExchanges - 1 {
		again(g)
	}
	g.ended()
	if s := f.Broker.Connections(); s.Reused != protocol.MaxExchanges-1 || s.Accepted != 1 {
		t.Errorf("%+v", s)
	}
}
