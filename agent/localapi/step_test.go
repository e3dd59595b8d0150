package localapi_test

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// everything is a server with every part mounted.
func everything(t *testing.T) *localapi.Server {
	t.Helper()
	return start(t, func(c *setup) { c.Logger = slog.New(slog.DiscardHandler) }).server
}

// What is full is told as such: in all, or by this user.
func TestFullnessHasItsStatus(t *testing.T) {
	for reason, want := range map[refusal.Reason]int{spool.ReasonFull: 507, spool.ReasonDisk: 507, spool.ReasonOwner: 429, spool.ReasonBusy: 429, jobs.ReasonFull: 429, jobs.ReasonOwner: 429} {
		s := everything(t)
		if p := s.ProblemOf(t.Context(), refusal.New(reason, "full")); p.Status != want || p.Code != string(reason) {
			t.Errorf("%s: %+v, want %d", reason, p, want)
		}
	}
}

// Another user's share is forbidden, and not a thing to try again later.
func TestAnothersShareIsForbidden(t *testing.T) {
	s := everything(t)
	if p := s.ProblemOf(t.Context(), refusal.New(party.ReasonNotYours, "another user joined")); p.Status != http.StatusForbidden || p.Code != "share-not-yours" {
		t.Errorf("%+v", p)
	}
}

// A step that failed is the code; the cause keeps its status, and its own code is told.
func TestAStepKeepsItsCause(t *testing.T) {
	s := everything(t)
	for name, c := range map[string]struct {
		cause  error
		status int
		says   string
	}{
		"a refusal":            {refusal.New(fed.ReasonNorm, "norm 2"), http.StatusUnprocessableEntity, "norm-exceeded: norm 2"},
		"the client's mistake": {localapi.BadRequest("weight", "vector-invalid", "a weight"), http.StatusBadRequest, "vector-invalid: a weight"},
		"nothing is served":    {refusal.New("attesting", "not yet"), http.StatusServiceUnavailable, "attesting: "},
		"nobody foresaw it":    {errors.New("secret"), http.StatusInternalServerError, "internal-error: "},
	} {
		p := s.ProblemOf(t.Context(), &fed.StepError{Step: fed.ReasonGradient, Err: c.cause})
		if p.Code != string(fed.ReasonGradient) || p.Status != c.status || !strings.HasPrefix(p.Message, c.says) || strings.Contains(p.Message, "secret") {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
