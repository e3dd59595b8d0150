package workapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/fed/party"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// inRound finds the round of a path and what works on it.
func (s *Service) inRound(r *http.Request) (Work, digest.RoundID, error) {
	w, err := s.work()
	if err != nil {
		return w, digest.RoundID{}, err
	}
	if w.Federation == nil {
		return w, digest.RoundID{}, refusal.New(fed.ReasonNotConfigured, "this agent's configuration has no aggregators")
	}
	id, err := digest.ParseID[digest.Round](r.PathValue("round"))
	if err != nil {
		return w, id, localapi.BadRequest("round", "round-invalid", "a round id must have 32 hexadecimal digits")
	}
	return w, id, nil
}

func (s *Service) showRound(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	round, err := work.Federation.Round(r.Context(), id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusOK, round)
	}
	return err
}

// formatOf reads the media type of a vector; little-endian float32 where none is
// given.
func formatOf(media string) (fedtask.Format, error) {
	switch media {
	case "", "application/octet-stream", "application/vnd.anchorhold.float32":
		return fedtask.Float32, nil
	case "application/vnd.anchorhold.float16":
		return fedtask.Float16, nil
	}
	return "", localapi.BadRequest("content-type", "vector-invalid", "a vector must be application/octet-stream (little-endian float32) or application/vnd.anchorhold.float16")
}

// submission reads how a vector of a media type is to be taken.
func submission(r *http.Request, media string) (sub fed.Submission, err error) {
	weight := uint64(1)
	if q := r.URL.Query().Get("weight"); q != "" {
		if weight, err = strconv.ParseUint(q, 10, 32); err != nil {
			return sub, localapi.BadRequest("weight", "vector-invalid", "weight must be a whole number of at least 1")
		}
	}
	sub.Weight = uint32(weight)
	if sub.Format, err = formatOf(media); err != nil {
		return sub, err
	}
	switch r.URL.Query().Get("excess") {
	case "", "clip":
	case "refuse":
		sub.Strict = true
	default:
		return sub, localapi.BadRequest("excess", "vector-invalid", "excess must be clip or refuse: how to treat a vector beyond the norm bound")
	}
	return sub, nil
}

// contribute takes a vector of any length; it is streamed, never held.
func (s *Service) contribute(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	sub, err := submission(r, r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	uid := s.UID(r.Context())
	info, err := work.Federation.Submit(r.Context(), uid, id, sub, newPatient(w, r))
	if err != nil {
		return err
	}
	localapi.WriteJSON(w, http.StatusAccepted, jobView(info))
	return nil
}

func (s *Service) decrypt(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	uid := s.UID(r.Context())
	info, err := work.Decryption.Decrypt(r.Context(), uid, id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusAccepted, jobView(info))
	}
	return err
}

func (s *Service) showResult(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	result, err := work.Decryption.Result(r.Context(), id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusOK, result)
	}
	return err
}

// sendValues streams the published mean. The header goes out with the first value,
// so that a failure before it is an error object.
func (s *Service) sendValues(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	return work.Decryption.Values(r.Context(), s.UID(r.Context()), id, w)
}

func (s *Service) joinKey(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	st, err := work.Party.Join(r.Context(), s.UID(r.Context()), id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusAccepted, st)
	}
	return err
}

func (s *Service) showKey(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	st, err := work.Party.Status(id)
	if err == nil {
		localapi.WriteJSON(w, http.StatusOK, st)
	}
	return err
}

func (s *Service) shareKey(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	var body struct {
		Active []int `json:"active"`
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<12))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		return localapi.BadRequest("active", string(party.ReasonActive), "the body must be {\"active\": [numbers of the parties that decrypt]}")
	}
	st, err := work.Party.Share(r.Context(), s.UID(r.Context()), id, body.Active)
	if err == nil {
		localapi.WriteJSON(w, http.StatusAccepted, st)
	}
	return err
}

// patient renews the read deadline before each read: a vector may take as long as
// it needs, but not stand still, nor creep. A deadline that is set holds besides.
type patient struct {
	r     io.Reader
	c     *http.ResponseController
	begun time.Time
	came  int64

	mu    sync.Mutex // two set the connection's deadline
	until time.Time  // zero for ever
}

// newPatient begins to be.
func newPatient(w http.ResponseWriter, r *http.Request) *patient {
	return &patient{r: r.Body, c: http.NewResponseController(w), begun: time.Now()}
}

// SetDeadline is that of [localapi.Source].
func (p *patient) SetDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.until = t
	return p.renew()
}

// renew sets the deadline of the next read, or of one that waits. It is of writes too, for
// the first read may tell the client to continue. The caller holds mu.
func (p *patient) renew() error {
	t := time.Now().Add(bodyIdle)
	if !p.until.IsZero() && p.until.Before(t) {
		t = p.until
	}
	for _, set := range []func(time.Time) error{p.c.SetReadDeadline, p.c.SetWriteDeadline} {
		if err := set(t); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	return nil
}

// Read reads under a new deadline.
func (p *patient) Read(b []byte) (int, error) {
	p.mu.Lock()
	err := p.renew()
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if took := time.Since(p.begun); took > bodyGrace && float64(p.came) < took.Seconds()*bodyRate {
		return 0, &localapi.Error{Status: http.StatusRequestTimeout, Type: "invalid_request_error", Code: string(localapi.ReasonSlow),
			Message: fmt.Sprintf("after %s, only %d bytes of the body have arrived; send at least %d bytes per second", took.Round(time.Second), p.came, bodyRate)}
	}
	n, err := p.r.Read(b)
	p.came += int64(n)
	return n, err
}
