//go:build !release

package keybroker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

func noPolicy() *policy.Policy { return nil }

// TestEveryMessageOutOfPlaceIsRefused sends each kind of message in each state
// that does not admit it.
func TestEveryMessageOutOfPlaceIsRefused(t *testing.T) {
	f := brokertest.New(t)
	valid := dial(t, f)
	valid.whole()
	states := map[string]func(g *guest){
		"before M1": func(*guest) {},
		"before M3": func(g *guest) { g.begin() },
		"before M5": func(g *guest) { g.begin(); g.fatal(g.attest(g.attestation())) },
	}
	admitted := map[string]int{"before M1": 0, "before M3": 2, "before M5": 4}
	for state, reach := range states {
		for i, frame := range valid.frames {
			if i == admitted[state] {
				continue
			}
			g := dial(t, f)
			reach(g)
			g.write(frame)
			wantReason(t, g.read(4, &protocol.Grant{}), protocol.ReasonUnexpectedMessage)
		}
	}
}

// TestHelloFields changes each field of M1 to what the broker must refuse, or
// must notice later.
func TestHelloFields(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.Classes = []string{"models"} }))
	for name, tc := range map[string]struct {
		change func(*protocol.Hello)
		want   refusal.Reason
	}{
		"version": {func(m *protocol.Hello) { m.Versions = []protocol.Version{1} }, protocol.ReasonVersionUnsupported},
		"suite":   {func(m *protocol.Hello) { m.Suites = []protocol.Suite{2} }, protocol.ReasonSuiteUnsupported},
		"kind":    {func(m *protocol.Hello) { m.Kinds = []evidence.Kind{"other"} }, protocol.ReasonKindUnsupported},
		"epoch":   {func(m *protocol.Hello) { m.HighestEpoch = 2 }, protocol.ReasonEpochBehind},
		"class":   {func(m *protocol.Hello) { m.Classes = []string{"rounds"} }, protocol.ReasonClassNotServed},
	} {
		g := dial(t, f)
		m1 := hello()
		tc.change(m1)
		g.send(1, m1)
		wantReason(t, g.read(2, &g.m2), tc.want)
		g.ended()
		if name == "kind" && !hasRefusal(f, tc.want) {
			t.Errorf("%s: the refusal is not in the audit log", name)
		}
	}
}

func hasRefusal(f *brokertest.Fixture, want refusal.Reason) bool {
	for _, r := range f.Records() {
		if r.Kind == audit.KindRefusal && len(r.Reasons) > 0 && r.Reasons[0].Code == string(want) {
			return true
		}
	}
	return false
}

// TestRequestFields asks in M5 for what was not granted, and too late.
func TestRequestFields(t *testing.T) {
	f := brokertest.New(t)
	f.Put("models/secret", "another key")
	granted := func() *guest {
		g := dial(t, f)
		g.begin()
		g.fatal(g.attest(g.attestation()))
		return g
	}
	g := granted()
	g.send(5, request("models/secret"))
	wantReason(t, g.read(6, &g.m6), protocol.ReasonResourceNotGranted)
	g = granted()
	g.send(5, request("models/secret", brokertest.Resource))
	wantReason(t, g.read(6, &g.m6), protocol.ReasonResourceNotGranted)
	g = granted()
	f.Clock.Move(11 * time.Minute)
	g.send(5, request(brokertest.Resource))
	wantReason(t, g.read(6, &g.m6), protocol.ReasonGrantExpired)
	wantNoRelease(t, f)
}

// TestReceiptIsRecorded shows what the log says about M7: right, wrong and absent.
func TestReceiptIsRecorded(t *testing.T) {
	f := brokertest.New(t)
	released := func() *guest {
		g := dial(t, f)
		g.begin()
		g.fatal(g.attest(g.attestation()))
		g.fatal(g.release())
		return g
	}
	released().receipt()
	g := released()
	m7 := &protocol.Receipt{Release: protocol.HashMessage(g.frames[5])}
	m7.Prove(make([]byte, keywrap.ExportSize), g.ekm) // as by who has AK and not KK
	g.send(7, m7)
	g.ended()
	g = released()
	m7 = &protocol.Receipt{Release: protocol.Digest{1}}
	m7.Prove(g.opened(), g.ekm)
	g.send(7, m7)
	g.ended()
	g = released()
	g.conn.Close()
	f.Stop()
	var got []string
	for _, r := range f.Records() {
		if r.Kind == audit.KindReceipt {
			got = append(got, r.Decision)
		}
		if r.Kind == audit.KindAnomaly {
			got = append(got, r.Reasons[0].Code)
		}
	}
	want := "confirmed receipt-invalid receipt-invalid receipt-missing"
	if strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestUnusedGrantsAreRecorded ends exchanges between M4 and M6: the grant that
// opened nothing is told all the same, once, before what ended the exchange.
func TestUnusedGrantsAreRecorded(t *testing.T) {
	f := brokertest.New(t)
	granted := func() *guest {
		g := dial(t, f)
		g.begin()
		g.fatal(g.attest(g.attestation()))
		return g
	}
	g := granted()
	g.send(5, request("models/other"))
	wantReason(t, g.read(6, &g.m6), protocol.ReasonResourceNotGranted)
	granted().conn.Close()
	f.Stop()
	var got []string
	for _, r := range f.Records() {
		got = append(got, r.Kind.String())
	}
	if !slices.Equal(got, []string{"grant", "refusal", "grant"}) {
		t.Errorf("recorded %q", got)
	}
}

// TestLargestReleaseIsOneDecision appends the records of a release of as many keys
// as an exchange may ask for.
func TestLargestReleaseIsOneDecision(t *testing.T) {
	f := brokertest.New(t)
	records := make([]audit.Record, 1+protocol.MaxResources)
	for i := range records {
		records[i] = audit.Record{Kind: audit.KindRelease, Time: f.Clock.Now()}
	}
	if _, err := f.Audit.AppendAll(t.Context(), records...); err != nil {
		t.Error(err)
	}
}

// TestRecordsTellTheWholeStory follows one exchange and one refusal through the
// audit log, and finds the refusal by the ID that the peer was given.
func TestRecordsTellTheWholeStory(t *testing.T) {
	f := brokertest.New(t)
	dial(t, f).whole()
	g := dial(t, f)
	g.begin()
	m3 := g.attestation()
	m3.Evidence = g.quote([64]byte{1})
	err := g.attest(m3)
	wantReason(t, err, reportDataMismatch)
	id := err.(*refusal.Error).Detail
	g.conn.Close()
	f.Stop()
	records := f.Records()
	if len(records) != 4 {
		t.Fatalf("%d records", len(records))
	}
	grant, release, receipt, refusal := records[0], records[1], records[2], records[3]
	if grant.Grant == "" || grant.Grant != release.Grant || release.Grant != receipt.Grant || grant.Connection != receipt.Connection {
		t.Error("the records of one exchange do not name one lease and connection")
	}
	if release.Resource != brokertest.Resource || release.ResourceVersion != 1 || release.Decision != "allowed" || release.PolicyID != "test" ||
		release.Epoch != 1 || release.EvidenceDigest.IsZero() || release.AgentKey.IsZero() || release.Measurement == "" || len(release.Waived) == 0 {
		t.Errorf("the release record is incomplete: %+v", release)
	}
	if receipt.MessageDigest.IsZero() {
		t.Error("the receipt names no message")
	}
	if refusal.RefusalID != id || refusal.Reasons[0].Detail == "" || refusal.Decision != "refused" || refusal.Grant != "" {
		t.Errorf("the refusal cannot be explained: %+v, want id %s", refusal, id)
	}
}

// TestPolicyReasonsReachTheLog refuses by policy: the peer learns one code, the
// log holds all.
func TestPolicyReasonsReachTheLog(t *testing.T) {
	f := brokertest.New(t)
	f.SetPolicy(strings.NewReplacer("products: [Genoa]", "products: [Turin]", "product: Genoa", "product: Turin", "vmpl: 0", "vmpl: 1").Replace(brokertest.DefaultPolicy()))
	g := dial(t, f)
	g.begin()
	err := g.attest(g.attestation())
	wantReason(t, err, policy.ReasonProduct)
	g.conn.Close()
	f.Stop()
	r := f.Records()[0]
	if len(r.Reasons) < 2 || !strings.HasPrefix(r.Reasons[0].Detail, brokertest.Resource) {
		t.Errorf("reasons %+v", r.Reasons)
	}
}

// TestDeadlines lets a silent peer hit each step's deadline.
func TestDeadlines(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		c.Limits.Step, c.Limits.NonceWindow = 400*time.Millisecond, 2*time.Second
	}))
	g := dial(t, f)
	wantReason(t, g.read(2, &g.m2), protocol.ReasonDeadline)
	g = dial(t, f)
	g.begin()
	wantReason(t, g.read(4, &g.m4), protocol.ReasonDeadline)
	g = dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	wantReason(t, g.read(6, &g.m6), protocol.ReasonDeadline)
	wantNoRelease(t, f)
}

// TestNewcomersAreServedByAFullBroker fills the broker with peers that say hello and
// fall silent, from the newcomer's own address. Attested guests keep their places.
func TestNewcomersAreServedByAFullBroker(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		c.Limits.Listen = listen.Limits{Connections: 4, Unproven: 2, PerSource: 2}
	}))
	attested := dial(t, f)
	attested.begin()
	attested.fatal(attested.attest(attested.attestation()))
	for range 8 {
		silent := dial(t, f)
		silent.begin()
	}
	dial(t, f).whole()
	attested.fatal(attested.release())
}

// TestRefusalRecordsAreBounded floods the broker with refusals: once what one
// stranger filled the log's disk with. They are counted, and who comes with
// evidence is granted and recorded all the same.
func TestRefusalRecordsAreBounded(t *testing.T) {
	f := brokertest.New(t, brokertest.WithAuditBudget(audit.Budget{DayBytes: 24 << 20, SourceBytes: 24 * 1600}))
	const refusals = 12
	for range refusals {
		g := dial(t, f)
		g.send(1, &protocol.Hello{Versions: []protocol.Version{9}, Suites: []protocol.Suite{1}, Kinds: []evidence.Kind{"sev-snp"}, Classes: []string{"a"}})
		wantReason(t, g.read(2, &g.m2), protocol.ReasonVersionUnsupported)
		g.conn.Close()
	}
	dial(t, f).whole()
	f.Stop()
	if err := f.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	count := map[audit.Kind]int{}
	var summary audit.Record
	for _, r := range f.Records() {
		count[r.Kind]++
		if r.Action == "records-suppressed" {
			summary = r
		}
	}
	left := refusals - count[audit.KindRefusal]
	if count[audit.KindRefusal] < 1 || left < 5 || count[audit.KindGrant] != 1 || count[audit.KindRelease] != 1 || count[audit.KindReceipt] != 1 {
		t.Errorf("recorded %v", count)
	}
	if want := (audit.Reason{Code: string(protocol.ReasonVersionUnsupported), Detail: fmt.Sprint(left)}); len(summary.Reasons) != 1 || summary.Reasons[0] != want ||
		!strings.Contains(summary.Detail, fmt.Sprintf("most from 127.0.0.1/32 (%d)", left)) {
		t.Errorf("the summary is %+v, want %v", summary, want)
	}
}

// TestBusy holds the only place for verification.
func TestBusy(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		c.Limits.Verifications, c.Limits.Step = 1, 500*time.Millisecond
		c.Appraiser = appraiserFunc(func(ctx context.Context, env evidence.Envelope, want [64]byte, now time.Time) (evidence.Claims, error) {
			close(entered)
			<-leave
			return evidence.Claims{}, refusal.New(reportDataMismatch, "enough")
		})
	}))
	first, second := dial(t, f), dial(t, f)
	first.begin()
	m3 := first.attestation()
	h1, h2 := first.hashes()
	first.fatal(m3.Sign(first.agent, first.ekm, h1, h2))
	second.begin()
	second2 := second.attestation()
	first.send(3, m3)
	<-entered
	wantReason(t, second.attest(second2), protocol.ReasonBusy)
	close(leave)
	wantReason(t, first.read(4, &first.m4), reportDataMismatch)
}

// TestGateTakesNoPlaceForVerification: what the gate waits for, a mount or a database, holds
// up whoever asks for what it guards, and nobody else.
func TestGateTakesNoPlaceForVerification(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(leave) })
	defer goOn() // before the broker is stopped, however this ends
	var calls atomic.Int32
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		c.Limits.Verifications, c.Limits.Step = 1, time.Second
		c.Gate = func(context.Context, string, *protocol.LeaseCertificate) error {
			if calls.Add(1) > 1 {
				return nil
			}
			close(entered)
			<-leave
			return refusal.New(reportDataMismatch, "enough")
		}
	}))
	first := dial(t, f)
	first.begin()
	m3 := first.attestation()
	h1, h2 := first.hashes()
	first.fatal(m3.Sign(first.agent, first.ekm, h1, h2))
	first.send(3, m3)
	<-entered
	dial(t, f).whole()
	goOn()
	wantReason(t, first.read(4, &first.m4), reportDataMismatch)
}

type appraiserFunc func(context.Context, evidence.Envelope, [64]byte, time.Time) (evidence.Claims, error)

func (f appraiserFunc) Appraise(ctx context.Context, env evidence.Envelope, want [64]byte, now time.Time) (evidence.Claims, error) {
	return f(ctx, env, want, now)
}

// TestPitfall27 lets the appraiser panic: one exchange is refused, the broker
// goes on.
func TestPitfall27(t *testing.T) {
	var calls atomic.Int32
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		real := c.Appraiser
		c.Appraiser = appraiserFunc(func(ctx context.Context, env evidence.Envelope, want [64]byte, now time.Time) (evidence.Claims, error) {
			if calls.Add(1) == 1 {
				var none *evidence.Claims
				return *none, nil
			}
			return real.Appraise(ctx, env, want, now)
		})
	}))
	g := dial(t, f)
	g.begin()
	wantReason(t, g.attest(g.attestation()), protocol.ReasonInternal)
	dial(t, f).whole()
}

// TestLeaseOverWhileTheRecordWasWritten lets a slow disk eat the whole lease:
// the clock is asked once more before the keys leave.
func TestLeaseOverWhileTheRecordWasWritten(t *testing.T) {
	var o order
	var f *brokertest.Fixture
	f = brokertest.New(t, withOrder(&o, func(r audit.Record) error {
		if r.Kind == audit.KindRelease {
			f.Clock.Move(11 * time.Minute)
		}
		return nil
	}))
	g := dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	wantReason(t, g.release(), protocol.ReasonGrantExpired)
}

// TestMalformedInside sends M3 with insides that do not parse: claims and
// envelope are checked apart from the message around them.
func TestMalformedInside(t *testing.T) {
	f := brokertest.New(t)
	for name, tc := range map[string]struct {
		change func(*protocol.Attest)
		want   refusal.Reason
	}{
		"claims":   {func(m *protocol.Attest) { m.Claims = append(bytes.Clone(m.Claims), 0) }, evidence.ReasonMalformedClaims},
		"envelope": {func(m *protocol.Attest) { m.Evidence = append(bytes.Clone(m.Evidence), 0) }, evidence.ReasonMalformedEvidence},
		"kind": {func(m *protocol.Attest) {
			env, _ := evidence.ParseEnvelope(m.Evidence)
			env, _ = evidence.NewEnvelope(evidence.KindTDX, evidence.Part{Type: evidence.PartTDXQuote, Data: env.Primary()})
			m.Evidence, _ = env.Marshal()
		}, protocol.ReasonKindUnsupported},
	} {
		g := dial(t, f)
		g.begin()
		m3 := g.attestation()
		tc.change(m3)
		if err := g.attest(m3); err == nil {
			t.Errorf("%s: granted", name)
		} else {
			wantReason(t, err, tc.want)
		}
	}
	wantNoRelease(t, f)
}

// TestKeyTooLongForARelease stores what no M6 can carry.
func TestKeyTooLongForARelease(t *testing.T) {
	f := brokertest.New(t)
	f.Put(brokertest.Resource, strings.Repeat("x", protocol.MaxKeyBytes+1))
	g := dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	wantReason(t, g.release(), protocol.ReasonResourceUnavailable)
	f.Put(brokertest.Resource, brokertest.Secret)
	dial(t, f).whole()
}

// TestKeysTooLongTogether: each of them fits a release, and not all of them one.
func TestKeysTooLongTogether(t *testing.T) {
	f := brokertest.New(t)
	var names []string
	for i := range protocol.MaxReleasedBytes/protocol.MaxKeyBytes + 1 {
		names = append(names, fmt.Sprintf("models/long-%d", i))
		f.Put(names[i], strings.Repeat("x", protocol.MaxKeyBytes))
	}
	get := func(names []string) error {
		lease, err := f.Client(nil).Acquire(t.Context(), names)
		lease.Wipe()
		return err
	}
	if err := get(names[1:]); err != nil {
		t.Error(err)
	}
	e, ok := errors.AsType[*client.Error](get(names))
	if !ok || e.Reason != protocol.ReasonResourceUnavailable {
		t.Errorf("got %v, want %s", e, protocol.ReasonResourceUnavailable)
	}
}

// TestServeEndsWithItsContext stops a broker that has an idle connection.
func TestServeEndsWithItsContext(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Drain = 50 * time.Millisecond }))
	g := dial(t, f)
	g.begin()
	f.Stop()
	if _, err := net.Dial("tcp", f.Address); err == nil {
		t.Error("a stopped broker listens")
	}
	if err := g.read(4, &g.m4); err == nil {
		t.Error("a stopped broker answers")
	}
}

func TestServeReturnsTheListenersError(t *testing.T) {
	f := brokertest.New(t)
	ln := failingListener{err: errFault}
	if err := f.Broker.Serve(context.Background(), ln); err == nil || !strings.Contains(err.Error(), errFault.Error()) {
		t.Errorf("got %v", err)
	}
}

type failingListener struct {
	net.Listener
	err error
}

func (l failingListener) Accept() (net.Conn, error) { return nil, l.err }
func (l failingListener) Close() error              { return nil }

// TestOneGuestDoesNotFillTheLog: a guest that the policy allows gets so many decisions and no
// more, whatever keys it makes.
func TestOneGuestDoesNotFillTheLog(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.PerGuest = 3 }))
	acquire := func() error {
		lease, err := f.Client(nil).Acquire(context.Background(), []string{brokertest.Resource}) // with a new agent key
		lease.Wipe()
		return err
	}
	for range 3 {
		if err := acquire(); err != nil {
			t.Fatal(err)
		}
	}
	var refused *client.Error
	if err := acquire(); !errors.As(err, &refused) || refused.Reason != protocol.ReasonBusy {
		t.Errorf("the fourth decision: %v", err)
	}
	f.Clock.Move(keybroker.PaceWindow)
	if err := acquire(); err != nil {
		t.Errorf("ten minutes later: %v", err)
	}
}

// TestLeasesOfOneGuestNameItsProcessor: whatever keys it makes, and without the chip's id.
func TestLeasesOfOneGuestNameItsProcessor(t *testing.T) {
	f := brokertest.New(t)
	named := func() protocol.LeaseCertificate {
		lease, err := f.Client(nil).Acquire(context.Background(), []string{brokertest.Resource}) // with a new agent key
		if err != nil {
			t.Fatal(err)
		}
		defer lease.Wipe()
		a, err := protocol.VerifyAuthority(lease.Certificate, []identity.Public{f.Root.Public()}, protocol.Of(f.Root.Public().ID()), protocol.Recorded(protocol.AtLeast(1)), protocol.RoleServe, protocol.Named(brokertest.Resource), protocol.Everyone())
		if err != nil {
			t.Fatal(err)
		}
		return a.Lease
	}
	one, two := named(), named()
	if one.AgentKey.Equal(two.AgentKey) || one.Processor != two.Processor || one.Processor == (protocol.Processor{}) {
		t.Errorf("two keys of one guest: %x and %x", one.Processor, two.Processor)
	}
	env, err := f.TEE.Collect(context.Background(), [64]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if chip := env.Chip(); len(chip) != 64 || one.Processor != protocol.ProcessorOf(one.Broker, one.Epoch, one.Kind, chip) || bytes.Contains(chip, one.Processor[:]) {
		t.Errorf("%x names the chip %x, or another", one.Processor, chip)
	}
}
