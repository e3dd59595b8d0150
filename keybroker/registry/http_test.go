package registry_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// serve runs the registry on a port and returns its address and a client's configuration.
func (s *site) serve(t *testing.T) (string, *tls.Config) {
	t.Helper()
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	server, err := hybridtls.ServerConfig(pair, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	client, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l, server) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String(), client
}

func TestGuestAnswersAChallengeOverHybridTLS(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	address, cfg := s.serve(t)
	c := wire.NewClient(address, cfg, s.Roots(), nil)
	defer c.Close()
	agent := s.Agent(t, nil)
	id := digest.Digest(agent.Key.Public().ID())
	a := s.answer(t, agent, 1, 1)

	if records, err := c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err != nil || len(records) != 1 || records[0].Record.VerifyingKey != keys(t, 1).Digest {
		t.Fatalf("%+v, %v", records, err)
	}
	_, err := c.Submit(t.Context(), &a.bundle)
	wantReason(t, err, registry.ReasonNotAnnounced)
	if got, err := c.Announce(t.Context(), a.receipts); err != nil || got.New != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if list, err := c.Challenges(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), id); err != nil || len(list) != 0 {
		t.Fatalf("%+v, %v", list, err)
	}
	s.challenge(t, 1)
	list, err := c.Challenges(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), id)
	if err != nil || len(list) != 1 || !slices.Equal(list[0].Receipts, a.ids) || digest.Of(list[0].Signed) == (digest.Digest{}) {
		t.Fatalf("%+v, %v", list, err)
	}
	if got, err := c.Submit(t.Context(), &a.bundle); err != nil || !got.New {
		t.Fatalf("%+v, %v", got, err)
	}
	if got, err := c.Submit(t.Context(), &a.bundle); err != nil || got.New {
		t.Fatalf("again: %+v, %v", got, err)
	}
	answer, err := c.Audit(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), a.ids[0], &a.bundle.OutputSalts[0])
	if err != nil || answer.Proof == nil || len(answer.Proof.Outputs) != outputs || answer.Documents.Bundle == nil {
		t.Fatalf("%+v, %v", answer, err)
	}
	_, err = c.Audit(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), digest.ReceiptID{1}, nil)
	wantReason(t, err, registry.ReasonNotAnnounced)
}

// TestAReceiptProvesNobodysIdentity: whoever had seen a receipt of an agent, its client for
// one, could take places and memory that are for attested guests, and the agent's own.
func TestAReceiptProvesNobodysIdentity(t *testing.T) {
	s := open(t, cheap)
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen.New(raw, listen.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := l.Server(s.Handler())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	body, err := json.Marshal(wire.Announcement{Receipts: cheapReceipts(t, 1, 1, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	resp, err := client.Post("http://"+raw.Addr().String()+"/v1/receipts", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if st := l.Stats(); resp.StatusCode != http.StatusOK || st.Proven != 0 || st.Unproven != 1 {
		t.Errorf("status %d: %d connections are proven, %d are not", resp.StatusCode, st.Proven, st.Unproven)
	}
	client.CloseIdleConnections()
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-ended
}

// An attested guest that introduced itself keeps its connection, whatever strangers do, from
// its own address too; one that did not is cut off by them.
func TestIntroducedGuestsKeepTheirPlaces(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		c.Limits = listen.Limits{Connections: 8, Unproven: 4, PerSource: 4}
	})
	former, agent := s.Agent(t, nil), s.Agent(t, func(c *protocol.LeaseCertificate) {
		c.NotBefore, c.NotAfter = c.NotAfter, c.NotAfter.Add(15*time.Minute)
	})
	s.pass(15 * time.Minute) // former's lease is over
	of := func(a *federationtest.Agent, now protocol.Time) func() (introduction.Guest, error) {
		return func() (introduction.Guest, error) {
			return introduction.Guest{Key: a.Key, Chain: a.Chain, Now: now}, nil
		}
	}
	for name, tc := range map[string]struct {
		guest func() (introduction.Guest, error)
		dials int
	}{
		"introduced":               {of(agent, s.now()), 1},
		"without a lease":          {func() (introduction.Guest, error) { return introduction.Guest{}, errors.New("no lease") }, 2},
		"under a lease that ended": {of(former, federationtest.Begin), 2},
		"signed for another time":  {of(agent, federationtest.Begin), 2},
	} {
		address, cfg := s.serve(t)
		dials := 0
		c := wire.NewClient(address, cfg, s.Roots(), func() (introduction.Guest, error) {
			dials++
			return tc.guest()
		})
		if _, err := c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// A stranger's connection that just moved outlives a flood; at rest it does not.
		for try := 0; try < 5 && dials == 1; try++ {
			flood(t, address, 20, 16)
			flood(t, address, 20, 16)
			if _, err := c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		if dials != tc.dials {
			t.Errorf("%s: %d connections, want %d", name, dials, tc.dials)
		}
		c.Close()
	}
}

// flood makes connections that say nothing, and waits until so many of them were cut off.
func flood(t *testing.T, address string, n, cut int) {
	t.Helper()
	gone := make(chan struct{}, n)
	for range n {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			_, _ = conn.Read(make([]byte, 1)) // until it is cut off
			gone <- struct{}{}
		}()
	}
	for range cut {
		<-gone
	}
}

// On a connection that has no name nobody can introduce himself.
func TestIntroductionNeedsAConnection(t *testing.T) {
	s := open(t, nil)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/identity", strings.NewReader("x")))
	if !strings.Contains(w.Body.String(), string(registry.ReasonNobody)) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A backlog goes out in parts of the size that the broker takes.
func TestBacklogIsAnnouncedInParts(t *testing.T) {
	s := open(t, cheap)
	address, cfg := s.serve(t)
	c := wire.NewClient(address, cfg, s.Roots(), nil)
	defer c.Close()
	list := cheapReceipts(t, 1, 1, 0, 2*registry.MaxAnnounced+1)
	if got, err := c.Announce(t.Context(), list); err != nil || got.New != len(list) || got.Held != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.Announce(t.Context(), list); err != nil || got.New != 0 || got.Held != len(list) {
		t.Errorf("again: %+v, %v", got, err)
	}
}

// Outputs and what could confirm them are for those who have the salt.
func TestOutputsAreShownToTheSaltAlone(t *testing.T) {
	for _, items := range []int{1, 2} {
		s := open(t, nil)
		s.register(t, items)
		a := s.answer(t, s.Agent(t, nil), 1, items)
		s.announce(t, a)
		if _, err := s.Submit(t.Context(), &a.bundle); err != nil {
			t.Fatal(err)
		}
		ask := func(header string) (x wire.Answer) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(http.MethodGet, "/v1/proofs/"+a.ids[0].String(), nil)
			r.Header.Set(wire.SaltHeader, header)
			s.Handler().ServeHTTP(w, r)
			if err := json.Unmarshal(w.Body.Bytes(), &x); err != nil || w.Code != http.StatusOK || x.Verify(s.Roots(), s.Broker(), protocol.Recorded(protocol.AtLeast(1))) != nil {
				t.Fatalf("%d, %v", w.Code, err)
			}
			return x
		}
		text, _ := a.bundle.OutputSalts[0].MarshalText()
		if x := ask(string(text)); len(x.Proof.Outputs) != outputs || (x.Proof.Statement != digest.Digest{}) != (items == 1) || (x.Documents.Bundle != nil) != (items == 1) {
			t.Errorf("%d items, with the salt: %+v", items, x.Proof)
		}
		wrong := a.bundle.OutputSalts[0]
		wrong[0] ^= 1
		text, _ = wrong.MarshalText()
		strangers := []string{"", "no salt", string(text)}
		if items == 2 {
			text, _ = a.bundle.OutputSalts[1].MarshalText()
			strangers = append(strangers, string(text))
		}
		for _, header := range strangers {
			if x := ask(header); x.Proof == nil || x.Proof.Outputs != nil || x.Documents.Bundle != nil || x.Proof.Statement != (digest.Digest{}) {
				t.Errorf("%d items, %q: %+v", items, header, x.Proof)
			}
		}
	}
}

func TestHandlerRefuses(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	s.cfg.Logger.Info("")
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	other, unknown := s.answer(t, s.Agent(t, nil), 2, 1), clone(a.bundle)
	unknown.Envelope.Key[0]++
	s.announce(t, a)
	id := strings.Repeat("0", 64)
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"path":             {"GET", "/v1/nothing", "", 404, "not-found"},
		"method":           {"DELETE", "/v1/proofs/" + a.ids[0].String(), "", 404, "not-found"},
		"receipts":         {"POST", "/v1/receipts", "{", 400, "proof-statement-malformed"},
		"field":            {"POST", "/v1/receipts", `{"receipts":[],"more":1}`, 400, "proof-statement-malformed"},
		"trailing":         {"POST", "/v1/receipts", `{"receipts":[]}{}`, 400, "proof-statement-malformed"},
		"none":             {"POST", "/v1/receipts", `{"receipts":[]}`, 422, "receipt-unverified"},
		"long receipts":    {"POST", "/v1/receipts", strings.Repeat(" ", 3<<20), 413, "too-large"},
		"long proof":       {"POST", "/v1/proofs", strings.Repeat(" ", wire.MaxBundleBytes+1), 413, "too-large"},
		"proof":            {"POST", "/v1/proofs", "{}", 400, "proof-bundle-malformed"},
		"spaces":           {"POST", "/v1/proofs", string(mustMarshal(&a.bundle)) + " ", 400, "proof-bundle-malformed"},
		"unregistered":     {"POST", "/v1/proofs", string(mustMarshal(&unknown)), 404, "key-not-registered"},
		"unannounced":      {"POST", "/v1/proofs", string(mustMarshal(&other.bundle)), 404, "receipt-not-announced"},
		"agent":            {"GET", "/v1/challenges/12", "", 400, "proof-statement-malformed"},
		"receipt":          {"GET", "/v1/proofs/12", "", 400, "proof-statement-malformed"},
		"challenge":        {"GET", "/v1/challenge/12", "", 400, "proof-statement-malformed"},
		"unknown":          {"GET", "/v1/challenge/" + id, "", 404, "challenge-unknown"},
		"receipt unknown":  {"GET", "/v1/proofs/" + id[:32], "", 404, "receipt-not-announced"},
		"upper case agent": {"GET", "/v1/challenges/" + strings.Repeat("A", 64), "", 400, "proof-statement-malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
			var answer struct {
				Error struct{ Code, Message string }
			}
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != tc.status || answer.Error.Code != tc.code || answer.Error.Message == "" {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestHandlerShowsAChallenge(t *testing.T) {
	s := open(t, cheap)
	s.announceCheap(t, 1, 1, 0, 2)
	digest := s.challenge(t, 2)[0].Digest
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/challenge/"+digest.String(), nil))
	var v wire.ChallengeView
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Digest != digest || v.Missing != 2 || v.State != wire.Pending {
		t.Errorf("%s, %v", w.Body, err)
	}
}

// What is not foreseen is an internal error, and its text stays here.
func TestInternalErrorsSayNothing(t *testing.T) {
	s := open(t, func(c *registry.Config) {
		c.Signer = nil
		c.Signer = func() (registry.Signer, error) { return registry.Signer{}, errDisk }
	})
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/records", "/v1/proofs/" + strings.Repeat("0", 32), "/v1/challenges/" + strings.Repeat("0", 64)} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "internal-error") || strings.Contains(w.Body.String(), "database") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestHandlerBoundsRequests(t *testing.T) {
	synctest.Test(t, handlerBoundsRequests)
}

func handlerBoundsRequests(t *testing.T) {
	block, entered := make(chan struct{}), make(chan struct{})
	s := open(t, func(c *registry.Config) {
		c.Requests = 1
		c.VerifyReceipt = func([]byte) (registry.Receipt, error) {
			close(entered)
			<-block
			return registry.Receipt{}, errDisk
		}
	})
	body, _ := json.Marshal(wire.Announcement{Receipts: [][]byte{{1}}})
	h, done := s.Handler(), make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/v1/receipts", bytes.NewReader(body)))
	}()
	<-entered
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/records", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(block)
	<-done
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/records", nil))
	if w.Code != http.StatusOK {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestClientOfAnotherProtocolOrBrokerIsRefused(t *testing.T) {
	s := open(t, nil)
	s.register(t, 1)
	address, cfg := s.serve(t)
	if conn, err := hybridtls.Dial(t.Context(), "tcp", address, hybridtls.For(cfg, hybridtls.ALPNFederation)); err == nil {
		_ = conn.Close()
		t.Error("a client of the federation was let in")
	}
	c := wire.NewClient(address, cfg, federationtest.New(t).Roots(), nil)
	defer c.Close()
	if _, err := c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err == nil {
		t.Error("records of another broker were believed")
	}
}
