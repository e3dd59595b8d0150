package federation_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// A guest that runs its own image under a lease for its own resource speaks in no round of
// another tenant: it contributes nothing, and signs no result.
func TestGuestsThatTheRoundDoesNotNameSayNothing(t *testing.T) {
	w := federationtest.New(t)
	own := w.Agent(t, nil)
	r, signed, _ := w.Round(t, 100, func(r *federation.Round) {
		r.Contributors.Images = []evidence.ImageDigest{own.Lease.Image}
		r.Decryptors.Images = []evidence.ImageDigest{own.Lease.Image}
	})
	ticket := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed)}
	for name, tc := range map[string]struct {
		change              func(*protocol.LeaseCertificate)
		granted             bool
		contribute, decrypt refusal.Reason
	}{
		"named":          {func(*protocol.LeaseCertificate) {}, true, "", ""},
		"without grant":  {func(*protocol.LeaseCertificate) {}, false, "", protocol.ReasonNotGranted},
		"another tenant": {func(c *protocol.LeaseCertificate) { c.Tenant = "mallory" }, true, protocol.ReasonAudience, protocol.ReasonAudience},
		"no tenant":      {func(c *protocol.LeaseCertificate) { c.Tenant = "" }, true, protocol.ReasonAudience, protocol.ReasonAudience},
		"another image":  {func(c *protocol.LeaseCertificate) { c.Registers[0].Value = bytes.Repeat([]byte{9}, 48) }, true, protocol.ReasonAudience, protocol.ReasonAudience},
		"serves alone":   {func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleServe) }, true, protocol.ReasonRole, protocol.ReasonRole},
		"contributes":    {func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) }, true, "", protocol.ReasonRole},
		"decrypts":       {func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleDecrypt) }, true, protocol.ReasonRole, ""},
	} {
		a := w.Agent(t, tc.change)
		if tc.granted {
			a.GrantRound(t, r, signed)
		}
		raw, err := federation.SignContribution(a.Key, a.Chain, contribution(w, a, r, signed))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = federation.VerifyContribution(raw, w.Roots(), w.Floor(), r)
		wantReason(t, name+" contributes", err, tc.contribute)
		raw, err = federation.SignResult(a.Key, a.Chain, federation.Result{Round: r.ID, RoundDigest: ticket.RoundDigest, TicketDigest: digest.Digest{1}, Agent: a.Key.Public().ID(),
			Length: 100, Step: 1, Divisor: 1, Time: begin.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = federation.VerifyResult(raw, w.Roots(), w.Floor(), r, ticket, digest.Digest{1})
		wantReason(t, name+" decrypts", err, tc.decrypt)
	}
}

// Where parties hold the key, as many of them as the threshold sign the result, and nobody
// else: fewer cannot know the sum.
func TestPartiesSignTheirResult(t *testing.T) {
	p := newParties(t)
	r := p.define(t, nil)
	ticket := federation.Ticket{Round: r.ID}
	sign := func(a *federationtest.Agent, values byte) []byte {
		raw, err := federation.SignResult(a.Key, a.Chain, federation.Result{Round: r.ID, TicketDigest: digest.Digest{1}, Agent: a.Key.Public().ID(),
			Length: 100, Values: digest.Digest{values}, Step: 1, Divisor: 1, Time: begin.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	one, two, three := sign(p.agents[0], 7), sign(p.agents[1], 7), sign(p.agents[2], 7)
	join := func(signed ...[]byte) []byte {
		raw, err := federation.JoinResults(signed)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	_, _, err := federation.VerifyPartyResult(one, p.Roots(), p.Floor(), r, ticket, digest.Digest{1})
	wantReason(t, "a party's word", err, "")
	_, _, err = federation.VerifyPartyResult(sign(p.Agent(t, nil), 7), p.Roots(), p.Floor(), r, ticket, digest.Digest{1})
	wantReason(t, "a stranger's word", err, federation.ReasonParties)
	whole, _, _ := p.Round(t, 100, nil)
	_, _, err = federation.VerifyPartyResult(one, p.Roots(), p.Floor(), whole, ticket, digest.Digest{1})
	wantReason(t, "a round without parties", err, federation.ReasonParties)
	for name, tc := range map[string]struct {
		raw  []byte
		want refusal.Reason
	}{
		"two of three":         {join(one, two), ""},
		"two others":           {join(three, one), ""},
		"one party":            {one, federation.ReasonParties},
		"one party, joined":    {join(one), federation.ReasonParties},
		"one more":             {join(one, two, three), federation.ReasonParties},
		"one party, twice":     {join(one, one), federation.ReasonParties},
		"one party, in turns":  {join(one, sign(p.agents[0], 7)), federation.ReasonParties},
		"other values":         {join(one, sign(p.agents[1], 66)), federation.ReasonParties},
		"a party and a guest":  {join(one, sign(p.Agent(t, nil), 7)), federation.ReasonParties},
		"nobody":               {join(), federation.ReasonParties},
		"cut off":              {join(one, two)[:len(one)], federation.ReasonMalformed},
		"trailing bytes":       {append(join(one, two), 0), federation.ReasonMalformed},
		"what is no statement": {join(one, []byte("x")), federation.ReasonMalformed},
	} {
		res, _, err := federation.VerifyResult(tc.raw, p.Roots(), p.Floor(), r, ticket, digest.Digest{1})
		wantReason(t, name, err, tc.want)
		if tc.want == "" && res.Values != (digest.Digest{7}) {
			t.Errorf("%s: %+v", name, res)
		}
	}
}

// The key of an epoch that is over, or retired, opens nothing: not even by dating back.
func TestEndedEpochOpensNoRound(t *testing.T) {
	w := federationtest.New(t)
	r, signed, _ := w.Round(t, 100, nil)
	_, setup := w.Setup(t, 2, w.Agent(t, nil), w.Agent(t, nil))
	a := w.Agent(t, nil)
	raw, err := federation.SignContribution(a.Key, a.Chain, contribution(w, a, r, signed))
	if err != nil {
		t.Fatal(err)
	}
	ticket, err := federation.SignTicket(w.EpochKey, w.EpochSigned, federation.Ticket{Round: r.ID, RoundDigest: digest.Of(signed), Broker: w.Epoch.Broker, Epoch: 1,
		Count: 2, TotalWeight: 2, Time: begin + 5})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		floor protocol.Floor
		want  refusal.Reason
	}{
		"over":     {protocol.Live(protocol.AtLeast(1), w.Epoch.NotAfter), protocol.ReasonEpochNotValid},
		"retired":  {protocol.Live(protocol.AtLeast(2), begin.Add(time.Minute)), protocol.ReasonEpochRetired},
		"unstated": {protocol.Floor{}, protocol.ReasonEpochRetired},
	} {
		_, err := federation.VerifyRound(signed, w.Roots(), w.Broker(), tc.floor)
		wantReason(t, "round, "+name, err, tc.want)
		_, err = federation.VerifySetup(setup, w.Roots(), w.Broker(), tc.floor)
		wantReason(t, "set-up, "+name, err, tc.want)
		_, _, err = federation.VerifyContribution(raw, w.Roots(), tc.floor, r)
		wantReason(t, "contribution, "+name, err, tc.want)
		_, err = federation.VerifyTicket(ticket, w.Roots(), tc.floor, r, digest.Of(signed))
		wantReason(t, "ticket, "+name, err, tc.want)
	}
}

// Statements of the first version, which named no guests, are refused as what they are.
func TestFirstVersionIsRefused(t *testing.T) {
	w := federationtest.New(t)
	r, _, _ := w.Round(t, 100, nil)
	former := func(kind string) []byte {
		label := "anchorhold/fed/" + kind + "/1"
		return append(append([]byte{byte(len(label))}, label...), make([]byte, 64)...)
	}
	s := federation.Setup{}
	for kind, verify := range map[string]func([]byte) error{
		"round": func(b []byte) error {
			_, err := federation.VerifyRound(b, w.Roots(), w.Broker(), w.Floor())
			return err
		},
		"setup": func(b []byte) error {
			_, err := federation.VerifySetup(b, w.Roots(), w.Broker(), w.Floor())
			return err
		},
		"ticket": func(b []byte) error {
			_, err := federation.VerifyTicket(b, w.Roots(), w.Floor(), r, digest.Digest{})
			return err
		},
		"contribution": func(b []byte) error {
			_, _, err := federation.VerifyContribution(b, w.Roots(), w.Floor(), r)
			return err
		},
		"result": func(b []byte) error {
			_, _, err := federation.VerifyResult(b, w.Roots(), w.Floor(), r, federation.Ticket{}, digest.Digest{})
			return err
		},
		"party": func(b []byte) error {
			_, err := federation.VerifyPartyMessage(b, w.Roots(), w.Floor(), s, digest.Digest{})
			return err
		},
		"share": func(b []byte) error {
			_, err := federation.VerifyShare(b, w.Roots(), w.Floor(), r, digest.Digest{})
			return err
		},
	} {
		wantReason(t, kind, verify(former(kind)), federation.ReasonVersion)
		wantReason(t, kind+" as another", verify(former("cohort")), federation.ReasonMalformed)
	}
}
