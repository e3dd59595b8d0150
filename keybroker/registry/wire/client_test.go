package wire_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// serve is a broker that answers anything with status and body; it returns a client of
// it that trusts w.
func serve(t *testing.T, w *federationtest.World, status int, body string) *wire.Client {
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
	cfg, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})}
	l := hybridtls.NewListener(raw, hybridtls.For(server, hybridtls.ALPNProofs), func(error) {})
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	c := wire.NewClient(raw.Addr().String(), cfg, w.Roots(), nil)
	t.Cleanup(func() {
		c.Close()
		_ = s.Close()
		<-ended
	})
	return c
}

func text(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func submitted() *wire.Bundle {
	return &wire.Bundle{OutputSalts: []wire.Salt{{1}}, Envelope: statement.Envelope{Proof: []byte{1}, Statement: statement.Statement{System: statement.Groth16,
		Inference: &statement.Inference{Items: []statement.Item{{Outputs: []int32{1}}}}}}}
}

// TestRetiredChallengesAreLeftOut: they ask for nothing, and the others still stand.
func TestRetiredChallengesAreLeftOut(t *testing.T) {
	w := federationtest.New(t)
	signed, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, wire.Challenge{Broker: w.Epoch.Broker, Epoch: 1, Agent: digest.Digest{1},
		Receipts: []digest.ReceiptID{{1}}, Time: federationtest.Begin, Deadline: federationtest.Begin + 1})
	if err != nil {
		t.Fatal(err)
	}
	c := serve(t, w, 200, text(t, wire.List{Signed: [][]byte{signed}}))
	for lowest, want := range map[uint64]int{1: 1, 2: 0} {
		if list, err := c.Challenges(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(lowest)), digest.Digest{1}); err != nil || len(list) != want {
			t.Errorf("%d challenges above epoch %d, %v", len(list), lowest, err)
		}
	}
}

// What the broker says is believed as far as it fits what was asked.
func TestAnswersThatDoNotFitAreRefused(t *testing.T) {
	w := federationtest.New(t)
	agent := digest.Digest{1}
	challenge := func(change func(*wire.Challenge)) string {
		c := wire.Challenge{Broker: w.Epoch.Broker, Epoch: 1, Agent: agent, Receipts: []digest.ReceiptID{{1}}, Time: federationtest.Begin, Deadline: federationtest.Begin + 1}
		change(&c)
		signed, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
		if err != nil {
			t.Fatal(err)
		}
		return text(t, wire.List{Signed: [][]byte{signed}})
	}
	announce := func(c *wire.Client) error { _, err := c.Announce(t.Context(), [][]byte{{1}}); return err }
	challenges := func(c *wire.Client) error {
		_, err := c.Challenges(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), agent)
		return err
	}
	records := func(c *wire.Client) error {
		_, err := c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
		return err
	}
	submit := func(c *wire.Client) error { _, err := c.Submit(t.Context(), submitted()); return err }
	audit := func(c *wire.Client) error {
		_, err := c.Audit(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), digest.ReceiptID{1}, &wire.Salt{1})
		return err
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		ask    func(*wire.Client) error
		want   refusal.Reason
	}{
		"fewer receipts":   {200, `{"new":0,"held":0}`, announce, wire.ReasonAnswer},
		"not JSON":         {200, `{`, announce, wire.ReasonAnswer},
		"too long":         {200, strings.Repeat(" ", 33<<20), announce, wire.ReasonAnswer},
		"a reason":         {409, `{"error":{"code":"receipt-conflict","message":"x"}}`, announce, "receipt-conflict"},
		"no reason":        {500, `{}`, announce, ""},
		"a page":           {502, `<html>`, announce, ""},
		"another agent":    {200, challenge(func(c *wire.Challenge) { c.Agent[0]++ }), challenges, wire.ReasonAnswer},
		"another epoch":    {200, challenge(func(c *wire.Challenge) { c.Epoch++ }), challenges, wire.ReasonSignature},
		"not a challenge":  {200, `{"signed":["AQ=="]}`, challenges, wire.ReasonMalformed},
		"refused":          {400, `{"error":{"code":"proof-statement-malformed","message":"x"}}`, challenges, wire.ReasonMalformed},
		"not a record":     {200, `{"signed":["AQ=="]}`, records, wire.ReasonMalformed},
		"records refused":  {503, `{"error":{"code":"proofs-busy","message":"x"}}`, records, "proofs-busy"},
		"other statement":  {200, `{"statement":"` + digest.Digest{}.String() + `"}`, submit, wire.ReasonAnswer},
		"proof refused":    {422, `{"error":{"code":"proof-invalid","message":"x"}}`, submit, "proof-invalid"},
		"another receipt":  {200, `{"receipt":{"id":"` + digest.ReceiptID{2}.String() + `"}}`, audit, wire.ReasonAnswer},
		"changed receipt":  {200, `{"receipt":{"id":"` + digest.ReceiptID{1}.String() + `"}}`, audit, wire.ReasonMalformed},
		"unknown receipt":  {404, `{"error":{"code":"receipt-not-announced","message":"x"}}`, audit, "receipt-not-announced"},
		"in time":          {200, challenge(func(*wire.Challenge) {}), challenges, "none"},
		"no records":       {200, `{"signed":[]}`, records, "none"},
		"announced before": {200, `{"new":0,"held":1}`, announce, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tc.ask(serve(t, w, tc.status, tc.body))
			if got, _ := refusal.ReasonOf(err); tc.want == "none" && err != nil || tc.want != "none" && (err == nil || got != tc.want) {
				t.Errorf("got %v, want the reason %q", err, tc.want)
			}
		})
	}
}

func TestUnreachableBrokerAndBadBundle(t *testing.T) {
	w := federationtest.New(t)
	cfg, err := hybridtls.ClientConfig("127.0.0.1", x509.NewCertPool(), hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	c := wire.NewClient("127.0.0.1:1", cfg, w.Roots(), nil)
	defer c.Close()
	_, err = c.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)))
	if got, _ := refusal.ReasonOf(err); got != wire.ReasonUnreachable {
		t.Errorf("%v", err)
	}
	_, err = c.Submit(t.Context(), &wire.Bundle{})
	if got, _ := refusal.ReasonOf(err); got != wire.ReasonBundle {
		t.Errorf("%v", err)
	}
}
