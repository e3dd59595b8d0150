package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/listen/listentest"
)

const brokerUnit = "../../systemd/anchorhold-broker.service"

// underAttack is what clients need to know of a broker in a process of its own.
type underAttack struct {
	Address, Registry, Socket string
	Certificate               []byte
	Root                      string
}

// serveForAttack runs a whole daemon that releases one key.
func serveForAttack(t *testing.T, ready func(any)) {
	s := newState(t, false)
	s.options.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := underAttack{Registry: free.Addr().String(), Socket: s.options.Config.Operator.Socket, Certificate: s.result.CertificatePEM}
	free.Close()
	s.options.Config.Proofs = registry.Settings{Listen: u.Registry}
	s.options.Config.Limits.PerGuest = 1 << 20 // all honest clients are one software TEE
	s.options.Config.Operator.Group = true
	s.options.Config.Operator.OperatorUIDs = []uint32{uint32(os.Getuid()), uint32(listentest.AttackerUID), uint32(listentest.ElsewhereUID)}
	text, err := s.result.Root.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	u.Root = string(text)
	c, address, _ := s.run(t)
	u.Address = address
	// The parties are in no group of the socket's, and its directory is the test's.
	for path, mode := range map[string]os.FileMode{u.Socket: 0o666, filepath.Dir(u.Socket): 0o755, filepath.Dir(filepath.Dir(u.Socket)): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	openModel(t, c)
	ready(u)
}

// openModel has a broker release models/a to the guests of s.client.
func openModel(t *testing.T, c *operator.Client) {
	t.Helper()
	values := fmt.Appendf(nil, "format: 1\nreference_values: [{id: demo/a, measurement: %q}]", hex.EncodeToString(bytes.Repeat([]byte{0xcd}, 48)))
	secret, err := keybuf.Take([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	_, err = c.PutSecret(t.Context(), "models/a", secret, keystore.Meta{Kind: "model-key"}, operator.PutNext)
	if err == nil {
		_, err = c.ImportReferenceValues(t.Context(), values, false)
	}
	if err == nil {
		_, err = c.ImportPolicy(t.Context(), policyText(1))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// attacked starts a broker, for a test of one of its listeners.
func attacked(t *testing.T) (server *listentest.Server, u underAttack, tlsConfig *tls.Config) {
	t.Helper()
	if server = listentest.Start(t, serveForAttack); server == nil {
		return nil, u, nil
	}
	server.Decode(t, &u)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(u.Certificate) {
		t.Fatal("no certificate")
	}
	tlsConfig, err := hybridtls.ClientConfig("localhost", roots, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	return server, u, tlsConfig
}

// TestBrokerUnderAttack: 1,024 peers that said hello and fell silent locked every guest
// out, and 34 new ones a second kept it so.
func TestBrokerUnderAttack(t *testing.T) {
	server, u, tlsConfig := attacked(t)
	if server == nil {
		return
	}
	s := &state{result: statedir.Made{CertificatePEM: u.Certificate}}
	if err := s.result.Root.UnmarshalText([]byte(u.Root)); err != nil {
		t.Fatal(err)
	}
	guest := func(who *listentest.Party) listentest.Client {
		c := s.client(t, who.Relay(t, "tcp", u.Address))
		return func(ctx context.Context) error {
			defer c.Close() // on a connection of its own each time
			return acquire(ctx, c)
		}
	}
	waiting := s.keepAll(t, u)
	hello, err := protocol.Marshal(&protocol.Hello{Versions: []protocol.Version{protocol.Version2}, Suites: []protocol.Suite{protocol.Suite1},
		Kinds: []evidence.Kind{evidence.KindSNP}, Classes: []string{"models"}})
	if err != nil {
		t.Fatal(err)
	}
	label := protocol.TypeAttest.String()
	size := protocol.TypeAttest.MaxFrame() - 1 - len(label) - 3
	header := slices.Concat(hello, []byte{byte(len(label))}, []byte(label), []byte{byte(size >> 16), byte(size >> 8), byte(size)})
	server.Withstands(t, listentest.Target{Name: "broker", Network: "tcp", Address: u.Address, TLS: tlsConfig, Memory: listentest.UnitMemory(t, brokerUnit),
		Hello: hello, Header: header, Body: make([]byte, size/2), Refused: []byte("no frame at all")}, guest)
	for i, c := range waiting {
		if err := acquire(t.Context(), c); err != nil {
			t.Errorf("guest %d of %d that waited with a connection: %v", i, len(waiting), err)
		}
	}
	kept := metric(t, u, "kept_evicted_total")
	t.Logf("%d connections were kept before the attacks, which cost %d", len(waiting), kept)
	if kept == 0 || metric(t, u, "reused_total") == 0 {
		t.Error("want some of the kept connections ended, and some used")
	}
}

func acquire(ctx context.Context, c *client.Client) error {
	lease, err := c.Acquire(ctx, []string{"models/a"})
	lease.Wipe()
	return err
}

// keepAll leaves the broker as many connections as it keeps, each of an agent of its own.
func (s *state) keepAll(t *testing.T, u underAttack) []*client.Client {
	t.Helper()
	clients := make([]*client.Client, (settings.Limits{}).Connections())
	var all sync.WaitGroup
	places := make(chan struct{}, 16)
	for i := range clients {
		clients[i] = s.client(t, u.Address)
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			if err := acquire(t.Context(), clients[i]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, c := range clients {
			_ = c.Close()
		}
	})
	// Messages under way took memory meanwhile.
	if n := metric(t, u, "kept"); n < int64((settings.Limits{}).Connections())*3/4 {
		t.Fatalf("%d connections are kept of %d", n, (settings.Limits{}).Connections())
	}
	return clients
}

// metric reads one of the broker's metrics about connections.
func metric(t *testing.T, u underAttack, name string) int64 {
	t.Helper()
	text, err := operator.NewClient(u.Socket).Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "anchorhold_broker_connections_"+name+" "); ok {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no %s in\n%s", name, text)
	return 0
}

// attested is a guest that the broker granted a lease.
func (u *underAttack) attested(t *testing.T) func() (introduction.Guest, error) {
	t.Helper()
	s := &state{result: statedir.Made{CertificatePEM: u.Certificate}}
	if err := s.result.Root.UnmarshalText([]byte(u.Root)); err != nil {
		t.Fatal(err)
	}
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	lease, err := s.clientOf(t, u.Address, key).Acquire(t.Context(), []string{"models/a"})
	if err != nil {
		t.Fatal(err)
	}
	lease.Wipe()
	return func() (introduction.Guest, error) {
		return introduction.Guest{Key: key, Chain: lease.Certificate, Now: protocol.TimeOf(lease.BrokerTime)}, nil
	}
}

// TestRegistryUnderAttack: its clients are attested guests that introduce themselves.
func TestRegistryUnderAttack(t *testing.T) {
	server, u, tlsConfig := attacked(t)
	if server == nil {
		return
	}
	attested := u.attested(t)
	guest := func(who *listentest.Party) listentest.Client {
		c := wire.NewClient(who.Relay(t, "tcp", u.Registry), tlsConfig, nil, attested)
		return func(ctx context.Context) error {
			defer c.Close()
			_, err := c.Announce(ctx, [][]byte{make([]byte, 20_000)})
			if reason, _ := refusal.ReasonOf(err); reason != registry.ReasonUnverified { // it was read and judged
				return fmt.Errorf("announce: %w", err)
			}
			_, err = c.Records(ctx, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
			return err
		}
	}
	target := listentest.Target{Name: "registry", Network: "tcp", Address: u.Registry, TLS: hybridtls.For(tlsConfig, hybridtls.ALPNProofs), Memory: listentest.UnitMemory(t, brokerUnit)}
	server.Withstands(t, target.HTTP("/v1/receipts", 3<<20), guest)
}

func TestOperatorSocketUnderAttack(t *testing.T) {
	server, u, _ := attacked(t)
	if server == nil {
		return
	}
	user := func(who *listentest.Party) listentest.Client {
		c := operator.NewClient(who.Relay(t, "unix", u.Socket))
		return func(ctx context.Context) error {
			_, err := c.Status(ctx)
			return err
		}
	}
	target := listentest.Target{Name: "operator socket", Network: "unix", Address: u.Socket, Memory: listentest.UnitMemory(t, brokerUnit)}
	server.Withstands(t, target.HTTP("/v1/policy", 4<<20), user)
}
