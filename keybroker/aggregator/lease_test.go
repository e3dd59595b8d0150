package aggregator_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/aggregator"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// asOf is a client of a guest under the lease that it has at a time.
func (s *site) asOf(t *testing.T, now protocol.Time, a *federationtest.Agent) *uplink.Client {
	t.Helper()
	return closer(t, uplink.New(s.addr, s.tls, s.Roots(), func() (uplink.Guest, error) { return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: now}, nil }))
}

// long lets a round run for two hours.
func long(r *federation.Round) { r.Closes = federationtest.Begin.Add(2 * time.Hour) }

// TestEndedLeaseContributesNothing: a guest whose lease was not renewed dates a
// contribution back into it. It counts only from a connection that showed a running lease
// of the same key, with the role.
func TestEndedLeaseContributesNothing(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, length, long)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	withdrawn := s.Agent(t, nil)
	manifest, blocks := withdrawn.Contribute(t, r, signed, vector(length, 1)) // says a minute after Begin
	now := federationtest.Begin.Add(time.Hour)
	s.setNow(now.Time())
	_, err := s.agg.Begin(r.ID, manifest)
	wantReasonOf(t, "by itself", err, federation.ReasonOutsideLease)
	decrypts := withdrawn.Renew(t, now)
	federationtest.SetRoles(&decrypts.Lease, protocol.RoleDecrypt)
	for _, tc := range []struct {
		name string
		c    *uplink.Client
		want refusal.Reason
	}{
		{"by nobody", closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil)), aggregator.ReasonNobody},
		{"under the ended lease", s.asOf(t, federationtest.Begin.Add(time.Minute), withdrawn), aggregator.ReasonEnded},
		{"by another agent", s.asOf(t, now, s.Agent(t, nil).Renew(t, now)), federation.ReasonOutsideLease},
		{"without the role", s.asOf(t, now, decrypts.Renew(t, now)), aggregator.ReasonNotNamed},
		{"under the next lease", s.asOf(t, now, withdrawn.Renew(t, now)), ""},
	} {
		_, err := tc.c.Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
		wantReasonOf(t, tc.name, err, tc.want)
	}
}

// TestUploadThatWasBegunGoesOn: what was taken while its lease ran is completed after it,
// also by an agent that restarted and has another key; by a stranger it is not.
func TestUploadThatWasBegunGoesOn(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _ := s.Round(t, length, long)
	if _, err := s.agg.AddRound(signed); err != nil {
		t.Fatal(err)
	}
	manifest, blocks := s.Agent(t, nil).Contribute(t, r, signed, vector(length, 1))
	if _, err := s.agg.Begin(r.ID, manifest); err != nil {
		t.Fatal(err)
	}
	now := federationtest.Begin.Add(time.Hour)
	s.setNow(now.Time())
	nobody := closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil))
	_, err := nobody.Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil)
	wantReasonOf(t, "a stranger", err, aggregator.ReasonNobody)
	if u, err := s.asOf(t, now, s.Agent(t, nil).Renew(t, now)).Send(t.Context(), r.ID, manifest, nil, bytes.NewReader(blocks), rlwe.BlockBytes, nil); err != nil || !u.Complete {
		t.Errorf("%+v, %v", u, err)
	}
}

// TestEndedLeasePublishesNothing: nor does it sign results, dated back.
func TestEndedLeasePublishesNothing(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	r, signed, _, _ := closedRound(t, s)
	ticket, err := io.ReadAll(must(t)(s.get(t, "/v1/rounds/"+r.ID.String()+"/ticket")))
	if err != nil {
		t.Fatal(err)
	}
	values := make([]byte, 8*length)
	withdrawn := s.Agent(t, nil).GrantRound(t, r, signed)
	result := s.result(t, withdrawn, r, signed, ticket, values)
	now := federationtest.Begin.Add(time.Hour)
	s.setNow(now.Time())
	wantReasonOf(t, "by itself", s.agg.SetResult(r.ID, result), federation.ReasonOutsideLease)
	for _, tc := range []struct {
		name string
		c    *uplink.Client
		want refusal.Reason
	}{
		{"by nobody", closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil)), aggregator.ReasonNobody},
		{"by another agent", s.asOf(t, now, s.Agent(t, nil).Renew(t, now)), federation.ReasonOutsideLease},
		{"under the next lease", s.asOf(t, now, withdrawn.Renew(t, now)), ""},
	} {
		wantReasonOf(t, tc.name, tc.c.Publish(t.Context(), r.ID, result, bytes.NewReader(values)), tc.want)
	}
}

// TestPartiesSpeakForThemselves: messages and shares come from the agent that signed them,
// under a lease that runs.
func TestPartiesSpeakForThemselves(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	a, b := s.Agent(t, nil), s.Agent(t, nil)
	setup, signed := s.Setup(t, 2, a, b)
	if err := s.public.AddSetup(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	message := a.Message(t, setup, signed, federation.PartyMessage{Kind: federation.PartyCommit, Payload: make([]byte, federation.CommitBytes)}, nil)
	nobody := closer(t, uplink.New(s.addr, s.tls, s.Roots(), nil))
	for _, tc := range []struct {
		name string
		c    *uplink.Client
		want refusal.Reason
	}{
		{"nobody", nobody, aggregator.ReasonNobody},
		{"another party", closer(t, s.as(b)), aggregator.ReasonNotNamed},
		{"no party", s.public, aggregator.ReasonNotNamed},
		{"itself", closer(t, s.as(a)), ""},
	} {
		wantReasonOf(t, "message by "+tc.name, tc.c.AddPartyMessage(t.Context(), setup.Round, message), tc.want)
	}
	r, signed := partyRound(t, s, a, b)
	if err := s.public.AddRound(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	blocks := bytes.Repeat([]byte{7}, 2*params.ShareBlockBytes)
	share := signShare(t, a, r, s.closeEmpty(t, r, signed), 1, blocks)
	for _, tc := range []struct {
		name string
		c    *uplink.Client
		want refusal.Reason
	}{
		{"nobody", nobody, aggregator.ReasonNobody},
		{"another party", closer(t, s.as(b)), aggregator.ReasonNotNamed},
		{"itself", closer(t, s.as(a)), ""},
	} {
		wantReasonOf(t, "share by "+tc.name, tc.c.SendShare(t.Context(), r.ID, 1, share, bytes.NewReader(blocks)), tc.want)
	}
	wantReasonOf(t, "blocks by another party", closer(t, s.as(b)).SendShareBlocks(t.Context(), r.ID, 1, bytes.NewReader(blocks)), aggregator.ReasonNotNamed)
}

// TestWritingGoesOnUnderTheNextLease: a body that met the end of the lease is sent again on
// the next connection.
func TestWritingGoesOnUnderTheNextLease(t *testing.T) {
	s := open(t, federationtest.New(t), t.TempDir(), nil)
	values := make([]byte, 8*length)
	r := published(t, s, values)
	a, now := s.Agent(t, nil), federationtest.Begin.Add(time.Minute)
	c := closer(t, uplink.New(s.addr, s.tls, s.Roots(), func() (uplink.Guest, error) { return uplink.Guest{Key: a.Key, Chain: a.Chain, Now: now}, nil }))
	if _, err := c.SignedResult(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	now = federationtest.Begin.Add(time.Hour)
	s.setNow(now.Time())
	a = a.Renew(t, now)
	if err := c.PublishValues(t.Context(), r.ID, io.NewSectionReader(bytes.NewReader(values), 0, int64(len(values)))); err != nil {
		t.Errorf("under the next lease: %v", err)
	}
}
