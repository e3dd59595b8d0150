package operator

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Actions that are recorded in more detail, or otherwise.
const (
	actionHeal         = "audit-heal"
	actionPolicyImport = "policy-import"
	actionSecretPut    = "secret-put"
	actionValuesImport = "reference-values-import"
)

// routes is the whole of what an operator can ask for.
func (s *Server) routes() []route {
	return []route{
		{"GET", "/v1/status", RoleViewer, false, "status", (*request).status},
		{"GET", "/v1/metrics", RoleViewer, false, "metrics", (*request).metrics},
		{"GET", "/v1/policy", RoleViewer, false, "policy-show", (*request).policyShow},
		{"GET", "/v1/policies", RoleViewer, false, "policy-list", (*request).policyList},
		{"POST", "/v1/policy/test", RoleViewer, false, "policy-test", (*request).policyTest},
		{"POST", "/v1/policy", RoleOperator, true, actionPolicyImport, (*request).policyImport},
		{"GET", "/v1/reference-values", RoleViewer, false, "reference-values-show", (*request).valuesShow},
		{"POST", "/v1/reference-values", RoleOperator, true, actionValuesImport, (*request).valuesImport},
		{"POST", "/v1/reference-values/remove/{name...}", RoleOperator, true, "reference-values-remove", (*request).valueRemove},
		{"GET", "/v1/secrets", RoleViewer, false, "secret-list", (*request).secretList},
		{"POST", "/v1/secrets/{name...}", RoleOperator, true, actionSecretPut, (*request).secretPut},
		{"POST", "/v1/secret-retire/{name...}", RoleOperator, true, "secret-retire", (*request).secretRetire},
		{"POST", "/v1/secret-destroy/{name...}", RoleOperator, true, "secret-destroy", (*request).secretDestroy},
		{"GET", "/v1/audit/records", RoleViewer, false, "audit-show", (*request).auditShow},
		{"POST", "/v1/audit/verify", RoleViewer, false, "audit-verify", (*request).auditVerify},
		{"GET", "/v1/audit/explain/{id}", RoleViewer, false, "audit-explain", (*request).auditExplain},
		{"GET", "/v1/audit/proof/{index}", RoleViewer, false, "audit-proof", (*request).auditProof},
		{"POST", "/v1/audit/checkpoint", RoleOperator, true, "audit-checkpoint", (*request).auditCheckpoint},
		{"POST", "/v1/audit/archive", RoleOperator, true, "audit-archive", (*request).auditArchive},
		{"POST", "/v1/audit/heal", RoleOperator, true, actionHeal, (*request).auditHeal},
		{"GET", "/v1/epochs", RoleViewer, false, "epoch-list", (*request).epochList},
		{"POST", "/v1/epochs/prepare", RoleOperator, true, "epoch-prepare", (*request).epochPrepare},
		{"POST", "/v1/epochs/request", RoleOperator, true, "epoch-request", (*request).epochRequest},
		{"POST", "/v1/epochs/activate", RoleOperator, true, "epoch-activate", (*request).epochActivate},
		{"POST", "/v1/epochs/retire/{epoch}", RoleOperator, true, "epoch-retire", (*request).epochRetire},
	}
}

// Extra is a command that another package brings. Those that change something are for
// operators, and recorded before they act.
type Extra struct {
	Method, Path, Action string
	Mutates              bool
	Do                   func(ctx context.Context, r *http.Request, decode func(into any) error) (any, error)
}

func (s *Server) extraRoutes() (list []route) {
	for _, e := range s.opts.Extra {
		role := RoleViewer
		if e.Mutates {
			role = RoleOperator
		}
		list = append(list, route{e.Method, e.Path, role, e.Mutates, e.Action, func(r *request) (any, error) {
			out, err := e.Do(r.Context(), r.Request, r.decode)
			return out, roundError(err)
		}})
	}
	return list
}

// asError maps an error to what the client sees. Errors here concern the
// operator's own request; none of them holds a secret.
func asError(err error) *Error {
	var e *Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &large):
		return &Error{http.StatusRequestEntityTooLarge, "too-large", fmt.Sprintf("a body must have at most %d bytes", maxBodyBytes)}
	case errors.Is(err, listen.ErrNoMemory):
		return &Error{http.StatusServiceUnavailable, "operator-busy", err.Error() + "; try again"}
	case errors.Is(err, keystore.ErrNotFound), errors.Is(err, audit.ErrNotFound), errors.Is(err, keystore.ErrNotActive):
		return &Error{http.StatusNotFound, "not-found", err.Error()}
	case errors.Is(err, keystore.ErrExists), errors.Is(err, ErrPolicyVersion), errors.Is(err, keystore.ErrDestroyed):
		return &Error{http.StatusConflict, "conflict", err.Error()}
	case errors.Is(err, policy.ErrInvalid):
		return &Error{http.StatusBadRequest, "policy-invalid", err.Error()}
	case errors.Is(err, audit.ErrArchive):
		return &Error{http.StatusConflict, "nothing-to-archive", err.Error()}
	case errors.Is(err, audit.ErrTampered):
		return &Error{http.StatusConflict, "audit-tampered", err.Error()}
	case errors.Is(err, audit.ErrUnavailable):
		return &Error{http.StatusServiceUnavailable, "audit-unavailable", err.Error()}
	}
	if reason, ok := refusal.ReasonOf(err); ok {
		return refused(http.StatusConflict, reason, err)
	}
	return &Error{http.StatusBadRequest, "failed", err.Error()}
}

// decode reads a JSON body strictly: one value, no unknown field.
func (r *request) decode(into any) error {
	if err := strictjson.Decode(r.body, bodyLimits, into); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	return nil
}

func (r *request) status() (any, error) {
	st := r.s.opts.Status()
	if info := r.s.opts.Policies.Show(); info != nil {
		info.Source, info.Explanation, info.ReferenceValues = "", "", nil
		st.Policy = info
	}
	n, err := r.s.opts.Secrets.Count()
	st.Secrets = n
	st.Epochs = r.s.opts.Epochs.List()
	st.AuditRecords = r.s.opts.Audit.Size()
	st.AuditSuppressed = r.s.opts.Audit.Suppressed()
	st.AuditUnsigned = st.AuditRecords - min(st.AuditRecords, r.s.opts.Audit.Latest().Size)
	if e := r.s.opts.Audit.Err(); e != nil {
		st.AuditError = e.Error()
	}
	return st, err
}

// metrics writes counters without labels: a name of a secret, a tenant or a
// chip is never one.
func (r *request) metrics() (any, error) {
	values := map[string]int64{
		"anchorhold_broker_audit_records":              int64(r.s.opts.Audit.Size()),
		"anchorhold_broker_audit_unsigned_records":     int64(r.s.opts.Audit.Size() - min(r.s.opts.Audit.Size(), r.s.opts.Audit.Latest().Size)),
		"anchorhold_broker_audit_suppressed_total":     int64(r.s.opts.Audit.Suppressed()),
		"anchorhold_broker_decision_inputs_lost_total": int64(r.s.opts.Audit.Inputs().Lost),
		"anchorhold_broker_audit_available":            1,
		"anchorhold_broker_policy_loaded":              0,
	}
	if r.s.opts.Audit.Err() != nil {
		values["anchorhold_broker_audit_available"] = 0
	}
	if r.s.opts.Policies.Current() != nil {
		values["anchorhold_broker_policy_loaded"] = 1
	}
	if n, err := r.s.opts.Secrets.Count(); err == nil {
		values["anchorhold_broker_secrets"] = int64(n)
	}
	if r.s.opts.Metrics != nil {
		for name, v := range r.s.opts.Metrics() {
			values[name] = v
		}
	}
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, "# TYPE %s gauge\n%s %d\n", name, name, values[name])
	}
	return plainText(b.String()), nil
}

func (r *request) policyShow() (any, error) {
	info := r.s.opts.Policies.Show()
	if info == nil {
		return nil, &Error{http.StatusNotFound, "no-policy", "no policy is in force: everything is refused"}
	}
	return info, nil
}

func (r *request) policyList() (any, error) {
	list, err := r.s.opts.Policies.History()
	if current := r.s.opts.Policies.Current(); current != nil {
		for i := range list {
			if list[i].Active = list[i].ID == current.ID() && list[i].Version == current.Version(); list[i].Active {
				list[i].Digest = current.Digest() // with the reference values of today, as epochs pin it
			}
		}
	}
	return list, err
}

func (r *request) policyTest() (any, error) {
	var t TestRequest
	if err := r.decode(&t); err != nil {
		return nil, err
	}
	p := r.s.opts.Policies.Current()
	if t.Source != "" {
		parsed, err := policy.Parse([]byte(t.Source))
		if err != nil {
			return nil, err
		}
		if p, err = parsed.WithReferenceValues(r.s.opts.Policies.ReferenceValues()); err != nil {
			return nil, err
		}
	}
	if t.Now.IsZero() {
		t.Now = r.s.opts.Now()
	}
	return policy.Decide(p, policy.Input{Claims: t.Claims, Guest: t.Guest, Resource: t.Resource, Now: t.Now}), nil
}

func (r *request) policyImport() (any, error) {
	source, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	p, err := r.s.opts.Policies.Import(source)
	if err != nil {
		return nil, err
	}
	r.s.opts.Logger.Info("policy in force", "id", p.ID(), "version", p.Version(), "digest", fmt.Sprintf("%x", p.Digest()), "waived", len(p.Waived()))
	for _, w := range p.Waived() {
		r.s.opts.Logger.Warn("policy waives a check", "id", p.ID(), "waived", w)
	}
	info := describe(p)
	info.Active, info.Warnings = true, p.Warnings()
	for _, w := range info.Warnings {
		r.s.opts.Logger.Warn("policy may accept more than is meant", "id", p.ID(), "warning", w)
	}
	info.Unmatched = p.Unmatched(r.s.opts.Policies.ReferenceValues())
	r.warnUnmatched(info.Unmatched)
	return info, nil
}

func (r *request) warnUnmatched(names []string) {
	for _, name := range names {
		r.s.opts.Logger.Warn("the policy names reference values that are not there", "name", name)
	}
}

func (r *request) valuesShow() (any, error) {
	return r.s.opts.Policies.ReferenceValues(), nil
}

func (r *request) valuesImport() (any, error) {
	source, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	values, err := policy.ParseReferenceValues(source)
	if err != nil {
		return nil, err
	}
	out, err := r.s.opts.Policies.ImportReferenceValues(values, r.URL.Query().Get("replace") == "true")
	if err != nil {
		return nil, err
	}
	r.s.opts.Logger.Info("reference values imported", "imported", out.Imported, "total", out.Total)
	r.warnUnmatched(out.Unmatched)
	return out, nil
}

func (r *request) valueRemove() (any, error) {
	out, err := r.s.opts.Policies.RemoveReferenceValue(r.resource, r.URL.Query().Get("force") == "true")
	if err == nil {
		r.s.opts.Logger.Info("reference value removed", "id", out.ID, "total", out.Total, "accepted", out.Accepted)
	}
	return out, err
}

func (r *request) secretList() (any, error) {
	infos, more, err := r.s.opts.Secrets.List(r.Context(), r.URL.Query().Get("prefix"))
	return SecretList{append([]keystore.Info{}, infos...), more}, err
}

// secretPut takes the secret as the raw body, straight into locked memory.
func (r *request) secretPut() (any, error) {
	if r.ContentLength < 1 || r.ContentLength > keystore.MaxSecretBytes {
		return nil, &Error{http.StatusBadRequest, "secret-size", fmt.Sprintf("a secret must have 1 to %d bytes and a Content-Length", keystore.MaxSecretBytes)}
	}
	secret, err := keybuf.New(int(r.ContentLength))
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	if _, err := io.ReadFull(r.Body, secret.Bytes()); err != nil {
		return nil, fmt.Errorf("read secret: %w", err)
	}
	q := r.URL.Query()
	meta := keystore.Meta{Kind: q.Get("kind"), Description: q.Get("description")}
	if text := q.Get("subject"); text != "" {
		if err := meta.Subject.UnmarshalText([]byte(text)); err != nil {
			return nil, &Error{http.StatusBadRequest, "subject", err.Error()}
		}
	}
	var retired []uint64
	put := map[PutMode]func() (uint64, error){
		PutNext:   func() (uint64, error) { return r.s.opts.Secrets.Put(r.Context(), r.resource, secret, meta) },
		PutCreate: func() (uint64, error) { return r.s.opts.Secrets.Create(r.Context(), r.resource, secret, meta) },
		PutRotate: func() (version uint64, err error) {
			version, retired, err = r.s.opts.Secrets.Rotate(r.Context(), r.resource, secret, meta)
			return version, err
		},
	}[PutMode(q.Get("mode"))]
	if put == nil {
		return nil, &Error{http.StatusBadRequest, "mode", "mode must be put, create or rotate"}
	}
	version, err := put()
	for _, v := range retired {
		if err == nil {
			err = r.secretChanged(keystore.Retired, v)
		}
	}
	if err == nil {
		err = r.secretChanged(keystore.Active, version)
	}
	return SecretVersion{r.resource, version}, err
}

func (r *request) secretRetire() (any, error) {
	v, err := r.version()
	if err != nil {
		return nil, err
	}
	if err := r.s.opts.Secrets.Retire(r.Context(), r.resource, v); err != nil {
		return nil, err
	}
	return SecretVersion{r.resource, v}, r.secretChanged(keystore.Retired, v)
}

func (r *request) secretDestroy() (any, error) {
	v, err := r.version()
	if err != nil {
		return nil, err
	}
	if err := r.s.opts.Secrets.Destroy(r.Context(), r.resource, v); err != nil {
		return nil, err
	}
	return SecretVersion{r.resource, v}, r.secretChanged(keystore.Destroyed, v)
}

func (r *request) version() (uint64, error) {
	v, err := strconv.ParseUint(r.URL.Query().Get("version"), 10, 64)
	if err != nil || v == 0 {
		return 0, &Error{http.StatusBadRequest, "version", "say which version"}
	}
	return v, nil
}

func (r *request) epochList() (any, error) { return r.s.opts.Epochs.List(), nil }

func (r *request) epochPrepare() (any, error) { return r.s.opts.Epochs.Prepare(r.Context()) }

func (r *request) epochRequest() (any, error) {
	var ask EpochAsk
	if err := r.decode(&ask); err != nil {
		return nil, err
	}
	return r.s.opts.Epochs.Request(r.Context(), ask)
}

func (r *request) epochActivate() (any, error) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	statement, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	return r.s.opts.Epochs.Activate(r.Context(), statement)
}

func (r *request) epochRetire() (any, error) {
	epoch, err := strconv.ParseUint(r.PathValue("epoch"), 10, 64)
	if err != nil {
		return nil, &Error{http.StatusBadRequest, "epoch", "an epoch must be a number"}
	}
	return map[string]uint64{"retired": epoch}, r.s.opts.Epochs.Retire(r.Context(), epoch)
}

func sortByImport(list []PolicyInfo) {
	sort.SliceStable(list, func(i, j int) bool { return list[i].Imported.Before(list[j].Imported) })
}
