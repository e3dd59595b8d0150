package federation_test

import (
	"bytes"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// parties are three agents and a round of theirs, two of which decrypt.
type parties struct {
	*federationtest.World
	agents []*federationtest.Agent
	key    *federation.PartyKey
}

func newParties(t *testing.T) *parties {
	t.Helper()
	p := &parties{World: federationtest.New(t)}
	for range 3 {
		p.agents = append(p.agents, p.Agent(t, nil))
	}
	p.key = p.PartyKey(t, []byte("public key"), 2, p.agents...)
	return p
}

// define makes the round of the parties' key; change alters it at the end.
func (p *parties) define(t *testing.T, change func(*federation.Round)) federation.Round {
	t.Helper()
	r, _, _ := p.Round(t, 100, nil)
	if err := p.key.Adopt(&r, p.Roots(), p.Broker(), p.Floor()); err != nil {
		t.Fatal(err)
	}
	r.Parties.Ready, r.Decryptors = slices.Clone(r.Parties.Ready), protocol.Audience{}
	set, err := params.Lookup(params.Threshold)
	if err != nil {
		t.Fatal(err)
	}
	r.Set, r.SetDigest, r.Recount, r.Minimum = set.ID, set.Digest(), true, 4
	r.Noise.Mechanism, r.Noise.Multiplier, r.Epsilon, r.Delta = federation.DiscreteGaussian, 1, 5, 1e-5
	r.Noise.Share = r.ShareFor(1)
	if change != nil {
		change(&r)
	}
	return r
}

func TestARoundOfSeveralParties(t *testing.T) {
	p := newParties(t)
	r := p.define(t, nil)
	if want := math.Sqrt(4.0 / 3); math.Abs(r.Noise.Share-want) > 1e-12 {
		t.Errorf("share %g: one of four may give nothing, so %g is needed", r.Noise.Share, want)
	}
	signed, err := federation.SignRound(p.EpochKey, p.EpochSigned, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := federation.VerifyRound(signed, p.Roots(), p.Broker(), p.Floor()); err != nil {
		t.Fatal(err)
	}
	// The share of the noise is never clamped.
	g, err := r.Grid()
	if err != nil {
		t.Fatal(err)
	}
	sigma, err := r.ShareSigma()
	if err != nil || 15*sigma > float64(g.Limit) {
		t.Errorf("deviation %g and a limit of %d: %v", sigma, g.Limit, err)
	}
	total, err := r.Sigma()
	if err != nil || math.Abs(sigma*math.Sqrt(3)-total) > 1e-6*total {
		t.Errorf("three honest shares of %g give %g: %v", sigma, total, err)
	}
	for name, tc := range map[string]struct {
		change func(*federation.Round)
		want   refusal.Reason
	}{
		"no parties":         {func(r *federation.Round) { r.Parties = nil }, federation.ReasonParties},
		"another set":        {func(r *federation.Round) { r.Set = params.Template }, federation.ReasonParties},
		"one party":          {func(r *federation.Round) { r.Parties.Threshold = 1 }, federation.ReasonParties},
		"more than all":      {func(r *federation.Round) { r.Parties.Threshold = 4 }, federation.ReasonParties},
		"twice":              {func(r *federation.Round) { r.Parties.Agents[1] = r.Parties.Agents[0] }, federation.ReasonParties},
		"too many":           {func(r *federation.Round) { r.Parties.Agents = make([]digest.Digest, 17) }, federation.ReasonParties},
		"one is not ready":   {func(r *federation.Round) { r.Parties.Ready = r.Parties.Ready[1:] }, federation.ReasonParties},
		"others decrypt":     {func(r *federation.Round) { r.Decryptors = protocol.Everyone() }, federation.ReasonRound},
		"nobody recounts":    {func(r *federation.Round) { r.Recount = false }, federation.ReasonRound},
		"a median":           {func(r *federation.Round) { r.Rule = federation.Median }, federation.ReasonRound},
		"too small a cohort": {func(r *federation.Round) { r.Minimum, r.Parties.Threshold = 2, 3 }, federation.ReasonRound},
		"too little noise":   {func(r *federation.Round) { r.Noise.Share = 1 }, federation.ReasonRound},
		"Laplace":            {func(r *federation.Round) { r.Noise.Mechanism = federation.DiscreteLaplace }, federation.ReasonRound},
	} {
		_, err := federation.SignRound(p.EpochKey, p.EpochSigned, p.define(t, tc.change))
		wantReason(t, name, err, tc.want)
	}
}

// What the parties did not vouch for is no key, even if the broker signs it; nor may it say
// that another number of them opens it.
func TestTheBrokerCannotChangeTheKey(t *testing.T) {
	p := newParties(t)
	other := p.PartyKey(t, []byte("public key"), 2, p.agents...)
	_, setup := p.Setup(t, 2, p.agents...)
	_, stranger := federationtest.New(t).Setup(t, 2, p.agents...)
	for name, tc := range map[string]struct {
		change func(*federation.Round)
		want   refusal.Reason
	}{
		"another key":      {func(r *federation.Round) { r.PublicKey = []byte("another") }, federation.ReasonParties},
		"another round":    {func(r *federation.Round) { r.ID[0] ^= 1 }, federation.ReasonWrongRound},
		"another set-up":   {func(r *federation.Round) { r.Parties.Setup = setup }, federation.ReasonWrongRound},
		"no set-up":        {func(r *federation.Round) { r.Parties.Setup = nil }, federation.ReasonMalformed},
		"another's set-up": {func(r *federation.Round) { r.Parties.Setup = stranger }, protocol.ReasonBrokerUnknown},
		"a higher threshold": {func(r *federation.Round) {
			r.Parties.Threshold = 3
			r.Noise.Share = r.ShareFor(1)
		}, federation.ReasonParties},
		"a party less": {func(r *federation.Round) {
			r.Parties.Agents, r.Parties.Ready = r.Parties.Agents[:2], r.Parties.Ready[:2]
		}, federation.ReasonParties},
		"words of another key": {func(r *federation.Round) { r.Parties.Ready[2] = other.Ready[2] }, federation.ReasonWrongRound},
		"one speaks for two":   {func(r *federation.Round) { r.Parties.Ready[2] = r.Parties.Ready[1] }, federation.ReasonParties},
		"another order": {func(r *federation.Round) {
			a := r.Parties
			a.Agents[0], a.Agents[1] = a.Agents[1], a.Agents[0]
		}, federation.ReasonParties},
		"nonsense": {func(r *federation.Round) { r.Parties.Ready[0] = []byte("ready") }, federation.ReasonMalformed},
	} {
		signed, err := federation.SignRound(p.EpochKey, p.EpochSigned, p.define(t, tc.change))
		if err != nil {
			t.Fatal(name, err)
		}
		_, err = federation.VerifyRound(signed, p.Roots(), p.Broker(), p.Floor())
		wantReason(t, name, err, tc.want)
	}
	// A party that saw other messages than the others.
	setupS, setupSigned := p.Setup(t, 2, p.agents...)
	k := &federation.PartyKey{Setup: setupSigned, PublicKey: []byte("k")}
	sum := [32]byte(digest.Of([]byte("k")))
	for i, a := range p.agents {
		k.Ready = append(k.Ready, a.Message(t, setupS, setupSigned, federation.PartyMessage{Kind: federation.PartyReady, View: digest.Digest{byte(i)}, Payload: sum[:]}, nil))
	}
	p.key = k
	signed, err := federation.SignRound(p.EpochKey, p.EpochSigned, p.define(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	_, err = federation.VerifyRound(signed, p.Roots(), p.Broker(), p.Floor())
	wantReason(t, "other views", err, federation.ReasonParties)
}

func TestSetupsAreLimited(t *testing.T) {
	p := newParties(t)
	for name, prep := range map[string]federation.Preparation{
		"nobody": {Threshold: 2}, "one": {Threshold: 2, Agents: []digest.Digest{{1}}}, "threshold of one": {Threshold: 1, Agents: []digest.Digest{{1}, {2}}},
		"twice": {Threshold: 2, Agents: []digest.Digest{{1}, {1}}},
	} {
		_, err := prep.Setup(p.Epoch.Broker, 1, begin)
		wantReason(t, name, err, federation.ReasonParties)
	}
	_, err := federation.Preparation{Threshold: 2, Agents: []digest.Digest{{1}, {2}}, Duration: -time.Second}.Setup(p.Epoch.Broker, 1, begin)
	wantReason(t, "ends first", err, federation.ReasonRound)
	s, signed := p.Setup(t, 2, p.agents...)
	if got, err := federation.VerifySetup(signed, p.Roots(), p.Broker(), p.Floor()); err != nil || got.Round != s.Round || got.Closes != begin.Add(10*time.Minute) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := federation.VerifySetup(signed, federationtest.New(t).Roots(), p.Broker(), p.Floor()); err == nil {
		t.Error("another root vouched for it")
	}
	s.Set = params.Default
	_, err = federation.SignSetup(p.EpochKey, p.EpochSigned, s)
	wantReason(t, "another set", err, federation.ReasonSet)
	s.Set, s.Epoch = params.Threshold, 2
	signed, err = federation.SignSetup(p.EpochKey, p.EpochSigned, s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = federation.VerifySetup(signed, p.Roots(), p.Broker(), p.Floor())
	wantReason(t, "another epoch", err, federation.ReasonSignature)
	if err := (&federation.PartyKey{Setup: signed}).Adopt(&federation.Round{}, p.Roots(), p.Broker(), p.Floor()); err == nil {
		t.Error("adopted")
	}
}

func TestPartyMessages(t *testing.T) {
	p := newParties(t)
	s, signed := p.Setup(t, 2, p.agents...)
	sum := digest.Of(signed)
	commit := federation.PartyMessage{Kind: federation.PartyCommit, Payload: make([]byte, federation.CommitBytes)}
	deal := make([]byte, federation.DealKeyBytes+1)
	raw := p.agents[1].Message(t, s, signed, commit, nil)
	if m, err := federation.VerifyPartyMessage(raw, p.Roots(), p.Floor(), s, sum); err != nil || m.From != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	stranger := p.Agent(t, nil)
	late := p.Agent(t, func(c *protocol.LeaseCertificate) { c.NotAfter = begin + 500 })
	lateSetup, lateSigned := p.Setup(t, 2, late, p.agents[0])
	for name, tc := range map[string]struct {
		raw  []byte
		want refusal.Reason
	}{
		"a stranger":      {stranger.Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.From = 1 }), federation.ReasonSignature},
		"another party":   {p.agents[1].Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.From = 1 }), federation.ReasonSignature},
		"beyond all":      {p.agents[1].Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.From = 4 }), federation.ReasonSignature},
		"another set-up":  {p.agents[1].Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.Setup[0] ^= 1 }), federation.ReasonWrongRound},
		"after the end":   {p.agents[1].Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.Time = s.Closes }), federation.ReasonOutsideLease},
		"before it began": {p.agents[1].Message(t, s, signed, commit, func(m *federation.PartyMessage) { m.Time = s.Opened - 1 }), federation.ReasonOutsideLease},
		"for nobody": {p.agents[1].Message(t, s, signed, federation.PartyMessage{Kind: federation.PartyDeal, To: 4, Payload: make([]byte, federation.DealKeyBytes+1)}, nil),
			federation.ReasonParties},
		"changed": {bytes.Replace(raw, []byte(`"from":2`), []byte(`"from":3`), 1), federation.ReasonSignature},
	} {
		_, err := federation.VerifyPartyMessage(tc.raw, p.Roots(), p.Floor(), s, sum)
		if got, _ := refusal.ReasonOf(err); got != tc.want && !(tc.want == federation.ReasonOutsideLease && got == federation.ReasonParties) {
			t.Errorf("%s: %q, want %q: %v", name, got, tc.want, err)
		}
	}
	_, err := federation.VerifyPartyMessage(late.Message(t, lateSetup, lateSigned, commit, nil), p.Roots(), p.Floor(), lateSetup, digest.Of(lateSigned))
	wantReason(t, "after its lease", err, federation.ReasonOutsideLease)
	for name, m := range map[string]federation.PartyMessage{
		"kind": {Kind: "hello", From: 1, Payload: []byte{1}}, "deal for all": {Kind: federation.PartyDeal, From: 1, Payload: deal},
		"commit for one": {Kind: federation.PartyCommit, From: 1, To: 2, Payload: commit.Payload}, "to itself": {Kind: federation.PartyDeal, From: 1, To: 1, Payload: deal},
		"nobody": {Kind: federation.PartyCommit, Payload: commit.Payload},
		// Lengths, which whoever reads the message counts on.
		"no commitment": {Kind: federation.PartyCommit, From: 1}, "less than a hash": {Kind: federation.PartyCommit, From: 1, Payload: []byte{1}},
		"a hash alone": {Kind: federation.PartyCommit, From: 1, Payload: make([]byte, 32)}, "a long commitment": {Kind: federation.PartyCommit, From: 1, Payload: make([]byte, federation.CommitBytes+1)},
		"no share": {Kind: federation.PartyPublic, From: 1}, "a long share": {Kind: federation.PartyPublic, From: 1, Payload: make([]byte, 640<<10+1)},
		"a key and no deal": {Kind: federation.PartyDeal, From: 1, To: 2, Payload: deal[1:]}, "a long deal": {Kind: federation.PartyDeal, From: 1, To: 2, Payload: make([]byte, 640<<10+1)},
		"ready for no key": {Kind: federation.PartyReady, From: 1, Payload: []byte{1}},
	} {
		m.Time = 1
		_, err := federation.SignPartyMessage(p.agents[0].Key, p.agents[0].Chain, m)
		wantReason(t, name, err, federation.ReasonMalformed)
		// Who is dishonest signs it nevertheless.
		m.Round, m.Setup, m.Agent, m.Time = s.Round, sum, p.agents[0].Key.Public().ID(), begin+1000
		_, err = federation.VerifyPartyMessage(p.agents[0].Forge(t, "party", m), p.Roots(), p.Floor(), s, sum)
		wantReason(t, name+", forged", err, federation.ReasonMalformed)
	}
	commit.Round, commit.Setup, commit.From, commit.Agent, commit.Time = s.Round, sum, 1, p.agents[0].Key.Public().ID(), begin+1000
	if _, err := federation.VerifyPartyMessage(p.agents[0].Forge(t, "party", commit), p.Roots(), p.Floor(), s, sum); err != nil {
		t.Errorf("a forgery in form alone: %v", err)
	}
}

func TestShares(t *testing.T) {
	p := newParties(t)
	r := p.define(t, nil)
	ticket := digest.Digest{7}
	make1 := func(a *federationtest.Agent, change func(*federation.Share)) []byte {
		s := federation.Share{Round: r.ID, TicketDigest: ticket, Agent: a.Key.Public().ID(), From: 1, Active: []uint32{1, 3}, Blocks: 1,
			Upload: federation.UploadDigest(r.ID, []digest.Digest{{1}}), Time: begin + 1}
		if change != nil {
			change(&s)
		}
		raw, err := federation.SignShare(a.Key, a.Chain, s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	s, err := federation.VerifyShare(make1(p.agents[0], nil), p.Roots(), p.Floor(), r, ticket)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&federation.Manifest{Hashes: []digest.Digest{{1}}}).MatchesShare(s); err != nil {
		t.Error(err)
	}
	err = (&federation.Manifest{Hashes: []digest.Digest{{2}}}).MatchesShare(s)
	wantReason(t, "other blocks", err, federation.ReasonUpload)
	for name, tc := range map[string]struct {
		raw  []byte
		want refusal.Reason
	}{
		"another ticket":  {make1(p.agents[0], func(s *federation.Share) { s.TicketDigest[0] ^= 1 }), federation.ReasonWrongRound},
		"another round":   {make1(p.agents[0], func(s *federation.Share) { s.Round[0] ^= 1 }), federation.ReasonWrongRound},
		"another party":   {make1(p.agents[1], nil), federation.ReasonSignature},
		"too few":         {make1(p.agents[0], func(s *federation.Share) { s.Active = []uint32{1} }), federation.ReasonParties},
		"nobody":          {make1(p.agents[0], func(s *federation.Share) { s.Active = []uint32{1, 4} }), federation.ReasonParties},
		"after its lease": {make1(p.agents[0], func(s *federation.Share) { s.Time = begin.Add(time.Hour) }), federation.ReasonOutsideLease},
		"nonsense":        {[]byte("share"), federation.ReasonMalformed},
	} {
		_, err := federation.VerifyShare(tc.raw, p.Roots(), p.Floor(), r, ticket)
		wantReason(t, name, err, tc.want)
	}
	plain, _, _ := p.Round(t, 100, nil)
	_, err = federation.VerifyShare(make1(p.agents[0], func(s *federation.Share) { s.Round = plain.ID }), p.Roots(), p.Floor(), plain, ticket)
	wantReason(t, "a round without parties", err, federation.ReasonWrongRound)
	for name, s := range map[string]federation.Share{
		"not active": {From: 2, Active: []uint32{1, 3}, Blocks: 1, Time: 1}, "twice": {From: 1, Active: []uint32{1, 1}, Blocks: 1, Time: 1},
		"no blocks": {From: 1, Active: []uint32{1, 2}, Time: 1}, "no time": {From: 1, Active: []uint32{1, 2}, Blocks: 1},
	} {
		_, err := federation.SignShare(p.agents[0].Key, p.agents[0].Chain, s)
		wantReason(t, name, err, federation.ReasonMalformed)
	}
}
