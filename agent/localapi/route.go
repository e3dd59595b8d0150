package localapi

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/problem"
	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// ReceiptHeader names the receipt of an answer, in streams as well.
const ReceiptHeader = "X-Anchorhold-Receipt"

// RequestReceipt is a header of requests: "full" asks for the whole receipt in the answer,
// so that nothing is lost when the agent forgets it; "id", or no header, for its name.
const RequestReceipt = oip.RequestReceipt

// route is one path of the API.
type route struct {
	method, pattern string
	name            string // metric label
	handle          func(http.ResponseWriter, *http.Request) error
	// A long one has no time limit: its body may be any length and must keep coming.
	long bool
}

func (s *Server) routes() []route {
	list := []route{
		{"GET", "/v1/models", "models", s.listModels, false},
		{"GET", "/v1/models/{model}", "models", s.showModel, false},
		{"POST", "/v1/chat/completions", "chat", func(w http.ResponseWriter, r *http.Request) error { return s.complete(w, r, true) }, false},
		{"POST", "/v1/completions", "completions", func(w http.ResponseWriter, r *http.Request) error { return s.complete(w, r, false) }, false},
		{"GET", "/v1/receipts/{id}", "receipts", s.showReceipt, false},
		{"GET", "/v1/attestation", "attestation", s.attest, false},
		{"GET", "/v1/status", "status", s.status, false},
		{"GET", "/health", "health", s.health, false},
		{"GET", "/metrics", "metrics", s.writeMetrics, false},
	}
	for _, r := range s.work.Routes() {
		list = append(list, route{r.Method, r.Pattern, r.Name, r.Handle, r.Long})
	}
	if s.cfg.Classifiers == nil {
		return append(list, withoutClassifiers()...)
	}
	for _, r := range s.cfg.Classifiers.Routes() {
		list = append(list, route{r.Method, r.Pattern, r.Name, r.Handle, false})
	}
	return list
}

// withoutClassifiers are the paths of classifiers and of their proofs where none is
// configured: they exist, and say what is missing.
func withoutClassifiers() []route {
	refuse := func(reason refusal.Reason, detail string) func(http.ResponseWriter, *http.Request) error {
		return func(http.ResponseWriter, *http.Request) error {
			return &problem.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: string(reason), Message: detail}
		}
	}
	none := refuse(classify.ReasonUnknown, "this agent's configuration has no classifiers; GET /v1/models lists its language models")
	return []route{
		{"", "/v1/proofs/{id}", "proofs", refuse(prove.ReasonNotConfigured, "this agent's configuration has no classifiers, and proofs are of their answers alone (classifiers, proofs.keys)"), false},
		{"", "/v2", "v2", none, false}, {"", "/v2/", "v2", none, false},
	}
}

// handler checks the peer before anything else and turns errors into objects.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	var known []string
	for _, r := range s.routes() {
		mux.Handle(strings.TrimSpace(r.method+" "+r.pattern), s.wrap(r))
		known = append(known, r.pattern)
	}
	mux.Handle("/", s.wrap(route{name: "unknown", handle: func(_ http.ResponseWriter, r *http.Request) error {
		if slices.Contains(known, r.URL.Path) {
			return &problem.Error{Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method-not-allowed", Message: "this path has another method"}
		}
		return noSuchPath()
	}}))
	return mux
}

func noSuchPath() error {
	return &problem.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "not-found", Message: "no such path"}
}

// wrap runs a handler under the request's time limit.
func (s *Server) wrap(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		limit := refusal.New(ReasonTimeout, "the request took longer than %s", s.cfg.RequestTime)
		ctx, cancel := context.WithTimeoutCause(r.Context(), s.cfg.RequestTime, limit)
		defer cancel()
		if route.long {
			ctx = r.Context()
		}
		rec := newRecorder(w, s.cfg.RequestTime, s.cfg.WriteTime)
		err := refusal.New(ReasonPeer, "this user may not use the agent")
		if s.allowed(r.Context()) {
			err = route.handle(rec, r.WithContext(ctx))
		}
		if err != nil {
			rec.fail(s.problemOf(ctx, err))
		}
		s.metrics.observe(route.name, rec.status, time.Since(began))
	})
}

type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (s *Server) listModels(w http.ResponseWriter, _ *http.Request) error {
	list := []modelObject{}
	for _, name := range s.cfg.Gate.Models() {
		list = append(list, modelObject{ID: name, Object: "model", OwnedBy: "anchorhold"})
	}
	problem.WriteJSON(w, http.StatusOK, map[string]any{"object": "list", "data": list})
	return nil
}

func (s *Server) showModel(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("model")
	if err := s.checkModel(name); err != nil {
		return err
	}
	problem.WriteJSON(w, http.StatusOK, modelObject{ID: name, Object: "model", OwnedBy: "anchorhold"})
	return nil
}

func (s *Server) checkModel(name string) error {
	if slices.Contains(s.cfg.Gate.Models(), name) {
		return nil
	}
	p := problem.BadRequest("model", "model_not_found", "this agent has no such model; GET /v1/models lists those it has")
	p.Status = http.StatusNotFound
	return p
}

// showReceipt returns a receipt to the user whose request it answers.
func (s *Server) showReceipt(w http.ResponseWriter, r *http.Request) error {
	unknown := &problem.Error{Status: http.StatusNotFound, Type: "invalid_request_error", Param: "id", Code: "receipt-not-found",
		Message: "no such receipt: it is another user's, too old, or from before a restart"}
	id, err := receipt.ParseID(r.PathValue("id"))
	if err != nil {
		return unknown
	}
	p, _ := peerOf(r.Context())
	issued, ok := s.receipts.Get(p.uid, id)
	if !ok {
		return unknown
	}
	problem.WriteJSON(w, http.StatusOK, issued)
	return nil
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	if s.cfg.Status == nil {
		return noSuchPath()
	}
	problem.WriteJSON(w, http.StatusOK, s.cfg.Status())
	return nil
}

// Probe asks for the health without the socket, as the agent's own user.
func (s *Server) Probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(context.WithValue(ctx, peerKey{}, peer{uid: uint32(os.Geteuid())}), http.MethodGet, "/health", nil)
	if err != nil {
		return err
	}
	s.handler().ServeHTTP(nobody{http.Header{}}, req)
	return ctx.Err()
}

// nobody takes an answer that is not looked at.
type nobody struct{ header http.Header }

// Header, Write and WriteHeader are those of an http.ResponseWriter.
func (n nobody) Header() http.Header         { return n.header }
func (n nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n nobody) WriteHeader(int)             {}

// health is 200 if a request would be served now, else 503 with the reason.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	if err := s.serving(); err != nil {
		return err
	}
	problem.WriteJSON(w, http.StatusOK, map[string]string{"status": "ready"})
	return nil
}
