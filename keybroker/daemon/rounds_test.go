package daemon

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/database"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// chipped is the echo appraiser for guests on processors of their own.
type chipped struct{ echo }

// Collect gives each connection another chip: its report data, where SEV-SNP has the chip's id.
func (chipped) Collect(_ context.Context, data [64]byte) (evidence.Envelope, error) {
	report := append(make([]byte, 0x1a0), data[:]...)
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: report}}}, nil
}

// Appraise finds it there.
func (c chipped) Appraise(ctx context.Context, env evidence.Envelope, want [64]byte, now time.Time) (evidence.Claims, error) {
	chip := env.Chip()
	claims, err := c.echo.Appraise(ctx, evidence.Envelope{Kind: env.Kind, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: chip}}}, want, now)
	if err == nil {
		claims.SNP.ChipID = chip
	}
	return claims, err
}

// member attests and returns the key and chain that it signs with.
func (s *state) member(t *testing.T, address string, resource string) (*identity.Private, *client.Lease, error) {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.result.CertificatePEM)
	c, err := client.New(client.Config{Address: address, ServerName: "localhost", TLSRoots: pool, Roots: []identity.Public{s.result.Root},
		MinEpoch: 1, Epochs: &memoryEpochs{}, Collector: chipped{}, AgentKey: key, Claims: evidence.GuestClaims{ImageID: "i", AgentBuild: "b", MemoryLimit: 1 << 27}})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.Acquire(t.Context(), []string{resource})
	return key, lease, err
}

func (s *state) withRounds() {
	s.options.NewAppraiser = func() (Appraiser, error) { return chipped{}, nil }
	s.options.Config.Rounds.Privacy = rounds.Policy{MaxEpsilon: 3, Delta: 1e-5, WithoutNoise: "a test"}
}

// A round at a real broker: leases from real exchanges, the key held back until the
// round is closed, and gone when it is published.
func TestRoundAtARealBroker(t *testing.T) {
	s := newState(t, false)
	s.withRounds()
	op, address, _ := s.run(t)
	ctx := t.Context()
	secret, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	if _, err := op.PutSecret(ctx, "members/a", secret, keystore.Meta{}, operator.PutNext); err != nil {
		t.Fatal(err)
	}
	if _, err := op.ImportPolicy(ctx, bytes.Replace(policyText(1), []byte("rules: [{resources: [models/*]}]"), []byte("rules: [{resources: [members/*], roles: [contribute]}, {resources: [fed/*], roles: [decrypt]}]"), 1)); err != nil {
		t.Fatal(err)
	}
	values := fmt.Appendf(nil, "format: 1\nreference_values: [{id: demo/a, measurement: %q}]", hex.EncodeToString(bytes.Repeat([]byte{0xcd}, 48)))
	if _, err := op.ImportReferenceValues(ctx, values, false); err != nil {
		t.Fatal(err)
	}
	st, err := op.OpenRound(ctx, rounds.Spec{Model: "m", Contributors: protocol.Everyone(), Decryptors: protocol.Everyone(), Length: 50, ClipL2: 1, Epsilon: 1})
	if err != nil {
		t.Fatal(err)
	}
	if st.Round.Epsilon > 1 || st.Round.Epsilon < 0.99 {
		t.Errorf("epsilon %g", st.Round.Epsilon)
	}
	resource := st.Round.Resource()
	if _, _, err := s.member(t, address, resource); err == nil || !strings.Contains(err.Error(), string(rounds.ReasonNotClosed)) {
		t.Errorf("the key of an open round: %v", err)
	}
	var signed [][]byte
	var cohort []digest.Digest
	for range 2 {
		key, lease, err := s.member(t, address, "members/a")
		if err != nil {
			t.Fatal(err)
		}
		lease.Wipe()
		hashes := []digest.Digest{{byte(len(signed))}}
		raw, err := federation.SignContribution(key, lease.Certificate, federation.Contribution{Round: st.Round.ID, RoundDigest: digest.Of(st.Signed),
			Agent: key.Public().ID(), Weight: 1, Blocks: 1, Upload: federation.UploadDigest(st.Round.ID, hashes), Time: protocol.TimeOf(time.Now())})
		if err != nil {
			t.Fatal(err)
		}
		signed, cohort = append(signed, raw), append(cohort, digest.Of(raw))
	}
	list, err := op.AdmitContributions(ctx, st.Round.ID, signed)
	if err != nil || len(list) != 2 || list[0].Reason != "" || list[1].Reason != "" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := op.CloseRound(ctx, st.Round.ID, rounds.Closing{Cohort: cohort, Sum: digest.Digest{1}}); err != nil {
		t.Fatal(err)
	}
	_, lease, err := s.member(t, address, resource)
	if err != nil {
		t.Fatal(err)
	}
	if k := lease.Keys[resource]; k.Key.Len() != 32 {
		t.Errorf("%+v", lease.Keys)
	}
	lease.Wipe()
	if l, err := op.Ledger(ctx, federation.BrokerAccount); err != nil || len(l.Charges) != 1 || l.Epsilon > 1 {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := op.OpenRound(ctx, rounds.Spec{Model: "m", Contributors: protocol.Everyone(), Decryptors: protocol.Everyone(), Length: 50, ClipL2: 1, Epsilon: 2.9}); err == nil {
		t.Error("the budget of 3 was not enforced")
	}
	other, err := op.OpenRound(ctx, rounds.Spec{Model: "m", Contributors: protocol.Everyone(), Decryptors: protocol.Everyone(), Length: 50, ClipL2: 1, Set: params.Template})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // again is fine
		if _, err := op.AbandonRound(ctx, other.Round.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRoundsAreRefusedWhereNoneAreConfigured(t *testing.T) {
	s := newState(t, false)
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	if d.rounds != nil {
		t.Error("rounds without a configuration")
	}
	if reason, _ := refusal.ReasonOf(d.rounds.Gate(t.Context(), "fed/0123", nil)); reason != rounds.ReasonUnknown {
		t.Errorf("a round's key: %s", reason)
	}
	if err := d.rounds.Gate(t.Context(), "models/a", nil); err != nil {
		t.Error(err)
	}
}

func TestRoundConfigurationsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*state){
		"software TEE in an ordinary build": func(s *state) { s.options.Config.Rounds.Privacy.AllowSoftwareTEE = true },
		"no such credential":                func(s *state) { s.options.Config.Rounds.Postgres = "none" },
		"a credential that is no database":  func(s *state) { s.options.Config.Rounds.Postgres = "broker.kek" },
	} {
		s := newState(t, false)
		s.withRounds()
		change(s)
		if d, err := open(s.options); err == nil {
			t.Errorf("%s: opened", name)
			_ = d.close() // the test failed already
		}
	}
}

// A contribution whose lease is not in this broker's log is of nobody that it knows.
func TestChipsAreThoseOfThisBrokersLog(t *testing.T) {
	s := newState(t, false)
	s.withRounds()
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	lease := federationtest.New(t).Agent(t, nil).Lease.Lease
	if reason, _ := refusal.ReasonOf(second(d.grants.Processor(t.Context(), lease))); reason != "lease-not-granted-here" {
		t.Errorf("an unknown lease's chip: %q", reason)
	}
	if chip, err := d.grants.ProcessorIfKnown(t.Context(), lease); err != nil || chip != [32]byte{} {
		t.Errorf("a receipt of another broker's lease: %x, %v", chip, err)
	}
	// A lease leaves only when its record is durable, so that nobody asks for it before that:
	// that one is not in the log is remembered.
	granted := federationtest.New(t).Agent(t, nil).Lease.Lease
	if _, err := d.log.Append(t.Context(), audit.Record{Kind: audit.KindGrant, Time: time.Now(), Grant: granted.String(), ChipDigest: digest.Digest{7}}); err != nil {
		t.Fatal(err)
	}
	if chip, err := d.grants.Processor(t.Context(), granted); err != nil || chip != [32]byte{7} {
		t.Errorf("chip %x, %v", chip, err)
	}
}

func second[T any](_ T, err error) error { return err }

// What happened to a round is found in the audit log by the round's name.
func TestRoundEventsAreFoundInTheLog(t *testing.T) {
	s := newState(t, false)
	s.withRounds()
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	_, r, err := d.rounds.Service().Open(t.Context(), rounds.Spec{Model: "m", Contributors: protocol.Everyone(), Decryptors: protocol.Everyone(), Length: 50, ClipL2: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.rounds.Service().Abandon(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]int{"round-open": 1, "round-abandon": 1, "round-close": 0} {
		found, err := d.log.Find(audit.Query{Kind: audit.KindService, Action: action, Resource: federation.ResourceOf(r.ID)})
		if err != nil || len(found) != want {
			t.Errorf("%s: %+v, %v", action, found, err)
		}
	}
}

// TestModelsAreReleasedWithoutTheRoundsDatabase: a broker that starts while it is away serves
// all but rounds, says so, and a check fails.
func TestModelsAreReleasedWithoutTheRoundsDatabase(t *testing.T) {
	s := releasing(t)
	s.options.Config.Rounds.Privacy = rounds.Policy{MaxEpsilon: 3, Delta: 1e-5, WithoutNoise: "a test"}
	s.options.Config.Rounds.Postgres = "rounds.dsn"
	credential, nowhere := s.options.Credential, t.TempDir()
	s.options.Credential = func(name string) ([]byte, error) {
		if name == "rounds.dsn" {
			return []byte("host=" + nowhere + " user=nobody dbname=none"), nil
		}
		return credential(name)
	}
	if err := Check(s.options); !errors.Is(err, database.ErrUnreachable) {
		t.Errorf("a check says %v", err)
	}
	op, address, stop := s.run(t)
	defer stop()
	l, err := s.client(t, address).Acquire(t.Context(), []string{"models/a"})
	if err != nil {
		t.Fatalf("no model without the rounds' database: %v", err)
	}
	l.Wipe()
	if _, err := op.Rounds(t.Context()); err == nil {
		t.Error("rounds are listed without their database")
	}
	if !strings.Contains(s.log.String(), "the rounds' database cannot be reached") {
		t.Errorf("nothing says so:\n%s", s.log)
	}
}
