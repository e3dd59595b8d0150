package registrar_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/crypto/zk/zktest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/keybroker/registry"
	"github.com/anchorhold/anchorhold/keybroker/registry/registrar"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

const outputs = 3

var keys = sync.OnceValues(func() (*zktest.Groth16, error) { return zktest.NewGroth16(zktest.Shape{Inputs: 2 + 1 + outputs}) })

func groth16(t *testing.T) *zktest.Groth16 {
	t.Helper()
	g, err := keys()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var now = federationtest.Begin.Add(5 * time.Minute)

// site is a broker with a registry that serves.
type site struct {
	*federationtest.World
	broker  registrar.Broker
	cfg     registry.Settings
	cert    []byte
	address chan string // where it serves
	audited chan string // actions
	lowest  uint64      // epoch
}

// addresses hands on the address that the registry logs.
type addresses struct {
	slog.Handler
	found chan string
}

func (a addresses) Enabled(context.Context, slog.Level) bool { return true }
func (a addresses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(at slog.Attr) bool {
		if at.Key == "address" {
			a.found <- at.Value.String()
		}
		return true
	})
	return nil
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{World: federationtest.New(t), cfg: registry.Settings{Listen: "127.0.0.1:0", VerificationTimeoutMS: 20_000}, address: make(chan string, 1), audited: make(chan string, 64), lowest: 1}
	cert, pair, err := hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	s.cert = cert
	s.broker = registrar.Broker{Path: filepath.Join(t.TempDir(), "proofs"), Root: s.Root.Public(), Lowest: func() uint64 { return s.lowest }, Now: now.Time, Logger: slog.New(addresses{slog.DiscardHandler, s.address}),
		Signer: func() (registry.Signer, error) {
			return registry.Signer{Key: s.EpochKey, Statement: s.EpochSigned, Broker: s.Epoch.Broker, Epoch: s.Epoch.Epoch}, nil
		},
		Audit: func(_ context.Context, action, _ string) error { s.audited <- action; return nil },
		TLS: func() (*tls.Config, error) {
			p, err := tls.X509KeyPair(cert, pair)
			if err != nil {
				return nil, err
			}
			return hybridtls.ServerConfig(p, hybridtls.ProfileDefault)
		}}
	return s
}

// open opens the registry; the store closes with the test.
func (s *site) open(t *testing.T) *registrar.Registry {
	t.Helper()
	r, err := registrar.Open(s.cfg, s.broker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// serve serves guests until the function that it returns is called, and makes a client.
func (s *site) serve(t *testing.T, r *registrar.Registry) (*wire.Client, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx) }()
	var address string
	select {
	case address = <-s.address:
	case err := <-ended:
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.cert)
	cfg, err := hybridtls.ClientConfig("127.0.0.1", pool, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	client := wire.NewClient(address, cfg, s.Roots(), nil)
	stop := sync.OnceFunc(func() {
		client.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return client, stop
}

// do runs an operator's command as the operators' socket does.
func do(t *testing.T, r *registrar.Registry, method, path string, in, out any) error {
	t.Helper()
	for _, e := range r.Commands() {
		fixed, _, variable := strings.Cut(e.Path, "{receipt}")
		if e.Method != method || e.Path != path && (!variable || !strings.HasPrefix(path, fixed)) {
			continue
		}
		if e.Mutates != (method == http.MethodPost) || e.Action == "" {
			t.Errorf("%s %s: %+v", method, path, e)
		}
		req, err := http.NewRequestWithContext(t.Context(), method, "http://broker"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetPathValue("receipt", strings.TrimPrefix(path, fixed))
		answer, err := e.Do(t.Context(), req, func(into any) error { return copyJSON(in, into) })
		if err != nil {
			return err
		}
		return copyJSON(answer, out)
	}
	t.Fatalf("no command %s %s", method, path)
	return nil
}

func copyJSON(from, into any) error {
	raw, err := json.Marshal(from)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("%s: %v, want the reason %s", what, err, want)
	}
}

// answer is a receipt and its proof, made with a salt.
func (s *site) answer(t *testing.T, agent *federationtest.Agent, seed byte) (raw []byte, b wire.Bundle, id digest.ReceiptID) {
	t.Helper()
	st := zktest.Inferences(seed, 1, outputs)
	item := st.Inference.Items[0]
	agent.Grant(t, st.Inference.Model.ID())
	lease := receipt.Lease{ID: agent.Lease.Lease, EvidenceDigest: agent.Lease.EvidenceDigest, Chain: agent.Chain, Now: federationtest.Begin.Add(time.Minute)}
	issued, err := receipt.IssueProvable(agent.Key, lease, receipt.Answer{ID: item.Receipt, ModelID: st.Inference.Model.ID(), ModelName: "model", ModelVersion: 1},
		item.Input, [31]byte{1}, item.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = issued.Receipt.Marshal(); err != nil {
		t.Fatal(err)
	}
	e, err := groth16(t).Envelope(st)
	if err != nil {
		t.Fatal(err)
	}
	return raw, wire.Bundle{Envelope: *e, OutputSalts: []wire.Salt{wire.Salt(issued.Salts.Output)}}, item.Receipt
}

func (s *site) register(t *testing.T, r *registrar.Registry, change func(*wire.Registration)) error {
	t.Helper()
	g := groth16(t)
	in := wire.Registration{Record: *g.Record(1, outputs), VerifyingKey: g.Key}
	if change != nil {
		change(&in)
	}
	var signed operator.Signed
	err := do(t, r, "POST", "/v1/proof-keys", in, &signed)
	if err == nil && len(signed.Signed) == 0 {
		t.Error("a registration without a signed record")
	}
	return err
}

func TestConfiguration(t *testing.T) {
	for what, c := range map[string]struct {
		cfg  registry.Settings
		want string
	}{
		"none":             {registry.Settings{}, ""},
		"an address":       {registry.Settings{Listen: "0.0.0.0:8445"}, ""},
		"all":              {registry.Settings{Listen: ":1", AllowDevelopment: true, VerificationTimeoutMS: 60_000}, ""},
		"no port":          {registry.Settings{Listen: "127.0.0.1"}, "proofs.listen"},
		"policy alone":     {registry.Settings{AllowDevelopment: true}, "proofs.listen"},
		"time alone":       {registry.Settings{VerificationTimeoutMS: 5}, "proofs.listen"},
		"a negative time":  {registry.Settings{Listen: ":1", VerificationTimeoutMS: -1}, "proofs.verification_timeout_ms"},
		"limits":           {registry.Settings{Listen: ":1", Waiting: 9, WaitingPerAgent: 3, WaitingDays: 1, Kept: 9, KeptPerAgent: 3, KeptDays: 2}, ""},
		"negative waiting": {registry.Settings{Listen: ":1", Waiting: -1}, "proofs.waiting"},
		"too many kept":    {registry.Settings{Listen: ":1", Kept: 1<<22 + 1}, "proofs.kept"},
		"too long":         {registry.Settings{Listen: ":1", KeptDays: 3651}, "proofs.kept_days"},
		"more than minute": {registry.Settings{Listen: ":1", VerificationTimeoutMS: 60_001}, "proofs.verification_timeout_ms"},
	} {
		if err := c.cfg.Check(); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestWithoutAnAddressThereIsNoRegistry(t *testing.T) {
	r, err := registrar.Open(registry.Settings{}, registrar.Broker{})
	if r != nil || err != nil {
		t.Fatal(r, err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	// Every command of a registry says so, and not that there is no such command.
	commands := r.Commands()
	if len(commands) < 5 {
		t.Errorf("%d commands", len(commands))
	}
	for _, c := range commands {
		_, err := c.Do(t.Context(), nil, nil)
		if reason, _ := refusal.ReasonOf(err); reason != registrar.ReasonNotConfigured || !strings.Contains(err.Error(), "proofs.listen") {
			t.Errorf("%s: %v", c.Action, err)
		}
	}
}

func TestWhatCannotOpenOrServe(t *testing.T) {
	s := newSite(t)
	s.broker.Path = filepath.Join(t.TempDir(), "none", "proofs")
	if _, err := registrar.Open(s.cfg, s.broker); err == nil {
		t.Error("a store in no directory")
	}
	s = newSite(t)
	signer := s.broker.Signer
	s.broker.Signer = nil
	if _, err := registrar.Open(s.cfg, s.broker); err == nil {
		t.Error("a registry without a signer")
	}
	s.broker.Signer = signer
	s.open(t) // the failed one let go of the file

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := newSite(t)
	other.cfg.Listen = taken.Addr().String()
	if err := other.open(t).Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "proofs: listen for guests") {
		t.Errorf("an address that is taken: %v", err)
	}
	broken := errors.New("no certificate")
	third := newSite(t)
	third.broker.TLS = func() (*tls.Config, error) { return nil, broken }
	if err := third.open(t).Serve(t.Context()); !errors.Is(err, broken) {
		t.Errorf("without a certificate: %v", err)
	}
}

// TestOnlyAnswersOfGrantedModelsAreAnnounced: by whom the model's key was granted to, in an
// epoch that the root did not retire.
func TestOnlyAnswersOfGrantedModelsAreAnnounced(t *testing.T) {
	s := newSite(t)
	r := s.open(t)
	client, _ := s.serve(t, r)
	agent := s.Agent(t, nil)
	raw, _, _ := s.answer(t, agent, 1)
	good, err := receipt.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*protocol.LeaseCertificate){
		"its own resource alone": func(*protocol.LeaseCertificate) {},
		"another role":           func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) },
	} {
		adversary := s.Agent(t, change)
		if name == "another role" {
			adversary.Grant(t, good.Body.ModelID)
		}
		body := good.Body
		body.LeaseID, body.EvidenceDigest = adversary.Lease.Lease, adversary.Lease.EvidenceDigest
		forged, err := receipt.Sign(adversary.Key, body, adversary.Chain)
		if err != nil {
			t.Fatal(err)
		}
		binary, err := forged.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Announce(t.Context(), [][]byte{binary})
		wantReason(t, name, err, registry.ReasonUnverified)
	}
	s.lowest = 2
	_, err = client.Announce(t.Context(), [][]byte{raw})
	wantReason(t, "a retired epoch", err, registry.ReasonUnverified)
	s.lowest = 1
	if got, err := client.Announce(t.Context(), [][]byte{raw}); err != nil || got.New != 1 {
		t.Error(got, err)
	}
}

// auditWith is an operator's request with the salt of an output in its header.
func auditWith(t *testing.T, r *registrar.Registry, id digest.ReceiptID, salt string) (a wire.Answer) {
	t.Helper()
	for _, e := range r.Commands() {
		if e.Action != "proof-audit" {
			continue
		}
		req, err := http.NewRequestWithContext(t.Context(), e.Method, "http://broker/v1/proof-audit/"+id.String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.SetPathValue("receipt", id.String())
		req.Header.Set(wire.SaltHeader, salt)
		answer, err := e.Do(t.Context(), req, nil)
		if err == nil {
			err = copyJSON(answer, &a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// TestGuestsOfAProcessorHaveOnePart: a guest has a new agent key for each lease, and none of
// them is a part of its own.
func TestGuestsOfAProcessorHaveOnePart(t *testing.T) {
	s := newSite(t)
	first, second, other := s.Agent(t, nil), s.Agent(t, nil), s.Agent(t, nil)
	s.broker.Chip = func(_ context.Context, lease digest.LeaseID) ([32]byte, error) {
		if lease == other.Lease.Lease {
			return [32]byte{2}, nil
		}
		return [32]byte{1}, nil
	}
	s.cfg.WaitingPerAgent, s.cfg.WaitingPerGuest = 1, 1
	r := s.open(t)
	client, _ := s.serve(t, r)
	for i, agent := range []*federationtest.Agent{first, second, other} {
		raw, _, _ := s.answer(t, agent, byte(i+1))
		if _, err := client.Announce(t.Context(), [][]byte{raw}); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if m := r.Metrics(); m["anchorhold_broker_proofs_waiting"] != 2 || m["anchorhold_broker_proofs_displaced_total"] != 1 {
		t.Errorf("%v", m)
	}
	if (*registrar.Registry)(nil).Metrics() != nil {
		t.Error("counters of no registry")
	}
}

// From a key to an audit, over both of the registry's doors, and again after a restart. An
// operator is shown an answer's outputs for its salt alone, like everybody else.
func TestFromAKeyToAnAudit(t *testing.T) {
	s := newSite(t)
	r := s.open(t)
	client, stop := s.serve(t, r)
	agent := s.Agent(t, nil)
	raw, bundle, id := s.answer(t, agent, 1)

	_, err := client.Submit(t.Context(), &bundle)
	wantReason(t, "a key that nobody registered", err, registry.ReasonNotRegistered)
	if err := s.register(t, r, nil); err != nil {
		t.Fatal(err)
	}
	var records []wire.Record
	if err := do(t, r, "GET", "/v1/proof-keys", nil, &records); err != nil || len(records) != 1 || records[0].Record.VerifyingKey != groth16(t).Digest {
		t.Fatalf("%+v %v", records, err)
	}
	if list, err := client.Records(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1))); err != nil || len(list) != 1 {
		t.Errorf("%d records for guests: %v", len(list), err)
	}
	_, err = client.Submit(t.Context(), &bundle)
	wantReason(t, "an answer that was not announced", err, registry.ReasonNotAnnounced)
	if got, err := client.Announce(t.Context(), [][]byte{raw}); err != nil || got.New != 1 {
		t.Fatal(got, err)
	}
	var issued []registry.Issued
	spec := registry.Spec{All: true, Count: 1, Before: now.Add(time.Hour).Time()}
	if err := do(t, r, "POST", "/v1/challenges", spec, &issued); err != nil || len(issued) != 1 {
		t.Fatal(issued, err)
	}
	if list, err := client.Challenges(t.Context(), protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), agent.Key.Public().ID()); err != nil || len(list) != 1 || list[0].Receipts[0] != id {
		t.Errorf("%+v %v", list, err)
	}
	if err := do(t, r, "POST", "/v1/challenges", spec, &issued); err != nil || issued == nil || len(issued) != 0 {
		t.Errorf("drawn again: %+v %v", issued, err)
	}
	if _, err := client.Submit(t.Context(), &bundle); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	r = s.open(t)
	var st registry.Status
	if err := do(t, r, "GET", "/v1/proof-status", nil, &st); err != nil || st.Records != 1 || st.Proofs != 1 || st.Unanswered != 0 {
		t.Errorf("%+v %v", st, err)
	}
	var a wire.Answer
	if err := do(t, r, "GET", "/v1/proof-audit/"+id.String(), nil, &a); err != nil || a.Proof == nil || a.Challenge == nil || a.Challenge.State != "answered" {
		t.Fatalf("%+v %v", a, err)
	}
	if g := a.Guest; g.Measurement != fmt.Sprintf("%x", agent.Lease.Measurement()) || g.Image != agent.Lease.ImageID || a.Receipt.Agent != digest.Digest(agent.Key.Public().ID()) {
		t.Errorf("another guest: %+v", a)
	}
	for _, bad := range []string{"", "x", strings.ToUpper(id.String()) + "0", strings.Repeat("0", 32)} {
		wantReason(t, "audit of "+bad, do(t, r, "GET", "/v1/proof-audit/"+bad, nil, &a), registry.ReasonNotAnnounced)
	}
	if a.Proof.Outputs != nil || a.Documents.Bundle != nil || a.Proof.Statement != (digest.Digest{}) {
		t.Errorf("an operator without the salt sees the client's outputs: %+v", a.Proof)
	}
	salt, err := bundle.OutputSalts[0].MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	a = auditWith(t, r, id, string(salt))
	if want := bundle.Envelope.Statement.Inference.Items[0].Outputs; !slices.Equal(a.Proof.Outputs, want) || a.Documents.Bundle == nil {
		t.Errorf("outputs %v with the salt, want %v", a.Proof.Outputs, want)
	}
	if len(s.audited) == 0 {
		t.Error("nothing is in the audit log")
	}
}

// Receipts count under this broker's root and no other.
func TestReceiptsOfOthersAreRefused(t *testing.T) {
	s, stranger := newSite(t), newSite(t)
	client, _ := s.serve(t, s.open(t))
	raw, _, _ := stranger.answer(t, stranger.Agent(t, nil), 1)
	_, err := client.Announce(t.Context(), [][]byte{raw})
	wantReason(t, "another broker's guest", err, registry.ReasonUnverified)
	own, _, _ := s.answer(t, s.Agent(t, nil), 1)
	own[len(own)/2] ^= 1
	_, err = client.Announce(t.Context(), [][]byte{own})
	wantReason(t, "a changed receipt", err, registry.ReasonUnverified)
	_, err = client.Announce(t.Context(), [][]byte{[]byte("no receipt")})
	wantReason(t, "no receipt", err, registry.ReasonUnverified)
}

func TestKeysThatAreRefused(t *testing.T) {
	s := newSite(t)
	r := s.open(t)
	for what, c := range map[string]struct {
		change func(*wire.Registration)
		want   refusal.Reason
	}{
		"a development set-up": {func(in *wire.Registration) { in.Record.Development, in.Record.Ceremony = true, digest.Digest{} }, registry.ReasonDevelopment},
		"another key":          {func(in *wire.Registration) { in.VerifyingKey = in.VerifyingKey[:40] }, ""},
		"the other system":     {func(in *wire.Registration) { in.Record.System = statement.PLONK }, ""},
		"no system":            {func(in *wire.Registration) { in.Record.System = 99 }, ""},
	} {
		if err := s.register(t, r, c.change); c.want != "" {
			wantReason(t, what, err, c.want)
		} else if err == nil {
			t.Errorf("%s was registered", what)
		}
	}
	broken := errors.New("not JSON")
	for _, e := range r.Commands() {
		if !e.Mutates {
			continue
		}
		if _, err := e.Do(t.Context(), nil, func(any) error { return broken }); !errors.Is(err, broken) {
			t.Errorf("%s: %v", e.Path, err)
		}
	}
	s = newSite(t)
	s.cfg.AllowDevelopment = true
	if err := s.register(t, s.open(t), func(in *wire.Registration) { in.Record.Development, in.Record.Ceremony = true, digest.Digest{} }); err != nil {
		t.Errorf("allowed: %v", err)
	}
}
