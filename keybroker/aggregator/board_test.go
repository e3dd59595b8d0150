package aggregator_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

func wantCode(t *testing.T, what string, err error, want refusal.Reason) {
	t.Helper()
	if got, _ := refusal.ReasonOf(err); got != want {
		t.Errorf("%s: %q, want %q: %v", what, got, want, err)
	}
}

// Messages of a set-up come back as they were signed, and never change.
func TestMessagesOfParties(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), func(c *aggregator.Config) { c.Rounds = 1 })
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	setup, signed := s.Setup(t, 2, a, b)
	ctx, sum := t.Context(), digest.Of(signed)
	commit := federation.PartyMessage{Kind: federation.PartyCommit, Payload: make([]byte, federation.CommitBytes)}
	s.public = s.as(a)
	defer s.public.Close()
	wantCode(t, "before the set-up", s.public.AddPartyMessage(ctx, setup.Round, a.Message(t, setup, signed, commit, nil)), aggregator.ReasonUnknownSetup)
	_, _, err := s.public.Setup(ctx, s.Broker(), s.Floor(), setup.Round)
	wantCode(t, "no set-up", err, aggregator.ReasonUnknownSetup)
	for range 2 {
		if err := s.public.AddSetup(ctx, signed); err != nil {
			t.Fatal(err)
		}
	}
	_, other := s.Setup(t, 2, a, b)
	wantCode(t, "more than are held", s.public.AddSetup(ctx, other), aggregator.ReasonSetupsFull)
	wantCode(t, "not the broker's", s.public.AddSetup(ctx, []byte("set-up")), federation.ReasonMalformed)
	if got, raw, err := s.public.Setup(ctx, s.Broker(), s.Floor(), setup.Round); err != nil || got.Round != setup.Round || !bytes.Equal(raw, signed) {
		t.Fatalf("%v", err)
	}
	raw := a.Message(t, setup, signed, commit, nil)
	for range 2 {
		if err := s.public.AddPartyMessage(ctx, setup.Round, raw); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, "another message", s.public.AddPartyMessage(ctx, setup.Round, a.Message(t, setup, signed, commit, func(m *federation.PartyMessage) { m.Payload = bytes.Repeat([]byte{2}, federation.CommitBytes) })), aggregator.ReasonTwice)
	wantCode(t, "a stranger", s.public.AddPartyMessage(ctx, setup.Round, s.Agent(t, nil).Message(t, setup, signed, commit, func(m *federation.PartyMessage) { m.From = 2 })), federation.ReasonSignature)
	if m, got, err := s.public.PartyMessage(ctx, s.Floor(), setup, sum, federation.PartyCommit, 1, 0); err != nil || m.From != 1 || !bytes.Equal(got, raw) {
		t.Errorf("%+v, %v", m, err)
	}
	for name, get := range map[string]func() error{
		"not sent": func() error {
			_, _, err := s.public.PartyMessage(ctx, s.Floor(), setup, sum, federation.PartyCommit, 2, 0)
			return err
		},
		"no kind": func() error {
			_, _, err := s.public.PartyMessage(ctx, s.Floor(), setup, sum, "setup", 1, 0)
			return err
		},
		"no party": func() error {
			_, _, err := s.public.PartyMessage(ctx, s.Floor(), setup, sum, federation.PartyCommit, 17, 0)
			return err
		},
		"not for a party": func() error {
			_, _, err := s.public.PartyMessage(ctx, s.Floor(), setup, sum, federation.PartyCommit, 1, -1)
			return err
		},
	} {
		wantCode(t, name, get(), aggregator.ReasonNoMessage)
	}
	s.setNow(setup.Closes.Time().Add(time.Second))
	wantCode(t, "after its end", s.public.AddSetup(ctx, signed), aggregator.ReasonSetupOver)
}

// A share is whole or not there, and of a party of the round alone.
func TestSharesOfParties(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	r, signed := partyRound(t, s, a, b)
	ctx := t.Context()
	s.public = s.as(a)
	defer s.public.Close()
	if err := s.public.AddRound(ctx, signed); err != nil {
		t.Fatal(err)
	}
	blocks := bytes.Repeat([]byte{7}, 2*params.ShareBlockBytes)
	share := func(agent *federationtest.Agent, from uint32, ticket digest.Digest, count int) []byte {
		return signShare(t, agent, r, ticket, from, blocks[:count*params.ShareBlockBytes])
	}
	wantCode(t, "before the ticket", s.public.SendShare(ctx, r.ID, 1, share(a, 1, digest.Digest{}, 2), nil), aggregator.ReasonNoTicket)
	ticket := s.closeEmpty(t, r, signed)
	good := share(a, 1, ticket, 2)
	for name, tc := range map[string]struct {
		from     int
		manifest []byte
		blocks   []byte
		want     refusal.Reason
	}{
		"another party's place": {2, good, blocks, federation.ReasonParties},
		"another ticket":        {1, share(a, 1, digest.Digest{1}, 2), blocks, federation.ReasonWrongRound},
		"a stranger":            {1, share(s.Agent(t, nil), 1, ticket, 2), blocks, federation.ReasonSignature},
		"too few blocks":        {1, share(a, 1, ticket, 1), blocks, federation.ReasonParties},
		"no party":              {99, good, blocks, aggregator.ReasonNoMessage},
		"nonsense":              {1, []byte("share"), blocks, federation.ReasonMalformed},
		"cut":                   {1, good, blocks[1:], aggregator.ReasonShareBytes},
		"longer":                {1, good, append(bytes.Clone(blocks), 0), aggregator.ReasonShareBytes},
		"other bytes":           {1, good, append([]byte{1}, blocks[1:]...), federation.ReasonUpload},
	} {
		wantCode(t, name, s.public.SendShare(ctx, r.ID, tc.from, tc.manifest, bytes.NewReader(tc.blocks)), tc.want)
	}
	if _, err := s.public.ShareBlocks(ctx, r.ID, 1); err == nil {
		t.Error("blocks of a share that never came whole")
	}
	if err := s.public.SendShare(ctx, r.ID, 1, good, bytes.NewReader(blocks)); err != nil {
		t.Fatal(err)
	}
	if st, m, err := s.public.Share(ctx, s.Floor(), r, ticket, 1); err != nil || st.From != 1 || len(m.Hashes) != 2 {
		t.Errorf("%+v, %v", st, err)
	}
	body, err := s.public.ShareBlocks(ctx, r.ID, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, blocks) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	_, _, err = s.public.Share(ctx, s.Floor(), r, ticket, 2)
	wantCode(t, "not sent", err, aggregator.ReasonNoShare)
	_, _, err = s.public.Share(ctx, s.Floor(), r, digest.Digest{1}, 1)
	wantCode(t, "for another ticket", err, federation.ReasonWrongRound)
}

// sharing is a closed round of two parties, and the share of the first, which s.public is.
func sharing(t *testing.T, s *site) (r federation.Round, manifest, blocks []byte) {
	t.Helper()
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	r, signed := partyRound(t, s, a, b)
	s.public = s.as(a)
	t.Cleanup(s.public.Close)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	ticket := s.closeEmpty(t, r, signed)
	blocks = bytes.Repeat([]byte{7}, 2*params.ShareBlockBytes)
	return r, signShare(t, a, r, ticket, 1, blocks), blocks
}

// partyRound is a round whose key two parties hold.
func partyRound(t *testing.T, s *site, a, b *federationtest.Agent) (federation.Round, []byte) {
	t.Helper()
	set, err := params.Lookup(params.Threshold)
	if err != nil {
		t.Fatal(err)
	}
	key := s.PartyKey(t, []byte("public key"), 2, a, b)
	r, signed, _ := s.Round(t, 10_000, func(r *federation.Round) {
		if err := key.Adopt(r, s.Roots(), s.Broker(), s.Floor()); err != nil {
			t.Error(err)
		}
		r.Set, r.SetDigest, r.Recount, r.Decryptors = set.ID, set.Digest(), true, protocol.Audience{}
	})
	return r, signed
}

// signShare is the manifest of a party's share.
func signShare(t *testing.T, agent *federationtest.Agent, r federation.Round, ticket digest.Digest, from uint32, blocks []byte) []byte {
	t.Helper()
	var m federation.Manifest
	for i := range len(blocks) / params.ShareBlockBytes {
		m.Hashes = append(m.Hashes, federation.BlockHash(r.ID, uint64(i), blocks[i*params.ShareBlockBytes:][:params.ShareBlockBytes]))
	}
	var err error
	m.Signed, err = federation.SignShare(agent.Key, agent.Chain, federation.Share{Round: r.ID, TicketDigest: ticket, Agent: agent.Key.Public().ID(), From: from,
		Active: []uint32{1, 2}, Blocks: uint64(len(m.Hashes)), Upload: federation.UploadDigest(r.ID, m.Hashes), Time: federationtest.Begin + 1})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// closeEmpty closes a round over two uploads of zeros, and returns the ticket's digest.
func (s *site) closeEmpty(t *testing.T, r federation.Round, signed []byte) digest.Digest {
	t.Helper()
	set, _, err := r.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		agent := s.Agent(t, nil)
		var m federation.Manifest
		block := make([]byte, set.BlockBytes())
		blocks := bytes.Repeat(block, int(federation.BlockCount(r.Length, set.ValuesPerBlock())))
		for i := range len(blocks) / len(block) {
			m.Hashes = append(m.Hashes, federation.BlockHash(r.ID, uint64(i), block))
		}
		if m.Signed, err = federation.SignContribution(agent.Key, agent.Chain, federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signed), Agent: agent.Key.Public().ID(),
			Weight: 1, Blocks: uint64(len(m.Hashes)), Upload: federation.UploadDigest(r.ID, m.Hashes), Time: federationtest.Begin + 1}); err != nil {
			t.Fatal(err)
		}
		raw, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.public.Send(t.Context(), r.ID, raw, nil, bytes.NewReader(blocks), len(block), nil); err != nil {
			t.Fatal(err)
		}
	}
	sum, err := s.admin.MakeSum(t.Context(), r.ID, s.cohort(t, r))
	if err != nil {
		t.Fatal(err)
	}
	ticket := s.ticket(t, r, signed, sum)
	if err := s.public.SetTicket(t.Context(), r.ID, ticket); err != nil {
		t.Fatal(err)
	}
	return digest.Of(ticket)
}
