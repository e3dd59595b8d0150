// Package volumeapi serves generations of volumes to whoever opens them: POST /v1/volumes/{name}, which
// "anchorhold-agent volume open" asks as root (docs/protocol.md 17).
//
// The agent says to its broker what root says of a volume, under the lease whose key opens it. Root of this
// guest can read the agent's memory anyway; nobody else is heard, whatever group they are in. The package trusts
// the kernel's word on who asks, and the broker's on what is current. The agent mounts it on its API.
package volumeapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

// ReasonNotRoot is the refusal of everybody but root.
const ReasonNotRoot refusal.Reason = "volume-not-root"

// maxBody bounds a request: two states and what is between them.
const maxBody = 1 << 10

// Holding is what a volume holds, in the words of [generation.Opening].
type Holding struct {
	Confirmed   generation.State `json:"confirmed"`
	Unconfirmed generation.State `json:"unconfirmed"`
	Next        generation.State `json:"next"`
}

// Tell tells the broker what a volume holds, and returns the state that is current then.
type Tell func(ctx context.Context, h generation.Holding) (generation.State, error)

// Mount serves the agent's word on volumes on an API.
func Mount(api *localapi.Server, tell Tell, log *slog.Logger) {
	s := &service{api.UID, api.Bound, tell, log}
	api.Mount(localapi.Mount{
		Routes: []localapi.Route{{Method: "POST", Pattern: "/v1/volumes/{name}", Name: "volumes", Handle: s.opened}},
		Status: func(reason refusal.Reason) int {
			switch reason {
			case ReasonNotRoot:
				return http.StatusForbidden
			case generation.ReasonRolledBack:
				return http.StatusConflict
			}
			return 0
		},
	})
}

// service has of the server who a request's peer is, and the context that bounds an answer.
type service struct {
	uid   func(context.Context) uint32
	bound func(context.Context) (context.Context, context.CancelCauseFunc)
	tell  Tell
	log   *slog.Logger
}

func (s *service) opened(w http.ResponseWriter, r *http.Request) error {
	if uid := s.uid(r.Context()); uid != 0 {
		return refusal.New(ReasonNotRoot, "user %d speaks of volumes; only root may", uid)
	}
	name := generation.Class + "/" + r.PathValue("name")
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return err
	}
	var h Holding
	if len(body) > maxBody || strictjson.Decode(body, strictjson.Limits{Values: 16, List: 4}, &h) != nil || !generation.ValidVolume(name) {
		return localapi.BadRequest("", "volume-request", "the request is no statement about a volume")
	}
	ctx, done := s.bound(r.Context())
	defer done(nil)
	state, err := s.tell(ctx, generation.Holding{Volume: name, Confirmed: h.Confirmed, Unconfirmed: h.Unconfirmed, Next: h.Next})
	if err != nil {
		reason, _ := refusal.ReasonOf(err)
		s.log.Warn("volume refused", "volume", name, "reason", string(reason), "err", err)
		return err
	}
	if !h.Next.Zero() {
		s.log.Info("volume opened", "volume", name, "generation", state.Generation)
	}
	answer, err := json.Marshal(state)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(answer)
	return err
}
