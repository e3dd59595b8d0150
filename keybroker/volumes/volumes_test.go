//go:build !release

package volumes_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

const volume = "volumes/var"

// world is a broker that releases the keys of volumes and confirms their generations.
type world struct {
	*brokertest.Fixture
	t       *testing.T
	path    string
	cfg     volumes.Config
	service *volumes.Service
}

// answering is the service that is in force; a restart replaces it.
type answering struct{ w *world }

func (a answering) Answer(ctx context.Context, connection digest.Digest, signed []byte, now protocol.Time, admit func(string, *protocol.LeaseCertificate) (func() (func(), error), error)) ([]byte, error) {
	return a.w.service.Answer(ctx, connection, signed, now, admit)
}

func policyYAML() string {
	return strings.Replace(brokertest.DefaultPolicy(), `  - {resources: ["models/*"]}`, "  - {resources: [\"models/*\"]}\n  - {resources: [\"volumes/*\"]}", 1)
}

func newWorld(t *testing.T, change ...func(*keybroker.Config)) *world {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "volumes.db")}
	w.Fixture = brokertest.New(t, brokertest.WithPolicy(policyYAML()), brokertest.WithConfig(func(c *keybroker.Config) {
		c.Volumes = answering{w}
		for _, f := range change {
			f(c)
		}
	}))
	w.Put(volume, "the key of a volume")
	w.Put("volumes/other", "the key of another")
	w.cfg = volumes.Config{Log: w.Audit, Roots: []identity.Public{w.Root.Public()}, Lowest: func() uint64 { return 1 },
		Signer: func() (protocol.ActiveEpoch, error) {
			return protocol.ActiveEpoch{Key: w.EpochKey, Statement: w.Epoch, Broker: w.Root.Public().ID(), Epoch: 1}, nil
		}, HasKey: func(_ context.Context, name string) (bool, error) {
			return name == volume || name == "volumes/other", nil
		}, Now: w.Clock.Now, Logger: w.Logs.Logger()}
	w.open()
	t.Cleanup(func() { w.service.Close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	store, err := volumes.OpenBolt(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.cfg.Store = store
	if w.service, err = volumes.New(w.cfg); err != nil {
		w.t.Fatal(err)
	}
}

// restart opens the store again, as a broker does that ended.
func (w *world) restart() {
	w.t.Helper()
	if err := w.service.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

// disk is a volume, as the guest's own code keeps it: agent/volume does the same with a file.
type disk struct{ confirmed, unconfirmed generation.State }

// guest is an attested guest with a lease.
type guest struct {
	w     *world
	c     generation.Client
	key   *identity.Private
	lease *client.Lease
}

// tell has the guest speak of a volume.
func (g *guest) tell(h generation.Holding) (generation.State, error) {
	h.Volume = volume
	return g.c.Opened(g.w.t.Context(), generation.Guest{Key: g.key, Chain: g.lease.Certificate, Now: protocol.TimeOf(g.lease.BrokerNow(time.Now())),
		Broker: g.lease.BrokerID, Lowest: protocol.AtLeast(1)}, h)
}

func (w *world) guest(resources ...string) *guest {
	w.t.Helper()
	if len(resources) == 0 {
		resources = []string{volume}
	}
	cfg, err := hybridtls.ClientConfig(brokertest.ServerName, w.TLSRoots, hybridtls.ProfileDefault)
	w.must(err)
	g := &guest{w: w, c: generation.Client{Address: w.Address, TLS: cfg, Roots: []identity.Public{w.Root.Public()}}}
	c := w.Client(func(c *client.Config) { g.key = c.AgentKey })
	defer c.Close()
	g.lease, err = c.Acquire(w.t.Context(), resources)
	w.must(err)
	w.t.Cleanup(g.lease.Wipe)
	return g
}

// ask has the broker say which state is current, and write takes note of it and of the next one.
func (g *guest) write(d *disk) error {
	current, err := g.tell(generation.Holding{Confirmed: d.confirmed, Unconfirmed: d.unconfirmed})
	if err != nil {
		return err
	}
	next, err := generation.After(current, d.confirmed, d.unconfirmed)
	if err != nil {
		return err
	}
	d.confirmed, d.unconfirmed = current, next
	return nil
}

// confirm makes what was written current, but does not write that it is.
func (g *guest) confirm(d *disk) error {
	_, err := g.tell(generation.Holding{Confirmed: d.confirmed, Next: d.unconfirmed})
	return err
}

// open is all of it.
func (g *guest) open(d *disk) error {
	if err := g.write(d); err != nil {
		return err
	}
	if err := g.confirm(d); err != nil {
		return err
	}
	d.confirmed, d.unconfirmed = d.unconfirmed, generation.State{}
	return nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// want compares what a guest heard.
func want(t *testing.T, what string, err error, reason refusal.Reason) {
	t.Helper()
	refusaltest.Want(t, what, err, reason)
	if reason != "" && err != nil && !strings.Contains(err.Error(), "the broker refused volumes/var (ask its operator about ") {
		t.Errorf("%s: %v does not say who refused", what, err)
	}
}

func TestEachOpeningIsAGeneration(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	for n := uint64(1); n <= 3; n++ {
		w.must(g.open(d))
		if d.confirmed.Generation != n {
			t.Errorf("opening %d made generation %d", n, d.confirmed.Generation)
		}
		w.restart()
	}
	var opened []audit.Record
	for _, r := range w.Records() {
		if r.Kind == audit.KindVolume {
			opened = append(opened, r)
		}
	}
	if len(opened) != 3 {
		t.Fatalf("%d records", len(opened))
	}
	last := opened[2]
	if last.Resource != volume || last.ResourceVersion != 3 || last.MessageDigest != d.confirmed.Mark || last.Decision != "allowed" || last.Action != "opened" ||
		last.Grant != g.lease.ID || last.EvidenceDigest != g.lease.EvidenceDigest {
		t.Errorf("record %+v", last)
	}
}

// A guest with the volume's key may spoil its contents, but not its name: no reset would bring that back.
func TestGenerationsComeBySmallSteps(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	for _, step := range []uint64{1<<20 + 1, generation.MaxGeneration - 1} {
		far := generation.State{Generation: d.confirmed.Generation + step, Mark: digest.Digest{1}}
		_, err := g.tell(generation.Holding{Confirmed: d.confirmed, Next: far})
		want(t, "a large step", err, generation.ReasonMalformed)
	}
	next := generation.State{Generation: d.confirmed.Generation + 1<<20, Mark: digest.Digest{1}}
	if _, err := g.tell(generation.Holding{Confirmed: d.confirmed, Next: next}); err != nil {
		t.Error(err)
	}
}

func TestAnOldCopyIsRefusedHoweverOftenItIsTried(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	old := *d
	w.must(g.open(d))
	w.must(g.open(d))
	w.restart()
	// A counter alone would be passed by as many attempts as there were generations: each would leave the
	// copy one higher.
	for range 5 {
		want(t, "an old copy", w.guest().open(&old), generation.ReasonRolledBack)
	}
	refusals := 0
	for _, r := range w.Records() {
		if r.Kind == audit.KindRefusal && r.Resource == volume && r.Reasons[0].Code == "volume-rolled-back" && !r.AgentKey.IsZero() {
			refusals++
		}
	}
	if refusals != 5 {
		t.Errorf("%d refusals are recorded", refusals)
	}
	w.must(w.guest().open(d))
}

func TestAWipedVolumeIsRefused(t *testing.T) {
	w := newWorld(t)
	g := w.guest()
	w.must(g.open(&disk{}))
	want(t, "a new volume in its place", g.open(&disk{}), generation.ReasonRolledBack)
}

func TestOfTwoGuestsOnCopiesOneGoesOn(t *testing.T) {
	w := newWorld(t)
	first, second, d := w.guest(), w.guest(), &disk{}
	w.must(first.open(d))
	a, b := *d, *d
	w.must(first.write(&a))
	w.must(second.write(&b)) // both are current so far
	w.must(first.confirm(&a))
	want(t, "the second", second.confirm(&b), generation.ReasonRolledBack)
	want(t, "the second, again", second.open(&b), generation.ReasonRolledBack)
	a.confirmed, a.unconfirmed = a.unconfirmed, generation.State{}
	w.must(first.open(&a))
}

func TestTwoAtOnceAreNotBothConfirmed(t *testing.T) {
	w := newWorld(t)
	d := &disk{}
	w.must(w.guest().open(d))
	const n = 4
	var ok int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range n {
		g, c := w.guest(), *d
		all.Go(func() {
			if g.open(&c) == nil {
				mu.Lock()
				ok++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if ok != 1 {
		t.Errorf("%d of %d guests on copies of one volume go on, want one", ok, n)
	}
}

// A crash anywhere between the volume's writes and the broker's heals at the next opening, any number of times.
func TestACrashHeals(t *testing.T) {
	w := newWorld(t)
	d := &disk{}
	for range 3 {
		g := w.guest()
		w.must(g.write(d)) // ends before the broker hears of it
		g = w.guest()
		w.must(g.write(d))
		w.must(g.confirm(d)) // ends before the volume says that it was confirmed
		w.restart()
		g = w.guest()
		w.must(g.write(d))
		w.must(g.confirm(d))
		w.restart()
		w.must(w.guest().open(d))
	}
	if got := d.confirmed.Generation; got != 12 {
		t.Errorf("got generation %d, want 12", got)
	}
}

// A host may end the guest as soon as the volume holds its next state, on an old copy too: that leads nowhere.
func TestUnconfirmedStatesOfAnOldCopyLeadNowhere(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	w.must(g.write(d))
	old := *d // confirmed 1, unconfirmed 2
	w.must(g.write(d))
	w.must(g.confirm(d)) // another 2
	want(t, "an unconfirmed state that another one overtook", w.guest().open(&old), generation.ReasonRolledBack)
}

func TestAnothersLeaseCannotRaiseIt(t *testing.T) {
	w := newWorld(t)
	d := &disk{}
	w.must(w.guest().open(d))
	for name, resources := range map[string][]string{"another volume's": {"volumes/other"}, "a model's": {brokertest.Resource}} {
		g := w.guest(resources...)
		want(t, name, g.write(d), protocol.ReasonNotGranted)
		next, err := generation.After(d.confirmed)
		w.must(err)
		want(t, name, g.confirm(&disk{d.confirmed, next}), protocol.ReasonNotGranted)
	}
	w.must(w.guest(volume, brokertest.Resource).open(d))
}

func TestALeaseThatEndedSaysNothing(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	w.Clock.Move(time.Hour)
	err := g.open(d)
	want(t, "an hour later", err, protocol.ReasonLeaseExpired)
}

func TestEndedAgentsAndFastOnesAreRefused(t *testing.T) {
	var agent digest.Digest
	w := newWorld(t, func(c *keybroker.Config) {
		c.Limits.PerGuest = 8
		c.Ended = func(a, _ digest.Digest) (func(), error) {
			if a == agent {
				return nil, refusal.New(protocol.ReasonEnded, "ended")
			}
			return func() {}, nil
		}
	})
	g, d := w.guest(), &disk{}
	for range 4 {
		w.must(g.open(d))
	}
	want(t, "the ninth statement", g.open(d), protocol.ReasonBusy)
	g = w.guest()
	for _, r := range w.Records() {
		if r.Grant == g.lease.ID {
			agent = r.AgentKey
		}
	}
	want(t, "an ended agent", g.open(d), protocol.ReasonEnded)
}

func TestResetLetsOneOpeningBeginAnywhere(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	old := *d
	w.must(g.open(d))
	for _, name := range []string{"volumes/never", "models/test", "volumes", ""} {
		_, err := w.service.Reset(t.Context(), name)
		reason := volumes.ReasonName
		if name == "volumes/never" {
			reason = volumes.ReasonUnknown
		}
		refusaltest.Want(t, name, err, reason)
	}
	if _, err := w.service.Reset(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	w.restart()
	if list, err := w.service.List(t.Context()); err != nil || len(list) != 1 || !list[0].Reset || list[0].State.Generation != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	w.must(g.open(&old))
	if old.confirmed.Generation != 3 {
		t.Errorf("the backup goes on as generation %d, want one that was never used", old.confirmed.Generation)
	}
	want(t, "what was current before", g.open(d), generation.ReasonRolledBack)
	w.must(g.open(&old))
}

// A broker that was put back from before a volume's first opening knows nothing of it. The volume has a key, and
// goes on once an operator says so.
func TestResetOfAVolumeThatOnlyItsKeyTellsOf(t *testing.T) {
	d := &disk{}
	former := newWorld(t)
	former.must(former.guest().open(d))
	former.must(former.guest().open(d))
	w := newWorld(t)
	want(t, "a volume of before", w.guest().open(d), generation.ReasonRolledBack)
	if _, err := w.service.Reset(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	w.path = filepath.Join(t.TempDir(), "volumes.db") // the log tells of a reset without a state, too
	w.restart()
	old := *d
	w.must(w.guest().open(d))
	if d.confirmed.Generation != 3 {
		t.Errorf("got generation %d, want 3", d.confirmed.Generation)
	}
	want(t, "what was current before", w.guest().open(&old), generation.ReasonRolledBack)
	w.must(w.guest().open(d))
	w.cfg.HasKey = func(context.Context, string) (bool, error) { return false, errors.New("the store cannot be read") }
	w.restart()
	if _, err := w.service.Reset(t.Context(), "volumes/other"); err == nil {
		t.Error("a reset though nobody knows whether there is a key")
	}
	if e, err := w.cfg.Store.Get(t.Context(), "volumes/other"); err != nil || e.Version != 0 {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestAStoreThatWasPutBackIsBroughtUpToDateByTheLog(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	old := *d
	former := w.path
	w.must(g.open(d))
	w.path = filepath.Join(t.TempDir(), "volumes.db") // as if there had never been one
	w.restart()
	want(t, "the old copy", g.open(&old), generation.ReasonRolledBack)
	w.must(g.open(d))
	w.path = former
	w.restart()
	want(t, "the old copy", g.open(&old), generation.ReasonRolledBack)
	w.must(g.open(d))
	if _, err := w.service.Reset(t.Context(), volume); err != nil {
		t.Fatal(err)
	}
	w.path = filepath.Join(t.TempDir(), "volumes.db")
	w.restart()
	w.must(g.open(&old)) // the log knows of the reset, too
}

// failing is a log that cannot record.
type failing struct{ volumes.Log }

func (failing) Append(context.Context, audit.Record) (audit.Leaf, error) {
	return audit.Leaf{}, errors.New("disk full")
}

// away is a log whose records were archived.
type away struct{ volumes.Log }

func (away) FindLast(audit.Query) (audit.Found, bool, error) { return audit.Found{}, true, nil }

func TestNothingIsConfirmedWithoutARecord(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	log := w.cfg.Log
	w.cfg.Log = failing{log}
	w.restart()
	want(t, "no record", g.open(d), protocol.ReasonAuditUnavailable)
	if _, err := w.service.Reset(t.Context(), volume); err == nil {
		t.Error("a reset without a record")
	}
	w.cfg.Log = log
	w.restart()
	w.must(g.open(d)) // what the store has and no record tells of is the volume's unconfirmed state
}

func TestALaterStateThatWasArchivedIsNoState(t *testing.T) {
	w := newWorld(t)
	g, d := w.guest(), &disk{}
	w.must(g.open(d))
	w.path = filepath.Join(t.TempDir(), "volumes.db")
	w.cfg.Log = away{w.cfg.Log}
	w.restart()
	want(t, "archived", g.open(d), volumes.ReasonUnknownState)
}

// Whoever says nothing, too much or the wrong thing gets an end or a refusal, and soon.
func TestStrangersAreRefused(t *testing.T) {
	w := newWorld(t, func(c *keybroker.Config) { c.Limits.Step = 200 * time.Millisecond })
	cfg, err := hybridtls.ClientConfig(brokertest.ServerName, w.TLSRoots, hybridtls.ProfileDefault)
	w.must(err)
	for name, tc := range map[string]struct {
		send []byte
		want refusal.Reason
	}{
		"nothing":   {nil, protocol.ReasonDeadline},
		"a part":    {[]byte{0, 0, 0, 9, 1}, protocol.ReasonDeadline},
		"too much":  {[]byte{0, 1, 0, 0}, protocol.ReasonMessageTooLarge},
		"noise":     {[]byte{0, 0, 0, 3, 1, 2, 3}, generation.ReasonMalformed},
		"emptiness": {[]byte{0, 0, 0, 0}, generation.ReasonMalformed},
	} {
		conn, err := hybridtls.Dial(t.Context(), "tcp", w.Address, hybridtls.For(cfg, hybridtls.ALPNVolumes))
		w.must(err)
		if _, err := conn.Write(tc.send); err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, 4+200)
		n, err := readAll(conn, raw)
		var r protocol.Refusal
		if n < 4 {
			t.Errorf("%s: no answer: %v", name, err)
		} else if err := protocol.Parse(raw[4:n], &r); err != nil || r.Reason != tc.want {
			t.Errorf("%s: got %v %v, want %s", name, r.Reason, err, tc.want)
		}
		conn.Close()
	}
}

func readAll(c net.Conn, into []byte) (n int, err error) {
	for n < len(into) && err == nil {
		var more int
		more, err = c.Read(into[n:])
		n += more
	}
	return n, err
}

func TestABrokerWithoutVolumesSpeaksOfNone(t *testing.T) {
	f := brokertest.New(t)
	cfg, err := hybridtls.ClientConfig(brokertest.ServerName, f.TLSRoots, hybridtls.ProfileDefault)
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := hybridtls.Dial(t.Context(), "tcp", f.Address, hybridtls.For(cfg, hybridtls.ALPNVolumes)); err == nil {
		conn.Close()
		t.Error("it does")
	}
}
