package aggregator

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// maxSmallBody bounds everything but manifests, blocks and values.
const maxSmallBody = 2 << 20

// maxCohortBody bounds the administrator's list of contributions.
const maxCohortBody = 32 << 20

type handler func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error

// Public is what participants, the decrypting guest and the broker's operators
// reach over hybrid TLS. Everything that changes state carries a signature that
// the broker's root vouches for. Guests have said who they are, under a lease that runs, and
// are named by the round that they read or write.
func (a *Aggregator) Public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/identity", func(w http.ResponseWriter, r *http.Request) {
		if err := a.identify(w, r); err != nil {
			a.refuse(w, r, err)
		}
	})
	a.public(mux, a.guests())
	return mux
}

// Admin is Public and what only the local administrator may do.
func (a *Aggregator) Admin() http.Handler {
	mux := http.NewServeMux()
	a.public(mux, administrator())
	mux.HandleFunc("GET /v1/rounds", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, a.Rounds()) })
	a.route(mux, "GET /v1/rounds/{id}/contributions", a.listContributions)
	a.route(mux, "POST /v1/rounds/{id}/sum", a.makeSum)
	a.route(mux, "DELETE /v1/rounds/{id}", func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		if err := a.Remove(r.Context(), id); err != nil {
			return err
		}
		reply(w, http.StatusOK, map[string]string{"removed": id.String()})
		return nil
	})
	return mux
}

func (a *Aggregator) public(mux *http.ServeMux, g gate) {
	mux.HandleFunc("POST /v1/rounds", func(w http.ResponseWriter, r *http.Request) {
		signed, release, err := a.readSmall(w, r)
		if err == nil {
			defer release()
			var def federation.Round
			if def, err = a.AddRound(signed); err == nil {
				reply(w, http.StatusOK, def)
				return
			}
		}
		a.refuse(w, r, err)
	})
	a.route(mux, "GET /v1/rounds/{id}", g.reads(federation.ReadTerms, a.showRound))
	a.route(mux, "POST /v1/rounds/{id}/uploads", g.contributes(a.begin))
	a.route(mux, "GET /v1/rounds/{id}/uploads/{digest}", g.reads(federation.ReadTerms, a.showUpload))
	a.route(mux, "PUT /v1/rounds/{id}/uploads/{digest}", g.contributes(a.receive))
	a.route(mux, "PUT /v1/rounds/{id}/uploads/{digest}/proof", g.contributes(a.takeProof))
	a.route(mux, "GET /v1/rounds/{id}/uploads/{digest}/blocks", g.reads(federation.ReadSums, a.sendUpload(fileBlocks)))
	a.route(mux, "GET /v1/rounds/{id}/uploads/{digest}/manifest", g.reads(federation.ReadSums, a.sendUpload(fileManifest)))
	a.route(mux, "PUT /v1/rounds/{id}/ticket", func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		return a.takeSmall(w, r, func(b []byte) error { return a.SetTicket(id, b) })
	})
	a.route(mux, "PUT /v1/rounds/{id}/result", g.reads(federation.ReadSums, func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		return a.takeSmall(w, r, func(b []byte) error { return a.setResult(id, b, a.shown(r)) })
	}))
	a.route(mux, "PUT /v1/rounds/{id}/values", g.reads(federation.ReadSums, func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		if err := a.SetValues(id, a.patient(w, r)); err != nil {
			return err
		}
		reply(w, http.StatusOK, struct{}{})
		return nil
	}))
	a.route(mux, "GET /v1/rounds/{id}/ticket", g.reads(federation.ReadTerms, a.file(fileTicket, ReasonNoTicket)))
	a.route(mux, "GET /v1/rounds/{id}/result", g.reads(federation.ReadTerms, a.file(fileResult, ReasonNoResult)))
	a.route(mux, "GET /v1/rounds/{id}/values", g.reads(federation.ReadTerms, a.file(fileValues, ReasonNoResult)))
	a.route(mux, "GET /v1/rounds/{id}/sum", g.reads(federation.ReadSums, a.showSum))
	a.route(mux, "GET /v1/rounds/{id}/sum/blocks", g.reads(federation.ReadSums, a.sendSum))
	a.boards(mux, g)
}

// route adds a path with a round in it.
func (a *Aggregator) route(mux *http.ServeMux, pattern string, h handler) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		id, err := digest.ParseID[digest.Round](r.PathValue("id"))
		if err != nil {
			err = refusal.New(ReasonUnknownRound, "a round id must have 32 hexadecimal digits")
		} else {
			err = h(w, r, id)
		}
		if err != nil {
			a.refuse(w, r, err)
		}
	})
}

func (a *Aggregator) showRound(w http.ResponseWriter, _ *http.Request, id digest.RoundID) error {
	r, err := a.round(id)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(r.signed) // the client has gone if it fails
	return nil
}

func (a *Aggregator) begin(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, err := a.round(id)
	if err != nil {
		return err
	}
	limit := federation.MaxManifestBytes(federation.BlockCount(held.def.Length, held.set.ValuesPerBlock()))
	shown := a.shown(r)
	if !held.has(shown) { // one that is here may ask how far it is
		room, err := a.disk.claim(limit + int64(held.columns.Count)*int64(held.set.BlockBytes()))
		if err != nil {
			return err
		}
		room.release() // its blocks claim their own, when they come
	}
	body, release, err := listen.ReadBody(w, r, limit)
	if err != nil {
		return err
	}
	defer release()
	status, err := a.take(id, body, peer{shown, listen.From(r.Context()).Source()})
	if err == nil {
		// An agent's signature was verified, and it has one contribution.
		listen.From(r.Context()).Promote("contribution " + status.Contribution.String())
		reply(w, http.StatusOK, status)
	}
	return err
}

func (a *Aggregator) showUpload(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, u, err := a.find(r, id)
	if err != nil {
		return err
	}
	reply(w, http.StatusOK, held.statusOf(u))
	return nil
}

func (a *Aggregator) find(r *http.Request, id digest.RoundID) (*round, *upload, error) {
	held, err := a.round(id)
	if err != nil {
		return nil, nil, err
	}
	sum, err := digest.Parse(r.PathValue("digest"))
	if err != nil {
		return nil, nil, refusal.New(ReasonUnknown, "an upload name must have 64 hexadecimal digits")
	}
	u, err := held.upload(sum)
	return held, u, err
}

func (a *Aggregator) receive(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	_, u, err := a.find(r, id)
	if err != nil {
		return err
	}
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 63)
	if err != nil {
		return refusal.New(ReasonGap, "from must be the number of the first block")
	}
	status, err := a.receiveFrom(id, u.digest, from, a.patient(w, r))
	if err == nil {
		listen.From(r.Context()).Promote("contribution " + u.digest.String())
		reply(w, http.StatusOK, status)
	}
	return err
}

func (a *Aggregator) listContributions(w http.ResponseWriter, _ *http.Request, id digest.RoundID) error {
	list, err := a.Complete(id)
	if err == nil {
		reply(w, http.StatusOK, struct {
			Contributions [][]byte `json:"contributions"`
		}{list})
	}
	return err
}

func (a *Aggregator) makeSum(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	var request struct {
		Cohort []digest.Digest `json:"cohort"`
	}
	body, release, err := listen.ReadBody(w, r, maxCohortBody)
	if err != nil {
		return err
	}
	defer release()
	// A cohort has no more members than the body has room for digests.
	if err := strictjson.Decode(body, strictjson.Limits{Values: maxCohortBody/64 + 8, List: maxCohortBody / 64}, &request); err != nil {
		return refusal.New(federation.ReasonMalformed, "the cohort: %v", err)
	}
	m, err := a.Sum(r.Context(), id, request.Cohort, nil)
	if err == nil {
		reply(w, http.StatusOK, m)
	}
	return err
}

// showSum is the manifest of the sum that the ticket names.
func (a *Aggregator) showSum(w http.ResponseWriter, _ *http.Request, id digest.RoundID) error {
	held, err := a.round(id)
	if err != nil {
		return err
	}
	_, t, err := a.ticket(held)
	if err != nil {
		return err
	}
	m, err := held.readSum(t.Cohort)
	if err == nil {
		reply(w, http.StatusOK, m)
	}
	return err
}

func (a *Aggregator) sendSum(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
	held, err := a.round(id)
	if err != nil {
		return err
	}
	_, t, err := a.ticket(held)
	if err != nil {
		return err
	}
	return a.sendFile(w, r, held.path("sums", t.Cohort.String(), fileBlocks), ReasonNoSum)
}

// sendUpload hands out one contribution: only in a round that is closed and whose
// rule needs single contributions.
func (a *Aggregator) sendUpload(name string) handler {
	return func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		held, u, err := a.find(r, id)
		if err != nil {
			return err
		}
		if held.def.Rule == federation.WeightedMean && !held.def.Recount {
			return refusal.New(ReasonNotReleased, "the rule of this round is a sum, which is not recounted")
		}
		if _, _, err := a.ticket(held); err != nil {
			return err
		}
		return a.sendFile(w, r, held.path("uploads", u.digest.String(), name), ReasonUnknown)
	}
}

func (a *Aggregator) file(name string, missing refusal.Reason) handler {
	return func(w http.ResponseWriter, r *http.Request, id digest.RoundID) error {
		held, err := a.round(id)
		if err != nil {
			return err
		}
		return a.sendFile(w, r, held.path(name), missing)
	}
}

// sendFile serves a file, with ranges.
func (a *Aggregator) sendFile(w http.ResponseWriter, r *http.Request, path string, missing refusal.Reason) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return refusal.New(missing, "there is none yet")
	}
	if err != nil {
		return err
	}
	defer f.Close() // read only
	w.Header().Set("Content-Type", "application/octet-stream")
	c := http.NewResponseController(w)
	defer func() { _ = c.SetWriteDeadline(time.Time{}) }() // the next answer on this connection has its own time
	http.ServeContent(&steady{w, c, a.cfg.Idle}, r, "", time.Time{}, f)
	return nil
}

// readSmall reads a statement that begins something, if there is room on the disk for it.
func (a *Aggregator) readSmall(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	room, err := a.disk.claim(maxSmallBody)
	if err != nil {
		return nil, nil, err
	}
	room.release()
	return listen.ReadBody(w, r, maxSmallBody)
}

func (a *Aggregator) takeSmall(w http.ResponseWriter, r *http.Request, take func([]byte) error) error {
	body, release, err := listen.ReadBody(w, r, maxSmallBody)
	if err != nil {
		return err
	}
	defer release()
	if err = take(body); err == nil {
		reply(w, http.StatusOK, struct{}{})
	}
	return err
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone if it fails
}

// refuse tells the client the reason, and what was not foreseen only to the log.
func (a *Aggregator) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status, code, message := http.StatusInternalServerError, refusal.Reason("internal-error"), "internal error; the aggregator's log has it"
	var refusal *refusal.Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		status, code, message = statusOf(refusal.Reason), refusal.Reason, refusal.Detail
	case errors.As(err, &large):
		status, code, message = http.StatusRequestEntityTooLarge, "too-large", "the body is too large"
	case errors.Is(err, listen.ErrNoMemory):
		status, code, message = http.StatusServiceUnavailable, ReasonBusy, err.Error()
	default:
		a.quiet.Error("request failed", "path", r.URL.Path, "err", err)
	}
	if status != http.StatusInternalServerError {
		a.quiet.Info("refused", "path", r.URL.Path, "reason", string(code), "detail", message)
	}
	if status == http.StatusUnauthorized { // the client begins a new connection, and says on it who it is
		w.Header().Set("Connection", "close")
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	reply(w, status, map[string]any{"error": map[string]string{"code": string(code), "message": message}})
}

func statusOf(reason refusal.Reason) int {
	switch reason {
	case ReasonUnknownRound, ReasonUnknown, ReasonNoSum, ReasonNoTicket, ReasonNoResult, ReasonUnknownSetup, ReasonNoMessage, ReasonNoShare:
		return http.StatusNotFound
	case ReasonDuplicate, ReasonGuest, ReasonPublished, ReasonStale, ReasonFull, ReasonRoundOver, ReasonGap, ReasonTwice, ReasonSetupOver, federation.ReasonWrongRound:
		return http.StatusConflict
	case ReasonBusy, ReasonSetupsFull:
		return http.StatusServiceUnavailable
	case ReasonDisk:
		return http.StatusInsufficientStorage
	case ReasonSlow:
		return http.StatusRequestTimeout
	case ReasonNobody, ReasonEnded:
		return http.StatusUnauthorized
	case ReasonNotReleased, ReasonNotNamed, protocol.ReasonRole, protocol.ReasonAudience, protocol.ReasonNotGranted:
		return http.StatusForbidden
	}
	return http.StatusUnprocessableEntity
}

// steady renews the write deadline before each write: a peer that takes nothing ends
// the response.
type steady struct {
	http.ResponseWriter
	c    *http.ResponseController
	idle time.Duration
}

// Write writes under a new deadline.
func (s *steady) Write(b []byte) (int, error) {
	if err := s.c.SetWriteDeadline(time.Now().Add(s.idle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return s.ResponseWriter.Write(b)
}
