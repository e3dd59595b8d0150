package localapi

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/federate"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// problem is an error as clients of this API know it.
type problem struct {
	status     int
	retryAfter int // seconds; 0 for none
	Message    string
	Type       string
	Param      string
	Code       string
}

// Error is the message.
func (p *problem) Error() string { return p.Message }

// badRequest is the client's mistake in one parameter.
func badRequest(param, code, message string) *problem {
	return &problem{status: http.StatusBadRequest, Message: message, Type: "invalid_request_error", Param: param, Code: code}
}

// MarshalJSON writes the error object: param and code are null when empty.
func (p *problem) MarshalJSON() ([]byte, error) {
	null := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	var body struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	body.Error.Message, body.Error.Type = p.Message, p.Type
	body.Error.Param, body.Error.Code = null(p.Param), null(p.Code)
	return json.Marshal(body)
}

// problemOf turns any error into what the client may know. A refusal's detail
// is about the agent's state, never about another request; an error that nobody
// foresaw is logged, and the client gets an opaque id to quote.
func (s *Server) problemOf(ctx context.Context, err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var refusal *evidence.Refusal
	if errors.As(err, &refusal) {
		switch refusal.Reason {
		case ReasonTimeout:
			return &problem{status: http.StatusGatewayTimeout, Type: "timeout_error", Code: string(refusal.Reason), Message: refusal.Detail}
		case ReasonPeer:
			return &problem{status: http.StatusForbidden, Type: "permission_error", Code: string(refusal.Reason), Message: refusal.Detail}
		}
		if status, ok := statuses[refusal.Reason]; ok {
			return &problem{status: status, Type: "invalid_request_error", Code: string(refusal.Reason), Message: refusal.Detail}
		}
		return &problem{status: http.StatusServiceUnavailable, retryAfter: 5, Type: "service_unavailable_error",
			Code: string(refusal.Reason), Message: "not serving: " + refusal.Error()}
	}
	id := rand.Text()[:12]
	if ctx.Err() == nil {
		s.cfg.Logger.Error("request failed", "id", id, "err", err)
	}
	return &problem{status: http.StatusInternalServerError, Type: "server_error", Code: "internal-error",
		Message: "internal error; the agent's journal has it under id " + id}
}

// statuses are those of refusals that a client can do something about by itself.
var statuses = map[evidence.Reason]int{
	federate.ReasonVector:        http.StatusUnprocessableEntity,
	federate.ReasonNorm:          http.StatusUnprocessableEntity,
	federate.ReasonOver:          http.StatusConflict,
	federate.ReasonNotConfigured: http.StatusNotFound,
	jobs.ReasonFull:              http.StatusTooManyRequests,
	jobs.ReasonState:             http.StatusConflict,
	jobs.ReasonUnknown:           http.StatusNotFound,
	"round-unknown":              http.StatusNotFound,
	"round-not-closed":           http.StatusNotFound,
	"result-not-published":       http.StatusNotFound,
}

// writeProblem sends an error as the whole response.
func writeProblem(w http.ResponseWriter, p *problem) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	writeJSON(w, p.status, p)
}

// writeJSON sends a value. A failed write means that the client has gone.
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "{}", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
