//go:build !release

package keybroker_test

import (
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// guest speaks the protocol message by message, so that a test can do any of
// them wrong. It checks nothing that the broker says.
type guest struct {
	t      testing.TB
	f      *brokertest.Fixture
	conn   *hybridtls.Conn
	number uint32 // of the exchange on conn
	ekm    [48]byte
	agent  *identity.Private
	kem    *keywrap.Recipient
	claims evidence.GuestClaims

	frames     [7][]byte
	m2         protocol.Challenge
	m4         protocol.Grant
	m6         protocol.Release
	receiptKey []byte
}

// dial connects a guest.
func dial(t testing.TB, f *brokertest.Fixture) *guest {
	t.Helper()
	cfg, err := hybridtls.ClientConfig(brokertest.ServerName, f.TLSRoots, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := hybridtls.Dial(ctx, "tcp", f.Address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return newGuest(t, f, conn)
}

// newGuest gives a connection to a guest with new keys.
func newGuest(t testing.TB, f *brokertest.Fixture, conn *hybridtls.Conn) *guest {
	t.Helper()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	kem, err := keywrap.NewRecipient()
	if err != nil {
		t.Fatal(err)
	}
	ekm, err := conn.ExporterOf(0)
	if err != nil {
		t.Fatal(err)
	}
	return &guest{t: t, f: f, conn: conn, ekm: ekm, agent: f.NewKey(identity.LevelEpoch), kem: kem, claims: brokertest.Claims()}
}

func (g *guest) fatal(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// send writes message number i.
func (g *guest) send(i int, m protocol.Message) {
	g.t.Helper()
	frame, err := protocol.Marshal(m)
	g.fatal(err)
	g.frames[i-1] = frame
	g.write(frame)
}

func (g *guest) write(frame []byte) {
	g.t.Helper()
	if _, err := g.conn.Write(frame); err != nil {
		g.t.Fatal(err)
	}
}

// read reads message number i; a refusal comes back as an error with its reason.
func (g *guest) read(i int, m protocol.Message) error {
	typ, frame, err := protocol.ReadFrame(g.conn, m.Type(), protocol.TypeRefusal)
	if err != nil {
		return err
	}
	if typ == protocol.TypeRefusal {
		var r protocol.Refusal
		if err := protocol.Parse(frame, &r); err != nil {
			return err
		}
		return &refusal.Error{Reason: r.Reason, Detail: r.ID.String()}
	}
	g.frames[i-1] = frame
	return protocol.Parse(frame, m)
}

func hello() *protocol.Hello {
	return &protocol.Hello{Versions: []protocol.Version{protocol.Version2}, Suites: []protocol.Suite{protocol.Suite1},
		Kinds: []evidence.Kind{evidence.KindSNP}, Classes: []string{"models"}}
}

// begin runs M1 and M2.
func (g *guest) begin() {
	g.t.Helper()
	g.send(1, hello())
	g.fatal(g.read(2, &g.m2))
}

func (g *guest) hashes() (h1, h2 protocol.Digest) {
	return protocol.HashMessage(g.frames[0]), protocol.HashMessage(g.frames[1])
}

// attestation is a correct M3 for this connection, not yet signed. change may
// alter what the evidence binds before it is collected.
func (g *guest) attestation() *protocol.Attest {
	g.t.Helper()
	claims, err := g.claims.Marshal()
	g.fatal(err)
	m3 := &protocol.Attest{KEMKey: g.kem.PublicKey(), AgentKey: g.agent.Public(), Claims: claims, Resources: []string{brokertest.Resource}}
	h1, h2 := g.hashes()
	m3.Evidence = g.quote(m3.Binding(g.ekm, h1, h2, g.claims.Digest()).Challenge())
	return m3
}

// quote asks the hardware for evidence over any REPORT_DATA.
func (g *guest) quote(reportData [64]byte) []byte {
	g.t.Helper()
	env, err := g.f.TEE.Collect(context.Background(), reportData)
	g.fatal(err)
	raw, err := env.Marshal()
	g.fatal(err)
	return raw
}

// attest signs and sends M3 and reads what comes back.
func (g *guest) attest(m3 *protocol.Attest) error {
	g.t.Helper()
	h1, h2 := g.hashes()
	g.fatal(m3.Sign(g.agent, g.ekm, h1, h2))
	g.send(3, m3)
	return g.read(4, &g.m4)
}

func request(resources ...string) *protocol.Request {
	return &protocol.Request{Resources: resources, Idempotency: digest.ExchangeID{1}}
}

func (g *guest) release() error {
	g.t.Helper()
	g.send(5, request(brokertest.Resource))
	return g.read(6, &g.m6)
}

func (g *guest) transcript() protocol.Digest {
	return protocol.Transcript(g.ekm, g.frames[0], g.frames[1], g.frames[2], g.frames[3], g.frames[4])
}

// open opens the first key of the release with kem.
func (g *guest) open(kem *keywrap.Recipient) (*keybuf.Buffer, error) {
	item := g.m6.Items[0]
	info := protocol.KeyInfo(g.transcript(), g.m4.Lease, item.Resource, item.Version, 0, g.m4.LeaseEnd)
	keys, receiptKey, err := kem.OpenExporting([]keywrap.Sealed{{Info: info, Enc: item.Enc, Ciphertext: item.Ciphertext}}, protocol.ReceiptKey)
	if err != nil {
		return nil, err
	}
	g.receiptKey = receiptKey
	return keys[0], nil
}

// opened opens the key if that was not done yet, and returns what authenticates M7.
func (g *guest) opened() []byte {
	g.t.Helper()
	if g.receiptKey == nil {
		key, err := g.open(g.kem)
		g.fatal(err)
		key.Wipe()
	}
	return g.receiptKey
}

func (g *guest) receipt() {
	g.t.Helper()
	g.confirm()
	g.ended()
}

// confirm sends M7.
func (g *guest) confirm() {
	g.t.Helper()
	m7 := &protocol.Receipt{Release: protocol.HashMessage(g.frames[5])}
	m7.Prove(g.opened(), g.ekm)
	g.send(7, m7)
}

// ended waits until the broker has closed the connection.
func (g *guest) ended() {
	g.t.Helper()
	if n, err := io.Copy(io.Discard, g.conn); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		g.t.Errorf("%d more bytes from the broker, or no end: %v", n, err)
	}
}

// whole runs a correct exchange to the end of the connection.
func (g *guest) whole() {
	g.t.Helper()
	g.released()
	g.receipt()
}

// released runs a correct exchange up to M6.
func (g *guest) released() {
	g.t.Helper()
	g.begin()
	g.fatal(g.attest(g.attestation()))
	g.fatal(g.release())
	key, err := g.open(g.kem)
	g.fatal(err)
	defer key.Wipe()
	if string(key.Bytes()) != brokertest.Secret {
		g.t.Fatal("another key was released")
	}
}

// next makes what another exchange on the connection needs, all of it new.
func (g *guest) next() {
	g.t.Helper()
	var err error
	g.number++
	g.ekm, err = g.conn.ExporterOf(g.number)
	g.fatal(err)
	g.kem, err = keywrap.NewRecipient()
	g.fatal(err)
	g.receiptKey = nil
	g.conn.SetDeadline(time.Now().Add(20 * time.Second))
}

func wantReason(t testing.TB, err error, want refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// wantNoRelease fails if the audit log shows that any key left.
func wantNoRelease(t testing.TB, f *brokertest.Fixture) {
	t.Helper()
	for _, r := range f.Records() {
		if r.Kind.String() == "release" {
			t.Errorf("a key was released: %+v", r)
		}
	}
}

var errFault = errors.New("the test's fault")
