package registry

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// maxAnnouncement bounds the JSON of an announcement.
const maxAnnouncement = MaxAnnounced*(MaxReceiptBytes/3*4+8) + 1<<10

const drainTime = 10 * time.Second

// handler makes an answer; it neither reads nor writes the connection, for how long
// that takes is the peer's decision.
type handler func(r *http.Request, body []byte) (any, error)

// Handler is what guests reach over hybrid TLS:
//
//	POST /v1/identity             wire.Introduction, signed -> {}
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
	for _, route := range []struct {
		pattern string
		most    int64 // bytes of the body
		make    handler
	}{
		{"POST /v1/identity", wire.MaxSignedBytes, s.takeIntroduction},
		{"POST /v1/receipts", maxAnnouncement, s.takeReceipts},
		{"GET /v1/challenges/{agent}", 0, s.showChallenges},
		{"POST /v1/proofs", wire.MaxBundleBytes, s.takeProof},
		{"GET /v1/records", 0, s.showRecords},
		{"GET /v1/proofs/{receipt}", 0, s.showProof},
		{"GET /v1/challenge/{digest}", 0, s.showChallenge},
	} {
		mux.HandleFunc(route.pattern, s.limited(route.most, route.make))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.refuse(w, r, errNoRoute) })
	return mux
}

var errNoRoute = errors.New("no such path or method")

// limited bounds the time of a request and the memory of its body and answer.
func (s *Service) limited(most int64, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.cfg.RequestTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
			s.refuse(w, r, err)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), s.cfg.RequestTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		answer, err := s.answer(w, r, most, h)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		release, err := listen.From(ctx).Reserve(ctx, int64(len(answer))) // until the peer has taken it
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		defer release()
		write(w, http.StatusOK, answer)
	}
}

// answer reads the body, and makes the answer when one of the places for requests that
// are worked on is free.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, most int64, h handler) ([]byte, error) {
	var body []byte
	if most > 0 {
		read, release, err := listen.ReadBody(w, r, most)
		if err != nil {
			return nil, err
		}
		defer release()
		body = read
	}
	select {
	case s.serving <- struct{}{}:
		defer func() { <-s.serving }()
	case <-r.Context().Done():
		return nil, refusal.New(ReasonBusy, "%d requests are being answered", s.cfg.Requests)
	}
	v, err := h(r, body)
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

func (s *Service) takeReceipts(r *http.Request, body []byte) (any, error) {
	list, err := wire.ParseAnnouncement(body)
	if err != nil {
		return nil, err
	}
	return s.Announce(r.Context(), list.Receipts)
}

func (s *Service) showChallenges(r *http.Request, _ []byte) (any, error) {
	agent, err := digest.Parse(r.PathValue("agent"))
	if err != nil {
		return nil, refusal.New(wire.ReasonMalformed, "the agent: %w", err)
	}
	list, err := s.Pending(r.Context(), agent)
	return wire.List{Signed: list}, err
}

func (s *Service) showChallenge(r *http.Request, _ []byte) (any, error) {
	sum, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		return nil, refusal.New(wire.ReasonMalformed, "the challenge: %w", err)
	}
	return s.ShowChallenge(r.Context(), sum)
}

func (s *Service) takeProof(r *http.Request, body []byte) (any, error) {
	b, err := wire.ParseBundle(body)
	if err != nil {
		return nil, err
	}
	return s.Submit(r.Context(), b)
}

func (s *Service) showRecords(r *http.Request, _ []byte) (any, error) {
	list, err := s.Records(r.Context())
	return wire.List{Signed: list}, err
}

func (s *Service) showProof(r *http.Request, _ []byte) (any, error) {
	id, err := digest.ParseID[digest.Receipt](r.PathValue("receipt"))
	if err != nil {
		return nil, refusal.New(wire.ReasonMalformed, "the receipt: %w", err)
	}
	return s.Show(r.Context(), id, r.Header.Get(wire.SaltHeader))
}

// redact leaves in an answer what the header's salt opens. A proof of several receipts
// has the outputs of all, so that only the outputs of this one are shown: neither the
// bundle nor the statement's digest, which would confirm a guess of the others'.
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
		a.Documents.Bundle, a.Proof.Statement = nil, digest.Digest{}
	}
}

func write(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client has gone if it fails
}

// refuse tells the client the reason, and what was not foreseen only to the log.
func (s *Service) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, code, message := http.StatusInternalServerError, refusal.Reason("internal-error"), "internal error; the broker's log has it"
	var refusal *refusal.Error
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
	body, _ := json.Marshal(map[string]any{"error": map[string]string{"code": string(code), "message": message}}) // strings always encode
	write(w, status, body)
}

func statusOf(reason refusal.Reason) int {
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
	server.ConnContext = withConnection(server.ConnContext)
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
