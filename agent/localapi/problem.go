package localapi

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Stepped is an error of one step of several. Its code is the step's; the cause keeps its
// status, and its own code begins the message.
type Stepped interface {
	error
	// FailedStep is the step's reason and the cause.
	FailedStep() (refusal.Reason, error)
}

// problemOf turns any error into an Error that the client may know. A refusal's detail
// is about the agent's state, never about another request; an error that nobody
// foresaw is logged, and the client gets an opaque id to quote.
func (s *Server) problemOf(ctx context.Context, err error) *Error {
	if step, ok := errors.AsType[Stepped](err); ok {
		reason, cause := step.FailedStep()
		p := *s.problemOf(ctx, cause)
		p.Message, p.Code = p.Code+": "+p.Message, string(reason)
		return &p
	}
	if p, ok := errors.AsType[*Error](err); ok {
		return p
	}
	if refused, ok := errors.AsType[*refusal.Error](err); ok {
		return s.refused(refused)
	}
	id := rand.Text()[:12]
	if ctx.Err() == nil {
		s.cfg.Logger.Error("request failed", "id", id, "err", err)
	}
	return &Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal-error",
		Message: "internal error; see the agent's journal for id " + id}
}

// refused is a refusal with the status that its package gives it; without one it means that
// nothing is served now.
func (s *Server) refused(refused *refusal.Error) *Error {
	p := &Error{Status: s.statusOf(refused.Reason), Type: "invalid_request_error", Code: string(refused.Reason), Message: refused.Detail}
	switch p.Status {
	case 0:
		p.Status, p.RetryAfter, p.Type = http.StatusServiceUnavailable, 5, "service_unavailable_error"
		p.Message = "not serving: " + refused.Error()
	case http.StatusGatewayTimeout:
		p.Type = "timeout_error"
	case http.StatusForbidden:
		p.Type = "permission_error"
	}
	return p
}

// statusOf is the status of a refusal that a client can do something about by itself; 0 for
// those that mean that nothing is served now.
func (s *Server) statusOf(reason refusal.Reason) int {
	switch reason {
	case ReasonTimeout:
		return http.StatusGatewayTimeout
	case ReasonPeer:
		return http.StatusForbidden
	}
	for _, m := range s.mounts {
		if m.Status != nil {
			if status := m.Status(reason); status != 0 {
				return status
			}
		}
	}
	return 0
}
