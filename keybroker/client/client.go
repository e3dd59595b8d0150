package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// defaultTimeout bounds one exchange when the caller's context has no deadline:
// long enough for a slow report device, short enough to retry within a lease.
const defaultTimeout = 30 * time.Second

// Collector makes evidence for a challenge. guest/snp and the
// software TEE implement it. Collect may block on a device; it must return when
// the context ends. It is called at most once for each exchange.
type Collector interface {
	Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error)
}

// EpochStore remembers the highest epoch that this guest has seen of each root's broker,
// by the root's ID. Raise returns after the value is durable, never lowers it, and moves
// no other root's. Both methods may be called from several goroutines.
type EpochStore interface {
	Highest(root [32]byte) uint64
	Raise(root [32]byte, epoch uint64) error
}

// Config says whom to ask, whom to believe and what to prove.
type Config struct {
	// Address is the broker's host:port.
	Address string
	// ServerName is the name in the broker's TLS certificate.
	ServerName string
	// TLSRoots may sign the broker's TLS certificate. Required: the system's
	// roots are never used.
	TLSRoots *x509.CertPool
	// Profile selects the hybrid groups.
	Profile hybridtls.Profile
	// Roots are the broker roots of the measured image. Required.
	Roots []identity.Public
	// MinEpoch is the measured floor of the epoch, of every root's broker.
	MinEpoch uint64
	// Epochs remembers the highest epochs seen. Required.
	Epochs EpochStore
	// Collector makes evidence. Required.
	Collector Collector
	// Kinds are the kinds of evidence that Collector makes, best first; empty
	// means SEV-SNP alone.
	Kinds []evidence.Kind
	// AgentKey is AK, made in this guest for this boot. Required. It stays the caller's.
	AgentKey *identity.Private
	// Claims is what this guest states of itself.
	Claims evidence.GuestClaims
	// Clock, if set, says what the kernel counts time with now, in the place of what
	// Claims says: a kernel may leave a clock that it finds unstable.
	Clock func() evidence.ClockSource
	// Permit, if set, says what to ask and to report about restarts without the broker after
	// an exchange; nil is nothing.
	Permit func(*Lease) *PermitAsk
}

func (c *Config) check() error {
	switch {
	case c.Address == "" || c.ServerName == "":
		return errors.New("broker client: address and server name are required")
	case c.TLSRoots == nil:
		return errors.New("broker client: TLS roots are required")
	case len(c.Roots) == 0:
		return errors.New("broker client: at least one broker root identity is required")
	case c.Epochs == nil || c.Collector == nil || c.AgentKey == nil:
		return errors.New("broker client: epoch store, collector and agent key are required")
	}
	for i, root := range c.Roots {
		if root.IsZero() || root.Level() != identity.LevelRoot {
			return fmt.Errorf("broker client: root identity %d is not a root key", i)
		}
	}
	if c.AgentKey.Public().Level() != identity.LevelEpoch {
		return errors.New("broker client: the agent key has the wrong level")
	}
	return nil
}

// Client asks one broker for keys. It may be used by several goroutines.
type Client struct {
	cfg Config

	mu sync.Mutex
	// Guarded by mu: the acquisition that failed last, the connection that is kept for the
	// next one, and how often Close was called.
	pending acquisition
	kept    *line
	closes  int
}

// acquisition gives all attempts at the same resources one idempotency ID until
// one of them succeeds (docs/protocol.md 5.5).
type acquisition struct {
	resources []string
	id        digest.ExchangeID
}

// New checks the configuration and returns a client. It does not connect.
func New(cfg Config) (*Client, error) {
	if len(cfg.Kinds) == 0 {
		cfg.Kinds = []evidence.Kind{evidence.KindSNP}
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Roots, cfg.Kinds = slices.Clone(cfg.Roots), slices.Clone(cfg.Kinds)
	if _, err := cfg.Claims.Marshal(); err != nil {
		return nil, fmt.Errorf("broker client: guest claims: %w", err)
	}
	return &Client{cfg: cfg}, nil
}

// Acquire runs one exchange, M1 to M7, and returns the keys of all the named
// resources or none. Of a resource for which sealed names files, the key is the one that
// opens one of them, if the broker has it; else the newest. It leaves the connection open for the next Acquire until the
// lease ends or Close is called; of several at a time one can use it. The caller owns the lease and wipes it. A failure is an
// *Error.
func (c *Client) Acquire(ctx context.Context, resources []string, sealed ...protocol.Sealed) (*Lease, error) {
	names := slices.Clone(resources)
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 || len(names) > protocol.MaxResources || !allValid(names) {
		return nil, &Error{Reason: protocol.ReasonMalformedMessage, Err: fmt.Errorf("got %d resources: too many, none, or one with an invalid name", len(names))}
	}
	ctx, cancel := context.WithTimeout(ctx, defaultTimeout)
	defer cancel()
	id := c.idempotency(names)
	lease, err := c.exchange(ctx, names, sealed, id)
	if err != nil {
		return nil, err
	}
	c.succeeded(id)
	return lease, nil
}

func allValid(names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !protocol.ValidResource(n) })
}

// idempotency returns the ID of the acquisition that this attempt belongs to.
func (c *Client) idempotency(names []string) digest.ExchangeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.pending.resources, names) {
		c.pending = acquisition{names, newID()}
	}
	return c.pending.id
}

func (c *Client) succeeded(id digest.ExchangeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending.id == id {
		c.pending = acquisition{}
	}
}
