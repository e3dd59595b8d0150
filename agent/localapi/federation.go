package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/agent/federate"
	"github.com/anchorhold/anchorhold/agent/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/localapi/problem"
	"github.com/anchorhold/anchorhold/agent/party"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// Federation is the agent's part in federated rounds; *federate.Service is it.
type Federation interface {
	Round(ctx context.Context, id federation.ID) (federate.Round, error)
	Submit(ctx context.Context, uid uint32, id federation.ID, sub federate.Submission, body io.Reader) (jobs.Info, error)
	Decrypt(ctx context.Context, uid uint32, id federation.ID) (jobs.Info, error)
	Result(ctx context.Context, id federation.ID) (federate.Published, error)
	Values(ctx context.Context, id federation.ID, w io.Writer) error
}

// Party is the agent's part in keys that no one has whole; *party.Service is it.
type Party interface {
	Join(ctx context.Context, id federation.ID) (party.Status, error)
	Share(ctx context.Context, id federation.ID, active []int) (party.Status, error)
	Status(id federation.ID) (party.Status, error)
}

// Work is what long work needs: the queue, and the agent's part in rounds.
type Work struct {
	Queue      *jobs.Queue
	Federation Federation
	Party      Party
}

// bodyIdle bounds the wait for the next bytes of a vector.
const bodyIdle = 30 * time.Second

func (s *Server) work() (Work, error) {
	if s.cfg.Work == nil {
		return Work{}, evidence.Refuse(federate.ReasonNotConfigured, "this agent's configuration has neither federation nor proofs")
	}
	return s.cfg.Work()
}

// inRound finds the round of a path and what works on it.
func (s *Server) inRound(r *http.Request) (Work, federation.ID, error) {
	w, err := s.work()
	if err != nil {
		return w, federation.ID{}, err
	}
	if w.Federation == nil {
		return w, federation.ID{}, evidence.Refuse(federate.ReasonNotConfigured, "this agent's configuration has no aggregators")
	}
	id, err := federation.ParseID(r.PathValue("round"))
	if err != nil {
		return w, id, problem.BadRequest("round", "round-invalid", "a round's id has 32 hexadecimal digits")
	}
	return w, id, nil
}

func (s *Server) showRound(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	round, err := work.Federation.Round(r.Context(), id)
	if err == nil {
		problem.WriteJSON(w, http.StatusOK, round)
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
	return "", problem.BadRequest("content-type", "vector-invalid", "a vector is application/octet-stream (little-endian float32) or application/vnd.anchorhold.float16")
}

// contribute takes a vector of any length; it is streamed, never held.
func (s *Server) contribute(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	weight := uint64(1)
	if q := r.URL.Query().Get("weight"); q != "" {
		if weight, err = strconv.ParseUint(q, 10, 32); err != nil {
			return problem.BadRequest("weight", "vector-invalid", "weight is a whole number from 1")
		}
	}
	format, err := formatOf(r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	sub := federate.Submission{Weight: uint32(weight), Format: format}
	switch r.URL.Query().Get("excess") {
	case "", "clip":
	case "refuse":
		sub.Strict = true
	default:
		return problem.BadRequest("excess", "vector-invalid", "excess is clip or refuse: what to do with a vector beyond the norm bound")
	}
	p, _ := peerOf(r.Context())
	info, err := work.Federation.Submit(r.Context(), p.uid, id, sub, &patient{r.Body, http.NewResponseController(w)})
	if err != nil {
		return err
	}
	problem.WriteJSON(w, http.StatusAccepted, jobView(info))
	return nil
}

func (s *Server) decrypt(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	p, _ := peerOf(r.Context())
	info, err := work.Federation.Decrypt(r.Context(), p.uid, id)
	if err == nil {
		problem.WriteJSON(w, http.StatusAccepted, jobView(info))
	}
	return err
}

func (s *Server) showResult(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	result, err := work.Federation.Result(r.Context(), id)
	if err == nil {
		problem.WriteJSON(w, http.StatusOK, result)
	}
	return err
}

// sendValues streams the published mean. The header goes out with the first value,
// so that a failure before it is an error object.
func (s *Server) sendValues(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	return work.Federation.Values(r.Context(), id, w)
}

func (s *Server) joinKey(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	st, err := work.Party.Join(r.Context(), id)
	if err == nil {
		problem.WriteJSON(w, http.StatusAccepted, st)
	}
	return err
}

func (s *Server) showKey(w http.ResponseWriter, r *http.Request) error {
	work, id, err := s.inRound(r)
	if err != nil {
		return err
	}
	st, err := work.Party.Status(id)
	if err == nil {
		problem.WriteJSON(w, http.StatusOK, st)
	}
	return err
}

func (s *Server) shareKey(w http.ResponseWriter, r *http.Request) error {
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
		return problem.BadRequest("active", string(party.ReasonActive), "the body is {\"active\": [numbers of the parties that decrypt]}")
	}
	st, err := work.Party.Share(r.Context(), id, body.Active)
	if err == nil {
		problem.WriteJSON(w, http.StatusAccepted, st)
	}
	return err
}

// patient renews the read deadline before each read: a vector may take as long as
// it needs, but not stand still.
type patient struct {
	r io.Reader
	c *http.ResponseController
}

// Read reads under a new deadline.
func (p *patient) Read(b []byte) (int, error) {
	if err := p.c.SetReadDeadline(time.Now().Add(bodyIdle)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	return p.r.Read(b)
}

// job is a job as its owner sees it: what was submitted is the owner's own and not
// shown.
type job struct {
	jobs.Info
	Job   string `json:"job"`
	Spec  bool   `json:"spec,omitempty"`
	Lease bool   `json:"lease,omitempty"`
	Boot  bool   `json:"boot,omitempty"`
}

func jobView(i jobs.Info) job { return job{Info: i, Job: i.ID.String()} }

// ownJob finds a job of this user; root sees all. Another user's job does not exist
// here.
func (s *Server) ownJob(r *http.Request) (*jobs.Queue, jobs.Info, error) {
	unknown := &problem.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "id", Code: string(jobs.ReasonUnknown), Message: "no such job of this user"}
	work, err := s.work()
	if err != nil {
		return nil, jobs.Info{}, err
	}
	id, err := jobs.ParseID(r.PathValue("id"))
	if err != nil {
		return nil, jobs.Info{}, unknown
	}
	info, err := work.Queue.Show(id)
	p, _ := peerOf(r.Context())
	if err != nil || p.uid != 0 && p.uid != info.Owner {
		return nil, jobs.Info{}, unknown
	}
	return work.Queue, info, nil
}

func (s *Server) listJobs(w http.ResponseWriter, r *http.Request) error {
	work, err := s.work()
	if err != nil {
		return err
	}
	p, _ := peerOf(r.Context())
	views := []job{}
	for _, info := range work.Queue.List(func(i *jobs.Info) bool { return p.uid == 0 || p.uid == i.Owner }) {
		views = append(views, jobView(info))
	}
	problem.WriteJSON(w, http.StatusOK, map[string]any{"object": "list", "data": views})
	return nil
}

func (s *Server) showJob(w http.ResponseWriter, r *http.Request) error {
	_, info, err := s.ownJob(r)
	if err == nil {
		problem.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request) error {
	q, info, err := s.ownJob(r)
	if err != nil {
		return err
	}
	if info, err = q.Cancel(info.ID); err == nil {
		problem.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}

func (s *Server) retryJob(w http.ResponseWriter, r *http.Request) error {
	q, info, err := s.ownJob(r)
	if err != nil {
		return err
	}
	if info, err = q.Retry(info.ID); err == nil {
		problem.WriteJSON(w, http.StatusOK, jobView(info))
	}
	return err
}
