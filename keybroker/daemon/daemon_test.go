package daemon

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// echo is an appraiser whose evidence is the report data itself.
type echo struct{}

func (echo) Appraise(_ context.Context, env evidence.Envelope, want [64]byte, _ time.Time) (evidence.Claims, error) {
	if subtle.ConstantTimeCompare(env.Primary(), want[:]) != 1 {
		return evidence.Claims{}, refusal.New("report-data-mismatch", "test")
	}
	return evidence.Claims{Kind: evidence.KindSNP, Platform: "Genoa", Challenge: want[:],
		Registers: []evidence.Measured{evidence.LaunchRegister(bytes.Repeat([]byte{0xcd}, 48))}, SNP: &evidence.SNPClaims{}}, nil
}

func (echo) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindSNP} }

func (echo) Collect(_ context.Context, data [64]byte) (evidence.Envelope, error) {
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: data[:]}}}, nil
}

type memoryEpochs struct{ highest protocol.Lowest }

func (m *memoryEpochs) Highest(root [32]byte) uint64 { return m.highest.Of(root) }

func (m *memoryEpochs) Raise(root [32]byte, n uint64) error {
	m.highest = m.highest.Raised(root, n)
	return nil
}

func newEchoAppraiser() (Appraiser, error) { return echo{}, nil }

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type state struct {
	root    *identity.Private
	result  statedir.Made
	options Options
	log     *lines
}

var credential = bytes.Repeat([]byte{0x42}, 32) // a constant of the tests

func newState(t *testing.T, passphrase bool) *state {
	t.Helper()
	root, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.Wipe)
	buf, err := keybuf.Take(bytes.Clone(credential))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(buf.Wipe)
	dir := t.TempDir()
	s := &state{root: root, log: &lines{}}
	unlock, names := idfile.Unlock{Credential: buf}, settings.Unlock{Credential: "broker.kek"}
	given := credential
	if passphrase {
		unlock, names = idfile.Unlock{Passphrase: buf}, settings.Unlock{Passphrase: "broker.kek"}
		given = append(bytes.Clone(credential), '\n')
	}
	s.result, err = statedir.Make(t.Context(), statedir.Options{Dir: filepath.Join(dir, "state"), Root: root, Unlock: unlock, Hosts: []string{"127.0.0.1", "localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	s.options = Options{
		Config: settings.Config{StateDir: string(s.result.Layout), Listen: "127.0.0.1:0", Unlock: names, Operator: settings.Operator{Socket: filepath.Join(dir, "op")}},
		Logger: slog.New(slog.NewTextHandler(s.log, nil)), Version: "v1", Build: "test",
		Credential: func(name string) ([]byte, error) {
			if name != "broker.kek" {
				return nil, errors.New("no such credential")
			}
			return bytes.Clone(given), nil
		},
		NewAppraiser: newEchoAppraiser,
	}
	return s
}

// run starts the daemon and waits until it serves; stop ends it.
func (s *state) run(t *testing.T) (c *operator.Client, address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := s.options
	o.Listener = l
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, o) }()
	c = operator.NewClient(o.Config.Operator.Socket)
	waitFor(t, done, func() bool { _, err := c.Status(t.Context()); return err == nil })
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return c, l.Addr().String(), stop
}

func waitFor(t *testing.T, done <-chan error, ready func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ready() {
		select {
		case err := <-done:
			t.Fatalf("the daemon ended: %v", err)
		case <-limit:
			t.Fatal("it never happened")
		case <-tick.C:
		}
	}
}

func (s *state) client(t *testing.T, address string) *client.Client {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(key.Wipe)
	return s.clientOf(t, address, key)
}

// clientOf is a guest with this agent key.
func (s *state) clientOf(t *testing.T, address string, key *identity.Private) *client.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.result.CertificatePEM) {
		t.Fatal("no certificate")
	}
	c, err := client.New(client.Config{Address: address, ServerName: "localhost", TLSRoots: roots, Roots: []identity.Public{s.result.Root},
		MinEpoch: 1, Epochs: &memoryEpochs{}, Collector: echo{}, AgentKey: key, Claims: evidence.GuestClaims{ImageID: "i", AgentBuild: "b", MemoryLimit: 1 << 27}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func policyText(version int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `
format: 2
id: demo
version: %d
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
require: {kinds: [sev-snp], reference_values: [demo/*], sev_snp: {products: [Genoa], vmpl: 0}}
rules: [{resources: [models/*]}]
waive:
`, version)
	for _, c := range policy.ChecksOf(evidence.KindSNP) {
		if c.Waivable {
			fmt.Fprintf(&b, "  - {check: %s, reason: a demonstration}\n", c.Name)
		}
	}
	return []byte(b.String())
}

// TestInitGivesAWorkingBroker goes all the way: an empty directory, a policy,
// a secret, a release, a restart, and a log that verifies.
func TestInitGivesAWorkingBroker(t *testing.T) {
	s := newState(t, false)
	op, address, stop := s.run(t)
	ctx := t.Context()
	secret, err := keybuf.Take([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	if _, err := op.PutSecret(ctx, "models/a", secret, keystore.Meta{Kind: "model-key"}, operator.PutNext); err != nil {
		t.Fatal(err)
	}
	if _, err := s.client(t, address).Acquire(ctx, []string{"models/a"}); err == nil {
		t.Fatal("a release without a policy")
	}
	if _, err := op.ImportPolicy(ctx, policyText(1)); err != nil {
		t.Fatal(err)
	}
	values := fmt.Appendf(nil, "format: 1\nreference_values: [{id: demo/a, measurement: %q}]", hex.EncodeToString(bytes.Repeat([]byte{0xcd}, 48)))
	if _, err := op.ImportReferenceValues(ctx, values, false); err != nil {
		t.Fatal(err)
	}
	acquire := func(address string) {
		t.Helper()
		lease, err := s.client(t, address).Acquire(ctx, []string{"models/a"})
		if err != nil {
			t.Fatal(err, s.log)
		}
		defer lease.Wipe()
		if got := lease.Keys["models/a"]; got.Version != 1 || !got.Key.Equal(secret) || lease.TTL <= 0 {
			t.Fatalf("%+v", lease)
		}
	}
	acquire(address)
	st, err := op.Status(ctx)
	if err != nil || st.Policy == nil || st.Policy.ID != "demo" || st.Secrets != 1 || st.Address != address || len(st.Epochs) != 1 || st.Epochs[0].State != "active" || st.SoftwareTEE {
		t.Fatalf("%+v %v", st, err)
	}
	stop()
	_, address, stop = s.run(t)
	acquire(address)
	stop()
	r, err := audit.Verify(s.result.Layout.Audit(), s.result.AuditKey)
	if err != nil || r.Unsigned != 0 || r.Records < 8 {
		t.Fatalf("%+v %v", r, err)
	}
	if got, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindRelease}); err != nil || len(got) != 2 {
		t.Fatal(len(got), err)
	}
	if strings.Contains(s.log.String(), "0123456789abcdef") {
		t.Fatal("the secret is in the log")
	}
}

func TestPassphraseOpensTheState(t *testing.T) {
	s := newState(t, true)
	if err := Check(s.options); err != nil {
		t.Fatal(err)
	}
	s.options.Credential = func(string) ([]byte, error) { return []byte("wrong"), nil }
	if err := Check(s.options); err == nil {
		t.Fatal("a wrong passphrase opened the state")
	}
}

// TestPitfall10SoftwareTEEIsRefusedByOrdinaryBuilds and accepted loudly by a
// development build.
func TestPitfall10SoftwareTEEIsRefusedByOrdinaryBuilds(t *testing.T) {
	s := newState(t, false)
	s.options.Config.SoftwareTEERoot = filepath.Join(t.TempDir(), "root.pem")
	if err := Check(s.options); !errors.Is(err, ErrSoftwareTEE) {
		t.Fatal(err)
	}
	var given []byte
	s.options.NewSoftwareAppraiser = func(pem []byte) (Appraiser, error) { given = pem; return echo{}, nil }
	if err := Check(s.options); err == nil {
		t.Fatal("a root that cannot be read was accepted")
	}
	if err := os.WriteFile(s.options.Config.SoftwareTEERoot, []byte("pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(s.options); err != nil || string(given) != "pem" || !strings.Contains(s.log.String(), "DEVELOPMENT BUILD") {
		t.Fatal(err, s.log)
	}
	s.options.Config.SoftwareTEERoot = ""
	given = nil
	if err := Check(s.options); err != nil || given != nil || strings.Count(s.log.String(), "DEVELOPMENT BUILD") < 3 {
		t.Fatal("a development build did not warn at every start", err)
	}
}

func TestStateIsCheckedBeforeAnythingServes(t *testing.T) {
	for name, spoil := range map[string]func(s *state) error{
		"open directory": func(s *state) error { return os.Chmod(string(s.result.Layout), 0o750) },
		"no audit log":   func(s *state) error { return os.RemoveAll(s.result.Layout.Audit()) },
		"empty audit log": func(s *state) error {
			return errors.Join(os.RemoveAll(s.result.Layout.Audit()), os.Mkdir(s.result.Layout.Audit(), 0o700))
		},
		"no root":       func(s *state) error { return os.Remove(s.result.Layout.RootPublic()) },
		"no epoch key":  func(s *state) error { return os.Remove(s.result.Layout.EpochKey(1)) },
		"no statement":  func(s *state) error { return os.Remove(s.result.Layout.EpochStatement(1)) },
		"bad statement": func(s *state) error { return os.WriteFile(s.result.Layout.EpochStatement(1), []byte("x"), 0o600) },
		"odd epoch file": func(s *state) error {
			return os.WriteFile(filepath.Join(s.result.Layout.Epochs(), "x.key"), nil, 0o600)
		},
		"no certificate": func(s *state) error { return os.Remove(s.result.Layout.Certificate()) },
		"wrong secret": func(s *state) error {
			s.options.Credential = func(string) ([]byte, error) { return bytes.Repeat([]byte{1}, 32), nil }
			return nil
		},
		"no secret":    func(s *state) error { s.options.Config.Unlock.Credential = "other"; return nil },
		"bad config":   func(s *state) error { s.options.Config.Listen = "nowhere"; return nil },
		"no appraiser": func(s *state) error { s.options.NewAppraiser = nil; return nil },
		"bad policy": func(s *state) error {
			return os.WriteFile(filepath.Join(s.result.Layout.Policies(), "policy.yaml"), []byte("x"), 0o600)
		},
		"open key store": func(s *state) error { return os.Chmod(s.result.Layout.Keystore(), 0o644) },
	} {
		s := newState(t, false)
		if err := Check(s.options); err != nil {
			t.Fatal(err)
		}
		if err := spoil(s); err != nil {
			t.Fatal(err)
		}
		if err := Check(s.options); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestCheckFindsEverythingAtOnce that does not follow from something else.
func TestCheckFindsEverythingAtOnce(t *testing.T) {
	s := newState(t, false)
	l := s.result.Layout
	if err := errors.Join(os.Remove(l.RootPublic()), os.Remove(l.Certificate()), os.WriteFile(filepath.Join(l.Policies(), "policy.yaml"), []byte("x"), 0o600), os.RemoveAll(l.Audit()),
		os.Chmod(l.Keystore(), 0o644)); err != nil {
		t.Fatal(err)
	}
	s.options.Config.SoftwareTEERoot = "/absent"
	s.options.Config.Operator.Socket = filepath.Join(t.TempDir(), "absent", "op")
	err := Check(s.options)
	for _, says := range []string{"root identity: ", "TLS certificate: ", "policies: ", "audit", "software_tee_root", "operator.socket: ", l.Keystore()} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in\n%v", says, err)
		}
	}
	s = newState(t, false)
	s.options.Credential = func(string) ([]byte, error) { return bytes.Repeat([]byte{1}, 32), nil }
	if err := Check(s.options); !errors.Is(err, idfile.ErrUnlock) || strings.Contains(err.Error(), "\n") {
		t.Errorf("one fault, said more than once: %v", err)
	}
	s = newState(t, false)
	l = s.result.Layout
	if err := errors.Join(os.WriteFile(l.Ended(), nil, 0o600), os.WriteFile(l.EpochStatement(1), []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	err = Check(s.options)
	for _, says := range []string{l.Ended() + " is truncated or malformed: EOF: restore", "epoch 1: " + l.EpochStatement(1) + " is not the root's statement about this epoch: malformed-message", "restore it from a backup"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q is not in\n%v", says, err)
		}
	}
	s = newState(t, false)
	s.options.Credential = func(string) ([]byte, error) { return []byte("abcd"), nil }
	if err := Check(s.options); !errors.Is(err, idfile.ErrCredential) {
		t.Errorf("a short credential: %v", err)
	}
}

func TestEpochRotation(t *testing.T) {
	s := newState(t, false)
	op, address, _ := s.run(t)
	ctx := t.Context()
	if err := op.RetireEpoch(ctx, 1); err == nil {
		t.Fatal("the last active epoch was retired")
	}
	if err := op.RetireEpoch(ctx, 7); err == nil {
		t.Fatal("an epoch that is not held was retired")
	}
	req, err := op.PrepareEpoch(ctx)
	if err != nil || req.Epoch != 2 || !req.AuditKey.Equal(s.result.AuditKey) {
		t.Fatal(req, err)
	}
	if again, err := op.PrepareEpoch(ctx); err != nil || again.Epoch != 2 || !again.Key.Equal(req.Key) {
		t.Fatal("two requests at a time", again, err)
	}
	now := time.Now()
	good := statedir.Certificate{Epoch: 2, MinEpoch: 1, Key: req.Key, AuditKey: req.AuditKey, NotBefore: now.Add(-time.Second), NotAfter: now.Add(time.Hour)}
	other, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]func(c *statedir.Certificate) *identity.Private{
		"other root":      func(*statedir.Certificate) *identity.Private { return other },
		"other epoch":     func(c *statedir.Certificate) *identity.Private { c.Epoch = 3; return s.root },
		"other key":       func(c *statedir.Certificate) *identity.Private { c.Key = s.result.AuditKey; return s.root },
		"other audit key": func(c *statedir.Certificate) *identity.Private { c.AuditKey = req.Key; return s.root },
		"first again":     func(c *statedir.Certificate) *identity.Private { c.Epoch = 1; return s.root },
	} {
		c := good
		signed, err := statedir.CertifyEpoch(bad(&c), c)
		if err == nil {
			signed, err = statedir.CertifyEpoch(bad(&c), c)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := op.ActivateEpoch(ctx, signed); err == nil {
			t.Errorf("%s: activated", name)
		}
	}
	signed, err := statedir.CertifyEpoch(s.root, good)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := op.ActivateEpoch(ctx, signed); err != nil || info.State != "active" {
		t.Fatal(info, err)
	}
	if err := op.RetireEpoch(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if list, err := op.Epochs(ctx); err != nil || len(list) != 1 || list[0].Epoch != 2 {
		t.Fatal(list, err)
	}
	if _, err := os.Stat(s.result.Layout.EpochKey(1)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the retired key is still there")
	}
	_ = address
}

func TestReload(t *testing.T) {
	s := newState(t, false)
	reload := make(chan os.Signal, 1)
	s.options.Reload = reload
	op, _, _ := s.run(t)
	path := filepath.Join(s.result.Layout.Policies(), "policy.yaml")
	if err := os.WriteFile(path, policyText(3), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	waitFor(t, nil, func() bool { p, err := op.Policy(t.Context()); return err == nil && p.Version == 3 })
	if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	waitFor(t, nil, func() bool { return strings.Contains(s.log.String(), "reload failed in part") })
	if p, err := op.Policy(t.Context()); err != nil || p.Version != 3 {
		t.Fatal("a broken policy replaced the one in force", err)
	}
}

// TestReloadOfAnotherCertificateEndsKeptConnections: guests are to see it.
func TestReloadOfAnotherCertificateEndsKeptConnections(t *testing.T) {
	s := newState(t, false)
	reload := make(chan os.Signal)
	s.options.Reload = reload
	op, address, _ := s.run(t)
	u := underAttack{Socket: s.options.Config.Operator.Socket}
	openModel(t, op)
	guest := s.client(t, address)
	defer guest.Close()
	keptIs := func(n int64) { waitFor(t, nil, func() bool { return metric(t, u, "kept") == n }) }
	if err := acquire(t.Context(), guest); err != nil {
		t.Fatal(err)
	}
	keptIs(1)
	reload <- syscall.SIGHUP
	reload <- syscall.SIGHUP // is taken when the one before is done
	keptIs(1)
	if err := acquire(t.Context(), guest); err != nil || metric(t, u, "reused_total") != 1 {
		t.Fatal("a reload that changes nothing ended the connection: ", err)
	}
	certificate, key, err := hybridtls.NewCertificate([]string{"localhost"}, time.Hour)
	if err == nil {
		err = errors.Join(os.WriteFile(s.result.Layout.Certificate(), certificate, 0o600), os.WriteFile(s.result.Layout.TLSKey(), key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	keptIs(0)
	if e, ok := errors.AsType[*client.Error](acquire(t.Context(), guest)); !ok || e.Reason != hybridtls.ReasonCertificate {
		t.Errorf("the guest was not shown the new certificate: %v", e)
	}
}

// TestReloadKeepsACertificateThatGuestsAccept: one that is over would end every guest's service.
func TestReloadKeepsACertificateThatGuestsAccept(t *testing.T) {
	s := newState(t, false)
	reload := make(chan os.Signal)
	s.options.Reload = reload
	op, address, _ := s.run(t)
	openModel(t, op)
	certificate, key, err := hybridtls.NewCertificate([]string{"localhost", "127.0.0.1"}, time.Nanosecond)
	if err == nil {
		err = errors.Join(os.WriteFile(s.result.Layout.Certificate(), certificate, 0o600), os.WriteFile(s.result.Layout.TLSKey(), key, 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	reload <- syscall.SIGHUP
	waitFor(t, nil, func() bool {
		return strings.Contains(s.log.String(), "reload failed in part") && strings.Contains(s.log.String(), "expired on")
	})
	guest := s.client(t, address)
	defer guest.Close()
	if err := acquire(t.Context(), guest); err != nil {
		t.Errorf("guests are shown a certificate that is over: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	s := newState(t, false)
	buf, err := keybuf.Take(bytes.Clone(credential))
	if err != nil {
		t.Fatal(err)
	}
	defer buf.Wipe()
	good := statedir.Options{Dir: filepath.Join(t.TempDir(), "x"), Root: s.root, Unlock: idfile.Unlock{Credential: buf}, Hosts: []string{"h"}}
	for name, change := range map[string]func(*statedir.Options){
		"no root":   func(o *statedir.Options) { o.Root = nil },
		"no host":   func(o *statedir.Options) { o.Hosts = nil },
		"no unlock": func(o *statedir.Options) { o.Unlock = idfile.Unlock{} },
		"not empty": func(o *statedir.Options) { o.Dir = string(s.result.Layout) },
		"a file":    func(o *statedir.Options) { o.Dir = s.result.Layout.AuditPublic() },
	} {
		o := good
		o.Dir = filepath.Join(t.TempDir(), "x")
		change(&o)
		if _, err := statedir.Make(t.Context(), o); err == nil {
			t.Errorf("%s: made", name)
		}
	}
}
