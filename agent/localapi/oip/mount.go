package oip

import (
	"net/http"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Reasons of [Proofs] that have a status of their own. Package prove, which makes proofs, has
// the same; it stands beside this one, not below it.
const (
	reasonNotConfigured refusal.Reason = "proofs-not-configured"
	reasonNoKey         refusal.Reason = "proof-key-missing"
	reasonUnknown       refusal.Reason = "answer-unknown"
	reasonPending       refusal.Reason = "proof-pending"
)

// Mount serves the protocol on an API, of which it takes all that a service needs of one.
// Classifying returns nil, or why no classifier is served: a language model that cannot be
// is no reason.
func (s *Service) Mount(api *localapi.Server, classifying func() error) {
	s.Serving = func() error { return api.Open(classifying) }
	s.Keep, s.UID, s.Intake = api.Receipts().Put, api.UID, api.Intake()
	s.MaxBody = min(MaxBodyBytes, api.Intake().Budget.Limit()/2)
	api.Mount(localapi.Mount{Routes: s.Routes(), Status: status})
}

// MountNone serves the paths of classifiers and of their proofs where none is configured:
// they exist, and say what is missing.
func MountNone(api *localapi.Server) {
	refuse := func(reason refusal.Reason, detail string) func(http.ResponseWriter, *http.Request) error {
		return func(http.ResponseWriter, *http.Request) error {
			return &localapi.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: string(reason), Message: detail}
		}
	}
	none := refuse(classify.ReasonUnknown, "this agent's configuration has no classifiers; GET /v1/models lists its language models")
	api.Mount(localapi.Mount{Routes: []localapi.Route{
		{Pattern: "/v1/proofs/{id}", Name: "proofs", Handle: refuse(reasonNotConfigured, "this agent's configuration has no classifiers, and proofs are of their answers alone (classifiers, proofs.keys)")},
		{Pattern: "/v2", Name: "v2", Handle: none}, {Pattern: "/v2/", Name: "v2", Handle: none},
	}})
}

// status is that of a refusal of classifiers, of proofs, and of the queue that makes them.
func status(reason refusal.Reason) int {
	switch reason {
	case classify.ReasonInput:
		return http.StatusUnprocessableEntity
	case reasonPending:
		return http.StatusConflict
	case reasonNotConfigured, reasonUnknown, reasonNoKey:
		return http.StatusNotFound
	case spool.ReasonFull, spool.ReasonDisk:
		return http.StatusInsufficientStorage
	case jobs.ReasonFull, jobs.ReasonOwner, spool.ReasonOwner, spool.ReasonBusy:
		return http.StatusTooManyRequests
	}
	return 0
}
