// Package workapi serves long work on the agent's local socket: federated rounds, keys of
// parties, jobs, and whole updates, whose steps are one request.
//
// A vector is streamed and never held in memory. A user sees and cancels only their own jobs.
// A failed update names the step that failed. The package trusts its caller to have checked
// the peer.
//
// The agent mounts a [Service] on its API.
package workapi

import (
	"context"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/decrypt"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Federation is a participant's side of federated rounds; *fed.Service is it.
type Federation interface {
	Round(ctx context.Context, id digest.RoundID) (fed.Round, error)
	Begin(ctx context.Context, id digest.RoundID) (fed.Round, error)
	Attested() (fed.Attested, error)
	Submit(ctx context.Context, uid uint32, id digest.RoundID, sub fed.Submission, body io.Reader) (jobs.Info, error)
}

// Decryption is a decrypting guest's side, and what was published; *decrypt.Service is it.
type Decryption interface {
	Decrypt(ctx context.Context, uid uint32, id digest.RoundID) (jobs.Info, error)
	Result(ctx context.Context, id digest.RoundID) (decrypt.Published, error)
	Values(ctx context.Context, uid uint32, id digest.RoundID, w io.Writer) error
}

// Party is the agent's part in keys that no one has whole; *party.Service is it.
type Party interface {
	Join(ctx context.Context, uid uint32, id digest.RoundID) (party.Status, error)
	Share(ctx context.Context, uid uint32, id digest.RoundID, active []int) (party.Status, error)
	Status(id digest.RoundID) (party.Status, error)
}

// Work is what long work needs: the queue, and the agent's sides in rounds, which are nil
// without aggregators.
type Work struct {
	Queue      *jobs.Queue
	Federation Federation
	Decryption Decryption
	Party      Party
}

// Service serves long work.
type Service struct {
	// Work is long work, or why there is none now; nil where none is configured.
	Work func() (Work, error)
	// Classifiers answer in an update; nil where there are none.
	Classifiers *oip.Service
	// UID is the peer's user.
	UID func(ctx context.Context) uint32
}

// Routes are the paths of long work.
func (s *Service) Routes() []localapi.Route {
	return []localapi.Route{
		{Method: "GET", Pattern: "/v1/fed/rounds/{round}", Name: "fed-round", Handle: s.showRound},
		{Method: "POST", Pattern: "/v1/fed/rounds/{round}/contributions", Name: "fed-contribute", Handle: s.contribute, Long: true},
		{Method: "POST", Pattern: "/v1/fed/rounds/{round}/updates", Name: "fed-update", Handle: s.update, Long: true},
		{Method: "POST", Pattern: "/v1/fed/rounds/{round}/decrypt", Name: "fed-decrypt", Handle: s.decrypt},
		{Method: "GET", Pattern: "/v1/fed/rounds/{round}/result", Name: "fed-result", Handle: s.showResult},
		{Method: "GET", Pattern: "/v1/fed/rounds/{round}/result/values", Name: "fed-values", Handle: s.sendValues},
		{Method: "POST", Pattern: "/v1/fed/keys/{round}/join", Name: "fed-key", Handle: s.joinKey},
		{Method: "POST", Pattern: "/v1/fed/keys/{round}/share", Name: "fed-key", Handle: s.shareKey},
		{Method: "GET", Pattern: "/v1/fed/keys/{round}", Name: "fed-key", Handle: s.showKey},
		{Method: "GET", Pattern: "/v1/jobs", Name: "jobs", Handle: s.listJobs},
		{Method: "GET", Pattern: "/v1/jobs/{id}", Name: "jobs", Handle: s.showJob},
		{Method: "DELETE", Pattern: "/v1/jobs/{id}", Name: "jobs", Handle: s.cancelJob},
		{Method: "POST", Pattern: "/v1/jobs/{id}/retry", Name: "jobs", Handle: s.retryJob},
	}
}

// bodyIdle bounds the wait for the next bytes of a vector.
const bodyIdle = 30 * time.Second

// After bodyGrace a body must have come with bodyRate bytes a second on average: one that
// creeps holds room on the disk, and one of few places to write.
const (
	bodyGrace = time.Minute
	bodyRate  = 4 << 10
)

func (s *Service) work() (Work, error) {
	if s.Work == nil {
		return Work{}, refusal.New(fed.ReasonNotConfigured, "this agent's configuration has neither federation nor proofs")
	}
	return s.Work()
}
