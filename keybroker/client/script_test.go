//go:build !release

package client_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// script is a broker that holds all the right keys and does one thing wrong. It
// judges no evidence. A nil hook changes nothing.
type script struct {
	f       *brokertest.Fixture
	address string

	epochNumber uint64
	epochKey    *identity.Private
	epoch       func(*protocol.EpochStatement)
	m2          func(*protocol.Challenge) // before it is signed
	m2Signed    func(*protocol.Challenge) // after
	signM1      func([]byte) []byte       // what the broker believes M1 was
	m4          func(*protocol.Grant)     //
	items       func(*protocol.Release)   // before the certificate is made
	cert        func(*protocol.LeaseCertificate)
	m6          func(*protocol.Release) // after
	silent      protocol.Type           // stops here
	reset       bool                    // the connection, when M6 was sent
	raw         []byte                  // sent instead of M2

	mu       sync.Mutex
	attests  []protocol.Attest
	requests []protocol.Request
	receipts int
}

func hook[T any](f func(T), v T) {
	if f != nil {
		f(v)
	}
}

func newScript(t *testing.T, f *brokertest.Fixture) *script {
	t.Helper()
	s := &script{f: f, epochNumber: 1, epochKey: f.EpochKey}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := hybridtls.ServerConfig(f.Certificate, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	s.address = ln.Addr().String()
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			conn, err := hybridtls.Server(context.Background(), raw, cfg)
			if err != nil {
				continue
			}
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			s.serve(conn)
			conn.Close()
		}
	})
	return s
}

var errSilent = errors.New("the script ends here")

// serve runs one exchange as far as the client goes along.
func (s *script) serve(conn *hybridtls.Conn) error {
	ekm, err := conn.ExporterOf(0)
	if err != nil {
		return err
	}
	var frames [5][]byte
	read := func(i int, m protocol.Message) error {
		if m.Type() == s.silent {
			return errSilent
		}
		_, frame, err := protocol.ReadFrame(conn, m.Type())
		if err != nil {
			return err
		}
		if i < len(frames) {
			frames[i] = frame
		}
		return protocol.Parse(frame, m)
	}
	write := func(i int, m protocol.Message) error {
		frame, err := protocol.Marshal(m)
		if err != nil {
			return err
		}
		if i < len(frames) {
			frames[i] = frame
		}
		_, err = conn.Write(frame)
		return err
	}
	var m1 protocol.Hello
	if err := read(0, &m1); err != nil {
		if errors.Is(err, errSilent) {
			conn.Read(make([]byte, 1<<16))
			conn.Read(make([]byte, 1)) // until the client gives up
		}
		return err
	}
	if s.raw != nil {
		_, err := conn.Write(s.raw)
		return err
	}
	m2, err := s.challenge(ekm, frames[0])
	if err != nil {
		return err
	}
	if err := write(1, m2); err != nil {
		return err
	}
	var m3 protocol.Attest
	if err := read(2, &m3); err != nil {
		return err
	}
	s.mu.Lock()
	s.attests = append(s.attests, m3)
	s.mu.Unlock()
	m4 := &protocol.Grant{Lease: digest.LeaseID{7}, PolicyID: "test", PolicyVersion: 1, Resources: m3.Resources,
		BrokerTime: m2.BrokerTime, LeaseEnd: m2.BrokerTime.Add(10 * time.Minute)}
	hook(s.m4, m4)
	if err := write(3, m4); err != nil {
		return err
	}
	var m5 protocol.Request
	if err := read(4, &m5); err != nil {
		return err
	}
	s.mu.Lock()
	s.requests = append(s.requests, m5)
	s.mu.Unlock()
	m6, err := s.release(protocol.Transcript(ekm, frames[0], frames[1], frames[2], frames[3], frames[4]), &m3, m4, &m5)
	if err != nil {
		return err
	}
	if err := write(5, m6); err != nil {
		return err
	}
	if s.reset {
		tcp := conn.NetConn().(*net.TCPConn)
		return errors.Join(tcp.SetLinger(0), tcp.Close())
	}
	var m7 protocol.Receipt
	if err := read(6, &m7); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts++
	return nil
}

func (s *script) challenge(ekm [48]byte, m1 []byte) (*protocol.Challenge, error) {
	m2 := &protocol.Challenge{Choice: protocol.Choice{Version: protocol.Version2, Suite: protocol.Suite1, Kind: evidence.KindSNP},
		Versions: []protocol.Version{protocol.Version2}, Suites: []protocol.Suite{protocol.Suite1}, Kinds: []evidence.Kind{evidence.KindSNP},
		Epoch:  s.f.SignEpoch(s.epochNumber, s.epochKey, s.epoch),
		Window: 30 * time.Second, BrokerTime: protocol.TimeOf(s.f.Clock.Now())}
	hook(s.m2, m2)
	if s.signM1 != nil {
		m1 = s.signM1(m1)
	}
	err := m2.Sign(s.epochKey, ekm, protocol.HashMessage(m1))
	hook(s.m2Signed, m2)
	return m2, err
}

func (s *script) release(transcript protocol.Digest, m3 *protocol.Attest, m4 *protocol.Grant, m5 *protocol.Request) (*protocol.Release, error) {
	m6 := &protocol.Release{AuditIndex: 5}
	for i, name := range m5.Resources {
		secret, err := keybuf.Take([]byte(brokertest.Secret))
		if err != nil {
			return nil, err
		}
		enc, sealed, err := keywrap.Seal(m3.KEMKey, protocol.KeyInfo(transcript, m4.Lease, name, 1, i, m4.LeaseEnd), secret)
		secret.Wipe()
		if err != nil {
			return nil, err
		}
		m6.Items = append(m6.Items, protocol.Item{Resource: name, Version: 1, Enc: enc, Ciphertext: sealed})
	}
	hook(s.items, m6)
	exchange, err := m6.Exchange(transcript)
	if err != nil {
		return nil, err
	}
	env, err := evidence.ParseEnvelope(m3.Evidence)
	if err != nil {
		return nil, err
	}
	claims, err := evidence.ParseGuestClaims(m3.Claims)
	if err != nil {
		return nil, err
	}
	measurement := brokertest.Measurement()
	registers := []evidence.Register{{Name: evidence.RegisterLaunch, Value: measurement[:]}}
	image, err := evidence.ImageOf(env.Kind, registers)
	if err != nil {
		return nil, err
	}
	var grants []protocol.Granted
	for i, item := range m6.Items {
		if i > 0 && item.Resource == m6.Items[i-1].Resource {
			continue // a release that says one thing twice; its certificate says it once
		}
		grants = append(grants, protocol.Granted{Resource: item.Resource, Version: item.Version, Roles: protocol.RoleServe})
	}
	c := protocol.LeaseCertificate{Lease: m4.Lease, Broker: s.f.Root.Public().ID(), Epoch: s.epochNumber, AgentKey: m3.AgentKey,
		Kind: env.Kind, SoftwareTEE: true, EvidenceDigest: env.Digest(), Processor: protocol.ProcessorOf(s.f.Root.Public().ID(), s.epochNumber, env.Kind, env.Chip()), Registers: registers, Image: image, ImageID: claims.ImageID,
		Grants:   grants,
		PolicyID: m4.PolicyID, PolicyVersion: m4.PolicyVersion, PolicyDigest: m4.PolicyDigest,
		NotBefore: m4.BrokerTime, NotAfter: m4.LeaseEnd, Exchange: exchange}
	hook(s.cert, &c)
	if c.Image, err = evidence.ImageOf(c.Kind, c.Registers); err != nil {
		return nil, err
	}
	m6.Lease, err = protocol.SignLease(s.epochKey, c)
	hook(s.m6, m6)
	return m6, err
}

// acquire runs a client against the script and reports whether evidence was made.
func (s *script) acquire(change func(*client.Config)) (lease *client.Lease, collected bool, err error) {
	count := &counting{next: s.f.TEE}
	c := s.f.Client(func(c *client.Config) {
		c.Address, c.Collector = s.address, count
		if change != nil {
			change(c)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	lease, err = c.Acquire(ctx, []string{brokertest.Resource})
	return lease, count.n > 0, err
}

type counting struct {
	next client.Collector
	n    int
}

func (c *counting) Collect(ctx context.Context, reportData [64]byte) (evidence.Envelope, error) {
	c.n++
	return c.next.Collect(ctx, reportData)
}
