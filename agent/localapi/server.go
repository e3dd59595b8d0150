// Package localapi is the agent's HTTP API on a unix socket: who may connect, under which
// limits, how errors look, and the routes that are the agent's own. Completions, classifiers
// and long work are mounted on it ([Server.Mount]); it imports none of them.
//
// Only peers on the allow list are served, by the uid and gid that the kernel reports. One
// user never sees another's receipt, and neither prompts nor answers reach a log, a metric or
// another request's error. The size of a body, the queue, concurrency, memory, time and slow
// readers are all bounded. Every error is an [Error] with a stable code.
//
// The package trusts the kernel's peer credentials, and relies on the mounted parts to admit
// their requests through the [Intake] and to answer nothing outside a lease. Evidence for a
// caller's nonce is made under a label of its own, so that the socket cannot be used to answer
// a broker's challenge.
package localapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Reasons of this package, which are also the codes of its error objects.
const (
	ReasonPeer     refusal.Reason = "peer-not-allowed"
	ReasonDraining refusal.Reason = "draining"
	ReasonTimeout  refusal.Reason = "request-timeout"
)

// Gate says whether the agent may serve. Refusals are *refusal.Error, whose reason is the
// client's error code.
type Gate interface {
	// Serving returns nil, or why no language model is served: attesting, lease-expired...
	Serving() error
}

// Attester makes this guest's evidence.
type Attester interface {
	// Collect returns evidence over the REPORT_DATA.
	Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error)
	// AgentKeyID is the identity of the agent key in use.
	AgentKeyID() [32]byte
}

// Gauge is a figure of the agent for /metrics: a name without labels.
type Gauge struct {
	Name  string // such as "anchorhold_lease_remaining_seconds"
	Help  string
	Value float64
}

// Config is what a server needs. Zero limits take the defaults named; zero lists
// allow nobody.
type Config struct {
	Gate     Gate
	Attester Attester
	Logger   *slog.Logger
	// AllowedUIDs and members of AllowedGIDs may connect, by any of a peer's groups.
	AllowedUIDs, AllowedGIDs []uint32
	Concurrent               int // answers at the same time; 1
	Queue                    int // requests that may wait; 16. Negative: none
	// Models says of each language model how many answers it makes at a time, and has the empty name for
	// classifiers, which take slots of models, if there are any. With nil, requests are not told apart.
	Models      func() []Slots
	Memory      int64          // of all requests together, in bytes; 4 MiB
	Limits      listen.Limits  // of connections
	Receipts    receipt.Limits // of the receipts that are kept
	RequestTime time.Duration  // one request, waiting included; 5 minutes
	WriteTime   time.Duration  // all writes of an answer together, and a second for each MiB; 10 seconds
	DrainTime   time.Duration  // for answers under way at the end; 20 seconds
	Status      func() any     // JSON of /v1/status, optional; no secrets
	Gauges      func() []Gauge // more metrics, optional
	OnPermit    func() bool    // whether the agent serves on a permit, without a lease; optional
}

// Server is the local API.
type Server struct {
	cfg      Config
	intake   *Intake // completions, classifiers and updates
	quotes   *Line   // evidence: the device makes one at a time
	receipts *receipt.Store
	metrics  *metrics
	mounts   []Mount         // complete before Serve, read only after
	base     context.Context // ends when draining is over
	cut      context.CancelCauseFunc
	draining chan struct{}
}

// New checks the configuration and makes a server.
func New(cfg Config) (*Server, error) {
	if cfg.Gate == nil || cfg.Attester == nil || cfg.Logger == nil {
		return nil, errors.New("local API: gate, attester and logger are required")
	}
	if len(cfg.AllowedUIDs) == 0 && len(cfg.AllowedGIDs) == 0 {
		return nil, errors.New("local API: no user or group is allowed to connect")
	}
	setDefault(&cfg.Concurrent, 1)
	setDefault(&cfg.Queue, 16)
	if err := cfg.Limits.Check(); err != nil {
		return nil, fmt.Errorf("local API: socket.limits: %w", err)
	}
	setDefault(&cfg.Memory, 4<<20)
	setDefault(&cfg.RequestTime, 5*time.Minute)
	setDefault(&cfg.WriteTime, 10*time.Second)
	setDefault(&cfg.DrainTime, 20*time.Second)
	s := &Server{
		cfg:      cfg,
		intake:   newIntake(&cfg),
		quotes:   NewLine(1, 16),
		receipts: receipt.NewStore(cfg.Receipts),
		metrics:  newMetrics(),
		draining: make(chan struct{}),
	}
	s.base, s.cut = context.WithCancelCause(context.Background())
	return s, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// newIntake makes what lets requests in.
func newIntake(cfg *Config) *Intake {
	places := max(cfg.Queue, 0)
	line := NewLine(cfg.Concurrent, places)
	line.memory = cfg.Memory / 2
	if cfg.Models != nil {
		line.models = cfg.Models
	}
	return &Intake{Budget: NewBudget(cfg.Memory, largest(cfg.Memory), cfg.Concurrent+places, Grace), Line: line}
}

// largest is how much one request gets of the memory of all. The rest is never one user's.
func largest(memory int64) int64 { return memory - memory/8 }

// Serve answers on the listener until ctx ends, then drains: new requests are
// refused, those under way have DrainTime to end. It closes the listener,
// returns when all its goroutines ended, and is called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	bounded, err := listen.New(l, listen.Config{Limits: s.cfg.Limits, Allowed: s.allows, Logger: s.cfg.Logger})
	if err != nil {
		return errors.Join(fmt.Errorf("local API: %w", err), l.Close())
	}
	h := bounded.Server(s.handler())
	h.ConnContext = withPeer
	h.BaseContext = func(net.Listener) context.Context { return s.base }
	h.IdleTimeout = 2 * time.Minute
	failed := make(chan error, 1)
	go func() { failed <- h.Serve(bounded) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
		close(s.draining)
		err = s.drain(ctx, h)
		<-failed
	}
	s.cut(refusal.New(ReasonDraining, "the agent is stopping"))
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("local API: %w", err)
	}
	return nil
}

// drain lets answers under way end, then cuts them off.
func (s *Server) drain(ctx context.Context, h *http.Server) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTime)
	defer cancel()
	err := h.Shutdown(limited)
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.cfg.Logger.Warn("requests cut off: they did not end within the drain time", "time", s.cfg.DrainTime)
	s.cut(refusal.New(ReasonDraining, "the agent is stopping"))
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.WriteTime)
	defer cancelLast()
	if err := h.Shutdown(last); err != nil {
		return errors.Join(err, h.Close())
	}
	return nil
}
