package rounds

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// machine is what survives a broker's process: key store, audit log, clock and
// lease records. Its key store behaves as a real one: names are new, destroyed
// secrets stay destroyed.
type machine struct {
	*federationtest.World

	mu       sync.Mutex
	secrets  map[string]bool // true while readable
	subjects map[string]digest.Digest
	released map[string][]digest.Digest // agents by resource
	lowest   uint64
	events   []Event
	believed error    // what Kept says
	kept     int      // how many events the checkpoint kept elsewhere covers
	log      []string // audit records and durable writes, in their order
	now      time.Time
	chips    map[digest.LeaseID][32]byte
	fail     map[string]error // by the first word of a log line
}

func newMachine(t testing.TB) *machine {
	return &machine{World: federationtest.New(t), secrets: map[string]bool{}, subjects: map[string]digest.Digest{}, released: map[string][]digest.Digest{}, lowest: 1, now: federationtest.Begin.Time().Add(30 * time.Second),
		chips: map[digest.LeaseID][32]byte{}, fail: map[string]error{}}
}

func (m *machine) note(what, detail string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail[what]; err != nil {
		return err
	}
	m.log = append(m.log, what+" "+detail)
	return nil
}

func (m *machine) Put(_ context.Context, name string, subject digest.Digest, secret *keybuf.Buffer) error {
	if err := m.note("put", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, there := m.secrets[name]; there || secret.Len() != 32 {
		return errors.New("the secret is there already, or has no 32 bytes")
	}
	m.secrets[name], m.subjects[name] = true, subject
	return nil
}

func (m *machine) Destroy(_ context.Context, name string) error {
	if !m.covered(name) {
		return fmt.Errorf("%s is destroyed before the checkpoint that is kept elsewhere says why", name)
	}
	if err := m.note("destroy", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.secrets[name] = false
	return nil
}

func (m *machine) readable(id digest.RoundID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.secrets[federation.ResourceOf(id)]
}

func (m *machine) clock() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *machine) advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
}

func (m *machine) wasReleased(_ context.Context, resource string, agent digest.Digest) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.released[resource], agent), m.fail["released"]
}

// decryptor is an agent that was granted a round's key, on the broker's record.
func (m *machine) decryptor(t testing.TB, r federation.Round, signed []byte, change func(*protocol.LeaseCertificate)) *federationtest.Agent {
	t.Helper()
	return m.release(t, m.guest(t, change), r, signed)
}

// release grants a round's key to an agent, and records it.
func (m *machine) release(t testing.TB, a *federationtest.Agent, r federation.Round, signed []byte) *federationtest.Agent {
	t.Helper()
	a.GrantRound(t, r, signed)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.released[r.Resource()] = append(m.released[r.Resource()], a.Key.Public().ID())
	return a
}

// Append implements Log.
func (m *machine) Append(_ context.Context, events ...Event) error {
	for _, e := range events {
		if err := m.note(e.Action, e.Detail); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.events = append(m.events, events...)
	return nil
}

// Find implements Log.
func (m *machine) Find(_ context.Context, action, about string) (found []Event, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.events {
		if e.Action == action && e.About == about {
			found = append(found, e)
		}
	}
	return found, m.fail["find"]
}

// Kept implements Log.
func (m *machine) Kept(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.believed
}

// Keep implements Log.
func (m *machine) Keep(ctx context.Context) error {
	if err := errors.Join(m.Kept(ctx), m.fail["keep"]); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept = len(m.events)
	return nil
}

// covered says whether the checkpoint kept elsewhere covers every event about something.
func (m *machine) covered(about string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !slices.ContainsFunc(m.events[min(m.kept, len(m.events)):], func(e Event) bool { return e.About == about })
}

// PartyKey is a key whose set-up this broker's log has.
func (m *machine) PartyKey(t testing.TB, public []byte, threshold int, agents ...*federationtest.Agent) *federation.PartyKey {
	t.Helper()
	k := m.World.PartyKey(t, public, threshold, agents...)
	setup, err := federation.VerifySetup(k.Setup, m.Roots(), m.Broker(), m.Floor())
	if err == nil {
		err = m.Append(t.Context(), Event{Action: actionPrepare, About: federation.ResourceOf(setup.Round)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var errNoLease = refusal.New("lease-not-granted-here", "not in the record")

func (m *machine) chip(_ context.Context, lease digest.LeaseID) ([32]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.fail["chip"]; err != nil {
		return [32]byte{}, err
	}
	c, ok := m.chips[lease]
	if !ok {
		return c, errNoLease
	}
	return c, nil
}

// guest makes an attested agent on a processor of its own, or on the one named.
func (m *machine) guest(t testing.TB, change func(*protocol.LeaseCertificate), chip ...byte) *federationtest.Agent {
	a := m.Agent(t, change)
	c := [32]byte(sha256.Sum256(a.Lease.Lease[:]))
	if len(chip) > 0 {
		c = [32]byte{chip[0]}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.chips[a.Lease.Lease] = c
	return a
}

// zcdp is an accountant by zero-concentrated privacy, good enough to tell more from
// less.
func zcdp(charges []Charge, delta float64) (epsilon, withSampling float64, err error) {
	var rho, sampled float64
	for _, c := range charges {
		rho += 1 / (2 * c.Multiplier * c.Multiplier)
		sampled += c.Rate * c.Rate / (2 * c.Multiplier * c.Multiplier)
	}
	of := func(rho float64) float64 { return rho + 2*math.Sqrt(rho*math.Log(1/delta)) }
	return of(rho), of(sampled), nil
}

func (m *machine) config(store Store) Config {
	return Config{Store: store, Secrets: m, Roots: m.Roots(), Log: m, Publishers: []identity.Public{m.EpochKey.Public()},
		Signer: func() (Signer, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return Signer{Key: m.EpochKey, Statement: m.EpochSigned, Broker: m.Epoch.Broker, Epoch: 1}, m.fail["sign"]
		},
		Chip: m.chip, Released: m.wasReleased, Lowest: func() uint64 { return m.lowest }, Now: m.clock, Spend: zcdp,
		Calibrate: func(epsilon, delta float64) (float64, error) {
			if epsilon > 100 {
				return 0, errors.New("too large")
			}
			return math.Sqrt(2*math.Log(1.25/delta)) / epsilon, nil
		},
		Privacy: Policy{MaxEpsilon: 20, Delta: 1e-5, AllowSoftwareTEE: true}}
}

func (m *machine) service(t testing.TB, store Store, change func(*Config)) *Service {
	t.Helper()
	c := m.config(store)
	if change != nil {
		change(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func bolted(t testing.TB) *Bolt {
	t.Helper()
	b, err := OpenBolt(t.TempDir() + "/rounds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// mayRelease asks for a guest that the rounds of these tests name, as a broker knows it
// before it releases a key.
func mayRelease(ctx context.Context, s *Service, resource string) error {
	return s.MayRelease(ctx, resource, &protocol.LeaseCertificate{Tenant: "tenant", Grants: []protocol.Granted{{Resource: resource, Roles: protocol.RoleDecrypt}}})
}

var plain = Spec{Model: "test", Contributors: federationtest.Tenants("tenant"), Decryptors: federationtest.Tenants("tenant"), Length: 100, ClipL2: 1, Multiplier: 4, Duration: 10 * time.Minute}

func opened(t testing.TB, s *Service, change func(*Spec)) (federation.Round, []byte) {
	t.Helper()
	spec := plain
	if change != nil {
		change(&spec)
	}
	signed, r, err := s.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return r, signed
}

// contribute signs a contribution whose upload is named by the guest.
func contribute(t testing.TB, a *federationtest.Agent, r federation.Round, signed []byte, change func(*federation.Contribution)) []byte {
	t.Helper()
	c := federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed), Agent: a.Key.Public().ID(), Weight: 1, Blocks: 1,
		Upload: digest.Digest(a.Lease.AgentKey.ID()), Time: federationtest.Begin.Add(time.Minute)}
	if change != nil {
		change(&c)
	}
	raw, err := federation.SignContribution(a.Key, a.Chain, c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// admitted puts so many contributions onto a round's list.
func admitted(t testing.TB, m *machine, s *Service, r federation.Round, signed []byte, n int) []digest.Digest {
	t.Helper()
	var raw [][]byte
	for range n {
		raw = append(raw, contribute(t, m.guest(t, nil), r, signed, nil))
	}
	list, err := s.Admit(t.Context(), r.ID, raw)
	if err != nil {
		t.Fatal(err)
	}
	var digests []digest.Digest
	for _, a := range list {
		if a.Reason != "" {
			t.Fatalf("%s: %s", a.Reason, a.Detail)
		}
		digests = append(digests, a.Contribution)
	}
	return digests
}

// published signs the result that a decrypting guest would.
func published(t testing.TB, a *federationtest.Agent, r federation.Round, signed, ticket []byte, change func(*federation.Result)) []byte {
	t.Helper()
	step, sigma, err := r.Published()
	if err != nil {
		t.Fatal(err)
	}
	res := federation.Result{Round: r.ID, RoundDigest: digest.Of(signed), TicketDigest: digest.Of(ticket), Agent: a.Key.Public().ID(),
		Length: r.Length, Values: digest.Digest{7}, Step: step, Divisor: 2, Sigma: sigma, Time: federationtest.Begin.Add(2 * time.Minute)}
	if change != nil {
		change(&res)
	}
	raw, err := federation.SignResult(a.Key, a.Chain, res)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func wantReason(t testing.TB, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want || want == "" && err != nil {
		t.Errorf("%s: reason %q, want %q: %v", what, got, want, err)
	}
}

// consistent is the oracle: what must hold of a store whatever happened. Every
// closed round is charged once, no other is charged, and the ledgers only grew.
func consistent(ctx context.Context, store Store, before map[string][]Charge) (map[string][]Charge, error) {
	list, err := listOf(ctx, store)
	if err != nil {
		return nil, err
	}
	after, charges := map[string][]Charge{}, map[digest.RoundID]int{}
	for _, r := range list {
		name := r.ledger()
		if _, done := after[name]; done {
			continue
		}
		if after[name], err = store.Charges(ctx, name); err != nil {
			return nil, err
		}
		for _, c := range after[name] {
			charges[c.Round]++
		}
	}
	for model, old := range before {
		if len(after[model]) < len(old) || !slices.Equal(after[model][:len(old)], old) {
			return nil, fmt.Errorf("the ledger of %q lost or changed a charge", model)
		}
	}
	for _, r := range list {
		want := 0
		if r.State == Closed || r.State == Published {
			want = 1
		}
		if charges[r.ID] != want {
			return nil, fmt.Errorf("round %s is %s and was charged %d times", r.ID, r.State, charges[r.ID])
		}
	}
	return after, nil
}

// listOf returns all rounds of a store.
func listOf(ctx context.Context, store Store) (list []Record, err error) {
	err = store.Each(ctx, func(r Record) error { list = append(list, r); return nil })
	return list, err
}
