package operator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

const maxAnswerBytes = 256 << 20

// Client talks to a broker's operator socket. A refusal by the broker is an
// *Error; a missing socket is fs.ErrNotExist, one that nobody serves ErrSilent.
type Client struct {
	http     *http.Client
	patience Patience
}

// NewClient returns a client of the socket at path, with the default patience. It connects
// on first use.
func NewClient(path string) *Client { return NewPatientClient(path, Patience{}) }

// NewPatientClient is NewClient with another patience.
func NewPatientClient(path string, p Patience) *Client {
	return newClient(p, func(ctx context.Context) (net.Conn, error) { return dial(ctx, path) })
}

func newClient(p Patience, dial func(context.Context) (net.Conn, error)) *Client {
	if p.Silence == 0 {
		p.Silence = DefaultSilence
	}
	return &Client{patience: p, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			s, _ := ctx.Value(silenceKey{}).(*silence) // of the one request
			return p.watch(c, s), nil
		},
	}}}
}

// send sends a request and returns the body of an answer that is no refusal.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body io.Reader) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "broker", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	return c.ask(req)
}

func (c *Client) ask(req *http.Request) (io.ReadCloser, error) {
	s := new(silence)
	res, err := c.http.Do(req.WithContext(context.WithValue(req.Context(), silenceKey{}, s)))
	if err != nil {
		return nil, fmt.Errorf("ask the broker: %w", c.patience.explain(err, s))
	}
	res.Body = patientBody{res.Body, c.patience, s}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer res.Body.Close()
	var e errorBody
	err = json.NewDecoder(io.LimitReader(res.Body, maxAnswerBytes)).Decode(&e)
	if errors.Is(err, ErrSilent) || errors.Is(err, ErrCut) {
		return nil, fmt.Errorf("ask the broker: %w", err)
	}
	if err != nil || e.Error == nil {
		return nil, fmt.Errorf("ask the broker: HTTP status %d", res.StatusCode)
	}
	e.Error.Status = res.StatusCode
	return nil, e.Error
}

// call sends a request and decodes the answer into out.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body io.Reader, out any) error {
	answer, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	return decode(answer, out)
}

// decode reads an answer into out, and closes it.
func decode(answer io.ReadCloser, out any) error {
	defer answer.Close()
	limited := io.LimitReader(answer, maxAnswerBytes)
	if text, ok := out.(*string); ok {
		b, err := io.ReadAll(limited)
		*text = string(b)
		return err
	}
	if err := json.NewDecoder(limited).Decode(out); err != nil {
		return fmt.Errorf("read the broker's answer: %w", err)
	}
	return nil
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	err := c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

func post[T any](ctx context.Context, c *Client, path string, query url.Values, body io.Reader) (T, error) {
	var out T
	err := c.call(ctx, http.MethodPost, path, query, body, &out)
	return out, err
}

// Do calls a command of Extra: a GET without a body, else a POST.
func (c *Client) Do(ctx context.Context, path string, body, out any) error {
	if body == nil {
		return c.call(ctx, http.MethodGet, path, nil, nil, out)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, path, nil, bytes.NewReader(raw), out)
}

// DoWith calls a command of Extra that is a GET and heeds a header.
func (c *Client) DoWith(ctx context.Context, path string, header http.Header, out any) error {
	u := url.URL{Scheme: "http", Host: "broker", Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header = header
	answer, err := c.ask(req)
	if err != nil {
		return err
	}
	return decode(answer, out)
}

// Status returns the broker at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return get[Status](ctx, c, "/v1/status", nil)
}

// Metrics returns the counters in Prometheus' text form.
func (c *Client) Metrics(ctx context.Context) (string, error) {
	return get[string](ctx, c, "/v1/metrics", nil)
}

// Policy returns the policy in force with its source and explanation.
func (c *Client) Policy(ctx context.Context) (PolicyInfo, error) {
	return get[PolicyInfo](ctx, c, "/v1/policy", nil)
}

// Policies lists every policy that was imported, oldest first.
func (c *Client) Policies(ctx context.Context) ([]PolicyInfo, error) {
	return get[[]PolicyInfo](ctx, c, "/v1/policies", nil)
}

// ImportPolicy puts a policy (YAML) in force.
func (c *Client) ImportPolicy(ctx context.Context, source []byte) (PolicyInfo, error) {
	return post[PolicyInfo](ctx, c, "/v1/policy", nil, bytes.NewReader(source))
}

// TestPolicy asks what a policy would decide; it changes nothing.
func (c *Client) TestPolicy(ctx context.Context, t TestRequest) (policy.Decision, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return policy.Decision{}, err
	}
	return post[policy.Decision](ctx, c, "/v1/policy/test", nil, bytes.NewReader(b))
}

// ReferenceValues returns the imported reference values.
func (c *Client) ReferenceValues(ctx context.Context) ([]policy.ReferenceValue, error) {
	return get[[]policy.ReferenceValue](ctx, c, "/v1/reference-values", nil)
}

// ImportReferenceValues adds the reference values of a file (YAML or JSON), or
// puts them in the place of all others.
func (c *Client) ImportReferenceValues(ctx context.Context, source []byte, replace bool) (ValuesImported, error) {
	return post[ValuesImported](ctx, c, "/v1/reference-values", url.Values{"replace": {strconv.FormatBool(replace)}}, bytes.NewReader(source))
}

// RemoveReferenceValue forgets a reference value; with force, also one without which the
// policy in force names some that are not there.
func (c *Client) RemoveReferenceValue(ctx context.Context, id string, force bool) (ValueRemoved, error) {
	return post[ValueRemoved](ctx, c, "/v1/reference-values/remove/"+id, url.Values{"force": {strconv.FormatBool(force)}}, nil)
}

// PutSecret stores a secret and returns its version. The caller wipes secret.
func (c *Client) PutSecret(ctx context.Context, name string, secret *keybuf.Buffer, meta keystore.Meta, mode PutMode) (uint64, error) {
	if err := keystore.CheckName(name); err != nil {
		return 0, err
	}
	q := url.Values{"kind": {meta.Kind}, "description": {meta.Description}, "mode": {string(mode)}}
	if meta.Subject != (keystore.Subject{}) {
		q.Set("subject", meta.Subject.String())
	}
	out, err := post[SecretVersion](ctx, c, "/v1/secrets/"+name, q, bytes.NewReader(secret.Bytes()))
	return out.Version, err
}

// Secrets lists the secrets whose names start with prefix, without their values.
func (c *Client) Secrets(ctx context.Context, prefix string) (SecretList, error) {
	return get[SecretList](ctx, c, "/v1/secrets", url.Values{"prefix": {prefix}})
}

// RetireSecret ends a version's release by default.
func (c *Client) RetireSecret(ctx context.Context, name string, version uint64) error {
	return c.changeSecret(ctx, "/v1/secret-retire/", name, version)
}

// DestroySecret removes a version for ever.
func (c *Client) DestroySecret(ctx context.Context, name string, version uint64) error {
	return c.changeSecret(ctx, "/v1/secret-destroy/", name, version)
}

func (c *Client) changeSecret(ctx context.Context, path, name string, version uint64) error {
	if err := keystore.CheckName(name); err != nil {
		return err
	}
	_, err := post[SecretVersion](ctx, c, path+name, url.Values{"version": {strconv.FormatUint(version, 10)}}, nil)
	return err
}

// Epochs lists the broker's epochs.
func (c *Client) Epochs(ctx context.Context) ([]EpochInfo, error) {
	return get[[]EpochInfo](ctx, c, "/v1/epochs", nil)
}

// PrepareEpoch has the broker make a new epoch key; the root signs the answer.
func (c *Client) PrepareEpoch(ctx context.Context) (EpochRequest, error) {
	return post[EpochRequest](ctx, c, "/v1/epochs/prepare", nil, nil)
}

// RequestEpoch has the broker make a new epoch key and ask for the root's signature.
func (c *Client) RequestEpoch(ctx context.Context, ask EpochAsk) (out SignedEpochRequest, err error) {
	return out, c.Do(ctx, "/v1/epochs/request", ask, &out)
}

// ActivateEpoch installs the root's signed statement for a prepared epoch.
func (c *Client) ActivateEpoch(ctx context.Context, statement []byte) (EpochInfo, error) {
	return post[EpochInfo](ctx, c, "/v1/epochs/activate", nil, strings.NewReader(base64.StdEncoding.EncodeToString(statement)))
}

// RetireEpoch has the broker forget an epoch.
func (c *Client) RetireEpoch(ctx context.Context, epoch uint64) error {
	_, err := post[map[string]uint64](ctx, c, "/v1/epochs/retire/"+strconv.FormatUint(epoch, 10), nil, nil)
	return err
}

// Leases lists the leases that run, and who was ended.
func (c *Client) Leases(ctx context.Context) (LeaseList, error) {
	return get[LeaseList](ctx, c, "/v1/leases", nil)
}

// EndLeases has the broker give no key any more to who is named: "agent/ID",
// "processor/DIGEST", or the agent of "lease/ID".
func (c *Client) EndLeases(ctx context.Context, name string) (LeasesEnded, error) {
	return post[LeasesEnded](ctx, c, "/v1/leases/end/"+name, nil, nil)
}

// AllowLeases takes EndLeases back.
func (c *Client) AllowLeases(ctx context.Context, name string) (LeasesEnded, error) {
	return post[LeasesEnded](ctx, c, "/v1/leases/allow/"+name, nil, nil)
}
