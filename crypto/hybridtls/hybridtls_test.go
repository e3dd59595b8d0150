package hybridtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// site is a certificate with both ends' configurations.
type site struct {
	certPEM, keyPEM []byte
	server, client  *tls.Config
}

func newSite(t testing.TB, server, client Profile) *site {
	t.Helper()
	s := &site{}
	var err error
	if s.certPEM, s.keyPEM, err = NewCertificate([]string{"localhost", "127.0.0.1"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(s.certPEM, s.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.certPEM) {
		t.Fatal("the certificate does not parse as a root")
	}
	if s.server, err = ServerConfig(pair, server); err != nil {
		t.Fatal(err)
	}
	if s.client, err = ClientConfig("localhost", roots, client); err != nil {
		t.Fatal(err)
	}
	return s
}

type outcome struct {
	conn *Conn
	err  error
}

// listen serves one connection with accept and reports what came of it.
func listen(t testing.TB, accept func(net.Conn) (*Conn, error)) (address string, done <-chan outcome) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	results := make(chan outcome, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			results <- outcome{err: err}
			return
		}
		conn, err := accept(raw)
		results <- outcome{conn, err}
	}()
	return l.Addr().String(), results
}

func (s *site) listen(t testing.TB) (string, <-chan outcome) {
	return listen(t, func(raw net.Conn) (*Conn, error) { return Server(t.Context(), raw, s.server) })
}

func refused(t *testing.T, err error, code refusal.Reason) *refusal.Error {
	t.Helper()
	r, ok := errors.AsType[*refusal.Error](err)
	if !ok {
		t.Fatalf("error %v, want a *refusal.Error with code %s", err, code)
	}
	if r.Reason != code || r.Detail == "" || strings.Contains(r.Error(), "\n") {
		t.Fatalf("refusal %q, want one sentence with code %s", r, code)
	}
	t.Log(r)
	return r
}

func TestBothEndsAgreeOnGroupAndExporter(t *testing.T) {
	for name, tc := range map[string]struct {
		server, client Profile
		group          string
		retried        bool
	}{
		"default":     {ProfileDefault, ProfileDefault, "X25519MLKEM768", false},
		"fips":        {ProfileFIPS, ProfileFIPS, "SecP256r1MLKEM768", false},
		"hello retry": {ProfileFIPS, ProfileDefault, "SecP256r1MLKEM768", true},
		"fips client": {ProfileDefault, ProfileFIPS, "SecP256r1MLKEM768", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, tc.server, tc.client)
			address, done := s.listen(t)
			c, err := Dial(t.Context(), "tcp", address, s.client)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			got := <-done
			if got.err != nil {
				t.Fatal(got.err)
			}
			defer got.conn.Close()
			if c.Group() != tc.group || got.conn.Group() != tc.group {
				t.Errorf("groups %s and %s, want %s", c.Group(), got.conn.Group(), tc.group)
			}
			if c.Exporter() != got.conn.Exporter() || c.Exporter() == [ExporterSize]byte{} {
				t.Error("the ends disagree on the channel binding")
			}
			if r := c.ConnectionState().HelloRetryRequest; r != tc.retried {
				t.Errorf("hello retry %v, want %v", r, tc.retried)
			}
		})
	}
}

func TestExporterDiffersPerExchange(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	address, done := s.listen(t)
	c, err := Dial(t.Context(), "tcp", address, s.client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	server := (<-done).conn
	defer server.Close()
	seen := map[[ExporterSize]byte]bool{c.Exporter(): true}
	for exchange := range uint32(3) {
		ours, err := c.ExporterOf(exchange)
		theirs, err2 := server.ExporterOf(exchange)
		if err != nil || err2 != nil || ours != theirs {
			t.Errorf("exchange %d: the ends disagree: %v %v", exchange, err, err2)
		}
		seen[ours] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d channel bindings of 3 exchanges and their connection", len(seen))
	}
}

func TestExporterDiffersPerConnection(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	seen := map[[ExporterSize]byte]bool{}
	for range 3 {
		address, done := s.listen(t)
		c, err := Dial(t.Context(), "tcp", address, s.client)
		if err != nil {
			t.Fatal(err)
		}
		seen[c.Exporter()] = true
		c.Close()
		(<-done).conn.Close()
	}
	if len(seen) != 3 {
		t.Errorf("%d channel bindings in 3 connections", len(seen))
	}
}

// foreign is a peer's configuration with one thing changed.
func foreign(cfg *tls.Config, change func(*tls.Config)) *tls.Config {
	cfg = cfg.Clone()
	change(cfg)
	return cfg
}

func TestServerNamesWhatAClientLacks(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		code   refusal.Reason
		word   string
	}{
		"classical":      {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} }, ReasonClassical, "X25519"},
		"other hybrid":   {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.SecP384r1MLKEM1024} }, ReasonClassical, "SecP384r1MLKEM1024"},
		"tls 1.2":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, ReasonVersion, "TLS 1.2"},
		"other protocol": {func(c *tls.Config) { c.NextProtos = []string{"h2", strings.Repeat("x", 200)} }, ReasonALPN, `"h2"`},
		"no protocol":    {func(c *tls.Config) { c.NextProtos = nil }, ReasonALPN, ALPN},
		"other roots":    {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, ReasonHandshake, "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			address, done := s.listen(t)
			c, err := tls.Dial("tcp", address, foreign(s.client, tc.change))
			if err == nil {
				defer c.Close()
			}
			got := (<-done).err
			r := refused(t, got, tc.code)
			if !strings.Contains(r.Detail, tc.word) || len(r.Detail) > 500 {
				t.Errorf("sentence %q lacks %q or is long", r.Detail, tc.word)
			}
			if len(Offered(got)) == 0 && tc.code != ReasonVersion {
				t.Error("the offered groups are not named")
			}
		})
	}
}

func TestClientNamesWhatAServerLacks(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	for name, tc := range map[string]struct {
		change func(*tls.Config)
		code   refusal.Reason
		word   string
	}{
		"classical":      {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256} }, ReasonClassical, "accepts only classical key exchange"},
		"tls 1.2":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, ReasonVersion, "TLS 1.3"},
		"other protocol": {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, ReasonALPN, ALPN},
		"no protocol":    {func(c *tls.Config) { c.NextProtos = nil }, ReasonALPN, ALPN},
	} {
		t.Run(name, func(t *testing.T) {
			address, done := listen(t, func(raw net.Conn) (*Conn, error) {
				c := tls.Server(raw, foreign(s.server, tc.change))
				err := c.HandshakeContext(t.Context())
				if err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
				return nil, errors.Join(err, raw.Close())
			})
			_, err := Dial(t.Context(), "tcp", address, s.client)
			if r := refused(t, err, tc.code); !strings.Contains(r.Detail, tc.word) || !strings.Contains(r.Detail, address) && tc.code != ReasonALPN {
				t.Errorf("sentence %q lacks %q or the address", r.Detail, tc.word)
			}
			<-done
		})
	}
}

func TestClientRefusesAnotherCertificate(t *testing.T) {
	s, other := newSite(t, ProfileDefault, ProfileDefault), newSite(t, ProfileDefault, ProfileDefault)
	for name, cfg := range map[string]*tls.Config{
		"other roots": other.client,
		"other name":  foreign(s.client, func(c *tls.Config) { c.ServerName = "elsewhere.example" }),
	} {
		t.Run(name, func(t *testing.T) {
			address, done := s.listen(t)
			_, err := Dial(t.Context(), "tcp", address, cfg)
			refused(t, err, ReasonCertificate)
			<-done
		})
	}
}

// TestAssertRefusesEachByItself holds every other property right.
func TestAssertRefusesEachByItself(t *testing.T) {
	allowed := []tls.CurveID{tls.X25519MLKEM768, tls.SecP256r1MLKEM768, tls.X25519, tls.SecP384r1MLKEM1024, 514}
	good := tls.ConnectionState{Version: tls.VersionTLS13, CurveID: tls.X25519MLKEM768, NegotiatedProtocol: ALPN}
	if err := assert(good, allowed, []string{ALPN}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*tls.ConnectionState)
		code   refusal.Reason
	}{
		"version":     {func(s *tls.ConnectionState) { s.Version = tls.VersionTLS12 }, ReasonVersion},
		"classical":   {func(s *tls.ConnectionState) { s.CurveID = tls.X25519 }, ReasonClassical},
		"pure ML-KEM": {func(s *tls.ConnectionState) { s.CurveID = 514 }, ReasonClassical},
		"1024":        {func(s *tls.ConnectionState) { s.CurveID = tls.SecP384r1MLKEM1024 }, ReasonClassical},
		"no group":    {func(s *tls.ConnectionState) { s.CurveID = 0 }, ReasonClassical},
		"resumed":     {func(s *tls.ConnectionState) { s.DidResume = true }, ReasonResumed},
		"protocol":    {func(s *tls.ConnectionState) { s.NegotiatedProtocol = "h2" }, ReasonALPN},
		"no protocol": {func(s *tls.ConnectionState) { s.NegotiatedProtocol = "" }, ReasonALPN},
	} {
		t.Run(name, func(t *testing.T) {
			state := good
			tc.change(&state)
			refused(t, assert(state, allowed, []string{ALPN}), tc.code)
		})
	}
	if err := assert(good, []tls.CurveID{tls.SecP256r1MLKEM768}, []string{ALPN}); err == nil {
		t.Error("a hybrid outside the profile was accepted")
	}
}

func TestConfigurationsFailClosed(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	if _, err := ServerConfig(tls.Certificate{}, ProfileDefault); err == nil {
		t.Error("a server without a certificate")
	}
	if _, err := ServerConfig(s.server.Certificates[0], Profile(7)); err == nil {
		t.Error("a server of an unknown profile")
	}
	if _, err := ClientConfig("", s.client.RootCAs, ProfileDefault); err == nil {
		t.Error("a client without a name")
	}
	if _, err := ClientConfig("localhost", nil, ProfileDefault); err == nil {
		t.Error("a client that would use the system's roots")
	}
	if _, err := ClientConfig("localhost", s.client.RootCAs, Profile(-1)); err == nil {
		t.Error("a client of an unknown profile")
	}
	if _, _, err := NewCertificate(nil, time.Hour); err == nil {
		t.Error("a certificate for nobody")
	}
	if _, _, err := NewCertificate([]string{"a"}, 0); err == nil {
		t.Error("a certificate without validity")
	}
	for _, cfg := range []*tls.Config{s.server, s.client} {
		if !cfg.SessionTicketsDisabled || cfg.MinVersion != tls.VersionTLS13 || cfg.InsecureSkipVerify {
			t.Error("tickets, an old version or an unverified peer are possible")
		}
	}
}

func TestSilentPeerIsGivenUp(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	a, b := net.Pipe()
	defer b.Close()
	_, err := Server(ctx, a, s.server)
	refused(t, err, ReasonTimeout)
	if _, err := a.Write([]byte{0}); err == nil {
		t.Error("the connection was left open")
	}
}

func TestGarbageIsAHandshakeRefusal(t *testing.T) {
	s := newSite(t, ProfileDefault, ProfileDefault)
	address, done := s.listen(t)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	refused(t, (<-done).err, ReasonHandshake)
	if _, err := Dial(t.Context(), "tcp", "127.0.0.1:1", s.client); err == nil {
		t.Error("nobody listens there")
	}
}

// TestGODEBUGSwitchesFailClosed runs a default handshake in a process whose
// toolchain was told to forget a hybrid: it must end without a connection or
// with the other hybrid, never with a classical group.
func TestGODEBUGSwitchesFailClosed(t *testing.T) {
	if os.Getenv("HYBRIDTLS_CHILD") != "" {
		profile := ProfileDefault
		if os.Getenv("HYBRIDTLS_CHILD") == "fips" {
			profile = ProfileFIPS
		}
		s := newSite(t, profile, profile)
		address, done := s.listen(t)
		c, err := Dial(t.Context(), "tcp", address, s.client)
		if err == nil {
			defer c.Close()
			t.Logf("OUTCOME %s", c.Group())
		} else {
			t.Logf("OUTCOME refused: %v", err)
		}
		if got := <-done; got.conn != nil {
			got.conn.Close()
		}
		return
	}
	for _, tc := range []struct{ debug, profile, want string }{
		{"tlsmlkem=0", "default", "refused"},
		{"tlssecpmlkem=0", "default", "X25519MLKEM768"},
		{"tlssecpmlkem=0", "fips", "refused"},
		{"tlsmlkem=0,tlssecpmlkem=0", "default", "refused"},
		{"", "default", "X25519MLKEM768"},
	} {
		t.Run(tc.profile+" "+tc.debug, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestGODEBUGSwitchesFailClosed$", "-test.v")
			cmd.Env = append(os.Environ(), "GODEBUG="+tc.debug, "HYBRIDTLS_CHILD="+tc.profile)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "OUTCOME "+tc.want) {
				t.Errorf("want %s: %v\n%s", tc.want, err, out)
			}
		})
	}
}

func TestForeignNamesAreBounded(t *testing.T) {
	many := make([]tls.CurveID, 4000)
	for i := range many {
		many[i] = tls.CurveID(0x0a0a) // GREASE
	}
	if names := groupNames(append(slices.Clone(many[:2]), tls.X25519)); len(names) != 1 {
		t.Errorf("GREASE is named: %v", names)
	}
	if names := groupNames(slices.Repeat([]tls.CurveID{tls.X25519}, 4000)); len(names) > 16 {
		t.Errorf("%d names", len(names))
	}
	if text := protocolNames(slices.Repeat([]string{strings.Repeat("\n", 255)}, 200)); len(text) > 300 || strings.Contains(text, "\n") {
		t.Errorf("unbounded or raw: %q", text)
	}
}

func TestClassicalClientLearnsThatItIsTheOne(t *testing.T) {
	err := explainServer(&net.OpError{Op: "remote error", Err: alertForTest(alertHandshakeFailure)}, "broker:8443", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{ALPN}})
	if err.Reason != ReasonClassical || !strings.Contains(err.Detail, "this client offers only X25519") {
		t.Errorf("%v", err)
	}
}

// alertForTest stands for crypto/tls's own unexported alert, a uint8 as well.
type alertForTest uint8

func (a alertForTest) Error() string { return "tls: handshake failure" }
