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

	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/localseal"
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
	broker    attested.Broker
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
	cfg := Config{Sealer: w.tpm, Sealing: protocol.SealingTPM, Boot: attested.Boot{Dir: w.dir, Roots: []identity.Public{w.f.Root.Public()}, Floor: func([32]byte) uint64 { return w.floor },
		AgentKey: b.key.Public(), Clock: func() evidence.ClockSource { return w.clock }, Now: func() time.Time { return time.Now().Add(w.offset) },
		Withdraw: func(why error) { b.withdrawn.Store(&why) }, Logger: w.f.Logs.Logger()}}
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
func (w *world) lease(b *boot, from attested.Broker) (*client.Lease, error) {
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

// TestARefusalAsTheAgentStopsEndsCopies: the file is gone, and the TPM opens no copy of it.
func TestARefusalAsTheAgentStopsEndsCopies(t *testing.T) {
	w := newWorld(t)
	b := w.sealed(nil) // and closed
	kept, err := os.ReadFile(b.file())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.lease(b, b.Around(refusing(protocol.ReasonEnded))); err == nil {
		t.Fatal("not refused")
	}
	if err := os.WriteFile(b.file(), kept, 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.restart(nil)
	w.wantRefused("a copy", err, vtpm.ReasonCount)

	b = w.sealed(func(c *Config) { c.Sealer = stuck{c.Sealer} })
	if _, err := w.lease(b, b.Around(refusing(protocol.ReasonEnded))); err == nil {
		t.Fatal("not refused")
	}
	if !strings.Contains(w.f.Logs.String(), "copies of the sealed keys may still open") {
		t.Error("nobody learns that copies may open")
	}
}

// stuck is a sealer whose TPM fails to end anything.
type stuck struct{ Sealer }

func (stuck) Forget(context.Context) error { return errors.New("the TPM is gone") }

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
		if secretOf(t, l) != brokertest.Secret || l.Running.Restart.Number != n+1 || l.TTL > slice || time.Until(l.RunsUntil) < 7*time.Hour || l.Roles[brokertest.Resource] != protocol.RoleServe {
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
		"another sealing":    {nil, func(c *Config) { c.Sealing = protocol.SealingSNP }, ReasonOtherSealing, true},
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

func (l late) Open(ctx context.Context, handle []byte) ([]byte, uint16, time.Duration, error) {
	key, number, _, err := l.Sealer.Open(ctx, handle)
	return key, number, 8 * time.Hour, err
}

type counting struct {
	Sealer
	number uint16
}

func (c counting) Open(ctx context.Context, handle []byte) ([]byte, uint16, time.Duration, error) {
	key, _, elapsed, err := c.Sealer.Open(ctx, handle)
	return key, c.number, elapsed, err
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
