package localapi

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/localapi/problem"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// problemOf turns any error into what the client may know. A refusal's detail
// is about the agent's state, never about another request; an error that nobody
// foresaw is logged, and the client gets an opaque id to quote.
func (s *Server) problemOf(ctx context.Context, err error) *problem.Error {
	var step *fed.StepError
	if errors.As(err, &step) {
		p := *s.problemOf(ctx, step.Err)
		p.Message, p.Code = p.Code+": "+p.Message, string(step.Step)
		return &p
	}
	var p *problem.Error
	if errors.As(err, &p) {
		return p
	}
	var refusal *refusal.Error
	if errors.As(err, &refusal) {
		switch refusal.Reason {
		case ReasonTimeout:
			return &problem.Error{Status: http.StatusGatewayTimeout, Type: "timeout_error", Code: string(refusal.Reason), Message: refusal.Detail}
		case ReasonPeer, party.ReasonNotYours:
			return &problem.Error{Status: http.StatusForbidden, Type: "permission_error", Code: string(refusal.Reason), Message: refusal.Detail}
		}
		if status := statusOf(refusal.Reason); status != 0 {
			return &problem.Error{Status: status, Type: "invalid_request_error", Code: string(refusal.Reason), Message: refusal.Detail}
		}
		return &problem.Error{Status: http.StatusServiceUnavailable, RetryAfter: 5, Type: "service_unavailable_error",
			Code: string(refusal.Reason), Message: "not serving: " + refusal.Error()}
	}
	id := rand.Text()[:12]
	if ctx.Err() == nil {
		s.cfg.Logger.Error("request failed", "id", id, "err", err)
	}
	return &problem.Error{Status: http.StatusInternalServerError, Type: "server_error", Code: "internal-error",
		Message: "internal error; the agent's journal has it under id " + id}
}

// statusOf is the status of a refusal that a client can do something about by
// itself; 0 for those that mean that nothing is served now.
func statusOf(reason refusal.Reason) int {
	switch reason {
	case fed.ReasonVector, fed.ReasonNorm, jobs.ReasonJob, party.ReasonActive, classify.ReasonInput:
		return http.StatusUnprocessableEntity
	case fed.ReasonOver, fed.ReasonContributed, jobs.ReasonState, party.ReasonUsed, party.ReasonNotReady, party.ReasonTimeout, prove.ReasonPending:
		return http.StatusConflict
	case fed.ReasonNotConfigured, jobs.ReasonUnknown, party.ReasonUnknown, party.ReasonNotNamed, prove.ReasonNotConfigured, prove.ReasonUnknown, prove.ReasonNoKey, "setup-unknown", "round-unknown", "round-not-closed", "result-not-published":
		return http.StatusNotFound
	case spool.ReasonFull, spool.ReasonDisk:
		return http.StatusInsufficientStorage
	case jobs.ReasonFull, jobs.ReasonOwner, spool.ReasonOwner, spool.ReasonBusy:
		return http.StatusTooManyRequests
	}
	return 0
}
