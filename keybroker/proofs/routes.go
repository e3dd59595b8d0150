package proofs

import (
	"bytes"
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/statement"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/proofs/wire"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// maxAnnouncement bounds the JSON of an announcement.
const maxAnnouncement = MaxAnnounced*(MaxReceiptBytes/3*4+8) + 1<<10

const drainTime = 10 * time.Second

type handler func(w http.ResponseWriter, r *http.Request) error

// Handler is what guests reach over hybrid TLS:
//
//	POST /v1/receipts             wire.Announcement -> Announced
//	GET  /v1/challenges/{agent}   -> wire.List of signed challenges
//	POST /v1/proofs               wire.Bundle -> Accepted
//	GET  /v1/records              -> wire.List of signed records
//	GET  /v1/proofs/{receipt}     -> wire.Answer
//	GET  /v1/challenge/{digest}   -> wire.ChallengeView
//
// An answer has outputs and their proof for those alone who send the salt of the
// receipt's output commitment in the header wire.SaltHeader: the guest, and the client
// whose answer it was.
func (s *Service) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"POST /v1/receipts":          s.takeReceipts,
		"GET /v1/challenges/{agent}": s.placed(s.showChallenges),
		"POST /v1/proofs":            s.takeProof,
		"GET /v1/records":            s.placed(s.showRecords),
		"GET /v1/proofs/{receipt}":   s.placed(s.showProof),
		"GET /v1/challenge/{digest}": s.placed(s.showChallenge),
	} {
		mux.HandleFunc(pattern, s.limited(h))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.refuse(w, r, errNoRoute) })
	return mux
}

var errNoRoute = errors.New("no such path or method")

// limited bounds the time of a request.
func (s *Service) limited(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.RequestTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.refuse(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
		defer cancel()
		if err := h(w, r.WithContext(ctx)); err != nil {
			s.refuse(w, r, err)
		}
	}
}

// working runs f when one of the places for requests that are worked on is free. A
// body that is being read has none, for its sender says how long that takes.
func (s *Service) working(ctx context.Context, f func() error) error {
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
		return f()
	case <-ctx.Done():
		return evidence.Refuse(ReasonBusy, "%d requests are being answered", s.cfg.Requests)
	}
}

// placed is a handler of requests without a body, run by working.
func (s *Service) placed(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		return s.working(r.Context(), func() error { return h(w, r) })
	}
}

func (s *Service) takeReceipts(w http.ResponseWriter, r *http.Request) error {
	body, release, err := listen.ReadBody(w, r, maxAnnouncement)
	if err != nil {
		return err
	}
	defer release()
	return s.working(r.Context(), func() error {
		list, err := wire.ParseAnnouncement(body)
		if err != nil {
			return err
		}
		a, err := s.Announce(r.Context(), list.Receipts)
		if err == nil {
			reply(w, http.StatusOK, a)
		}
		return err
	})
}

func (s *Service) showChallenges(w http.ResponseWriter, r *http.Request) error {
	agent, err := statement.ParseDigest(r.PathValue("agent"))
	if err != nil {
		return evidence.Refuse(wire.ReasonMalformed, "the agent: %w", err)
	}
	list, err := s.Pending(r.Context(), agent)
	if err == nil {
		reply(w, http.StatusOK, wire.List{Signed: list})
	}
	return err
}

func (s *Service) showChallenge(w http.ResponseWriter, r *http.Request) error {
	digest, err := statement.ParseDigest(r.PathValue("digest"))
	if err != nil {
		return evidence.Refuse(wire.ReasonMalformed, "the challenge: %w", err)
	}
	v, err := s.ShowChallenge(r.Context(), digest)
	if err == nil {
		reply(w, http.StatusOK, v)
	}
	return err
}

func (s *Service) takeProof(w http.ResponseWriter, r *http.Request) error {
	body, release, err := listen.ReadBody(w, r, wire.MaxBundleBytes)
	if err != nil {
		return err
	}
	defer release()
	return s.working(r.Context(), func() error {
		b, err := wire.ParseBundle(body)
		if err != nil {
			return err
		}
		a, err := s.Submit(r.Context(), b)
		if err == nil {
			reply(w, http.StatusOK, a)
		}
		return err
	})
}

func (s *Service) showRecords(w http.ResponseWriter, r *http.Request) error {
	list, err := s.Records(r.Context())
	if err == nil {
		reply(w, http.StatusOK, wire.List{Signed: list})
	}
	return err
}

func (s *Service) showProof(w http.ResponseWriter, r *http.Request) error {
	id, err := statement.ParseID(r.PathValue("receipt"))
	if err != nil {
		return evidence.Refuse(wire.ReasonMalformed, "the receipt: %w", err)
	}
	a, err := s.Audit(r.Context(), id)
	if err != nil {
		return err
	}
	redact(&a, r.Header.Get(wire.SaltHeader))
	reply(w, http.StatusOK, a)
	return nil
}

// redact leaves in an answer what the header's salt opens. A proof of several receipts
// has the outputs of all, so that only the outputs of this one are shown.
func redact(a *wire.Answer, header string) {
	if a.Documents.Bundle == nil {
		return
	}
	var salt wire.Salt
	b, err := wire.ParseBundle(a.Documents.Bundle)
	if err != nil || salt.UnmarshalText([]byte(header)) != nil {
		a.Redact()
		return
	}
	items := b.Envelope.Statement.Inference.Items
	i := slices.IndexFunc(items, func(item statement.Item) bool { return item.Receipt == a.Receipt.ID })
	if i < 0 || subtle.ConstantTimeCompare(salt[:], b.OutputSalts[i][:]) != 1 {
		a.Redact()
		return
	}
	if len(items) > 1 {
		a.Documents.Bundle = nil
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		body.WriteString(`{"error":{"code":"internal-error","message":"the answer has no JSON form"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client has gone if it fails
}

// refuse tells the client the reason, and what was not foreseen only to the log.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, code, message := http.StatusInternalServerError, evidence.Reason("internal-error"), "internal error; the broker's log has it"
	var refusal *evidence.Refusal
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errNoRoute):
		status, code, message = http.StatusNotFound, "not-found", err.Error()
	case errors.As(err, &refusal):
		status, code, message = statusOf(refusal.Reason), refusal.Reason, refusal.Detail
	case errors.As(err, &large):
		status, code, message = http.StatusRequestEntityTooLarge, "too-large", "the body is too large"
	case errors.Is(err, listen.ErrNoMemory):
		status, code, message = http.StatusServiceUnavailable, ReasonBusy, err.Error()
	}
	if status == http.StatusInternalServerError {
		s.quiet.Error("request failed", "path", r.URL.Path, "err", err)
	} else {
		s.quiet.Info("refused", "path", r.URL.Path, "reason", string(code), "detail", message)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	reply(w, status, map[string]any{"error": map[string]string{"code": string(code), "message": message}})
}

func statusOf(reason evidence.Reason) int {
	switch reason {
	case ReasonNotRegistered, ReasonNotAnnounced, ReasonNoChallenge:
		return http.StatusNotFound
	case ReasonConflict, ReasonReceipt, ReasonRecordConflict:
		return http.StatusConflict
	case ReasonBusy, ReasonTimeout:
		return http.StatusServiceUnavailable
	case ReasonFull, ReasonAgentFull:
		return http.StatusInsufficientStorage
	case ReasonDevelopment:
		return http.StatusForbidden
	case wire.ReasonMalformed, wire.ReasonBundle:
		return http.StatusBadRequest
	case ReasonStore:
		return http.StatusInternalServerError
	}
	return http.StatusUnprocessableEntity
}

// Serve answers guests on a listener, which it owns, until ctx ends. cfg is made by
// hybridtls.ServerConfig.
func (s *Service) Serve(ctx context.Context, raw net.Listener, cfg *tls.Config) error {
	bounded, err := listen.New(raw, listen.Config{Limits: s.cfg.Limits, Logger: s.cfg.Logger})
	if err != nil {
		return errors.Join(err, raw.Close())
	}
	l := hybridtls.NewListener(bounded, hybridtls.For(cfg, hybridtls.ALPNProofs), func(err error) {
		s.quiet.Info("connection refused", "err", err)
	})
	server := bounded.Server(s.Handler())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err = server.Shutdown(stop)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}
