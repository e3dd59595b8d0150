//go:build !release

package keybroker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keywrap"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// reportDataMismatch is the appraiser's code for evidence that binds something else.
const reportDataMismatch refusal.Reason = "report-data-mismatch"

// TestGoal01 shows that what goes over the wire opens with the attested KK only.
func TestGoal01(t *testing.T) {
	f := brokertest.New(t)
	g := dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	g.fatal(g.release())
	for _, frame := range g.frames {
		if bytes.Contains(frame, []byte(brokertest.Secret)) {
			t.Fatal("a message holds the key in the clear")
		}
	}
	other, err := keywrap.NewRecipient()
	g.fatal(err)
	if _, err := g.open(other); err == nil {
		t.Error("another KEM key opens the release")
	}
	key, err := g.open(g.kem)
	g.fatal(err)
	defer key.Wipe()
	if string(key.Bytes()) != brokertest.Secret {
		t.Error("another key was released")
	}
}

// TestGoal02 changes, one at a time, everything that the two ends must agree
// on, with all signatures made again, so that only the binding can refuse it.
func TestGoal02(t *testing.T) {
	f := brokertest.New(t)
	for name, tc := range map[string]struct {
		change func(g *guest, m3 *protocol.Attest)
		want   refusal.Reason
	}{
		"the KEM key": {func(g *guest, m3 *protocol.Attest) {
			other, err := keywrap.NewRecipient()
			g.fatal(err)
			m3.KEMKey = other.PublicKey()
		}, reportDataMismatch},
		"the agent key": {func(g *guest, m3 *protocol.Attest) {
			g.agent = f.NewKey(identity.LevelEpoch)
			m3.AgentKey = g.agent.Public()
		}, reportDataMismatch},
		"the guest's claims": {func(g *guest, m3 *protocol.Attest) {
			claims := g.claims
			claims.Tenant = "another"
			m3.Claims, _ = claims.Marshal()
		}, reportDataMismatch},
		"the resource": {func(_ *guest, m3 *protocol.Attest) { m3.Resources = []string{"other/test"} }, protocol.ReasonClassNotRequested},
		"a resource of no policy": {func(_ *guest, m3 *protocol.Attest) {
			m3.Resources = []string{"models/test", "models/x/y"}
		}, protocol.ReasonResourceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			g := dial(t, f)
			g.begin()
			m3 := g.attestation()
			tc.change(g, m3)
			err := g.attest(m3)
			if err == nil {
				g.send(5, request(m3.Resources...))
				err = g.read(6, &g.m6)
			}
			wantReason(t, err, tc.want)
		})
	}
}

// TestGoal02Unsigned changes signed fields without a new signature: only AK's
// signature can refuse that.
func TestGoal02Unsigned(t *testing.T) {
	f := brokertest.New(t)
	for name, change := range map[string]func(g *guest, m3 *protocol.Attest){
		"resources": func(_ *guest, m3 *protocol.Attest) { m3.Resources = []string{"models/other"} },
		"evidence":  func(_ *guest, m3 *protocol.Attest) { m3.Evidence = append(m3.Evidence, 0) },
		"agent key": func(_ *guest, m3 *protocol.Attest) { m3.AgentKey = f.NewKey(identity.LevelEpoch).Public() },
	} {
		t.Run(name, func(t *testing.T) {
			g := dial(t, f)
			g.begin()
			m3 := g.attestation()
			h1, h2 := g.hashes()
			g.fatal(m3.Sign(g.agent, g.ekm, h1, h2))
			change(g, m3)
			g.send(3, m3)
			wantReason(t, g.read(4, &g.m4), protocol.ReasonAgentSignature)
		})
	}
	wantNoRelease(t, f)
}

// TestGoal07 offers evidence that the local API of the same guest can make for
// any caller: its REPORT_DATA is never one of this protocol's.
func TestGoal07(t *testing.T) {
	f := brokertest.New(t)
	g := dial(t, f)
	g.begin()
	m3 := g.attestation()
	h1, h2 := g.hashes()
	wanted := m3.Binding(g.ekm, h1, h2, g.claims.Digest()).Challenge()
	m3.Evidence = g.quote(evidence.CallerBinding{Nonce: wanted[:], AgentKeyID: g.agent.Public().ID()}.Challenge())
	wantReason(t, g.attest(m3), reportDataMismatch)
	wantNoRelease(t, f)
}

// TestGoal08 damages either half of AK's composite signature alone.
func TestGoal08(t *testing.T) {
	f := brokertest.New(t)
	for name, at := range map[string]func(n int) int{"ML-DSA": func(int) int { return 100 }, "Ed25519": func(n int) int { return n - 1 }} {
		t.Run(name, func(t *testing.T) {
			g := dial(t, f)
			g.begin()
			m3 := g.attestation()
			h1, h2 := g.hashes()
			g.fatal(m3.Sign(g.agent, g.ekm, h1, h2))
			m3.Signature[at(len(m3.Signature))] ^= 1
			g.send(3, m3)
			wantReason(t, g.read(4, &g.m4), protocol.ReasonAgentSignature)
		})
	}
	wantNoRelease(t, f)
}

// orderedLog and orderedStore note in which order the broker uses them.
type order struct {
	mu    sync.Mutex
	calls []string
}

func (o *order) note(call string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, call)
}

func (o *order) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Join(o.calls, " ")
}

type orderedLog struct {
	*audit.Log
	*order
	fail func(audit.Record) error
}

func (l *orderedLog) AppendAll(ctx context.Context, records ...audit.Record) ([]audit.Leaf, error) {
	var kinds []string
	for _, r := range records {
		kinds = append(kinds, r.Kind.String())
		if l.fail != nil {
			if err := l.fail(r); err != nil {
				return nil, err
			}
		}
	}
	leaves, err := l.Log.AppendAll(ctx, records...)
	l.note(strings.Join(kinds, "+"))
	return leaves, err
}

func (l *orderedLog) AppendLater(ctx context.Context, r audit.Record) error {
	l.note(r.Kind.String() + " later")
	return l.Log.AppendLater(ctx, r)
}

type orderedStore struct {
	*keystore.Store
	*order
}

func (s *orderedStore) Get(ctx context.Context, name string, version uint64) (*keybuf.Buffer, keystore.Info, error) {
	s.note("get")
	return s.Store.Get(ctx, name, version)
}

func withOrder(o *order, fail func(audit.Record) error) brokertest.Option {
	return brokertest.WithConfig(func(c *keybroker.Config) {
		c.Audit = &orderedLog{c.Audit.(*audit.Log), o, fail}
		c.Secrets = &orderedStore{c.Secrets.(*keystore.Store), o}
	})
}

// TestGoal09 shows the order of a release, and that a log which fails at any
// record stops it there: without a release record no key is even read.
func TestGoal09(t *testing.T) {
	var o order
	dial(t, brokertest.New(t, withOrder(&o, nil))).whole()
	if got := o.String(); got != "grant+release get receipt later" {
		t.Errorf("order %q", got)
	}
	for _, kind := range []audit.Kind{audit.KindGrant, audit.KindRelease} {
		t.Run(kind.String(), func(t *testing.T) {
			var o order
			f := brokertest.New(t, withOrder(&o, func(r audit.Record) error {
				if r.Kind == kind {
					return errFault
				}
				return nil
			}))
			g := dial(t, f)
			g.begin()
			err := g.attest(g.attestation())
			if err == nil {
				err = g.release()
			}
			wantReason(t, err, protocol.ReasonAuditUnavailable)
			if strings.Contains(o.String(), "get") {
				t.Errorf("a key was read: %s", &o)
			}
		})
	}
}

// TestGoal09ReleaseWaitsForTheRecord holds the release record back and shows
// that nothing arrives meanwhile.
func TestGoal09ReleaseWaitsForTheRecord(t *testing.T) {
	var o order
	waiting, proceed := make(chan struct{}), make(chan struct{})
	f := brokertest.New(t, withOrder(&o, func(r audit.Record) error {
		if r.Kind == audit.KindRelease {
			close(waiting)
			<-proceed
		}
		return nil
	}))
	g := dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	g.send(5, request(brokertest.Resource))
	<-waiting
	if got := o.String(); got != "" {
		t.Errorf("before the record was durable: %q", got)
	}
	close(proceed)
	g.fatal(g.read(6, &g.m6))
}

// TestGoal10 walks through a rotation: at every moment old and new agents get
// their keys, and a retired epoch is used by nobody.
func TestGoal10(t *testing.T) {
	f := brokertest.New(t)
	next := f.NewKey(identity.LevelEpoch)
	begin := f.Clock.Now().Add(time.Hour)
	prepared := f.SignEpoch(2, next, func(st *protocol.EpochStatement) { st.NotBefore = protocol.TimeOf(begin) })
	one := keybroker.Epoch{Statement: f.Epoch, Key: f.EpochKey}
	two := keybroker.Epoch{Statement: prepared, Key: next}
	acquire := func(epochs *brokertest.Epochs, minimum uint64) (uint64, error) {
		c := f.Client(func(c *client.Config) { c.Epochs, c.MinEpoch = epochs, minimum })
		lease, err := c.Acquire(context.Background(), []string{brokertest.Resource})
		defer lease.Wipe()
		if err != nil {
			return 0, err
		}
		return lease.Epoch, nil
	}
	want := func(epochs *brokertest.Epochs, minimum, epoch uint64) {
		t.Helper()
		if got, err := acquire(epochs, minimum); err != nil || got != epoch {
			t.Errorf("epoch %d, %v; want %d", got, err, epoch)
		}
	}
	var veteran brokertest.Epochs
	want(&veteran, 0, 1)
	if err := f.Broker.SetEpochs(0, []keybroker.Epoch{one, two}); err != nil {
		t.Fatal(err)
	}
	want(&veteran, 0, 1) // prepared is not active
	f.Clock.Move(2 * time.Hour)
	want(&veteran, 0, 2)
	want(&brokertest.Epochs{}, 2, 2) // a new image accepts nothing older
	want(&brokertest.Epochs{}, 0, 2)

	// A broker that has only the old epoch is refused by those who know better.
	if err := f.Broker.SetEpochs(0, []keybroker.Epoch{one}); err != nil {
		t.Fatal(err)
	}
	_, err := acquire(&veteran, 0)
	wantClientReason(t, err, protocol.ReasonEpochBehind)
	_, err = acquire(&brokertest.Epochs{}, 2)
	wantClientReason(t, err, protocol.ReasonEpochBehind)

	// A statement that is only prepared retires a compromised epoch at once.
	killing := f.SignEpoch(3, next, func(st *protocol.EpochStatement) {
		st.NotBefore, st.MinEpoch = protocol.TimeOf(f.Clock.Now().Add(time.Hour)), 3
	})
	if err := f.Broker.SetEpochs(0, []keybroker.Epoch{one, two, {Statement: killing, Key: next}}); err != nil {
		t.Fatal(err)
	}
	_, err = acquire(&brokertest.Epochs{}, 0)
	wantClientReason(t, err, protocol.ReasonNoActiveEpoch)

	// What it retired stays so when it is gone.
	if err := f.Broker.SetEpochs(0, []keybroker.Epoch{one, two}); err != nil {
		t.Fatal(err)
	}
	_, err = acquire(&brokertest.Epochs{}, 0)
	wantClientReason(t, err, protocol.ReasonNoActiveEpoch)
	if err := f.Broker.SetEpochs(0, []keybroker.Epoch{one}); err != nil {
		t.Fatal(err)
	}

	// And one that has ended is over.
	f.Clock.Move(30 * time.Hour)
	_, err = acquire(&brokertest.Epochs{}, 0)
	wantClientReason(t, err, protocol.ReasonNoActiveEpoch)
}

func wantClientReason(t *testing.T, err error, want refusal.Reason) {
	t.Helper()
	if e, ok := err.(*client.Error); !ok || e.Reason != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestGoal11 looks for the released key, in every usual spelling, in all that
// the broker and the client leave behind.
func TestGoal11(t *testing.T) { lookForCanary(t) }

// TestPitfall31 is the same as failure 31 of docs/known-failures.md.
func TestPitfall31(t *testing.T) { lookForCanary(t) }

func lookForCanary(t *testing.T) {
	const canary = "canary-7c1e5a0f3b9d4826-in-a-cage"
	f := brokertest.New(t)
	f.Put("models/caged", canary)
	var said []string
	c := f.Client(nil)
	lease, err := c.Acquire(context.Background(), []string{"models/caged"})
	if err != nil {
		t.Fatal(err)
	}
	said = append(said, brokertest.Show(lease), brokertest.Show(lease.Keys))
	if string(lease.Keys["models/caged"].Key.Bytes()) != canary {
		t.Fatal("the canary did not arrive")
	}
	lease.Wipe()
	for _, names := range [][]string{{"models/caged", "models/none"}, {"other/x"}} {
		_, err := c.Acquire(context.Background(), names)
		if err == nil {
			t.Fatal("a refusal was expected")
		}
		said = append(said, brokertest.Show(err))
	}
	f.Stop()
	said = append(said, f.Logs.String())
	for _, r := range f.Records() {
		said = append(said, brokertest.Show(r))
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(f.AuditDir), "*"))
	if err != nil {
		t.Fatal(err)
	}
	more, _ := filepath.Glob(filepath.Join(f.AuditDir, "*"))
	for _, name := range append(files, more...) {
		if st, err := os.Stat(name); err == nil && st.Mode().IsRegular() {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			said = append(said, string(b))
		}
	}
	for _, form := range []string{canary, hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary))),
		base64.StdEncoding.EncodeToString([]byte(canary))[:40], base64.RawURLEncoding.EncodeToString([]byte(canary))[:40], "99 97 110 97 114 121"} {
		for i, text := range said {
			if strings.Contains(text, form) {
				t.Errorf("text %d holds the key as %q", i, form)
			}
		}
	}
}

// TestGoal12 holds one broken circumstance each; all end without a release.
func TestGoal12(t *testing.T) {
	run := func(f *brokertest.Fixture) error {
		_, err := f.Client(nil).Acquire(context.Background(), []string{brokertest.Resource})
		return err
	}
	t.Run("the clock goes back", func(t *testing.T) {
		f := brokertest.New(t)
		if err := run(f); err != nil {
			t.Fatal(err)
		}
		if until := f.Broker.ClockBehind(); !until.IsZero() {
			t.Errorf("behind until %s", until)
		}
		was := f.Clock.Now()
		f.Clock.Move(-time.Minute)
		wantClientReason(t, run(f), protocol.ReasonClockBackwards)
		if until := f.Broker.ClockBehind(); until.Sub(was).Abs() > time.Second {
			t.Errorf("refuses until %s, want %s", until, was)
		}
		f.Clock.Move(time.Minute)
		if err := run(f); err != nil {
			t.Errorf("after the clock caught up: %v", err)
		}
	})
	t.Run("the clock is before the last record", func(t *testing.T) {
		f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.NotEarlier = c.Now().Add(time.Hour) }))
		wantClientReason(t, run(f), protocol.ReasonClockBackwards)
		wantNoRelease(t, f)
	})
	t.Run("the audit log is closed", func(t *testing.T) {
		f := brokertest.New(t)
		f.Audit.Close()
		wantClientReason(t, run(f), protocol.ReasonAuditUnavailable)
	})
	t.Run("the key store is closed", func(t *testing.T) {
		f := brokertest.New(t)
		f.Store.Close()
		wantClientReason(t, run(f), protocol.ReasonResourceUnavailable)
		wantNoRelease(t, f)
	})
	t.Run("no policy", func(t *testing.T) {
		f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.Policy = noPolicy }))
		wantClientReason(t, run(f), protocol.ReasonNoPolicy)
		wantNoRelease(t, f)
	})
	t.Run("an epoch that pins another policy", func(t *testing.T) {
		f := brokertest.New(t)
		pinned := f.SignEpoch(1, f.EpochKey, func(st *protocol.EpochStatement) { st.AnyPolicy, st.PolicyDigest = false, [32]byte{1} })
		if err := f.Broker.SetEpochs(0, []keybroker.Epoch{{Statement: pinned, Key: f.EpochKey}}); err != nil {
			t.Fatal(err)
		}
		g := dial(t, f) // one that would not notice by itself
		g.begin()
		wantReason(t, g.attest(g.attestation()), protocol.ReasonPolicyNotPinned)
		wantClientReason(t, run(f), protocol.ReasonPolicyNotPinned)
		wantNoRelease(t, f)
	})
}

// TestGoal12FullDisk lets the real audit log hit a full disk: the limit on file
// sizes stands in for the end of the disk.
func TestGoal12FullDisk(t *testing.T) {
	f := brokertest.New(t)
	c := f.Client(nil)
	lease, err := c.Acquire(context.Background(), []string{brokertest.Resource})
	if err != nil {
		t.Fatal(err)
	}
	lease.Wipe()
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Acquire(context.Background(), []string{brokertest.Resource})
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	wantClientReason(t, err, protocol.ReasonAuditUnavailable)
	if err := f.Audit.Heal(context.Background()); err != nil {
		t.Fatal(err)
	}
	lease, err = c.Acquire(context.Background(), []string{brokertest.Resource})
	if err != nil {
		t.Errorf("after the disk had room again: %v", err)
	}
	lease.Wipe()
	f.Stop()
	releases := 0
	for _, r := range f.Records() {
		if r.Kind == audit.KindRelease {
			releases++
		}
	}
	if releases != 2 {
		t.Errorf("%d releases are recorded, 2 happened", releases)
	}
}

// TestGuestsAtOnceShareSignatures has many real clients ask at the same time. Each
// verifies its own challenge and certificate, in whatever form it came, and the chain
// that it keeps verifies alone.
func TestGuestsAtOnceShareSignatures(t *testing.T) {
	f := brokertest.New(t)
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			lease, err := f.Client(nil).Acquire(t.Context(), []string{brokertest.Resource})
			if err != nil {
				t.Error(err)
				return
			}
			defer lease.Wipe()
			if _, err := protocol.VerifyAuthority(lease.Certificate, []identity.Public{f.Root.Public()}, protocol.Of(f.Root.Public().ID()), protocol.Recorded(protocol.AtLeast(1)),
				protocol.RoleServe, protocol.Named(brokertest.Resource), protocol.Everyone()); err != nil {
				t.Error(err)
			}
			bad := bytes.Clone(lease.Certificate)
			bad[len(bad)-1] ^= 1
			if _, err := protocol.VerifyAuthority(bad, []identity.Public{f.Root.Public()}, protocol.Of(f.Root.Public().ID()), protocol.Recorded(protocol.AtLeast(1)),
				protocol.RoleServe, protocol.Named(brokertest.Resource), protocol.Everyone()); err == nil {
				t.Error("a changed chain verifies")
			}
		})
	}
	wg.Wait()
}
