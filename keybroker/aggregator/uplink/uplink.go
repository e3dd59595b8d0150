// Package uplink is the client of an aggregator: what a participant's agent sends
// and a decrypting guest fetches, over hybrid TLS or the administrator's socket.
//
// It guarantees that what it returns as a round, ticket or result was verified
// against the broker's root identities, and that an interrupted upload goes on
// with the very bytes that were signed. It trusts no aggregator. It refuses what
// does not verify, and hands on the aggregator's own reasons.
package uplink

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons that callers act on.
const (
	// ReasonUnreachable: the aggregator did not answer.
	ReasonUnreachable refusal.Reason = "aggregator-unreachable"
	// ReasonNoResult: the round has no result there yet.
	ReasonNoResult refusal.Reason = "result-not-published"
	// ReasonPublished: the round has another result there.
	ReasonPublished refusal.Reason = "result-already-published"
	// ReasonTooLarge: an answer is larger than an honest one can be.
	ReasonTooLarge refusal.Reason = "aggregator-answer-too-large"
)

const (
	// maxAnswer bounds an answer of a few fields.
	maxAnswer = 4 << 10
	// maxHeader bounds an answer's header, whatever the answer.
	maxHeader = 16 << 10
	// digestBytes is a digest in a JSON list: 64 digits, quotes and a comma.
	digestBytes = 67
	// maxContributions bounds the list that the administrator's socket gives: 8,192
	// contributions with the longest chains that leases have.
	maxContributions = 512 << 20
)

// maxSum bounds the description of a sum over so many contributions and blocks.
func maxSum(contributions, blocks uint64) int64 {
	return maxAnswer + digestBytes*int64(contributions+min(blocks, federation.MaxManifestBlocks))
}

// Client speaks with one aggregator.
type Client struct {
	base  string
	http  *http.Client
	roots []identity.Public
}

// Guest is who reads and writes.
type Guest = introduction.Guest

// New is a client over hybrid TLS. cfg is made by hybridtls.ClientConfig. guest is who
// reads and writes, asked for each connection; without it only what the broker signed can
// be handed over.
func New(address string, cfg *tls.Config, roots []identity.Public, guest func() (Guest, error)) *Client {
	cfg = hybridtls.For(cfg, hybridtls.ALPNFederation)
	return newClient("http://"+address, roots, func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := hybridtls.Dial(ctx, "tcp", address, cfg)
		if err != nil || guest == nil {
			return conn, err
		}
		if err := introduce(ctx, conn, guest); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	})
}

// NewLocal is a client over the administrator's unix socket.
func NewLocal(socket string, roots []identity.Public) *Client {
	return newClient("http://aggregator", roots, func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}

// newClient makes connections with dial, whatever the address in the URL says: the
// connection is already secured, so that the URL's scheme is plain HTTP.
func newClient(base string, roots []identity.Public, dial func(context.Context, string, string) (net.Conn, error)) *Client {
	return &Client{base: base, roots: roots, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute, DisableCompression: true, ResponseHeaderTimeout: 10 * time.Minute,
		MaxResponseHeaderBytes: maxHeader,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Upload says where an upload stands.
type Upload struct {
	Contribution digest.Digest `json:"contribution"`
	First        uint64        `json:"first"`
	Next         uint64        `json:"next"`
	Blocks       uint64        `json:"blocks"`
	Complete     bool          `json:"complete"`
}

// Round fetches a round and verifies it, and whose broker opened it; it returns the signed bytes as well.
func (c *Client) Round(ctx context.Context, broker protocol.Broker, floor protocol.Floor, id digest.RoundID) (federation.Round, []byte, error) {
	signed, err := c.bytes(ctx, roundPath(id), federation.MaxStatementBytes)
	if err != nil {
		return federation.Round{}, nil, err
	}
	r, err := federation.VerifyRound(signed, c.roots, broker, floor)
	if err == nil && r.ID != id {
		err = refusal.New(federation.ReasonWrongRound, "the aggregator sent another round, %s", r.ID)
	}
	return r, signed, err
}

// AddRound hands a signed round to the aggregator.
func (c *Client) AddRound(ctx context.Context, signed []byte) error {
	return c.hand(ctx, http.MethodPost, "/v1/rounds", bytes.NewReader(signed))
}

// Send uploads the blocks of a contribution: the manifest first, the proof of its norm
// if there is one, then what the aggregator does not have yet. progress counts blocks of this aggregator's part.
func (c *Client) Send(ctx context.Context, round digest.RoundID, manifest, proof []byte, blocks io.ReaderAt, blockBytes int, progress func(done, total uint64)) (Upload, error) {
	var u Upload
	if err := c.call(ctx, http.MethodPost, roundPath(round)+"/uploads", bytes.NewReader(manifest), &u, maxAnswer); err != nil {
		return u, err
	}
	if u.Next > u.Blocks || u.Blocks > federation.MaxManifestBlocks || u.First > federation.MaxManifestBlocks {
		return u, errors.New("the aggregator's response is malformed")
	}
	if u.Complete {
		return u, nil
	}
	if len(proof) > 0 {
		if err := c.hand(ctx, http.MethodPut, fmt.Sprintf("%s/uploads/%s/proof", roundPath(round), u.Contribution), bytes.NewReader(proof)); err != nil {
			return u, err
		}
	}
	size := int64(blockBytes)
	body := &section{r: io.NewSectionReader(blocks, int64(u.First+u.Next)*size, int64(u.Blocks-u.Next)*size), unit: size}
	if progress != nil {
		done, total := u.Next, u.Blocks
		body.tell = func(more int64) { progress(done+uint64(more), total) }
	}
	path := fmt.Sprintf("%s/uploads/%s?from=%d", roundPath(round), u.Contribution, u.Next)
	if err := c.call(ctx, http.MethodPut, path, body, &u, maxAnswer); err != nil {
		return u, err
	}
	if !u.Complete {
		return u, refusal.New("upload-incomplete", "the aggregator has %d of %d blocks", u.Next, u.Blocks)
	}
	return u, nil
}

// Contributions lists the signed contributions that are complete; only the
// administrator's socket answers.
func (c *Client) Contributions(ctx context.Context, round digest.RoundID) ([][]byte, error) {
	var list struct {
		Contributions [][]byte `json:"contributions"`
	}
	err := c.call(ctx, http.MethodGet, roundPath(round)+"/contributions", nil, &list, maxContributions)
	return list.Contributions, err
}

// Sum describes a sum.
type Sum struct {
	Round  digest.RoundID `json:"round"`
	Cohort digest.Digest  `json:"cohort"`
	Count  int            `json:"count"`
	// Contributions are the cohort's members.
	Contributions []digest.Digest `json:"contributions"`
	First         uint64          `json:"first"`
	Hashes        []digest.Digest `json:"hashes"`
}

// MakeSum has the uploads of a cohort added; only the administrator's socket
// answers.
func (c *Client) MakeSum(ctx context.Context, round digest.RoundID, cohort []digest.Digest) (s Sum, err error) {
	body, err := json.Marshal(map[string]any{"cohort": cohort})
	if err != nil {
		return s, err
	}
	return s, c.call(ctx, http.MethodPost, roundPath(round)+"/sum", bytes.NewReader(body), &s, maxSum(uint64(len(cohort)), federation.MaxManifestBlocks))
}

// SumManifest describes the sum that the round's ticket names.
func (c *Client) SumManifest(ctx context.Context, r federation.Round) (s Sum, err error) {
	blocks, err := r.Blocks()
	if err != nil {
		return s, err
	}
	return s, c.call(ctx, http.MethodGet, roundPath(r.ID)+"/sum", nil, &s, maxSum(uint64(r.Maximum), blocks))
}

// SumBlocks streams the sum's blocks; the caller checks their hashes.
func (c *Client) SumBlocks(ctx context.Context, round digest.RoundID) (io.ReadCloser, error) {
	return c.get(ctx, roundPath(round)+"/sum/blocks")
}

// UploadBlocks streams one contribution's blocks, where the round's rule has them
// released.
func (c *Client) UploadBlocks(ctx context.Context, round digest.RoundID, contribution digest.Digest) (io.ReadCloser, error) {
	return c.get(ctx, fmt.Sprintf("%s/uploads/%s/blocks", roundPath(round), contribution))
}

// UploadRange fetches some bytes of one contribution's blocks of this aggregator's
// part; the caller checks their hashes.
func (c *Client) UploadRange(ctx context.Context, round digest.RoundID, contribution digest.Digest, offset int64, dst []byte) (err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s%s/uploads/%s/blocks", c.base, roundPath(round), contribution), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(dst))-1))
	resp, err := c.send(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("the aggregator answered a range with %s", resp.Status)
	}
	_, err = io.ReadFull(resp.Body, dst)
	return err
}

// UploadManifest fetches one contribution and its manifest and verifies them, under
// the same condition.
func (client *Client) UploadManifest(ctx context.Context, floor protocol.Floor, r federation.Round, roundDigest, contribution digest.Digest) (c federation.Contribution, m federation.Manifest, err error) {
	if m, err = client.manifest(ctx, r, fmt.Sprintf("%s/uploads/%s/manifest", roundPath(r.ID), contribution)); err != nil {
		return c, m, err
	}
	if c, _, err = client.Contribution(m.Signed, floor, r); err != nil {
		return c, m, err
	}
	if digest.Of(m.Signed) != contribution {
		return c, m, refusal.New(federation.ReasonUpload, "the aggregator sent another contribution")
	}
	return c, m, errors.Join(c.Follows(r, roundDigest), m.Matches(c))
}

// Contribution verifies a contribution against the roots that rounds are verified against.
func (c *Client) Contribution(signed []byte, floor protocol.Floor, r federation.Round) (federation.Contribution, protocol.Authority, error) {
	return federation.VerifyContribution(signed, c.roots, floor, r)
}

// manifest fetches a manifest of the round's blocks.
func (c *Client) manifest(ctx context.Context, r federation.Round, path string) (federation.Manifest, error) {
	blocks, err := r.Blocks()
	if err != nil {
		return federation.Manifest{}, err
	}
	raw, err := c.bytes(ctx, path, federation.MaxManifestBytes(blocks))
	if err != nil {
		return federation.Manifest{}, err
	}
	return federation.ParseManifest(raw)
}

// Ticket fetches the round's ticket and verifies it.
func (c *Client) Ticket(ctx context.Context, floor protocol.Floor, r federation.Round, roundDigest digest.Digest) (federation.Ticket, []byte, error) {
	signed, err := c.bytes(ctx, roundPath(r.ID)+"/ticket", federation.MaxStatementBytes)
	if err != nil {
		return federation.Ticket{}, nil, err
	}
	t, err := federation.VerifyTicket(signed, c.roots, floor, r, roundDigest)
	return t, signed, err
}

// SetTicket hands the ticket to the aggregator.
func (c *Client) SetTicket(ctx context.Context, round digest.RoundID, signed []byte) error {
	return c.hand(ctx, http.MethodPut, roundPath(round)+"/ticket", bytes.NewReader(signed))
}

// Publish hands the signed result and its values to the aggregator.
func (c *Client) Publish(ctx context.Context, round digest.RoundID, signed []byte, values io.Reader) error {
	if err := c.hand(ctx, http.MethodPut, roundPath(round)+"/result", bytes.NewReader(signed)); err != nil {
		return err
	}
	return c.PublishValues(ctx, round, values)
}

// PublishValues hands over the values of the result that is there.
func (c *Client) PublishValues(ctx context.Context, round digest.RoundID, values io.Reader) error {
	return c.hand(ctx, http.MethodPut, roundPath(round)+"/values", values)
}

// SignedResult fetches the signed result as it is, for whoever verifies it.
func (c *Client) SignedResult(ctx context.Context, round digest.RoundID) ([]byte, error) {
	return c.bytes(ctx, roundPath(round)+"/result", federation.MaxStatementBytes)
}

// Result fetches the signed result and verifies it.
func (c *Client) Result(ctx context.Context, floor protocol.Floor, round federation.Round, t federation.Ticket, ticketDigest digest.Digest) (federation.Result, []byte, error) {
	signed, err := c.SignedResult(ctx, t.Round)
	if err != nil {
		return federation.Result{}, nil, err
	}
	r, _, err := federation.VerifyResult(signed, c.roots, floor, round, t, ticketDigest)
	return r, signed, err
}

// Values streams the result's values: little-endian int64; the caller checks their
// digest.
func (c *Client) Values(ctx context.Context, round digest.RoundID) (io.ReadCloser, error) {
	return c.get(ctx, roundPath(round)+"/values")
}

func roundPath(id digest.RoundID) string { return "/v1/rounds/" + id.String() }

// bytes fetches what is not longer than an honest answer.
func (c *Client) bytes(ctx context.Context, path string, most int64) ([]byte, error) {
	body, err := c.get(ctx, path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(&bounded{body, most})
	return data, errors.Join(err, body.Close())
}

// bounded refuses an answer when it turns out to be longer than an honest one.
type bounded struct {
	r    io.Reader
	left int64
}

// Read reads on, and a byte further than is allowed.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, refusal.New(ReasonTooLarge, "the aggregator's response exceeds the limit for this request")
	}
	return n, err
}

func (c *Client) get(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// hand sends a request whose answer says nothing.
func (c *Client) hand(ctx context.Context, method, path string, body io.Reader) error {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// call sends a request and decodes the answer, of so many bytes at most.
func (c *Client) call(ctx context.Context, method, path string, body io.Reader, into any, most int64) (err error) {
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	return json.NewDecoder(&bounded{resp.Body, most}).Decode(into)
}

func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	if r, ok := body.(*io.SectionReader); ok {
		body = &section{r: r}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if b, ok := body.(*section); ok {
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(b.again()), nil }
	}
	return c.send(req)
}

// send sends a request; any answer but 200 and 206 becomes a refusal with the
// aggregator's reason.
func (c *Client) send(req *http.Request) (*http.Response, error) {
	resp, err := c.once(req)
	if reason, _ := refusal.ReasonOf(err); reason != reasonEnded || req.Body != nil && req.GetBody == nil {
		return resp, err
	}
	// The lease that the connection was begun under ended: a new connection is begun under
	// that of now.
	c.http.CloseIdleConnections()
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return c.once(again)
}

func (c *Client) once(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if refused, ok := errors.AsType[*introduction.Refused](err); ok {
		return nil, refused.Err
	}
	if err != nil {
		return nil, &refusal.Error{Reason: ReasonUnreachable, Detail: err.Error(), Err: err}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
		return resp, nil
	}
	return nil, introduction.Refusal(resp)
}
