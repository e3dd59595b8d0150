package keybroker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Appraiser turns evidence into claims or a *refusal.Error. It must compare
// want with the report's REPORT_DATA in constant time, judge all validity
// periods by now, and may be called from several goroutines.
type Appraiser interface {
	Appraise(ctx context.Context, env evidence.Envelope, challenge [64]byte, now time.Time) (evidence.Claims, error)
}

// KindAppraiser is an appraiser that names the kinds of evidence it judges, at least one.
type KindAppraiser interface {
	Appraiser
	Kinds() []evidence.Kind
}

// Secrets holds the keys to release. Stat describes a version without opening
// it; version 0 is the newest that may be released. ForFile describes the version that
// opens a sealed file, or says keystore.ErrNotFound. All may be called from several
// goroutines.
type Secrets interface {
	ForFile(ctx context.Context, name string, file keystore.File) (keystore.Info, error)
	Stat(ctx context.Context, name string, version uint64) (keystore.Info, error)
	Get(ctx context.Context, name string, version uint64) (*keybuf.Buffer, keystore.Info, error)
}

// AuditLog records decisions.
type AuditLog interface {
	// AppendAll returns when all records are on stable storage, in one step; after
	// an error they may or may not be there.
	AppendAll(ctx context.Context, records ...audit.Record) ([]audit.Leaf, error)
	// AppendLater puts a record in line from which nothing follows. It is durable
	// soon afterwards; a crash before then loses it.
	AppendLater(ctx context.Context, r audit.Record) error
	// AppendBounded records a refusal within the budget of its source; what is
	// over the budget is counted instead.
	AppendBounded(ctx context.Context, source string, proven bool, r audit.Record) (recorded bool, err error)
	// KeepInput keeps the document of what a policy was asked, and returns the digest that the
	// decision's record names. It never waits, and what it loses refuses nothing.
	KeepInput(at time.Time, document []byte, refused bool) digest.Digest
}

// Limits bound what peers can make the broker do. The zero value of each field
// means its default.
type Limits struct {
	// Listen bounds connections: by default 4096 in all, of which 2048 have not
	// been attested, and 512 of one source. A connection is attested when its
	// evidence was judged and the policy grants something.
	Listen listen.Limits
	// Kept is how many connections of attested guests are kept for their renewals
	// (docs/protocol.md 5.11); 0 keeps none, and has no default. They live in what others
	// leave of connections and memory, and go first.
	Kept int
	// Verifications at the same time, default the number of CPUs; more wait.
	Verifications int
	// Handshake bounds the TLS handshake, default 10 s.
	Handshake time.Duration
	// Step bounds the wait for each message but M3, from its first byte to its last,
	// default 10 s.
	Step time.Duration
	// NonceWindow bounds the wait for M3, default 30 s (protocol.MinNonceWindow
	// to protocol.MaxNonceWindow).
	NonceWindow time.Duration
	// Exchange bounds an exchange, the first one with its handshake, default 90 s.
	Exchange time.Duration
	// Drain is how long exchanges under way may go on after Serve's context
	// ended, default 5 s.
	Drain time.Duration
	// Lease is the longest lease whatever the policy says, default and at most
	// protocol.MaxLease.
	Lease time.Duration
	// PerGuest is how many keys one guest may ask for in PaceWindow, by default 120 in ten
	// minutes; more are refused as broker-busy.
	PerGuest int
}

// PaceWindow is the time that Limits.PerGuest is for.
const PaceWindow = 10 * time.Minute

func orDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (l *Limits) complete() error {
	l.Listen = l.Listen.Or(listen.Limits{Connections: 4096, PerSource: 512})
	orDefault(&l.Verifications, runtime.GOMAXPROCS(0))
	orDefault(&l.Handshake, 10*time.Second)
	orDefault(&l.Step, 10*time.Second)
	orDefault(&l.NonceWindow, 30*time.Second)
	orDefault(&l.Exchange, 90*time.Second)
	orDefault(&l.Drain, 5*time.Second)
	orDefault(&l.Lease, protocol.MaxLease)
	orDefault(&l.PerGuest, 120)
	if err := l.Listen.Check(); err != nil {
		return err
	}
	switch {
	case l.Verifications < 0 || l.Handshake < 0 || l.Step < 0 || l.Exchange < 0 || l.Drain < 0 || l.PerGuest < 0 || l.Kept < 0:
		return errors.New("a limit is negative")
	case l.NonceWindow < protocol.MinNonceWindow || l.NonceWindow > protocol.MaxNonceWindow:
		return fmt.Errorf("nonce window %s is not between %s and %s", l.NonceWindow, protocol.MinNonceWindow, protocol.MaxNonceWindow)
	case l.Lease < time.Second || l.Lease > protocol.MaxLease:
		return fmt.Errorf("lease limit %s is not between 1s and %s", l.Lease, protocol.MaxLease)
	}
	return nil
}

// Config is everything that a broker is made of. All fields without a stated
// default are required.
type Config struct {
	// TLS is made by hybridtls.ServerConfig.
	TLS *tls.Config
	// Root is the public half of the broker's root identity.
	Root identity.Public
	// Epochs are the epoch keys that are held now (SetEpochs replaces them).
	Epochs []Epoch
	// MinEpoch is the highest minimum of all statements that were ever held, of those too
	// that are gone since.
	MinEpoch uint64
	// Kinds are the kinds of evidence that Appraiser knows.
	Kinds []evidence.Kind
	// Appraiser judges evidence.
	Appraiser Appraiser
	// Policy returns the policy in force, or nil if there is none; then
	// everything is refused. It is asked once for each exchange.
	Policy func() *policy.Policy
	// Classes are the resource classes that this broker serves; empty means all.
	Classes []string
	// Secrets holds the keys.
	Secrets Secrets
	// Audit records every decision.
	Audit AuditLog
	// Gate may refuse a resource that the policy allows, for a reason that only the
	// broker's own state knows, such as a federated round that is still open or does not
	// name the guest. guest is the certificate that would be signed, without the keys'
	// versions and subjects: who it is, and what the policy gives with each key. It is
	// asked when the place for the verification is free again, and bounds its own time.
	// Optional: without it the policy decides alone.
	Gate func(ctx context.Context, resource string, guest *protocol.LeaseCertificate) error
	// Ended refuses an agent key (by its ID), or a processor (by the SHA-256 of its chip id),
	// that an operator ended. What it allows stays allowed until done is called, which
	// waits for the record of the release. A zero chip is a processor that nobody knows: it may be one that was
	// ended. Optional.
	Ended func(agent, chip digest.Digest) (done func(), err error)
	// Processor names the processor that a lease was granted to, as Ended takes it; zero if this broker did not
	// grant the lease. Optional: without it a volume is opened from a processor that nobody knows.
	Processor func(ctx context.Context, lease digest.LeaseID) ([32]byte, error)
	// Volumes answers openings of volumes. Optional: without it no guest can speak of them.
	Volumes Volumes
	// Now is the broker's clock; default time.Now.
	Now func() time.Time
	// NotEarlier is a time that has already been, such as that of the last audit
	// record: the clock must not be before it.
	NotEarlier time.Time
	// Limits bound the peers.
	Limits Limits
	// Logger receives what an operator cares about.
	Logger *slog.Logger
}

func (c *Config) check() error {
	switch {
	case c.TLS == nil:
		return errors.New("broker: a TLS configuration is required")
	case c.Root.IsZero() || c.Root.Level() != identity.LevelRoot:
		return errors.New("broker: the root identity is missing or not a root key")
	case len(c.Kinds) == 0 || c.Appraiser == nil:
		return errors.New("broker: an appraiser and its kinds of evidence are required")
	case c.Policy == nil || c.Secrets == nil || c.Audit == nil:
		return errors.New("broker: policy, key store and audit log are required")
	case c.Logger == nil:
		return errors.New("broker: a logger is required")
	}
	return nil
}

// Broker serves the key release protocol.
type Broker struct {
	cfg    Config
	clock  clock
	epochs atomic.Pointer[heldEpochs]
	agents agentKeys
	pace   *pace
	verify chan struct{}                   // one token for each verification under way
	guests atomic.Pointer[listen.Listener] // set by Serve
	quiet  *slog.Logger                    // for lines that strangers cause
}

// New checks the configuration and returns a broker that serves nothing yet.
func New(cfg Config) (*Broker, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := cfg.Limits.complete(); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Volumes != nil {
		cfg.TLS = hybridtls.Also(cfg.TLS, hybridtls.ALPNVolumes)
	}
	b := &Broker{cfg: cfg, verify: make(chan struct{}, cfg.Limits.Verifications), pace: newPace(cfg.Limits.PerGuest, PaceWindow), quiet: listen.Sparse(cfg.Logger)}
	b.clock.now = cfg.Now
	b.clock.highest = protocol.TimeOf(cfg.NotEarlier)
	if err := b.SetEpochs(cfg.MinEpoch, cfg.Epochs); err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	return b, nil
}

// Serve accepts connections until the context ends, and returns when all of
// them have ended. It closes the listener. The error is nil after the context
// ended and the listener's otherwise.
func (b *Broker) Serve(ctx context.Context, ln net.Listener) error {
	// Connections outlive ctx by Limits.Drain, so that a release that is already
	// in the audit log usually still reaches its guest.
	conns, endConns := context.WithCancel(context.WithoutCancel(ctx))
	defer endConns()
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(b.cfg.Limits.Drain, endConns)
		context.AfterFunc(conns, func() { timer.Stop() })
	})
	defer stop()
	defer ln.Close()

	guests, err := listen.New(ln, listen.Config{Limits: b.cfg.Limits.Listen, Kept: b.cfg.Limits.Kept, KeptBytes: keptBytes, Logger: b.cfg.Logger})
	if err != nil {
		return err
	}
	b.guests.Store(guests)
	context.AfterFunc(ctx, func() { guests.Close() })
	var wg sync.WaitGroup
	defer wg.Wait()
	defer guests.Close() // ends those that are kept
	for {
		raw, err := guests.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("accept: %w", err)
		}
		wg.Go(func() { b.handle(conns, raw, &wg) })
	}
}

// Connections says what guests hold, and what was done about it.
func (b *Broker) Connections() listen.Stats {
	if l := b.guests.Load(); l != nil {
		return l.Stats()
	}
	return listen.Stats{}
}

// DropKept ends the connections that are kept for renewals, and keeps none of those that
// are open now: guests are to see another TLS certificate.
func (b *Broker) DropKept() {
	if l := b.guests.Load(); l != nil {
		l.DropKept()
	}
}

func peerOf(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return "unknown"
}

// logHandshake says in one sentence why a peer could not connect.
func (b *Broker) logHandshake(ctx context.Context, peer string, err error) {
	if refused, ok := errors.AsType[*refusal.Error](err); ok {
		b.quiet.LogAttrs(ctx, slog.LevelWarn, "connection refused", slog.String("peer", peer),
			slog.String("reason", string(refused.Reason)), slog.String("why", refused.Detail), slog.Any("offered", hybridtls.Offered(err)))
		return
	}
	b.quiet.LogAttrs(ctx, slog.LevelInfo, "handshake failed", slog.String("peer", peer), slog.Any("err", err))
}
