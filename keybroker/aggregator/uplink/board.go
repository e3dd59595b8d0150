package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func setupPath(id digest.RoundID) string { return "/v1/setups/" + id.String() }

// AddSetup hands a signed set-up to the aggregator.
func (c *Client) AddSetup(ctx context.Context, signed []byte) error {
	return c.hand(ctx, http.MethodPost, "/v1/setups", bytes.NewReader(signed))
}

// Setup fetches a set-up and verifies it, and whose broker asks for it; it returns the signed bytes as well.
func (c *Client) Setup(ctx context.Context, broker protocol.Broker, floor protocol.Floor, id digest.RoundID) (federation.Setup, []byte, error) {
	signed, err := c.bytes(ctx, setupPath(id), federation.MaxStatementBytes)
	if err != nil {
		return federation.Setup{}, nil, err
	}
	s, err := federation.VerifySetup(signed, c.roots, broker, floor)
	if err == nil && s.Round != id {
		err = refusal.New(federation.ReasonWrongRound, "the aggregator sent the setup of another round, %s", s.Round)
	}
	return s, signed, err
}

// AddPartyMessage leaves a signed message for the other parties.
func (c *Client) AddPartyMessage(ctx context.Context, id digest.RoundID, signed []byte) error {
	return c.hand(ctx, http.MethodPost, setupPath(id)+"/messages", bytes.NewReader(signed))
}

// PartyMessage fetches a party's message and verifies it.
func (c *Client) PartyMessage(ctx context.Context, floor protocol.Floor, s federation.Setup, setup digest.Digest, kind federation.Kind, from, to int) (federation.PartyMessage, []byte, error) {
	signed, err := c.bytes(ctx, fmt.Sprintf("%s/messages/%s/%d/%d", setupPath(s.Round), kind, from, to), federation.MaxStatementBytes)
	if err != nil {
		return federation.PartyMessage{}, nil, err
	}
	m, err := federation.VerifyPartyMessage(signed, c.roots, floor, s, setup)
	if err == nil && (m.Kind != kind || int(m.From) != from || int(m.To) != to) {
		err = refusal.New(federation.ReasonParties, "the aggregator sent a %s from party %d to party %d", m.Kind, m.From, m.To)
	}
	return m, signed, err
}

func sharePath(id digest.RoundID, from int, part string) string {
	return fmt.Sprintf("%s/shares/%d/%s", roundPath(id), from, part)
}

// SendShare hands over a party's share: the encoded manifest, then the blocks.
func (c *Client) SendShare(ctx context.Context, id digest.RoundID, from int, manifest []byte, blocks io.Reader) error {
	if err := c.hand(ctx, http.MethodPut, sharePath(id, from, "manifest"), bytes.NewReader(manifest)); err != nil {
		return err
	}
	return c.SendShareBlocks(ctx, id, from, blocks)
}

// SendShareBlocks hands over the blocks of a share whose manifest is there.
func (c *Client) SendShareBlocks(ctx context.Context, id digest.RoundID, from int, blocks io.Reader) error {
	return c.hand(ctx, http.MethodPut, sharePath(id, from, "blocks"), blocks)
}

// Share fetches what a party signed about its share, and verifies it.
func (c *Client) Share(ctx context.Context, floor protocol.Floor, r federation.Round, ticket digest.Digest, from int) (federation.Share, federation.Manifest, error) {
	m, err := c.manifest(ctx, r, sharePath(r.ID, from, "manifest"))
	if err != nil {
		return federation.Share{}, m, err
	}
	s, err := federation.VerifyShare(m.Signed, c.roots, floor, r, ticket)
	if err == nil && int(s.From) != from {
		err = refusal.New(federation.ReasonParties, "the aggregator sent the share of party %d", s.From)
	}
	return s, m, errors.Join(err, m.MatchesShare(s))
}

// ShareBlocks streams a share's blocks; the caller checks their hashes.
func (c *Client) ShareBlocks(ctx context.Context, id digest.RoundID, from int) (io.ReadCloser, error) {
	return c.get(ctx, sharePath(id, from, "blocks"))
}
