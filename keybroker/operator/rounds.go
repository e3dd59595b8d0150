package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// rounds is the service, and the round of the path if there is one.
func (r *request) rounds() (*rounds.Service, digest.RoundID, error) {
	if r.s.opts.Rounds == nil {
		return nil, digest.RoundID{}, &Error{http.StatusNotFound, "rounds-not-configured", "the broker's configuration has no rounds section"}
	}
	if r.PathValue("id") == "" {
		return r.s.opts.Rounds, digest.RoundID{}, nil
	}
	id, err := digest.ParseID[digest.Round](r.PathValue("id"))
	if err != nil {
		return nil, id, &Error{http.StatusNotFound, string(rounds.ReasonUnknown), "a round id must have 32 hexadecimal digits"}
	}
	return r.s.opts.Rounds, id, nil
}

// roundError keeps the reason code of a refusal.
func roundError(err error) error {
	reason, ok := refusal.ReasonOf(err)
	if !ok {
		return err
	}
	status := http.StatusConflict
	if reason == rounds.ReasonUnknown {
		status = http.StatusNotFound
	}
	return refused(status, reason, err)
}

// refused is a refusal as clients see it: its text begins with the code, which they show.
func refused(status int, reason refusal.Reason, err error) *Error {
	return &Error{status, string(reason), strings.TrimPrefix(err.Error(), string(reason)+": ")}
}

// Contributions are signed contributions on their way to the broker.
type Contributions struct {
	Contributions [][]byte `json:"contributions"`
}

// Signed is a signed statement on its way.
type Signed struct {
	Signed []byte `json:"signed"`
}

// Prepared is a signed set-up of a key that no one will have whole.
type Prepared struct {
	Setup  federation.Setup `json:"setup"`
	Signed []byte           `json:"signed"`
}

// roundDeadline bounds what a command about rounds waits for, a database or its turn, and
// leaves time for the answer.
const roundDeadline = requestDeadline - 30*time.Second

// withRounds makes a route of what it does with the service and a round.
func withRounds[T any](do func(r *request, s *rounds.Service, id digest.RoundID) (T, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		s, id, err := r.rounds()
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(r.Context(), roundDeadline)
		defer cancel()
		r.Request = r.WithContext(ctx)
		out, err := do(r, s, id)
		return out, roundError(err)
	}
}

// taking makes a route that decodes a body first.
func taking[B, T any](do func(ctx context.Context, s *rounds.Service, id digest.RoundID, body B) (T, error)) func(*request) (any, error) {
	return withRounds(func(r *request, s *rounds.Service, id digest.RoundID) (out T, err error) {
		var b B
		if err := r.decode(&b); err != nil {
			return out, err
		}
		return do(r.Context(), s, id, b)
	})
}

// roundRoutes are the commands of federated rounds.
func (s *Server) roundRoutes() []route {
	type svc = *rounds.Service
	type ctx = context.Context
	return []route{
		{"GET", "/v1/rounds", RoleViewer, false, "round-list", withRounds(func(r *request, s svc, _ digest.RoundID) ([]rounds.Status, error) {
			list, err := s.List(r.Context())
			return append([]rounds.Status{}, list...), err
		})},
		{"POST", "/v1/rounds", RoleOperator, true, "round-open", taking(func(c ctx, s svc, _ digest.RoundID, spec rounds.Spec) (rounds.Status, error) {
			_, def, err := s.Open(c, spec)
			if err != nil {
				return rounds.Status{}, err
			}
			return s.Status(c, def.ID)
		})},
		{"POST", "/v1/setups", RoleOperator, true, "round-prepare", taking(func(c ctx, s svc, _ digest.RoundID, p federation.Preparation) (Prepared, error) {
			signed, setup, err := s.Prepare(c, p)
			return Prepared{setup, signed}, err
		})},
		{"GET", "/v1/rounds/{id}", RoleViewer, false, "round-show", withRounds(func(r *request, s svc, id digest.RoundID) (rounds.Status, error) { return s.Status(r.Context(), id) })},
		{"POST", "/v1/rounds/{id}/contributions", RoleOperator, true, "round-admit", taking(func(c ctx, s svc, id digest.RoundID, b Contributions) ([]rounds.Admission, error) {
			return s.Admit(c, id, b.Contributions)
		})},
		{"POST", "/v1/rounds/{id}/close", RoleOperator, true, "round-close", taking(func(c ctx, s svc, id digest.RoundID, b rounds.Closing) (Signed, error) {
			ticket, err := s.Close(c, id, b)
			return Signed{ticket}, err
		})},
		{"POST", "/v1/rounds/{id}/finish", RoleOperator, true, "round-finish", taking(func(c ctx, s svc, id digest.RoundID, b Signed) (federation.Result, error) {
			return s.Finish(c, id, b.Signed)
		})},
		{"POST", "/v1/rounds/{id}/abandon", RoleOperator, true, "round-abandon", withRounds(func(r *request, s svc, id digest.RoundID) (rounds.Status, error) {
			if err := s.Abandon(r.Context(), id); err != nil {
				return rounds.Status{}, err
			}
			return s.Status(r.Context(), id)
		})},
		{"GET", "/v1/ledger/{name...}", RoleViewer, false, "ledger-show", withRounds(func(r *request, s svc, _ digest.RoundID) (rounds.Ledger, error) {
			a, err := federation.ParseAccount(r.PathValue("name"))
			if err != nil {
				return rounds.Ledger{}, &Error{http.StatusBadRequest, string(rounds.ReasonAccount), err.Error()}
			}
			return s.Ledger(r.Context(), a)
		})},
	}
}

// Rounds lists the rounds, newest first.
func (c *Client) Rounds(ctx context.Context) ([]rounds.Status, error) {
	return get[[]rounds.Status](ctx, c, "/v1/rounds", nil)
}

// send posts a value and decodes the answer.
func send[T any](ctx context.Context, c *Client, path string, v any) (out T, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return out, err
	}
	return post[T](ctx, c, path, nil, bytes.NewReader(raw))
}

// OpenRound opens a round.
func (c *Client) OpenRound(ctx context.Context, spec rounds.Spec) (rounds.Status, error) {
	return send[rounds.Status](ctx, c, "/v1/rounds", spec)
}

// PrepareKey signs the set-up of a key of several parties.
func (c *Client) PrepareKey(ctx context.Context, p federation.Preparation) (Prepared, error) {
	return send[Prepared](ctx, c, "/v1/setups", p)
}

// Round describes a round.
func (c *Client) Round(ctx context.Context, id digest.RoundID) (rounds.Status, error) {
	return get[rounds.Status](ctx, c, "/v1/rounds/"+id.String(), nil)
}

// AdmitContributions puts signed contributions onto a round's list.
func (c *Client) AdmitContributions(ctx context.Context, id digest.RoundID, signed [][]byte) ([]rounds.Admission, error) {
	return send[[]rounds.Admission](ctx, c, "/v1/rounds/"+id.String()+"/contributions", Contributions{signed})
}

// CloseRound closes a round and returns the signed ticket.
func (c *Client) CloseRound(ctx context.Context, id digest.RoundID, closing rounds.Closing) ([]byte, error) {
	signed, err := send[Signed](ctx, c, "/v1/rounds/"+id.String()+"/close", closing)
	return signed.Signed, err
}

// FinishRound hands a published result to the broker, which destroys the key.
func (c *Client) FinishRound(ctx context.Context, id digest.RoundID, result []byte) (federation.Result, error) {
	return send[federation.Result](ctx, c, "/v1/rounds/"+id.String()+"/finish", Signed{result})
}

// AbandonRound ends an open round.
func (c *Client) AbandonRound(ctx context.Context, id digest.RoundID) (rounds.Status, error) {
	return post[rounds.Status](ctx, c, "/v1/rounds/"+id.String()+"/abandon", nil, nil)
}

// Ledger is what an account's rounds spent.
func (c *Client) Ledger(ctx context.Context, account federation.Account) (rounds.Ledger, error) {
	return get[rounds.Ledger](ctx, c, "/v1/ledger/"+url.PathEscape(string(account)), nil)
}
