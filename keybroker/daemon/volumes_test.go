package daemon

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/database/databasetest"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// TestVolumesGoOnFromWhereTheyWere: a broker as it is run confirms generations where it releases keys, remembers
// them across restarts, and lets an operator say that a backup is one.
func TestVolumesGoOnFromWhereTheyWere(t *testing.T) {
	const volume = "volumes/var"
	s := releasing(t)
	op, address, stop := s.run(t)
	putSecret(t, op, volume)
	if _, err := op.ImportPolicy(t.Context(), bytes.Replace(policyText(2), []byte("{resources: [models/*]}"), fmt.Appendf(nil, "{resources: [models/*]}, {resources: [%s]}", volume), 1)); err != nil {
		t.Fatal(err)
	}
	agent := newAgentKey(t)
	open := func(confirmed generation.State) (generation.State, refusal.Reason) {
		t.Helper()
		return s.openVolume(t, address, agent, volume, confirmed)
	}
	first, _ := open(generation.State{})
	second, reason := open(first)
	if first.Generation != 1 || second.Generation != 2 {
		t.Fatalf("generations %d and %d, %s", first.Generation, second.Generation, reason)
	}
	stop()
	op, address, stop = s.run(t)
	if _, reason := open(first); reason != generation.ReasonRolledBack {
		t.Errorf("after a restart an old generation is refused for %q", reason)
	}
	list, err := op.Volumes(t.Context())
	if err != nil || len(list) != 1 || list[0].Volume != volume || list[0].Generation != 2 || list[0].Agent != agent.Public().ID() {
		t.Errorf("%+v %v", list, err)
	}
	if _, err := op.ResetVolume(t.Context(), "volumes/other"); !isCode(err, string(volumes.ReasonUnknown)) {
		t.Errorf("a volume that nobody opened: %v", err)
	}
	putSecret(t, op, "volumes/new")
	if v, err := op.ResetVolume(t.Context(), "volumes/new"); err != nil || !v.Reset || v.Generation != 0 {
		t.Errorf("a volume of which only the key is known: %+v %v", v, err)
	}
	if _, err := op.ResetVolume(t.Context(), "models/a"); !isCode(err, string(volumes.ReasonName)) {
		t.Errorf("no volume: %v", err)
	}
	if v, err := op.ResetVolume(t.Context(), volume); err != nil || !v.Reset || v.Generation != 2 {
		t.Errorf("%+v %v", v, err)
	}
	stop()
	_, address, stop = s.run(t)
	if third, reason := open(first); third.Generation != 3 {
		t.Errorf("after the reset: generation %d, %q", third.Generation, reason)
	}
	if _, reason := open(second); reason != generation.ReasonRolledBack {
		t.Errorf("the second opening after the reset is refused for %q", reason)
	}
	stop()
	var actions []string
	records, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindVolume, Resource: volume})
	for _, r := range records {
		actions = append(actions, fmt.Sprint(r.Record.Action, " ", r.Record.ResourceVersion))
	}
	if got, want := fmt.Sprint(actions), "[opened 1 opened 2 reset 2 opened 3]"; err != nil || got != want {
		t.Errorf("the log says %s (%v), want %s", got, err, want)
	}
	asked, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindOperator, Resource: volume})
	if err != nil || len(asked) != 2 || asked[1].Record.Action != "volume-reset" {
		t.Errorf("the operator's command: %+v %v", asked, err)
	}
}

// openVolume opens a volume as a guest does, and returns the state that it made current.
func (s *state) openVolume(t *testing.T, address string, agent *identity.Private, volume string, confirmed generation.State) (generation.State, refusal.Reason) {
	t.Helper()
	c := s.clientOf(t, address, agent)
	defer c.Close()
	lease, err := c.Acquire(t.Context(), []string{volume})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Wipe()
	tell := func(h generation.Holding) (generation.State, error) {
		asks := generation.Client{Address: address, TLS: s.tlsConfig(t), Roots: []identity.Public{s.result.Root}}
		return asks.Opened(t.Context(), generation.Guest{Key: agent, Chain: lease.Certificate, Now: protocol.TimeOf(lease.BrokerNow(time.Now())), Broker: lease.BrokerID, Lowest: protocol.AtLeast(1)}, h)
	}
	current, err := tell(generation.Holding{Volume: volume, Confirmed: confirmed})
	if err == nil {
		next, failed := generation.After(current, confirmed)
		if failed != nil {
			t.Fatal(failed)
		}
		current, err = tell(generation.Holding{Volume: volume, Confirmed: current, Next: next})
	}
	reason, refused := refusal.ReasonOf(err)
	if err != nil && !refused {
		t.Fatal(err)
	}
	return current, reason
}

// withVolumesDatabase has a connection string of the volumes' database among its credentials.
func (s *state) withVolumesDatabase(dsn string) {
	s.options.Config.Volumes.Postgres = "volumes.dsn"
	credential := s.options.Credential
	s.options.Credential = func(name string) ([]byte, error) {
		if name == "volumes.dsn" {
			return []byte(dsn + "\n"), nil
		}
		return credential(name)
	}
}

// withVolumeKey has the broker release the key of a volume.
func withVolumeKey(t *testing.T, op *operator.Client, volume string) {
	t.Helper()
	putSecret(t, op, volume)
	if _, err := op.ImportPolicy(t.Context(), bytes.Replace(policyText(2), []byte("{resources: [models/*]}"), fmt.Appendf(nil, "{resources: [models/*]}, {resources: [%s]}", volume), 1)); err != nil {
		t.Fatal(err)
	}
}

// TestBrokersShareGenerations: two brokers as they are run, and the database of their fleet.
func TestBrokersShareGenerations(t *testing.T) {
	const volume = "volumes/var"
	server := databasetest.New(t)
	dsn := server.DSN(server.Schema(t)) + "&pool_max_conns=2"
	open := func(s *state) (op *operator.Client, opened func(generation.State) (generation.State, refusal.Reason)) {
		s.withVolumesDatabase(dsn)
		op, address, stop := s.run(t)
		t.Cleanup(stop)
		withVolumeKey(t, op, volume)
		agent := newAgentKey(t)
		return op, func(confirmed generation.State) (generation.State, refusal.Reason) {
			t.Helper()
			return s.openVolume(t, address, agent, volume, confirmed)
		}
	}
	first, atFirst := open(releasing(t))
	second, atSecond := open(releasing(t))
	one, reason := atFirst(generation.State{})
	if one.Generation != 1 {
		t.Fatalf("generation %d, %q", one.Generation, reason)
	}
	two, reason := atSecond(one)
	if two.Generation != 2 {
		t.Fatalf("at the second broker: generation %d, %q", two.Generation, reason)
	}
	for name, at := range map[string]func(generation.State) (generation.State, refusal.Reason){"first": atFirst, "second": atSecond} {
		if _, reason := at(one); reason != generation.ReasonRolledBack {
			t.Errorf("an old copy is refused by the %s for %q", name, reason)
		}
	}
	if list, err := first.Volumes(t.Context()); err != nil || len(list) != 1 || list[0].Generation != 2 {
		t.Errorf("%+v %v", list, err)
	}
	if v, err := second.ResetVolume(t.Context(), volume); err != nil || !v.Reset || v.Generation != 2 {
		t.Errorf("%+v %v", v, err)
	}
	if three, reason := atSecond(one); three.Generation != 3 {
		t.Errorf("after a reset: generation %d, %q", three.Generation, reason)
	}
}

// TestModelsAreReleasedWithoutTheVolumesDatabase: a broker that starts while it is away serves all but volumes, says so,
// and a check fails. One whose database cannot be believed does not start.
func TestModelsAreReleasedWithoutTheVolumesDatabase(t *testing.T) {
	const volume = "volumes/var"
	s := releasing(t)
	s.withVolumesDatabase("host=" + t.TempDir() + " user=nobody dbname=none")
	if err := Check(s.options); !errors.Is(err, database.ErrUnreachable) {
		t.Errorf("a check says %v", err)
	}
	op, address, stop := s.run(t)
	withVolumeKey(t, op, volume)
	l, err := s.client(t, address).Acquire(t.Context(), []string{"models/a"})
	if err != nil {
		t.Fatalf("no model without the volumes' database: %v", err)
	}
	l.Wipe()
	if _, reason := s.openVolume(t, address, newAgentKey(t), volume, generation.State{}); reason != protocol.ReasonBusy {
		t.Errorf("a volume without its database: %q", reason)
	}
	if _, err := op.Volumes(t.Context()); !isCode(err, string(protocol.ReasonBusy)) {
		t.Errorf("volumes are listed without their database: %v", err)
	}
	if !strings.Contains(s.log.String(), "the volumes' database cannot be reached") {
		t.Errorf("nothing says so:\n%s", s.log)
	}
	stop()
	for name, change := range map[string]func(*state){
		"no such credential": func(s *state) { s.options.Config.Volumes.Postgres = "none" },
		"no TLS":             func(s *state) { s.withVolumesDatabase("postgres://u@db.example/x") },
	} {
		s := newState(t, false)
		change(s)
		if err := Check(s.options); err == nil || !strings.Contains(err.Error(), "volume") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tlsConfig is a guest's.
func (s *state) tlsConfig(t *testing.T) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.result.CertificatePEM) {
		t.Fatal("no certificate")
	}
	cfg, err := hybridtls.ClientConfig("localhost", roots, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func isCode(err error, code string) bool {
	e, ok := errors.AsType[*operator.Error](err)
	return ok && e.Code == code
}

// TestEndedProcessorsOpenNoVolumes: the lease at hand runs on, but what it confirms does not.
func TestEndedProcessorsOpenNoVolumes(t *testing.T) {
	const volume = "volumes/var"
	s := releasing(t)
	op, address, stop := s.run(t)
	defer func() { stop() }()
	putSecret(t, op, volume)
	if _, err := op.ImportPolicy(t.Context(), bytes.Replace(policyText(2), []byte("{resources: [models/*]}"), fmt.Appendf(nil, "{resources: [models/*]}, {resources: [%s]}", volume), 1)); err != nil {
		t.Fatal(err)
	}
	agent := newAgentKey(t)
	c := s.clientOf(t, address, agent)
	defer c.Close()
	lease, err := c.Acquire(t.Context(), []string{volume})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Wipe()
	want := func(when string, reason refusal.Reason) {
		t.Helper()
		asks := generation.Client{Address: address, TLS: s.tlsConfig(t), Roots: []identity.Public{s.result.Root}}
		_, err := asks.Opened(t.Context(), generation.Guest{Key: agent, Chain: lease.Certificate, Now: protocol.TimeOf(lease.BrokerNow(time.Now())), Broker: lease.BrokerID, Lowest: protocol.AtLeast(1)},
			generation.Holding{Volume: volume})
		if got, _ := refusal.ReasonOf(err); got != reason || reason == "" && err != nil {
			t.Errorf("%s: %v, want %q", when, err, reason)
		}
	}
	want("at first", "")
	list, err := op.Leases(t.Context())
	if err != nil || len(list.Leases) == 0 {
		t.Fatalf("%+v %v", list, err)
	}
	processor := processorName(list.Leases[0].Processor)
	if _, err := op.EndLeases(t.Context(), processor); err != nil {
		t.Fatal(err)
	}
	want("with the processor ended", protocol.ReasonEnded)
	stop()
	op, address, stop = s.run(t)
	want("after a restart", protocol.ReasonEnded)
	if _, err := op.AllowLeases(t.Context(), processor); err != nil {
		t.Fatal(err)
	}
	if _, err := op.EndLeases(t.Context(), processorName(digest.Digest{1})); err != nil {
		t.Fatal(err)
	}
	want("with another processor ended", "")
}
