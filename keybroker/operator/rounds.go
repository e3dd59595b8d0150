package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// roundRoutes are the commands of federated rounds.
func (s *Server) roundRoutes() []route {
	return []route{
		{"GET", "/v1/rounds", RoleViewer, false, "round-list", (*request).roundList},
		{"POST", "/v1/rounds", RoleOperator, true, "round-open", (*request).roundOpen},
		{"GET", "/v1/rounds/{id}", RoleViewer, false, "round-show", (*request).roundShow},
		{"POST", "/v1/rounds/{id}/contributions", RoleOperator, true, "round-admit", (*request).roundAdmit},
		{"POST", "/v1/rounds/{id}/close", RoleOperator, true, "round-close", (*request).roundClose},
		{"POST", "/v1/rounds/{id}/finish", RoleOperator, true, "round-finish", (*request).roundFinish},
		{"POST", "/v1/rounds/{id}/abandon", RoleOperator, true, "round-abandon", (*request).roundAbandon},
		{"GET", "/v1/ledger/{name...}", RoleViewer, false, "ledger-show", (*request).ledgerShow},
	}
}

// rounds is the service, and the round of the path if there is one.
func (r *request) rounds() (*rounds.Service, federation.ID, error) {
	if r.s.opts.Rounds == nil {
		return nil, federation.ID{}, &Error{http.StatusNotFound, "rounds-not-configured", "the broker's configuration has no rounds section"}
	}
	if r.PathValue("id") == "" {
		return r.s.opts.Rounds, federation.ID{}, nil
	}
	id, err := federation.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, id, &Error{http.StatusNotFound, string(rounds.ReasonUnknown), "a round's id has 32 hexadecimal digits"}
	}
	return r.s.opts.Rounds, id, nil
}

// roundError keeps the reason code of a refusal.
func roundError(err error) error {
	reason, ok := evidence.ReasonOf(err)
	if !ok {
		return err
	}
	status := http.StatusConflict
	if reason == rounds.ReasonUnknown {
		status = http.StatusNotFound
	}
	return &Error{status, string(reason), err.Error()}
}

func (r *request) roundList() (any, error) {
	s, _, err := r.rounds()
	if err != nil {
		return nil, err
	}
	list, err := s.List(r.Context())
	if list == nil {
		list = []rounds.Status{}
	}
	return list, roundError(err)
}

func (r *request) roundOpen() (any, error) {
	s, _, err := r.rounds()
	if err != nil {
		return nil, err
	}
	var spec rounds.Spec
	if err := r.decode(&spec); err != nil {
		return nil, err
	}
	_, def, err := s.Open(r.Context(), spec)
	if err != nil {
		return nil, roundError(err)
	}
	st, err := s.Status(r.Context(), def.ID)
	return st, roundError(err)
}

func (r *request) roundShow() (any, error) {
	s, id, err := r.rounds()
	if err != nil {
		return nil, err
	}
	st, err := s.Status(r.Context(), id)
	return st, roundError(err)
}

// Contributions are signed contributions on their way to the broker.
type Contributions struct {
	Contributions [][]byte `json:"contributions"`
}

func (r *request) roundAdmit() (any, error) {
	s, id, err := r.rounds()
	if err != nil {
		return nil, err
	}
	var body Contributions
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	list, err := s.Admit(r.Context(), id, body.Contributions)
	return list, roundError(err)
}

// Signed is a signed statement on its way.
type Signed struct {
	Signed []byte `json:"signed"`
}

func (r *request) roundClose() (any, error) {
	s, id, err := r.rounds()
	if err != nil {
		return nil, err
	}
	var c rounds.Closing
	if err := r.decode(&c); err != nil {
		return nil, err
	}
	ticket, err := s.Close(r.Context(), id, c)
	return Signed{ticket}, roundError(err)
}

func (r *request) roundFinish() (any, error) {
	s, id, err := r.rounds()
	if err != nil {
		return nil, err
	}
	var body Signed
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	result, err := s.Finish(r.Context(), id, body.Signed)
	return result, roundError(err)
}

func (r *request) roundAbandon() (any, error) {
	s, id, err := r.rounds()
	if err != nil {
		return nil, err
	}
	if err := s.Abandon(r.Context(), id); err != nil {
		return nil, roundError(err)
	}
	st, err := s.Status(r.Context(), id)
	return st, roundError(err)
}

func (r *request) ledgerShow() (any, error) {
	s, _, err := r.rounds()
	if err != nil {
		return nil, err
	}
	l, err := s.Ledger(r.Context(), r.PathValue("name"))
	return l, roundError(err)
}

func body(v any) (*bytes.Reader, error) {
	raw, err := json.Marshal(v)
	return bytes.NewReader(raw), err
}

// Rounds lists the rounds, newest first.
func (c *Client) Rounds(ctx context.Context) ([]rounds.Status, error) {
	return get[[]rounds.Status](ctx, c, "/v1/rounds", nil)
}

// OpenRound opens a round.
func (c *Client) OpenRound(ctx context.Context, spec rounds.Spec) (rounds.Status, error) {
	b, err := body(spec)
	if err != nil {
		return rounds.Status{}, err
	}
	return post[rounds.Status](ctx, c, "/v1/rounds", nil, b)
}

// Round describes a round.
func (c *Client) Round(ctx context.Context, id federation.ID) (rounds.Status, error) {
	return get[rounds.Status](ctx, c, "/v1/rounds/"+id.String(), nil)
}

// AdmitContributions puts signed contributions onto a round's list.
func (c *Client) AdmitContributions(ctx context.Context, id federation.ID, signed [][]byte) ([]rounds.Admission, error) {
	b, err := body(Contributions{signed})
	if err != nil {
		return nil, err
	}
	return post[[]rounds.Admission](ctx, c, "/v1/rounds/"+id.String()+"/contributions", nil, b)
}

// CloseRound closes a round and returns the signed ticket.
func (c *Client) CloseRound(ctx context.Context, id federation.ID, closing rounds.Closing) ([]byte, error) {
	b, err := body(closing)
	if err != nil {
		return nil, err
	}
	signed, err := post[Signed](ctx, c, "/v1/rounds/"+id.String()+"/close", nil, b)
	return signed.Signed, err
}

// FinishRound hands a published result to the broker, which destroys the key.
func (c *Client) FinishRound(ctx context.Context, id federation.ID, result []byte) (federation.Result, error) {
	b, err := body(Signed{result})
	if err != nil {
		return federation.Result{}, err
	}
	return post[federation.Result](ctx, c, "/v1/rounds/"+id.String()+"/finish", nil, b)
}

// AbandonRound ends an open round.
func (c *Client) AbandonRound(ctx context.Context, id federation.ID) (rounds.Status, error) {
	return post[rounds.Status](ctx, c, "/v1/rounds/"+id.String()+"/abandon", nil, nil)
}

// Ledger is what a model's rounds spent.
func (c *Client) Ledger(ctx context.Context, model string) (rounds.Ledger, error) {
	return get[rounds.Ledger](ctx, c, "/v1/ledger/"+url.PathEscape(model), nil)
}
