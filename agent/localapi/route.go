package localapi

import (
	"context"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// routes are all paths: those of the server itself, and the mounted ones.
func (s *Server) routes() []Route {
	list := []Route{
		{Method: "GET", Pattern: "/v1/receipts/{id}", Name: "receipts", Handle: s.showReceipt},
		{Method: "GET", Pattern: "/v1/attestation", Name: "attestation", Handle: s.attest},
		{Method: "GET", Pattern: "/v1/status", Name: "status", Handle: s.status},
		{Method: "GET", Pattern: "/health", Name: "health", Handle: s.health},
		{Method: "GET", Pattern: "/metrics", Name: "metrics", Handle: s.writeMetrics},
	}
	for _, m := range s.mounts {
		list = append(list, m.Routes...)
	}
	return list
}

// handler checks the peer before anything else and turns errors into objects.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range s.routes() {
		mux.Handle(strings.TrimSpace(r.Method+" "+r.Pattern), s.wrap(r))
		methods[r.Pattern] = append(methods[r.Pattern], r.Method)
	}
	mux.Handle("/", s.wrap(Route{Name: "unknown", Handle: func(w http.ResponseWriter, r *http.Request) error {
		if takes := strings.Join(methods[r.URL.Path], ", "); takes != "" {
			w.Header().Set("Allow", takes) // RFC 9110, 15.5.6
			return &Error{Status: http.StatusMethodNotAllowed, Type: "invalid_request_error", Code: "method-not-allowed", Message: "this path does not take " + r.Method + ", but " + takes}
		}
		return noSuchPath()
	}}))
	return mux
}

func noSuchPath() error {
	return &Error{Status: http.StatusNotFound, Type: "invalid_request_error", Code: "not-found", Message: "no such path; docs/operations.md lists those there are under \"Ask it from an application\""}
}

// wrap runs a handler under the request's time limit.
func (s *Server) wrap(route Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		limit := refusal.New(ReasonTimeout, "the request took longer than %s", s.cfg.RequestTime)
		ctx, cancel := context.WithTimeoutCause(r.Context(), s.cfg.RequestTime, limit)
		defer cancel()
		if route.Long {
			ctx = r.Context()
		}
		rec := newRecorder(w, s.cfg.RequestTime, s.cfg.WriteTime)
		err := refusal.New(ReasonPeer, "this user may not use the agent")
		if s.allowed(r.Context()) {
			err = route.Handle(rec, r.WithContext(ctx))
		}
		if err != nil {
			rec.fail(s.problemOf(ctx, err))
		}
		s.metrics.observe(route.Name, rec.status, time.Since(began))
	})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	if s.cfg.Status == nil {
		return noSuchPath()
	}
	WriteJSON(w, http.StatusOK, s.cfg.Status())
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

// health is 200 if a request would be served now, else 503 with the reason. It says so if that is on a permit.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	if err := s.Serving(); err != nil {
		return err
	}
	answer := map[string]string{"status": "ready"}
	if s.cfg.OnPermit != nil && s.cfg.OnPermit() {
		answer["on"] = "permit"
	}
	WriteJSON(w, http.StatusOK, answer)
	return nil
}
