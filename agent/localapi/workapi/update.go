package workapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The parts of an update's body, in their order.
const (
	inferencePart = "inference" // a request of the Open Inference Protocol, in JSON
	vectorPart    = "vector"    // the update, in the media type of its part
)

// maxUnread bounds what is read and thrown away after a failure, so that a client which
// still sends can read why.
const maxUnread = 256 << 20

// Limits of what precedes a part: a client's is a few hundred bytes, and what is read of it,
// ahead included, is in no budget of memory.
const (
	maxPartHeader = 1 << 10
	readAhead     = 512
)

// step is a step that was taken, or is under way in the job.
type step struct {
	Step   string `json:"step"`
	State  string `json:"state"` // done or queued
	Millis int64  `json:"ms,omitempty"`
	Detail any    `json:"detail,omitempty"`
}

// updated is the answer to an update. What is queued, its job does.
type updated struct {
	Object string          `json:"object"`
	Round  digest.RoundID  `json:"round"`
	Steps  []step          `json:"steps"`
	Answer json.RawMessage `json:"answer"` // of the Open Inference Protocol
	Proofs []proofJob      `json:"proofs"`
	Job    job             `json:"job"`
}

type proofJob struct {
	Receipt string `json:"receipt"`
	Job     string `json:"job"`
}

// update is a whole federated update in one request: a session with the aggregators, the
// agent's attested key, the classifier's answers, their proofs, and the encrypted update. The
// request ends when the vector is stored; the job makes the proofs meanwhile, encrypts, and
// sends all of it together.
func (s *Service) update(w http.ResponseWriter, r *http.Request) error {
	u, err := s.newUpdate(w, r)
	if err != nil {
		return err
	}
	defer u.release()
	for _, st := range []struct {
		name   string
		reason refusal.Reason
		state  string
		do     func() (any, error)
	}{
		{"session", fed.ReasonSession, "done", u.session},
		{"attestation", fed.ReasonAttestation, "done", u.attestation},
		{"inference", fed.ReasonInference, "done", u.inference},
		{"proof", fed.ReasonProof, "queued", u.proof},
		{"gradient", fed.ReasonGradient, "queued", u.gradient},
	} {
		begun := time.Now()
		detail, err := st.do()
		if err != nil {
			u.release()
			_, _ = io.CopyN(io.Discard, u.body, maxUnread) // to the end, or the client's patience
			return &fed.StepError{Step: st.reason, Err: err}
		}
		u.out.Steps = append(u.out.Steps, step{st.name, st.state, time.Since(begun).Milliseconds(), detail})
	}
	u.out.Steps = append(u.out.Steps, step{Step: "send", State: "queued"})
	body, err := json.Marshal(u.out)
	if err != nil {
		return err
	}
	localapi.WriteBody(w, http.StatusAccepted, body)
	return nil
}

// update is one under way.
type update struct {
	ctx     context.Context
	service *Service
	work    Work
	r       *http.Request
	uid     uint32
	model   string
	body    *patient // of the request
	head    *header  // of its parts
	parts   *multipart.Reader
	answers *oip.Answers // nil until there are some
	out     updated
}

// release gives the memory of the answers back.
func (u *update) release() {
	if u.answers != nil {
		u.answers.Release()
	}
}

// source is a part under the deadlines of its body.
type source struct {
	io.Reader
	body *patient
}

func (s source) SetDeadline(t time.Time) error { return s.body.SetDeadline(t) }

func (s *Service) newUpdate(w http.ResponseWriter, r *http.Request) (*update, error) {
	work, id, err := s.inRound(r)
	if err != nil {
		return nil, err
	}
	if s.Classifiers == nil {
		return nil, localapi.BadRequest("model", string(classify.ReasonUnknown), "this agent's configuration has no classifiers; send the vector alone to /contributions")
	}
	u := &update{ctx: r.Context(), service: s, work: work, r: r, uid: s.UID(r.Context()), model: r.URL.Query().Get("model"), out: updated{Object: "federated_update", Round: id}}
	if u.model == "" {
		return nil, localapi.BadRequest("model", string(classify.ReasonUnknown), "model is required: ?model= names the classifier that answers")
	}
	if _, err := submission(r, ""); err != nil {
		return nil, err
	}
	u.body = newPatient(w, r)
	u.head = &header{r: u.body}
	r.Body = io.NopCloser(u.head)
	if u.parts, err = r.MultipartReader(); err != nil {
		return nil, localapi.BadRequest("content-type", "vector-invalid", `the body must be multipart/form-data with the parts "inference" and "vector", in this order`)
	}
	return u, nil
}

// errPartHeader ends a part's header that is too long.
var errPartHeader = fmt.Errorf("a part's header is longer than %d bytes", maxPartHeader)

// header is a body of which little is read ahead of what was asked for, and no more than
// left bytes where a part's header is expected. The last part is whole: nothing follows it
// that could be read ahead.
type header struct {
	r              io.Reader
	left           int
	expected, last bool
}

// Read reads within the limits.
func (h *header) Read(b []byte) (int, error) {
	if !h.last {
		b = b[:min(len(b), readAhead)]
	}
	if h.expected {
		if h.left == 0 {
			return 0, errPartHeader
		}
		b = b[:min(len(b), h.left)]
	}
	n, err := h.r.Read(b)
	h.left -= n
	return n, err
}

// part is the next part, which must have this name, and its media type. Its header is let
// go: a vector may come for hours.
func (u *update) part(name string) (io.Reader, string, error) {
	u.head.expected, u.head.left = true, maxPartHeader
	p, err := u.parts.NextPart()
	u.head.expected, u.head.last = false, name == vectorPart
	if errors.Is(err, io.EOF) {
		return nil, "", localapi.BadRequest(name, "vector-invalid", fmt.Sprintf("the body ends before part %q", name))
	}
	if err != nil {
		return nil, "", localapi.BadRequest(name, "vector-invalid", fmt.Sprintf("read the body: %v", err))
	}
	if p.FormName() != name {
		return nil, "", localapi.BadRequest(name, "vector-invalid", fmt.Sprintf("got part %q, want %q", p.FormName(), name))
	}
	media := strings.Clone(p.Header.Get("Content-Type"))
	p.Header = nil
	return p, media, nil
}

// session reaches every aggregator over hybrid TLS.
func (u *update) session() (any, error) {
	round, err := u.work.Federation.Begin(u.ctx, u.out.Round)
	return map[string]any{"model": round.Model, "length": round.Length, "closes": round.Closes}, err
}

// attestation finds the attested key that everything is signed with.
func (u *update) attestation() (any, error) { return u.work.Federation.Attested() }

// inference answers.
func (u *update) inference() (any, error) {
	p, _, err := u.part(inferencePart)
	if err != nil {
		return nil, err
	}
	if u.answers, err = u.service.Classifiers.Ask(u.ctx, u.model, source{p, u.body}); err != nil {
		return nil, err
	}
	u.out.Answer, err = json.Marshal(u.answers)
	return map[string]any{"answers": len(u.answers.List)}, err
}

// proof has the answers proven; it does not wait. What they were made from is let go then:
// the vector, which comes next, may take hours.
func (u *update) proof() (any, error) {
	proofs, err := u.service.Classifiers.Proofs()
	if err != nil {
		return nil, err
	}
	for _, a := range u.answers.List {
		proofs.Take(u.uid, a)
	}
	for _, id := range u.answers.Receipts() {
		info, err := proofs.Prove(u.ctx, u.uid, id)
		if err != nil {
			return nil, err
		}
		u.out.Proofs = append(u.out.Proofs, proofJob{id.String(), info.ID.String()})
	}
	u.answers.Written(len(u.out.Answer))
	return nil, nil
}

// gradient stores the vector, encrypted, and queues the job.
func (u *update) gradient() (any, error) {
	p, media, err := u.part(vectorPart)
	if err != nil {
		return nil, err
	}
	sub, err := submission(u.r, media)
	if err != nil {
		return nil, err
	}
	sub.With = u.answers.Receipts()
	info, err := u.work.Federation.Submit(u.ctx, u.uid, u.out.Round, sub, p)
	u.out.Job = jobView(info)
	return nil, err
}
