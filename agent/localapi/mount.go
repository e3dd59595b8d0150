package localapi

import (
	"context"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Route is one path of the API. A handler that returns an error has written nothing, or a
// stream.
type Route struct {
	Method, Pattern string
	Name            string // metric label
	Handle          func(http.ResponseWriter, *http.Request) error
	// A Long one has no time limit: its body may be any length and must keep coming.
	Long bool
}

// Mount is a part of the API that another package serves.
type Mount struct {
	Routes []Route
	// Status is the HTTP status of a refusal that a client can do something about by
	// itself, or 0; optional.
	Status func(refusal.Reason) int
	// Metrics writes more of them in Prometheus' text format; optional.
	Metrics func(io.Writer)
	// Gauges are more figures for /metrics; optional.
	Gauges func() []Gauge
}

// Mount adds a part. All parts are mounted before Serve.
func (s *Server) Mount(m Mount) { s.mounts = append(s.mounts, m) }

// Intake lets requests in: all parts share it.
func (s *Server) Intake() *Intake { return s.intake }

// Largest is how much of the memory of all one request gets, in bytes.
func (s *Server) Largest() int64 { return largest(s.cfg.Memory) }

// Receipts are those that are kept for the users who asked.
func (s *Server) Receipts() *receipt.Store { return s.receipts }

// UID is the user of a request's peer, who is allowed, hence there.
func (s *Server) UID(ctx context.Context) uint32 {
	p, _ := peerOf(ctx)
	return p.uid
}

// Member says whether a request's peer is a member of a group, by any of its groups.
func (s *Server) Member(ctx context.Context) func(gid uint32) bool {
	p, ok := peerOf(ctx)
	return func(gid uint32) bool { return ok && (listen.Peer{GID: p.gid, Groups: p.groups}).In(gid) }
}

// Open returns nil, or why nothing of a part is served: the server is about to end, or
// the refusal.
func (s *Server) Open(refused func() error) error {
	select {
	case <-s.draining:
		return refusal.New(ReasonDraining, "the agent is stopping")
	default:
		return refused()
	}
}

// Serving is the gate's word on language models, and that the server is not about to end.
func (s *Server) Serving() error { return s.Open(s.cfg.Gate.Serving) }

// Bound is a context that ends with the request, with the time for draining, or when
// its caller cancels it, which every caller does.
func (s *Server) Bound(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.base, func() { cancel(context.Cause(s.base)) })
	return ctx, func(why error) { stop(); cancel(why) }
}
