//go:build !release

package restart

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/localseal"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/vtpm"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const rule = `{max_hours: 8, max_restarts: 3, seal: [tpm, sev-snp, sev-snp+tpm], restarts_not_counted: "a test"}`

func permitting(rule string) string {
	return strings.Replace(brokertest.DefaultPolicy(), `{resources: ["models/*"]}`, `{resources: ["models/*"], local_restart: `+rule+`}`, 1)
}

// world is a broker, a guest's disk and its TPM.
type world struct {
	*testing.T
	f      *brokertest.Fixture
	dir    string
	tpm    *localseal.Sealer
	offset time.Duration // of the guest's clock
	clock  evidence.ClockSource
	floor  uint64
}

func newTPM(t *testing.T, pcrs ...int) *localseal.Sealer {
	t.Helper()
	c, err := vtpm.New(vtpm.Options{Device: vtpmtest.Start(t), PCRs: append(pcrs, 4, 7)})
	if err != nil {
		t.Fatal(err)
	}
	return &localseal.Sealer{TPM: c}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	f := brokertest.New(t, brokertest.WithPolicy(permitting(rule)), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 4 }))
	return &world{T: t, f: f, dir: t.TempDir(), tpm: newTPM(t), clock: evidence.ClockParavirtual, floor: 1}
}

// boot is one life of the agent.
type boot struct {
	*Restarts
	broker    Broker
	key       *identity.Private
	withdrawn atomic.Pointer[error]
}

// away is a broker of which there is no answer.
type away struct{ err error }

func (a away) Acquire(context.Context, []string, ...protocol.Sealed) (*client.Lease, error) {
	return nil, a.err
}

func (away) Close() error { return nil }

var gone = &client.Error{Reason: protocol.ReasonConnectionFailed}

func refusing(reason refusal.Reason) away { return away{&client.Error{Reason: reason, ID: "1"}} }

func (w *world) boot(change func(*Config)) *boot {
	w.Helper()
	b := &boot{key: w.f.NewKey(identity.LevelEpoch)}
	cfg := Config{Dir: w.dir, Sealer: w.tpm, Sealing: protocol.SealingTPM, Roots: []identity.Public{w.f.Root.Public()}, Floor: func([32]byte) uint64 { return w.floor },
		AgentKey: b.key.Public(), Clock: func() evidence.ClockSource { return w.clock }, Now: func() time.Time { return time.Now().Add(w.offset) },
		Withdraw: func(why error) { b.withdrawn.Store(&why) }, Logger: w.f.Logs.Logger()}
	if change != nil {
		change(&cfg)
	}
	b.Restarts = New(cfg)
	b.broker = b.Around(w.f.Client(func(c *client.Config) {
		c.AgentKey, c.Permit = b.key, b.Ask
		c.Claims.ClockSource = w.clock
	}))
	w.Cleanup(b.Close)
	return b
}

// lease acquires from a broker, or from what stands for one.
func (w *world) lease(b *boot, from Broker) (*client.Lease, error) {
	l, err := from.Acquire(w.Context(), []string{brokertest.Resource})
	if err == nil {
		w.Cleanup(l.Wipe)
	}
	return l, err
}

// sealed is a boot that got a lease and whose keys are sealed.
func (w *world) sealed(change func(*Config)) *boot {
	w.Helper()
	b := w.boot(change)
	if _, err := w.lease(b, b.broker); err != nil {
		w.Fatal(err)
	}
	b.Close()
	if _, err := os.Stat(b.file()); err != nil {
		w.Fatal(err, w.f.Logs)
	}
	return b
}

// restart is the first question of another boot while no broker answers.
func (w *world) restart(change func(*Config)) (*boot, *client.Lease, error) {
	w.Helper()
	b := w.boot(change)
	l, err := w.lease(b, b.Around(away{gone}))
	return b, l, err
}

func (w *world) wantRefused(name string, err error, want refusal.Reason) {
	w.Helper()
	if err == nil {
		w.Errorf("%s: served", name)
		return
	}
	var all []string
	for _, e := range flatten(err) {
		if r, ok := refusal.ReasonOf(e); ok {
			all = append(all, string(r))
		}
	}
	if !errors.Is(err, gone) || !slices.Contains(all, string(want)) {
		w.Errorf("%s: got %v, want %s", name, err, want)
	}
}

func flatten(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, flatten(e)...)
		}
		return out
	}
	return []error{err}
}

func secretOf(t *testing.T, l *client.Lease) string {
	t.Helper()
	return string(l.Keys[brokertest.Resource].Key.Bytes())
}

// TestAgentRestartsWithoutItsBroker: it is lent the keys as often as it is permitted, each time counted and signed; the broker
// that returns is told of each, and its lease takes the permit's place.
func TestAgentRestartsWithoutItsBroker(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	for n := range uint16(2) {
		b, l, err := w.restart(nil)
		if err != nil {
			t.Fatal(err, w.f.Logs)
		}
		if secretOf(t, l) != brokertest.Secret || l.Running.Restart.Number != n+1 || l.TTL > slice || l.RunsUntil.Sub(time.Now()) < 7*time.Hour || l.Roles[brokertest.Resource] != protocol.RoleServe {
			t.Errorf("%+v", l)
		}
		a, err := protocol.VerifyPermitted(l.Certificate, b.cfg.Roots, protocol.AnyBroker(), protocol.Recorded(protocol.AtLeast(1)), protocol.Named(brokertest.Resource), protocol.Everyone())
		if err != nil || !a.Lease.AgentKey.Equal(b.key.Public()) {
			t.Errorf("%+v, %v", a, err)
		}
		// The keeper asks again before its slice is over, and goes on with keys of its own.
		next, err := w.lease(b, b.Around(away{gone}))
		if err != nil || secretOf(t, next) != brokertest.Secret {
			t.Fatal(err)
		}
		l.Wipe()
		if secretOf(t, next) != brokertest.Secret || next.BrokerNow(time.Now()).Before(a.Permit.Restart.At.Time()) {
			t.Error("one slice ends another")
		}
		b.Close()
		if b.isRunning() {
			t.Error("keys outlive the agent")
		}
	}
	b, _, err := w.restart(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := w.lease(b, b.broker)
	if err != nil || l.Running != nil || !l.Permit.Reported || b.isRunning() {
		t.Fatalf("%+v, %v", l, err)
	}
	b.Close()
	var used []string
	for _, r := range w.f.Records() {
		if r.Action == keybroker.ActionRestarted {
			used = append(used, r.Detail)
		}
	}
	if len(used) != 3 || !strings.HasPrefix(used[0], "restart 1 of 3") || !strings.HasPrefix(used[2], "restart 3 of 3") {
		t.Errorf("%q", used)
	}
	if _, err := os.Stat(b.report()); !errors.Is(err, os.ErrNotExist) {
		t.Error("a report that was sent is kept")
	}
	if _, l, err := w.restart(nil); err != nil || l.Running.Restart.Number != 1 { // on the permit of the last lease
		t.Errorf("%+v, %v", l, err)
	}
}

// TestRefusals: in each only one thing is wrong.
func TestRefusals(t *testing.T) {
	flip := func(t *testing.T, path string, at int) {
		t.Helper()
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		raw[(at+len(raw))%len(raw)] ^= 1
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := func(w *world) string { return filepath.Join(w.dir, fileName) }
	for name, tc := range map[string]struct {
		spoil  func(*world)
		change func(*Config)
		want   refusal.Reason
		free   bool // the attempt costs none of the restarts
	}{
		"expired":            {func(w *world) { w.offset = 8 * time.Hour }, nil, ReasonExpired, true},
		"a clock set back":   {func(w *world) { w.offset = -time.Hour }, nil, ReasonNotYet, true},
		"an unknown clock":   {func(w *world) { w.clock = evidence.ClockUnknown }, nil, protocol.ReasonRestartClock, true},
		"a retired epoch":    {func(w *world) { w.floor = 2 }, nil, protocol.ReasonEpochRetired, true},
		"no lowest epoch":    {func(w *world) { w.floor = 0 }, nil, protocol.ReasonEpochRetired, true},
		"another root":       {nil, func(c *Config) { c.Roots = []identity.Public{c.AgentKey} }, protocol.ReasonBrokerUnknown, true},
		"another TPM":        {func(w *world) { w.tpm = newTPM(w.T) }, nil, vtpm.ReasonSealedElsewhere, true},
		"another sealing":    {nil, func(c *Config) { c.Sealing = protocol.SealingSNP }, localseal.ReasonOtherWay, true},
		"an altered permit":  {func(w *world) { alterPermit(w) }, nil, protocol.ReasonPermit, true},
		"an altered key":     {func(w *world) { flip(w.T, file(w), -1) }, nil, ReasonFile, false},
		"a truncated file":   {func(w *world) { truncate(w, 3) }, nil, ReasonFile, true},
		"another permit":     {func(w *world) { mix(w) }, nil, ReasonFile, false},
		"the TPM's clock":    {nil, func(c *Config) { c.Sealer = late{c.Sealer} }, ReasonExpired, false},
		"a count too high":   {nil, func(c *Config) { c.Sealer = counting{c.Sealer, 4} }, protocol.ReasonRestart, false},
		"a count of nothing": {nil, func(c *Config) { c.Sealer = counting{c.Sealer, 0} }, protocol.ReasonRestart, false},
		"no record": {func(w *world) {
			if err := os.Mkdir(filepath.Join(w.dir, reportName), 0o700); err != nil {
				w.Fatal(err)
			}
		}, nil, ReasonUnrecorded, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.sealed(nil)
			before := *w
			raw, err := os.ReadFile(file(w))
			if err != nil {
				t.Fatal(err)
			}
			if tc.spoil != nil {
				tc.spoil(w)
			}
			b, _, err := w.restart(tc.change)
			w.wantRefused(name, err, tc.want)
			if _, err := w.lease(b, b.Around(away{gone})); err == nil {
				t.Error("a second attempt in the same life succeeds")
			}
			b.Close()
			if name == "no record" {
				if err := os.Remove(filepath.Join(w.dir, reportName)); err != nil {
					t.Fatal(err)
				}
			}
			// With that one thing as it was, the same file opens.
			if err := os.WriteFile(file(&before), raw, 0o600); err != nil {
				t.Fatal(err)
			}
			_, l, err := before.restart(nil)
			if want := map[bool]uint16{true: 1, false: 2}[tc.free]; err != nil || l.Running.Restart.Number != want {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
}

// late is a TPM whose clock says that the permit is over; counting is one that counts otherwise.
type late struct{ Sealer }

func (l late) Open(ctx context.Context, handle []byte) (localseal.Opened, error) {
	o, err := l.Sealer.Open(ctx, handle)
	o.Elapsed = 8 * time.Hour
	return o, err
}

type counting struct {
	Sealer
	number uint16
}

func (c counting) Open(ctx context.Context, handle []byte) (localseal.Opened, error) {
	o, err := c.Sealer.Open(ctx, handle)
	o.Number = c.number
	return o, err
}

// rewrite changes the parsed file.
func rewrite(w *world, change func(*sealedFile)) {
	w.Helper()
	path := filepath.Join(w.dir, fileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		w.Fatal(err)
	}
	f, err := parseFile(raw)
	if err != nil {
		w.Fatal(err)
	}
	change(&f)
	if raw, err = f.marshal(); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		w.Fatal(err)
	}
}

// alterPermit gives the permit one restart more.
func alterPermit(w *world) {
	rewrite(w, func(f *sealedFile) {
		chain, err := protocol.ParsePermitChain(f.chain)
		if err != nil {
			w.Fatal(err)
		}
		at := bytes.Index(chain.Permit, []byte{byte(protocol.SealingTPM), 0, 3})
		if at < 0 {
			w.Fatal("the number of restarts was not found")
		}
		chain.Permit = bytes.Clone(chain.Permit)
		chain.Permit[at+2]++
		if f.chain, err = chain.Marshal(); err != nil {
			w.Fatal(err)
		}
	})
}

func truncate(w *world, by int) {
	path := filepath.Join(w.dir, fileName)
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, raw[:len(raw)-by], 0o600)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// mix puts a genuine permit of another lease of this guest before the keys of this one.
func mix(w *world) {
	other := *w
	other.dir, other.tpm = w.TempDir(), newTPM(w.T)
	other.sealed(nil)
	raw, err := os.ReadFile(filepath.Join(other.dir, fileName))
	if err != nil {
		w.Fatal(err)
	}
	theirs, err := parseFile(raw)
	if err != nil {
		w.Fatal(err)
	}
	rewrite(w, func(f *sealedFile) { f.chain = theirs.chain })
}

// TestCountIsUsedUpAndNoCopyHelps: neither the file of the last permit nor one of a permit before it.
func TestCountIsUsedUpAndNoCopyHelps(t *testing.T) {
	w := newWorld(t)
	first := w.sealed(nil)
	old, err := os.ReadFile(first.file())
	if err != nil {
		t.Fatal(err)
	}
	w.sealed(nil)
	copied, err := os.ReadFile(first.file())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := os.WriteFile(first.file(), copied, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.restart(nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, raw := range map[string][]byte{"a copy": copied, "an older one": old} {
		if err := os.WriteFile(first.file(), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := w.restart(nil)
		w.wantRefused(name, err, vtpm.ReasonCount)
	}
}

// TestOnlyABrokerThatIsAwayIsDoneWithout: a broker that refuses is obeyed, and what is sealed goes with it; anything else that is wrong
// is no reason to open what is sealed.
func TestOnlyABrokerThatIsAwayIsDoneWithout(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	raw, err := os.ReadFile(filepath.Join(w.dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []refusal.Reason{protocol.ReasonBrokerUnknown, protocol.ReasonBrokerSignature, protocol.ReasonEpochRetired, protocol.ReasonDowngrade, protocol.ReasonEvidenceFailed,
		hybridtls.ReasonCertificate, hybridtls.ReasonClassical, "anything"} {
		b := w.boot(nil)
		if _, err := w.lease(b, b.Around(away{&client.Error{Reason: reason}})); err == nil {
			t.Errorf("%s: served", reason)
		}
	}
	b := w.boot(nil)
	if _, err := w.lease(b, b.Around(away{errors.New("something")})); err == nil {
		t.Error("an error of no kind: served")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Around(away{gone}).Acquire(ended, []string{brokertest.Resource}); err == nil {
		t.Error("an agent that is stopping serves")
	}
	for n, from := range []away{{gone}, {&client.Error{Reason: protocol.ReasonDeadline}}, {&client.Error{Reason: hybridtls.ReasonHandshake}}} {
		b := w.boot(nil)
		if l, err := w.lease(b, b.Around(from)); err != nil || int(l.Running.Restart.Number) != n+1 { // nothing before was counted
			t.Errorf("%v: %v", from.err, err)
		}
	}
	for _, reason := range []refusal.Reason{protocol.ReasonEnded, "measurement-not-allowed", "a-code-of-a-later-version"} {
		if err := os.WriteFile(filepath.Join(w.dir, fileName), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		b := w.boot(nil)
		if _, err := w.lease(b, b.Around(refusing(reason))); err == nil {
			t.Errorf("%s: served", reason)
		}
		if _, err := w.lease(b, b.Around(away{gone})); err == nil {
			t.Errorf("%s: served afterwards", reason)
		}
		b.Close()
		if _, err := os.Stat(b.file()); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the sealed file is still there", reason)
		}
	}
	if err := os.WriteFile(filepath.Join(w.dir, fileName), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.restart(nil)
	w.wantRefused("a copy from before the refusal", err, vtpm.ReasonCount)
}

// TestBusyBrokerIsAway: it says nothing about this guest.
func TestBusyBrokerIsAway(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	b := w.boot(nil)
	if l, err := w.lease(b, b.Around(refusing(protocol.ReasonBusy))); err != nil || l.Running == nil {
		t.Error(err)
	}
}

// TestRefusalEndsWhatRunsOnAPermit at once, and wipes it.
func TestRefusalEndsWhatRunsOnAPermit(t *testing.T) {
	w := newWorld(t)
	w.sealed(nil)
	b, _, err := w.restart(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := b.running.keys[brokertest.Resource].Key
	if _, err := w.lease(b, b.Around(refusing(protocol.ReasonEnded))); err == nil {
		t.Error("served")
	}
	if why := b.withdrawn.Load(); why == nil || key.Len() != 0 || b.isRunning() {
		t.Error("what runs on the permit goes on")
	}
	if _, err := w.lease(b, b.Around(away{gone})); err == nil {
		t.Error("a broker that went away after its refusal is done without")
	}
}

// TestKeysAreNotLentToAnAgentThatHadALease: it restarts, or stops with its lease.
func TestKeysAreNotLentToAnAgentThatHadALease(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	if _, err := w.lease(b, b.broker); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lease(b, b.Around(away{gone})); !errors.Is(err, gone) {
		t.Errorf("served: %v", err)
	}
}

// TestPermitIsAskedForWhenItIsNeeded: not with each lease, but for other keys and when the last one ages.
func TestPermitIsAskedForWhenItIsNeeded(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	asked := func() bool {
		t.Helper()
		l, err := w.lease(b, b.broker)
		if err != nil {
			t.Fatal(err)
		}
		b.sealing.Wait()
		return l.Permit != nil
	}
	if !asked() || asked() {
		t.Error("the first lease brings a permit and the second none, or the reverse")
	}
	w.f.Put(brokertest.Resource, "a newer key of thirty-two bytes!")
	if !asked() || asked() {
		t.Error("a newer key brings no permit, or two")
	}
	w.f.Clock.Move(3 * time.Hour)
	if !asked() || asked() {
		t.Error("a permit that ages brings no other, or two")
	}
	w.f.SetPolicy(brokertest.DefaultPolicy())
	w.f.Clock.Move(3 * time.Hour)
	if !asked() {
		t.Error("not asked")
	}
	b.Close()
	if _, err := os.Stat(b.file()); !errors.Is(err, os.ErrNotExist) {
		t.Error("keys stay sealed that the broker permits no restart with any more")
	}
}

// TestForgottenKeysDoNotOpen: neither the file nor a copy of it.
func TestForgottenKeysDoNotOpen(t *testing.T) {
	w := newWorld(t)
	b := w.sealed(nil)
	raw, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	if err := Forget(t.Context(), w.dir, w.tpm); err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.restart(nil); err == nil || len(flatten(err)) != 1 {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(b.file(), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.restart(nil)
	w.wantRefused("a copy", err, vtpm.ReasonCount)
	if err := Forget(t.Context(), w.dir, nil); err != nil {
		t.Error(err)
	}
	if err := Forget(t.Context(), w.dir, nil); err != nil {
		t.Errorf("nothing to forget: %v", err)
	}
}

// TestProcessorAloneCountsNothing: the same file opens again and again, and the broker learns that nobody counts.
func TestProcessorAloneCountsNothing(t *testing.T) {
	w := newWorld(t)
	firmware := func(measurement byte) func(*Config) {
		return func(c *Config) {
			tee, err := teesim.New(teesim.Options{Dir: brokertest.ChainDir(t), Measurement: [48]byte{measurement}})
			if err != nil {
				t.Fatal(err)
			}
			c.Sealer, c.Sealing = &localseal.Sealer{SNP: tee}, protocol.SealingSNP
		}
	}
	w.sealed(firmware(1))
	for range protocol.MaxRestarts + 2 {
		if _, l, err := w.restart(firmware(1)); err != nil || l.Running.Restart.Number != 0 {
			t.Fatalf("%+v, %v", l, err)
		}
	}
	_, _, err := w.restart(firmware(2))
	w.wantRefused("another image", err, ReasonFile)
	b, _, err := w.restart(firmware(1))
	if err != nil {
		t.Fatal(err)
	}
	if l, err := w.lease(b, b.broker); err != nil || l.Permit.Err != nil || !l.Permit.Reported {
		t.Errorf("%+v, %v", l, err)
	}
	reported := 0
	for _, r := range w.f.Records() {
		if r.Action == keybroker.ActionRestarted {
			reported++
		}
	}
	if reported != protocol.MaxRestarts { // the last ones
		t.Errorf("%d restarts were reported", reported)
	}
}

// FuzzFile: what parses is written the same again.
func FuzzFile(f *testing.F) {
	raw, err := sealedFile{[]byte{1}, []byte{2, 3}, []byte{4}}.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	raw, err = report{[]byte{1}, [][]byte{{2}, {3, 4}}}.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if file, err := parseFile(raw); err == nil {
			if again, err := file.marshal(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%x is written as %x, %v", raw, again, err)
			}
		}
		if told, err := parseReport(raw); err == nil {
			if again, err := told.marshal(); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("%x is written as %x, %v", raw, again, err)
			}
		}
	})
}

// TestContentIsExactlyThePermitsKeys: in each only one thing is another.
func TestContentIsExactlyThePermitsKeys(t *testing.T) {
	w := newWorld(t)
	b := w.boot(nil)
	l, err := w.lease(b, b.broker)
	if err != nil {
		t.Fatal(err)
	}
	key := w.f.NewKey(identity.LevelEpoch)
	permit := protocol.Permit{RestartKey: key.Public(), Keys: []protocol.Permitted{{Resource: brokertest.Resource, Version: 1}}}
	c := &content{restart: key, keys: l.Keys}
	plain := func() []byte {
		t.Helper()
		buf, err := c.encode(permit)
		if err != nil {
			t.Fatal(err)
		}
		defer buf.Wipe()
		return bytes.Clone(buf.Bytes())
	}
	again, err := decode(plain(), permit)
	if err != nil || string(again.keys[brokertest.Resource].Key.Bytes()) != brokertest.Secret {
		t.Fatal(err)
	}
	again.wipe()
	for name, change := range map[string]func(*protocol.Permit, *[]byte){
		"another version": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = []protocol.Permitted{{Resource: brokertest.Resource, Version: 2}}
		},
		"another key's name": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = []protocol.Permitted{{Resource: "models/other", Version: 1}}
		},
		"a key less": func(p *protocol.Permit, _ *[]byte) { p.Keys = nil },
		"a key more": func(p *protocol.Permit, _ *[]byte) {
			p.Keys = append(slices.Clone(p.Keys), protocol.Permitted{Resource: "models/z", Version: 1})
		},
		"another restart key": func(p *protocol.Permit, _ *[]byte) { p.RestartKey = b.key.Public() },
		"a byte less":         func(_ *protocol.Permit, raw *[]byte) { *raw = (*raw)[:len(*raw)-1] },
		"a byte more":         func(_ *protocol.Permit, raw *[]byte) { *raw = append(*raw, 0) },
		"nothing":             func(_ *protocol.Permit, raw *[]byte) { *raw = nil },
	} {
		p, raw := permit, plain()
		change(&p, &raw)
		if got, err := decode(raw, p); err == nil || got != nil {
			t.Errorf("%s: opened", name)
		}
	}
	permit.Keys[0].Version = 2
	if _, err := c.encode(permit); err == nil {
		t.Error("a version that the lease has not was sealed")
	}
	permit.Keys[0].Version = 1
	l.Wipe()
	if _, err := c.encode(permit); err == nil {
		t.Error("a key that was wiped was sealed")
	}
}
