package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

const (
	maxBodyBytes    = 8 << 20
	requestDeadline = 2 * time.Minute
)

// bodyLimits leave room for the longest cohort that a body can name: a digest has 64
// characters.
var bodyLimits = strictjson.Limits{Values: maxBodyBytes/64 + 64, List: maxBodyBytes / 64}

// Options are what the server works on. All fields but Viewers, Operators and
// Metrics are required.
type Options struct {
	Policies *Policies
	Secrets  *keystore.Store
	Audit    *audit.Log
	// AuditKeys are the keys whose checkpoints verify.
	AuditKeys []identity.Public
	Epochs    Epochs
	// Rounds are the federated rounds; optional.
	Rounds *rounds.Service
	// Extra are further commands.
	Extra []Extra
	// Status fills in what only the daemon knows.
	Status func() Status
	// Metrics returns counters by their full Prometheus name.
	Metrics func() map[string]int64
	// Operators and Viewers are the uids that may connect, with their role.
	// Nobody else may, not even root, unless listed.
	Operators, Viewers []uint32
	// Limits bound them: by default 64 connections, 32 of one user, 64 MiB for bodies.
	Limits listen.Limits
	Now    func() time.Time
	Logger *slog.Logger
}

// Server answers operators.
type Server struct {
	opts      Options
	roles     map[uint32]Role
	quiet     *slog.Logger     // for lines that strangers cause
	verifying chan struct{}    // one token while the audit log is verified
	large     [2]chan struct{} // one token each for what takes much memory, of viewers and operators
	secretive sync.Map         // *listen.Conn of connections that brought a secret
}

// NewServer checks the options.
func NewServer(o Options) (*Server, error) {
	if o.Policies == nil || o.Secrets == nil || o.Audit == nil || o.Epochs == nil || o.Status == nil || o.Logger == nil || len(o.AuditKeys) == 0 {
		return nil, errors.New("operator socket: a part is missing")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Limits.Check(); err != nil {
		return nil, fmt.Errorf("operator socket: limits: %w", err)
	}
	s := &Server{opts: o, roles: map[uint32]Role{}, quiet: listen.Sparse(o.Logger), verifying: make(chan struct{}, 1), large: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}}
	for _, uid := range o.Viewers {
		s.roles[uid] = RoleViewer
	}
	for _, uid := range o.Operators {
		s.roles[uid] = RoleOperator
	}
	return s, nil
}

type peerKey struct{}

// peer is who the kernel says is at the other end.
type peer struct {
	uid   uint32
	known bool
}

// withPeer makes a connection and its peer known to requests. Anything but a unix socket
// has no peer and no role.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	ctx = listen.WithConn(ctx, c)
	p, ok := listen.Of(c).Peer()
	return context.WithValue(ctx, peerKey{}, peer{uid: p.UID, known: ok})
}

// Serve answers on the listener until ctx ends, then waits for the requests
// that are running.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defaults := listen.Limits{Connections: 64, Unproven: 64, PerSource: 32, BodyMiB: 64}
	bounded, err := listen.New(l, listen.Config{Limits: s.opts.Limits.Or(defaults), Logger: s.opts.Logger,
		Allowed: func(p listen.Peer) bool { return s.roles[p.UID] != RoleNone }})
	if err != nil {
		return errors.Join(fmt.Errorf("operator socket: %w", err), l.Close())
	}
	srv := bounded.Server(s.Handler())
	srv.ReadTimeout, srv.WriteTimeout = requestDeadline, requestDeadline
	srv.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	srv.ConnContext = withPeer
	state := srv.ConnState
	srv.ConnState = func(c net.Conn, now http.ConnState) {
		state(c, now)
		if now == http.StateClosed {
			s.forget(listen.Of(c))
		}
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(bounded) }()
	select {
	case err := <-done:
		return fmt.Errorf("operator socket: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err = srv.Shutdown(stop)
	<-done
	return err
}

// forget has the collector overwrite the buffer in which net/http received a secret (GODEBUG=clobberfree=1, which the
// unit sets). It comes twice, because buffers of connections that have ended are in a pool, which lets go of them at
// the second time. A connection that brought no secret is not worth it.
func (s *Server) forget(c *listen.Conn) {
	if _, brought := s.secretive.Load(c); brought {
		runtime.GC()
		runtime.GC()
		s.secretive.Delete(c)
	}
}

// route is one thing that an operator can ask for.
type route struct {
	method, path string
	role         Role
	// mutating routes are recorded in the audit log before they act.
	mutating bool
	action   string
	run      func(*request) (any, error)
}

// request is a request from a user whose role was checked.
type request struct {
	*http.Request
	s *Server
	// resource is what the audit record names, filled in before run.
	resource string
	body     []byte // wiped after run
}

// Handler returns the HTTP handler; it refuses every request whose connection
// has no checked peer.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, r := range slices.Concat(s.routes(), s.roundRoutes(), s.extraRoutes()) {
		mux.Handle(r.method+" "+r.path, s.guard(r))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		writeError(w, &Error{http.StatusNotFound, "no-such-route", "there is no such command"})
	})
	return mux
}

// guard checks the peer's role, records a change, and runs the route.
func (s *Server) guard(r route) http.HandlerFunc {
	return func(w http.ResponseWriter, hr *http.Request) {
		who, _ := hr.Context().Value(peerKey{}).(peer)
		if !who.known || s.roles[who.uid] < r.role || r.role == RoleNone {
			s.refuse(hr.Context(), w, r, who)
			return
		}
		body, release, err := listen.ReadBody(w, hr, maxBodyBytes)
		if err != nil {
			writeError(w, asError(err))
			return
		}
		defer release()
		defer clear(body) // it may be a secret
		if c := listen.From(hr.Context()); r.action == actionSecretPut && c != nil {
			s.secretive.Store(c, true)
		}
		done, err := s.alone(hr.Context(), r)
		if err != nil {
			writeError(w, asError(err))
			return
		}
		defer done()
		hr.Body = io.NopCloser(bytes.NewReader(body))
		detail := detailOf(r.action, hr, body)
		req := &request{Request: hr, s: s, resource: resourceOf(hr), body: body}
		if r.mutating {
			if err := s.record(hr.Context(), r, who, req.resource, detail, nil); err != nil {
				writeError(w, &Error{http.StatusServiceUnavailable, "audit-unavailable", err.Error()})
				return
			}
		}
		out, err := r.run(req)
		done() // whoever does not read the answer holds nothing
		if err != nil {
			e := asError(err)
			if r.mutating {
				_ = s.record(hr.Context(), r, who, req.resource, detail, e) // the attempt itself is recorded already
			}
			writeError(w, e)
			return
		}
		if long, ok := out.(longAnswer); ok {
			writeLong(w, hr, long)
			return
		}
		writeJSON(w, http.StatusOK, out)
	}
}

// refuse answers someone without the role, and records the attempt.
func (s *Server) refuse(ctx context.Context, w http.ResponseWriter, r route, who peer) {
	e := &Error{http.StatusForbidden, "not-authorised", fmt.Sprintf("uid %d may not do this; it needs a role from operator_uids or viewer_uids", who.uid)}
	s.quiet.Warn("operator request refused", "uid", who.uid, "action", r.action)
	if r.mutating {
		// It is refused whether or not it can be recorded.
		_, _ = s.opts.Audit.AppendBounded(ctx, actor(who), false, s.recordOf(r, who, "", e))
	}
	writeError(w, e)
}

// record writes what was asked for, by whom, into the audit log. Healing the
// log is the one action that cannot be recorded first.
func (s *Server) record(ctx context.Context, r route, who peer, resource, detail string, failure *Error) error {
	rec := s.recordOf(r, who, resource, failure)
	rec.Detail = detail
	_, err := s.opts.Audit.Append(ctx, rec)
	if r.action == actionHeal {
		return nil
	}
	return err
}

// alone waits for the one token for what takes much more memory than its request has
// bytes: parsing a policy, showing records. Operators have one of their own, so that nobody
// who may only look can keep an image from being withdrawn.
func (s *Server) alone(ctx context.Context, r route) (done func(), err error) {
	large := s.large[0]
	if r.mutating {
		large = s.large[1]
	}
	switch r.action {
	case "policy-test", actionPolicyImport, actionValuesImport, "audit-show", "audit-explain":
	default:
		return func() {}, nil
	}
	select {
	case large <- struct{}{}:
		return sync.OnceFunc(func() { <-large }), nil
	case <-ctx.Done():
		return nil, &Error{http.StatusTooManyRequests, "busy", "too many requests are reading policies or the log; try again"}
	}
}

// resourceOf is what a command is about, by its path: a secret's name, a round by the name
// of its key, as the rounds' own records have it, or an epoch.
func resourceOf(r *http.Request) string {
	if name := r.PathValue("name"); name != "" {
		return name
	}
	if epoch := r.PathValue("epoch"); epoch != "" {
		return "epoch/" + epoch
	}
	if id := r.PathValue("id"); id != "" {
		return federation.ResourceClass + "/" + id
	}
	return ""
}

// detailOf is what decides later and the path does not say: which policy is imported, what
// a secret is for.
func detailOf(action string, r *http.Request, body []byte) string {
	switch action {
	case actionPolicyImport:
		p, err := policy.Parse(body)
		if err != nil {
			return fmt.Sprintf("a file of %d bytes that is no policy", len(body))
		}
		return fmt.Sprintf("policy %s version %d, file sha256:%x", p.ID(), p.Version(), sha256.Sum256(body))
	case actionValuesImport:
		return fmt.Sprintf("a file of %d bytes, sha256:%x", len(body), sha256.Sum256(body))
	case actionSecretPut:
		if subject := r.URL.Query().Get("subject"); subject != "" {
			return "for " + clip(subject)
		}
		return "for nothing in particular"
	}
	return ""
}

func actor(who peer) string { return "uid " + strconv.FormatUint(uint64(who.uid), 10) }

func (s *Server) recordOf(r route, who peer, resource string, failure *Error) audit.Record {
	rec := audit.Record{Kind: audit.KindOperator, Time: s.opts.Now(), Actor: actor(who), Action: r.action, Resource: clip(resource), Decision: "allowed"}
	if failure != nil {
		rec.Decision = "refused"
		rec.Reasons = []audit.Reason{{Code: failure.Code, Detail: failure.Message}}
	}
	return rec
}

func clip(s string) string { return s[:min(len(s), 256)] }

func writeJSON(w http.ResponseWriter, status int, v any) {
	if text, ok := v.(plainText); ok {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, string(text)) // the peer may be gone
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, &Error{http.StatusInternalServerError, "internal", "the answer cannot be encoded"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the peer may be gone
}

func writeError(w http.ResponseWriter, e *Error) {
	b, _ := json.Marshal(errorBody{e}) // strings always encode
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(b, '\n')) // the peer may be gone
}

type plainText string
