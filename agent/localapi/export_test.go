package localapi

import (
	"context"
	"net/http"
)

// The local API as its tests see it from outside, together with the parts mounted on it.

// ProblemOf is what a client is told of an error.
func (s *Server) ProblemOf(ctx context.Context, err error) *Error { return s.problemOf(ctx, err) }

// Routes are all paths.
func (s *Server) Routes() []Route { return s.routes() }

// Handler serves them.
func (s *Server) Handler() http.Handler { return s.handler() }

// Quotes is the line of evidence.
func (s *Server) Quotes() *Line { return s.quotes }

// Settings is the configuration with its defaults.
func (s *Server) Settings() Config { return s.cfg }

// Allowed says whether a context's peer is heard.
func (s *Server) Allowed(ctx context.Context) bool { return s.allowed(ctx) }

// WithPeer makes a connection and its peer known to requests.
var WithPeer = withPeer

// Attestation is evidence for a nonce of a caller.
type Attestation = attestation

// AsUser is a request of a user.
func AsUser(ctx context.Context, uid uint32) context.Context {
	return context.WithValue(ctx, peerKey{}, peer{uid: uid})
}
