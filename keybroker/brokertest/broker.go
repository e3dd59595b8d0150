//go:build !release

package brokertest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// ServerName is the name in the broker's TLS certificate.
const ServerName = "localhost"

// Resource is the resource that the default policy opens and Secret its key.
const (
	Resource = "models/test"
	Secret   = "a model key of thirty-two bytes!"
)

// Fixture is a running broker and everything that it is made of.
type Fixture struct {
	// Address is where it listens.
	Address string
	// TLSRoots verify its certificate, Certificate is that certificate with its key.
	TLSRoots    *x509.CertPool
	Certificate tls.Certificate
	// Root is RK, EpochKey BK of epoch 1, Epoch its signed statement.
	Root, EpochKey *identity.Private
	Epoch          []byte
	// TEE is the guest's hardware, unless there is another guest.
	TEE *teesim.TEE
	// Broker is the broker itself.
	Broker *keybroker.Broker
	// Policy is the policy in force; SetPolicy changes it.
	policy *policy.Policy
	// Store and Audit are its key store and audit log; AuditDir is where the
	// latter lies and AuditKey what signs it.
	Store    *keystore.Store
	Audit    *audit.Log
	AuditDir string
	AuditKey *identity.Private
	// Clock is the broker's clock.
	Clock *Clock
	// Logs is everything that broker and client logged.
	Logs *Logs

	tb    testing.TB
	guest Guest
	mu    sync.Mutex // guards policy
	stop  func()
}

// Option changes a fixture before it starts.
type Option func(*options)

type options struct {
	config []func(*keybroker.Config)
	tee    *teesim.TEE
	policy string
	audit  audit.Options
	guest  Guest
}

// WithConfig changes the broker's configuration last of all.
func WithConfig(change func(*keybroker.Config)) Option {
	return func(o *options) { o.config = append(o.config, change) }
}

// WithAuditBudget bounds what refusals add to the audit log.
func WithAuditBudget(b audit.Budget) Option { return func(o *options) { o.audit.Budget = b } }

// WithTEE uses a software TEE of the caller's.
func WithTEE(tee *teesim.TEE) Option { return func(o *options) { o.tee = tee } }

// Guest is an emulated guest of another kind than the software TEE's. Packages below this one have
// them.
type Guest interface {
	client.Collector
	// Kinds are the kinds of evidence that it makes.
	Kinds() []evidence.Kind
	// Value is its reference value.
	Value() policy.ReferenceValue
	// Verifier judges its evidence, and that of SEV-SNP as snp does.
	Verifier(tb testing.TB, snp *appraise.Verifier) keybroker.KindAppraiser
}

// WithGuest has the fixture's guest be another one, which the broker judges beside the software TEE.
func WithGuest(g Guest) Option { return func(o *options) { o.guest = g } }

// WithPolicy uses another policy file. Its reference values are still the
// measurement of the default TEE, under the id "test".
func WithPolicy(yaml string) Option { return func(o *options) { o.policy = yaml } }

// Measurement is what the default TEE reports and the default policy allows.
func Measurement() (m [48]byte) {
	for i := range m {
		m[i] = byte(i + 1)
	}
	return m
}

// New starts a broker that releases Resource to a guest with Measurement. It
// ends with the test.
func New(tb testing.TB, opts ...Option) *Fixture {
	tb.Helper()
	o := options{policy: DefaultPolicy()}
	for _, opt := range opts {
		opt(&o)
	}
	if _, measured := tb.(*testing.B); measured {
		service.CollectSeldom() // as the daemon does
	}
	f := &Fixture{tb: tb, TEE: o.tee, guest: o.guest, Clock: &Clock{}, Logs: &Logs{}}
	if f.TEE == nil {
		f.TEE = TEE(tb)
	}
	f.makeKeys()
	f.openStores(o.audit)
	f.SetPolicy(o.policy)
	cfg := f.config()
	for _, change := range o.config {
		change(&cfg)
	}
	f.start(cfg)
	return f
}

func check[T any](tb testing.TB, v T, err error) T {
	tb.Helper()
	if err != nil {
		tb.Fatalf("test broker: %v", err)
	}
	return v
}

func (f *Fixture) makeKeys() {
	f.tb.Helper()
	certPEM, keyPEM, err := hybridtls.NewCertificate([]string{ServerName, "127.0.0.1"}, 24*time.Hour)
	check(f.tb, certPEM, err)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	f.Certificate = check(f.tb, pair, err)
	f.TLSRoots = x509.NewCertPool()
	f.TLSRoots.AppendCertsFromPEM(certPEM)
	f.Root = f.NewKey(identity.LevelRoot)
	f.EpochKey = f.NewKey(identity.LevelEpoch)
	f.AuditKey = f.NewKey(identity.LevelEpoch)
	f.Epoch = f.SignEpoch(1, f.EpochKey, nil)
}

// NewKey makes an identity that is wiped when the test ends.
func (f *Fixture) NewKey(level identity.Level) *identity.Private {
	f.tb.Helper()
	k, err := identity.Generate(level)
	check(f.tb, k, err)
	f.tb.Cleanup(k.Wipe)
	return k
}

// SignEpoch signs a statement that begins an hour ago and lasts a day, after
// change (which may be nil) has seen it.
func (f *Fixture) SignEpoch(number uint64, key *identity.Private, change func(*protocol.EpochStatement)) []byte {
	f.tb.Helper()
	now := protocol.TimeOf(f.Clock.Now())
	st := protocol.EpochStatement{Broker: f.Root.Public().ID(), Epoch: number, MinEpoch: 1, Key: key.Public(),
		NotBefore: now - protocol.Time(time.Hour.Milliseconds()), NotAfter: now.Add(23 * time.Hour),
		AnyPolicy: true, AuditKey: f.AuditKey.Public().ID()}
	if change != nil {
		change(&st)
	}
	signed, err := protocol.SignEpoch(f.Root, st)
	return check(f.tb, signed, err)
}

func (f *Fixture) openStores(log audit.Options) {
	f.tb.Helper()
	dir := f.tb.TempDir()
	kek, err := keybuf.Random(32)
	check(f.tb, kek, err)
	defer kek.Wipe()
	store, err := keystore.Open(filepath.Join(dir, "keys.db"), kek)
	f.Store = check(f.tb, store, err)
	f.tb.Cleanup(func() { f.Store.Close() })
	f.Put(Resource, Secret)

	f.AuditDir = filepath.Join(dir, "audit")
	log.Now = f.Clock.Now
	opened, err := audit.Open(f.AuditDir, f.AuditKey, log)
	f.Audit = check(f.tb, opened, err)
	f.tb.Cleanup(func() { f.Audit.Close() })
}

// Put stores a key that is for nothing in particular, and returns its version.
func (f *Fixture) Put(name, secret string) uint64 {
	f.tb.Helper()
	return f.PutFor(name, secret, [32]byte{})
}

// PutFor stores a key that is for a subject: a model's id.
func (f *Fixture) PutFor(name, secret string, subject [32]byte) uint64 {
	f.tb.Helper()
	buf, err := keybuf.Take([]byte(secret))
	check(f.tb, buf, err)
	defer buf.Wipe()
	version, err := f.Store.Put(context.Background(), name, buf, keystore.Meta{Subject: subject})
	return check(f.tb, version, err)
}

// SetPolicy puts another policy file into force.
func (f *Fixture) SetPolicy(yaml string) {
	f.tb.Helper()
	p, err := policy.Parse([]byte(yaml))
	check(f.tb, p, err)
	values := []policy.ReferenceValue{{ID: "test", Measurement: fmt.Sprintf("%x", Measurement()), Software: true}}
	if f.guest != nil {
		values = append(values, f.guest.Value())
	}
	p, err = p.WithReferenceValues(values)
	check(f.tb, p, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.policy = p
}

// Policy returns the policy in force.
func (f *Fixture) Policy() *policy.Policy {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.policy
}

func (f *Fixture) config() keybroker.Config {
	f.tb.Helper()
	tlsConfig, err := hybridtls.ServerConfig(f.Certificate, hybridtls.ProfileDefault)
	check(f.tb, tlsConfig, err)
	verifier := f.verifier()
	return keybroker.Config{
		TLS: tlsConfig, Root: f.Root.Public(), Epochs: []keybroker.Epoch{{Statement: f.Epoch, Key: f.EpochKey}},
		Kinds: verifier.Kinds(), Appraiser: verifier, Policy: f.Policy,
		Secrets: f.Store, Audit: f.Audit, Now: f.Clock.Now, Logger: f.Logs.Logger(),
		Limits: keybroker.Limits{PerGuest: 1 << 20}, // tests are one guest, and ask a lot
	}
}

// verifier judges the software TEE, and another guest beside it if there is one.
func (f *Fixture) verifier() keybroker.KindAppraiser {
	f.tb.Helper()
	v, err := appraise.New(appraise.Options{})
	check(f.tb, v, err)
	check(f.tb, v, v.AllowSoftwareTEE(f.TEE.RootsPEM()))
	if f.guest == nil {
		return v
	}
	return f.guest.Verifier(f.tb, v)
}

func (f *Fixture) start(cfg keybroker.Config) {
	f.tb.Helper()
	b, err := keybroker.New(cfg)
	f.Broker = check(f.tb, b, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(f.tb, ln, err)
	f.Address = ln.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Broker.Serve(ctx, ln) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			f.tb.Errorf("test broker: %v", err)
		}
	})
	f.tb.Cleanup(f.stop)
}

// Stop ends the broker and waits for its connections.
func (f *Fixture) Stop() { f.stop() }

// ClientConfig is the configuration of an agent in the guest, with a key of its
// own and an empty epoch store.
func (f *Fixture) ClientConfig() client.Config {
	f.tb.Helper()
	c := client.Config{Address: f.Address, ServerName: ServerName, TLSRoots: f.TLSRoots,
		Roots: []identity.Public{f.Root.Public()}, Epochs: &Epochs{}, Collector: f.TEE,
		AgentKey: f.NewKey(identity.LevelEpoch), Claims: Claims()}
	if f.guest != nil {
		c.Collector, c.Kinds = f.guest, f.guest.Kinds()
	}
	return c
}

// Client returns a client of the broker; change may be nil.
func (f *Fixture) Client(change func(*client.Config)) *client.Client {
	f.tb.Helper()
	cfg := f.ClientConfig()
	if change != nil {
		change(&cfg)
	}
	c, err := client.New(cfg)
	return check(f.tb, c, err)
}

// Claims is what the guest states of itself.
func Claims() evidence.GuestClaims {
	return evidence.GuestClaims{ImageID: "test-image", AgentBuild: "test", MemoryLimit: 128 << 20}
}

// Records returns the audit log so far.
func (f *Fixture) Records() []audit.Record {
	f.tb.Helper()
	// A log that failed has nothing to flush.
	if err := f.Audit.Flush(context.Background()); err != nil && !errors.Is(err, audit.ErrUnavailable) && !errors.Is(err, audit.ErrClosed) {
		f.tb.Fatal(err)
	}
	var out []audit.Record
	err := audit.Iterate(f.AuditDir, func(e audit.Entry) bool {
		out = append(out, e.Record)
		return true
	})
	return check(f.tb, out, err)
}

// Clock is a clock that runs with real time plus an offset that tests move.
type Clock struct {
	mu     sync.Mutex
	offset time.Duration
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

// Move moves the clock by d, which may be negative.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// Epochs is an epoch store in memory.
type Epochs struct {
	mu      sync.Mutex
	highest protocol.Lowest
}

// Highest returns the highest epoch recorded of a root's broker.
func (e *Epochs) Highest(root [32]byte) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.highest.Of(root)
}

// Raise records an epoch of a root's broker.
func (e *Epochs) Raise(root [32]byte, epoch uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.highest = e.highest.Raised(root, epoch)
	return nil
}

// Logs collects log lines.
type Logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends a line.
func (l *Logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all lines.
func (l *Logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Logger returns a logger that writes here at every level.
func (l *Logs) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TEE returns the software TEE with Measurement. Its certificate chain and keys are the
// package's own, public ones: making RSA keys takes each test process seconds.
func TEE(tb testing.TB) *teesim.TEE {
	tb.Helper()
	tee, err := sharedTEE()
	return check(tb, tee, err)
}

//go:embed testdata/chain.pem
var publicChain []byte

// ChainDir is a directory with the chain of [TEE], for another software TEE that the broker believes.
func ChainDir(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	return check(tb, dir, writeChain(dir))
}

func writeChain(dir string) error {
	return os.WriteFile(filepath.Join(dir, "chain.pem"), publicChain, 0o600)
}

var sharedTEE = sync.OnceValues(func() (*teesim.TEE, error) {
	dir, err := os.MkdirTemp("", "anchorhold-teesim-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := writeChain(dir); err != nil {
		return nil, err
	}
	return teesim.New(teesim.Options{Dir: dir, Measurement: Measurement()})
})
