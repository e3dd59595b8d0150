package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/introduction"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Reasons of this package.
const (
	// ReasonUnreachable means that the broker did not answer.
	ReasonUnreachable refusal.Reason = "proofs-unreachable"
	// ReasonAnswer means that the broker answered about something else.
	ReasonAnswer refusal.Reason = "proofs-answer-mismatch"
)

// maxAnswer bounds what is read of any answer: a list of 256 records is the longest.
const maxAnswer = 32 << 20

// Client is a guest's or an auditor's client of one broker's registry of proofs. Records and
// challenges that it returns were verified against the broker's root above a floor, a challenge
// is for the agent that was asked for, and an answer about a receipt is about that receipt. Its methods may be called from any goroutine.
type Client struct {
	base  string
	http  *http.Client
	roots []identity.Public
}

// NewClient is a client over hybrid TLS. cfg is made by hybridtls.ClientConfig. guest is who
// speaks, asked for each connection: an attested guest has a place that strangers cannot
// take. Without it, or where it has no lease or the broker does not believe it, the client
// is a stranger, and is served as one.
func NewClient(address string, cfg *tls.Config, roots []identity.Public, guest func() (introduction.Guest, error)) *Client {
	cfg = hybridtls.For(cfg, hybridtls.ALPNProofs)
	// The connection is secured already, so that the URL's scheme is plain HTTP.
	return &Client{base: "http://" + address, roots: roots, http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := hybridtls.Dial(ctx, "tcp", address, cfg)
			if err != nil || guest == nil {
				return conn, err
			}
			if err := introduce(ctx, conn, guest); err != nil {
				return nil, errors.Join(err, conn.Close())
			}
			return conn, nil
		},
		MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}}
}

// introduce says who is at this end of a new connection. That the broker does not believe
// it is no error.
func introduce(ctx context.Context, conn *hybridtls.Conn, guest func() (introduction.Guest, error)) error {
	g, err := guest()
	if err != nil {
		return nil // there is no lease, or none any more
	}
	exporter := conn.Exporter()
	signed, err := SignIntroduction(g.Key, g.Chain, Introduction{Connection: ConnectionOf(exporter[:]), Agent: g.Key.Public().ID(), Time: g.Now})
	if err != nil {
		return err
	}
	err = introduction.Say(ctx, conn, signed)
	if _, refused := errors.AsType[*introduction.Refused](err); refused {
		return nil
	}
	return err
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Announced says what became of an announcement.
type Announced struct {
	New  int `json:"new"`
	Held int `json:"held"`
}

// Announce hands over receipts in binary form, any number of them, so many at a time as
// the broker takes. After an error some may have been taken: the same again is fine.
func (c *Client) Announce(ctx context.Context, receipts [][]byte) (a Announced, err error) {
	for part := range slices.Chunk(receipts, MaxAnnounced) {
		var one Announced
		if err := c.call(ctx, http.MethodPost, "/v1/receipts", "", Announcement{Receipts: part}, &one); err != nil {
			return a, err
		}
		if one.New+one.Held != len(part) {
			return a, refusal.New(ReasonAnswer, "announced %d receipts, the broker has %d", len(part), one.New+one.Held)
		}
		a.New, a.Held = a.New+one.New, a.Held+one.Held
	}
	return a, nil
}

// SignedChallenge is a verified challenge.
type SignedChallenge struct {
	Challenge
	Signed []byte
}

// Challenges fetches the challenges that an agent has not answered, and verifies them. One
// of an epoch that the root retired since is left out: it asks for nothing any more.
func (c *Client) Challenges(ctx context.Context, broker protocol.Broker, floor protocol.Floor, agent digest.Digest) ([]SignedChallenge, error) {
	var list List
	if err := c.call(ctx, http.MethodGet, "/v1/challenges/"+agent.String(), "", nil, &list); err != nil {
		return nil, err
	}
	out := make([]SignedChallenge, 0, len(list.Signed))
	for _, signed := range list.Signed {
		v, err := VerifyChallenge(signed, c.roots, broker, floor)
		if retired(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.Agent != agent {
			return nil, refusal.New(ReasonAnswer, "a challenge of agent %s", v.Agent)
		}
		out = append(out, SignedChallenge{v, signed})
	}
	return out, nil
}

// Accepted says what the broker has.
type Accepted struct {
	Proof      digest.Digest `json:"proof"`
	Statement  digest.Digest `json:"statement"`
	VerifiedAt time.Time     `json:"verified_at"`
	New        bool          `json:"new"`
}

// Submit hands over a proof.
func (c *Client) Submit(ctx context.Context, b *Bundle) (a Accepted, err error) {
	body, err := b.Marshal()
	if err != nil {
		return a, err
	}
	subject, err := b.Envelope.Statement.Digest()
	if err != nil {
		return a, err
	}
	if err := c.call(ctx, http.MethodPost, "/v1/proofs", "", json.RawMessage(body), &a); err != nil {
		return a, err
	}
	if a.Statement != subject {
		return a, refusal.New(ReasonAnswer, "the broker accepted statement %s", a.Statement)
	}
	return a, nil
}

// retired says whether something is of an epoch below the floor.
func retired(err error) bool {
	reason, _ := refusal.ReasonOf(err)
	return reason == protocol.ReasonEpochRetired
}

// Records fetches the records of registered keys, and verifies them. One of an epoch that
// the root retired since is left out: nobody vouches for that key.
func (c *Client) Records(ctx context.Context, broker protocol.Broker, floor protocol.Floor) ([]Record, error) {
	var list List
	if err := c.call(ctx, http.MethodGet, "/v1/records", "", nil, &list); err != nil {
		return nil, err
	}
	out := make([]Record, 0, len(list.Signed))
	for _, signed := range list.Signed {
		r, err := VerifyRecord(signed, c.roots, broker, floor)
		if retired(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Audit fetches what the broker knows of a receipt, and verifies what the broker signed
// of it. Outputs and their proof are there if salt, which may be nil, opens the
// receipt's commitment to them.
func (c *Client) Audit(ctx context.Context, broker protocol.Broker, floor protocol.Floor, receipt digest.ReceiptID, salt *Salt) (a Answer, err error) {
	header := ""
	if salt != nil {
		text, err := salt.MarshalText()
		if err != nil {
			return a, err
		}
		header = string(text)
	}
	if err := c.call(ctx, http.MethodGet, "/v1/proofs/"+receipt.String(), header, nil, &a); err != nil {
		return a, err
	}
	if a.Receipt.ID != receipt {
		return a, refusal.New(ReasonAnswer, "the broker answered about receipt %s", a.Receipt.ID)
	}
	return a, a.Verify(c.roots, broker, floor)
}

// call sends a request and decodes the answer; any answer but 200 becomes a refusal with
// the broker's reason.
func (c *Client) call(ctx context.Context, method, path, salt string, body, into any) (err error) {
	var sent io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, sent)
	if err != nil {
		return err
	}
	if salt != "" {
		req.Header.Set(SaltHeader, salt)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return &refusal.Error{Reason: ReasonUnreachable, Detail: err.Error(), Err: err}
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		return introduction.Refusal(resp)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &refusal.Error{Reason: ReasonUnreachable, Detail: err.Error(), Err: err}
	case len(raw) > maxAnswer:
		return refusal.New(ReasonAnswer, "the response is longer than %d bytes", maxAnswer)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return refusal.New(ReasonAnswer, "%w", err)
	}
	return nil
}
