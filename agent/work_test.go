package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	fedassembly "github.com/anchorhold/anchorhold/agent/fed/assembly"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/session"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/agent/prove/provetest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// bench is an attested agent with a classifier, and configurations of it.
type bench struct {
	t       *testing.T
	world   *federationtest.World
	agent   *federationtest.Agent
	model   *classifytest.Sealed
	classes *classify.Service
	cfg     settings.Config
	cert    []byte // of servers, PEM
	pair    []byte // its key
}

// newBench has a configuration in which neither proofs nor rounds are made.
func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, world: federationtest.New(t), model: classifytest.Seal(t, "tiny", 1)}
	b.agent = b.world.Agent(t, nil)
	b.agent.Grant(t, b.model.Model.ID())
	b.classes = classify.New(classify.Config{Memory: 1 << 20, AgentKey: b.agent.Key, Logger: quiet(), Lease: func(classify.Grant) (receipt.Lease, error) {
		return receipt.Lease{ID: b.agent.Lease.Lease, EvidenceDigest: b.agent.Lease.EvidenceDigest, Chain: b.agent.Chain, Now: federationtest.Begin.Add(time.Minute)}, nil
	}})
	b.classes.Adopt([]settings.Classifier{b.model.Classifier}, map[string]classify.Key{b.model.Resource: {Secret: b.model.Key(t)}})
	t.Cleanup(b.classes.Wipe)
	var err error
	if b.cert, b.pair, err = hybridtls.NewCertificate([]string{"127.0.0.1"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	roots := b.file("roots.pem", b.cert)
	root, err := b.world.Root.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable() // any file that is there
	if err != nil {
		t.Fatal(err)
	}
	b.cfg.Guest.StateDir, b.cfg.Workers.Path, b.cfg.Broker.RootKeys = t.TempDir(), self, []string{string(root)}
	b.cfg.Broker.TLSRoots, b.cfg.Federation.TLSRoots = roots, roots
	return b
}

func (b *bench) file(name string, data []byte) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// proves has answers proven with the shared keys.
func (b *bench) proves() {
	dir := b.t.TempDir()
	provetest.Shared(b.t).Save(b.t, dir, false)
	b.cfg.Proofs.Keys, b.cfg.Classifiers = dir, []settings.Classifier{b.model.Classifier}
}

// participates has the agent take part in rounds.
func (b *bench) participates() { b.cfg.Federation.Aggregators = []string{"127.0.0.1:1"} }

func (b *bench) works() *works {
	return newWorks(fedassembly.Host{Logger: quiet(), Sign: func() (attested.Signer, error) {
		return attested.Signer{Key: b.agent.Key, Chain: b.agent.Chain, Now: federationtest.Begin.Add(time.Minute), Broker: b.agent.Lease.Broker, Lowest: protocol.AtLeast(1)}, nil
	}, Acquire: func(context.Context, []string) (*client.Lease, error) {
		return nil, errors.New("no round here")
	}}, b.classes)
}

// run runs works; the function that it returns ends them.
func (b *bench) run(w *works) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
	b.t.Cleanup(stop)
	return stop
}

func lease(keys map[string]*keybuf.Buffer) *client.Lease {
	l := &client.Lease{Keys: map[string]client.Key{}}
	for name, k := range keys {
		l.Keys[name] = client.Key{Key: k}
	}
	return l
}

func wantReason(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); err == nil || got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

// A part that is not configured is nil to the local API, which says so, and not a nil pointer in
// an interface, which it would call.
func TestWhatIsConfiguredBegins(t *testing.T) {
	for what, c := range map[string]struct {
		change               func(b *bench)
		proofs, participates bool
	}{
		"neither":    {func(*bench) {}, false, false},
		"proofs":     {func(b *bench) { b.proves() }, true, false},
		"federation": {func(b *bench) { b.participates() }, false, true},
		"both":       {func(b *bench) { b.proves(); b.participates() }, true, true},
		"keys for norms": {func(b *bench) {
			b.proves()
			b.participates()
			b.cfg.Classifiers = nil
		}, false, true},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			c.change(b)
			w := b.works()
			_, err := w.work()
			wantReason(t, "before the lease", err, session.ReasonAttesting)
			_, err = w.proofs()
			wantReason(t, "before the lease", err, session.ReasonAttesting)
			stop := b.run(w)
			for range 2 { // each lease begins it, once
				if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err != nil {
					t.Fatal(err)
				}
			}
			work, err := w.work()
			if err != nil || work.Queue == nil || (work.Federation != nil) != c.participates || (work.Party != nil) != c.participates {
				t.Errorf("%+v %v", work, err)
			}
			if p, err := w.proofs(); c.proofs && (err != nil || p == nil) {
				t.Error(err)
			} else if !c.proofs {
				wantReason(t, "no keys", err, prove.ReasonNotConfigured)
			}
			stop()
			_, err = w.work()
			wantReason(t, "after the end", err, session.ReasonDraining)
			_, err = w.proofs()
			wantReason(t, "after the end", err, session.ReasonDraining)
			_, _, err = work.Queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")})
			wantReason(t, "the queue is closed", err, jobs.ReasonClosed)
		})
	}
}

func TestNothingRunsBeforeTheLease(t *testing.T) {
	b := newBench(t)
	b.run(b.works())() // it ends without having begun
}

// What cannot begin says which setting is wrong, leaves nothing open, and begins once it
// is right.
func TestWhatIsMissingIsSaid(t *testing.T) {
	for what, c := range map[string]struct {
		change func(b *bench)
		says   string
	}{
		"no keys":          {func(b *bench) { b.cfg.Proofs.Keys = b.t.TempDir() }, "holds no keys"},
		"no directory":     {func(b *bench) { b.cfg.Proofs.Keys += "x" }, "holds no keys"},
		"development keys": {func(b *bench) { b.development() }, "proofs.allow_development_setup"},
		"a changed key": {func(b *bench) {
			k := provetest.Shared(b.t)
			if err := os.WriteFile(filepath.Join(b.cfg.Proofs.Keys, k.VerifyingDigest().String()+".vk"), []byte("x"), 0o600); err != nil {
				b.t.Fatal(err)
			}
		}, "proofs.keys"},
		"a mode":                {func(b *bench) { b.cfg.Proofs.Mode = "some" }, `"some"`},
		"no rate":               {func(b *bench) { b.cfg.Proofs.Mode = "sampled" }, "rate"},
		"no worker":             {func(b *bench) { b.cfg.Workers.Path += "x" }, "workers.path"},
		"no queue key":          {func(b *bench) { b.cfg.Federation.QueueKey = "keys/queue" }, "federation.queue_key"},
		"no roots":              {func(b *bench) { b.cfg.Federation.TLSRoots += "x" }, "federation.tls_roots"},
		"empty roots":           {func(b *bench) { b.cfg.Federation.TLSRoots = b.file("x", nil) }, "federation.tls_roots"},
		"no port":               {func(b *bench) { b.cfg.Federation.Aggregators = []string{"host"} }, "federation"},
		"no root key":           {func(b *bench) { b.cfg.Broker.RootKeys = []string{"nobody"} }, "broker.root_keys"},
		"no roots of a broker":  {func(b *bench) { b.cfg.Proofs.Registry, b.cfg.Broker.TLSRoots = "127.0.0.1:1", "/none" }, "broker.tls_roots"},
		"no port of a registry": {func(b *bench) { b.cfg.Proofs.Registry = "host" }, "broker"},
		"no state directory":    {func(b *bench) { b.cfg.Guest.StateDir = "/dev/null" }, "job queue"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.proves()
			b.participates()
			good := b.cfg
			good.Proofs.Keys = t.TempDir()
			provetest.Shared(t).Save(t, good.Proofs.Keys, false)
			c.change(b)
			w := b.works()
			stop := b.run(w)
			for range 2 { // and again with the next lease
				if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v does not say %q", err, c.says)
				}
				_, err := w.work()
				wantReason(t, "it has not begun", err, session.ReasonAttesting)
			}
			if err := w.begin(tenure.Grant{Config: good, Lease: lease(nil)}); err != nil {
				t.Errorf("once it is right: %v", err)
			}
			if _, err := w.proofs(); err != nil {
				t.Error(err)
			}
			stop()
		})
	}
}

// development puts keys in place that one party made.
func (b *bench) development() {
	b.cfg.Proofs.Keys = b.t.TempDir()
	provetest.Shared(b.t).Save(b.t, b.cfg.Proofs.Keys, true)
}

func TestDevelopmentKeysNeedConsent(t *testing.T) {
	b := newBench(t)
	b.proves()
	b.development()
	b.cfg.Proofs.AllowDevelopmentSetup, b.cfg.Verification.ZKP.VerificationTimeoutMS = true, 5000
	w := b.works()
	b.run(w)
	if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err != nil {
		t.Error(err)
	}
}

func TestProofsNeedClassifiers(t *testing.T) {
	b := newBench(t)
	b.proves()
	b.classes = nil
	w := b.works()
	if err := w.begin(tenure.Grant{Config: b.cfg, Lease: lease(nil)}); err == nil || !strings.Contains(err.Error(), "classifiers") {
		t.Error(err)
	}
}

// With a queue key jobs survive the agent; without one nothing of an earlier run does.
func TestTheQueueKeyDecidesWhatSurvives(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	key := func(raw []byte) map[string]*keybuf.Buffer {
		k, err := keybuf.Take(slices.Clone(raw))
		if err != nil {
			t.Fatal(err)
		}
		return map[string]*keybuf.Buffer{"keys/queue": k}
	}
	for what, c := range map[string]struct {
		name string
		want int
	}{"with a key": {"keys/queue", 1}, "without": {"", 0}} {
		b := newBench(t)
		b.cfg.Federation.QueueKey = c.name
		for run := range 2 {
			w := b.works()
			stop := b.run(w)
			l := lease(key(secret))
			if err := w.begin(tenure.Grant{Config: b.cfg, Lease: l}); err != nil {
				t.Fatal(err)
			}
			if _, left := l.Keys["keys/queue"]; left == (c.name != "") {
				t.Errorf("%s: the lease's keys: %v", what, l.Keys)
			}
			work, err := w.work()
			if err != nil {
				t.Fatal(err)
			}
			if run == 0 {
				if _, _, err := work.Queue.Submit(t.Context(), jobs.Job{Class: "x", Spec: []byte("{}")}); err != nil {
					t.Fatal(err)
				}
			} else if n := len(work.Queue.List(nil)); n != c.want {
				t.Errorf("%s: %d jobs after a restart", what, n)
			}
			stop()
		}
	}
	b := newBench(t)
	b.cfg.Federation.QueueKey = "keys/queue"
	if err := b.works().begin(tenure.Grant{Config: b.cfg, Lease: lease(key(secret[:16]))}); err == nil || !strings.Contains(err.Error(), "32 bytes") {
		t.Errorf("a short key: %v", err)
	}
}
