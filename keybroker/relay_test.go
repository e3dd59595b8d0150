//go:build !release

package keybroker_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// relay is an attacker in the middle who holds the TLS key and certificate of
// the end that the guest wants to reach: it terminates TLS on both sides and
// passes every message on as it is.
type relay struct {
	address string
	mu      sync.Mutex
	passed  map[protocol.Type]int
}

func newRelay(t *testing.T, f *brokertest.Fixture) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := hybridtls.ServerConfig(f.Certificate, hybridtls.ProfileDefault) // the leaked key
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: ln.Addr().String(), passed: map[protocol.Type]int{}}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			toGuest, err := hybridtls.Server(context.Background(), raw, server)
			if err != nil {
				continue
			}
			toBroker := dial(t, f).conn
			wg.Go(func() { r.pass(toBroker, toGuest); toBroker.CloseWrite() })
			wg.Go(func() { r.pass(toGuest, toBroker); toGuest.CloseWrite(); toGuest.Close() })
		}
	})
	return r
}

func (r *relay) pass(to io.Writer, from io.Reader) {
	for {
		typ, frame, err := protocol.ReadFrame(from, protocol.TypeHello, protocol.TypeChallenge, protocol.TypeAttest, protocol.TypeGrant,
			protocol.TypeRequest, protocol.TypeRelease, protocol.TypeReceipt, protocol.TypeRefusal)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.passed[typ]++
		r.mu.Unlock()
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// TestGoal03 puts the relay between a genuine guest and the genuine broker. The
// guest notices before any evidence leaves it.
func TestGoal03(t *testing.T) { relayGetsNothing(t) }

// TestPitfall05 is the relay with a leaked TLS key, failure 5 of docs/known-failures.md.
func TestPitfall05(t *testing.T) { relayGetsNothing(t) }

func relayGetsNothing(t *testing.T) {
	f := brokertest.New(t)
	r := newRelay(t, f)
	asked := &countingCollector{next: f.TEE}
	c := f.Client(func(c *client.Config) { c.Address, c.Collector = r.address, asked })
	_, err := c.Acquire(context.Background(), []string{brokertest.Resource})
	wantClientReason(t, err, protocol.ReasonBrokerSignature)
	r.mu.Lock()
	defer r.mu.Unlock()
	if asked.n != 0 || r.passed[protocol.TypeAttest] != 0 {
		t.Error("evidence left the guest")
	}
	if r.passed[protocol.TypeChallenge] != 1 {
		t.Errorf("the relay did not work: %v", r.passed)
	}
	wantNoRelease(t, f)
}

type countingCollector struct {
	next client.Collector
	n    int
}

func (c *countingCollector) Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error) {
	c.n++
	return c.next.Collect(ctx, reportData)
}

// TestGoal03EvidenceForAnotherConnection gives the attacker more and more of a
// genuine guest and lets it forward evidence from the guest's connection to its
// own. Whatever it holds, the report binds the other connection.
func TestGoal03EvidenceForAnotherConnection(t *testing.T) {
	f := brokertest.New(t)
	for name, forward := range map[string]func(victim, attacker *guest, m3 *protocol.Attest) error{
		"M3 as it was": func(victim, attacker *guest, m3 *protocol.Attest) error {
			h1, h2 := victim.hashes()
			attacker.fatal(m3.Sign(victim.agent, victim.ekm, h1, h2))
			attacker.send(3, m3)
			return attacker.read(4, &attacker.m4)
		},
		"signed again with the leaked agent key": func(victim, attacker *guest, m3 *protocol.Attest) error {
			attacker.agent = victim.agent
			return attacker.attest(m3)
		},
		"with the attacker's own KEM key": func(victim, attacker *guest, m3 *protocol.Attest) error {
			attacker.agent, m3.KEMKey = victim.agent, attacker.kem.PublicKey()
			return attacker.attest(m3)
		},
		"with the attacker's own keys": func(_, attacker *guest, m3 *protocol.Attest) error {
			m3.AgentKey, m3.KEMKey = attacker.agent.Public(), attacker.kem.PublicKey()
			return attacker.attest(m3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			victim, attacker := dial(t, f), dial(t, f)
			victim.begin()
			attacker.begin()
			err := forward(victim, attacker, victim.attestation())
			want := reportDataMismatch
			if name == "M3 as it was" {
				want = protocol.ReasonAgentSignature
			}
			wantReason(t, err, want)
		})
	}
	wantNoRelease(t, f)
}

// TestPitfall06 copies a genuine quote to a machine that has none: the quote is
// genuine, the channel is not its own.
func TestPitfall06(t *testing.T) {
	f := brokertest.New(t)
	genuine := dial(t, f)
	genuine.begin()
	copied := genuine.attestation().Evidence
	fake := dial(t, f)
	fake.begin()
	m3 := fake.attestation()
	m3.Evidence = copied
	wantReason(t, fake.attest(m3), reportDataMismatch)
	wantNoRelease(t, f)
}

// TestPitfall03 serves evidence that was made earlier, for an exchange that
// went well.
func TestPitfall03(t *testing.T) {
	f := brokertest.New(t)
	first := dial(t, f)
	first.begin()
	old := first.attestation()
	first.fatal(first.attest(old))
	first.fatal(first.release())

	second := dial(t, f)
	second.agent, second.kem = first.agent, first.kem
	second.begin()
	m3 := second.attestation()
	m3.Evidence = old.Evidence
	wantReason(t, second.attest(m3), reportDataMismatch)
}

// TestPitfall34 uses a grant, and then a whole granted exchange, as a bearer
// token on another connection: a lease id opens nothing.
func TestPitfall34(t *testing.T) {
	f := brokertest.New(t)
	owner := dial(t, f)
	owner.begin()
	owner.fatal(owner.attest(owner.attestation()))

	thief := dial(t, f)
	thief.begin()
	thief.send(5, request(brokertest.Resource)) // M5 where M3 belongs
	wantReason(t, thief.read(6, &thief.m6), protocol.ReasonUnexpectedMessage)

	// A thief who is a guest that the policy allows gets keys for its own KK and
	// connection; what the owner gets does not open with the thief's.
	owner.fatal(owner.release())
	other, err := keywrap.NewRecipient()
	owner.fatal(err)
	if _, err := owner.open(other); err == nil {
		t.Error("the thief opens the owner's release")
	}
	key, err := owner.open(owner.kem)
	owner.fatal(err)
	key.Wipe()
}

// TestGoal04 sends one M3 on 64 connections at the same time. It was made for
// one of them; that one wins and no other.
func TestGoal04(t *testing.T) { oneOfSixtyFour(t) }

// TestPitfall02 is the same as failure 2 of docs/known-failures.md.
func TestPitfall02(t *testing.T) { oneOfSixtyFour(t) }

func oneOfSixtyFour(t *testing.T) {
	f := brokertest.New(t)
	const n = 64
	guests := make([]*guest, n)
	for i := range guests {
		guests[i] = dial(t, f)
		guests[i].begin()
	}
	const owner = 17
	m3 := guests[owner].attestation()
	h1, h2 := guests[owner].hashes()
	guests[owner].fatal(m3.Sign(guests[owner].agent, guests[owner].ekm, h1, h2))
	frame, err := protocol.Marshal(m3)
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, g := range guests {
		wg.Go(func() {
			<-start
			if _, err := g.conn.Write(frame); err != nil {
				errs[i] = err
				return
			}
			errs[i] = g.read(4, &g.m4)
		})
	}
	close(start)
	wg.Wait()
	for i, err := range errs {
		if i == owner {
			if err != nil {
				t.Errorf("the owner was refused: %v", err)
			}
			continue
		}
		wantReason(t, err, protocol.ReasonAgentSignature)
	}
	// The nonce is used: the owner cannot present it a second time.
	guests[owner].write(frame)
	wantReason(t, guests[owner].read(6, &guests[owner].m6), protocol.ReasonUnexpectedMessage)
}

// TestGoal04FailedAttemptBurnsTheNonce sends a wrong M3 and then the right one.
func TestGoal04FailedAttemptBurnsTheNonce(t *testing.T) {
	f := brokertest.New(t)
	g := dial(t, f)
	g.begin()
	good := g.attestation()
	bad := *good
	h1, h2 := g.hashes()
	g.fatal(bad.Sign(f.AuditKey, g.ekm, h1, h2))
	g.send(3, &bad)
	wantReason(t, g.read(4, &g.m4), protocol.ReasonAgentSignature)
	g.fatal(good.Sign(g.agent, g.ekm, h1, h2))
	frame, err := protocol.Marshal(good)
	g.fatal(err)
	g.conn.Write(frame) // the broker may have hung up already
	if err := g.read(4, &g.m4); err == nil {
		t.Error("a second attempt was granted")
	}
	wantNoRelease(t, f)
}

// TestGoal04WindowByBrokerTime lets the window pass on the broker's clock alone.
func TestGoal04WindowByBrokerTime(t *testing.T) {
	f := brokertest.New(t)
	g := dial(t, f)
	g.begin()
	m3 := g.attestation()
	f.Clock.Move(g.m2.Window + time.Second)
	wantReason(t, g.attest(m3), protocol.ReasonNonceExpired)
	wantNoRelease(t, f)
}
