package federation_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"flag"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// verifier is everything that a reader of one vector has.
type verifier struct {
	roots    []identity.Public
	broker   protocol.Broker
	floor    protocol.Floor
	v        *vectortest.Vector
	round    federation.Round
	ticket   federation.Ticket
	setup    federation.Setup
	exporter []byte
}

func newVerifier(t *testing.T, v *vectortest.Vector, minEpoch uint64) verifier {
	t.Helper()
	root := public(t, v, "root")
	x := verifier{roots: []identity.Public{root}, broker: protocol.Of(root.ID()), v: v, exporter: v.Given["exporter"],
		floor: protocol.Live(protocol.AtLeast(minEpoch), protocol.Time(v.Now))}
	floor := protocol.Recorded(protocol.AtLeast(v.MinEpoch))
	var err error
	if signed := v.Given["round"]; signed != nil {
		if x.round, err = federation.VerifyRound(signed, x.roots, x.broker, floor); err != nil {
			t.Fatal(err)
		}
	}
	if signed := v.Given["ticket"]; signed != nil {
		if x.ticket, err = federation.VerifyTicket(signed, x.roots, floor, x.round, digest.Of(v.Given["round"])); err != nil {
			t.Fatal(err)
		}
	}
	if signed := v.Given["setup"]; signed != nil {
		if x.setup, err = federation.VerifySetup(signed, x.roots, x.broker, floor); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

func public(t *testing.T, v *vectortest.Vector, name string) identity.Public {
	t.Helper()
	p, err := identity.ParsePublic(v.PublicKeys[name])
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// kinds are the signed statements of a round. A new one has to be added here.
var kinds = map[string]struct {
	fields func() any
	verify func(x verifier, signed []byte) error
	create func(t *testing.T) vectortest.Vector
}{
	"round": {func() any { return new(federation.Round) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifyRound(signed, x.roots, x.broker, x.floor)
		return err
	}, createRound},
	"setup": {func() any { return new(federation.Setup) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifySetup(signed, x.roots, x.broker, x.floor)
		return err
	}, createSetup},
	"ticket": {func() any { return new(federation.Ticket) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifyTicket(signed, x.roots, x.floor, x.round, digest.Of(x.v.Given["round"]))
		return err
	}, createTicket},
	"contribution": {func() any { return new(federation.Contribution) }, func(x verifier, signed []byte) error {
		c, _, err := federation.VerifyContribution(signed, x.roots, x.floor, x.round)
		if err == nil {
			err = c.Follows(x.round, digest.Of(x.v.Given["round"]))
		}
		return err
	}, createContribution},
	"result": {func() any { return new(federation.Result) }, func(x verifier, signed []byte) error {
		_, _, err := federation.VerifyResult(signed, x.roots, x.floor, x.round, x.ticket, digest.Of(x.v.Given["ticket"]))
		return err
	}, createResult},
	"party": {func() any { return new(federation.PartyMessage) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifyPartyMessage(signed, x.roots, x.floor, x.setup, digest.Of(x.v.Given["setup"]))
		return err
	}, createParty},
	"share": {func() any { return new(federation.Share) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifyShare(signed, x.roots, x.floor, x.round, digest.Of(x.v.Given["ticket"]))
		return err
	}, createShare},
	"access": {func() any { return new(federation.Access) }, func(x verifier, signed []byte) error {
		_, err := federation.VerifyAccess(signed, x.roots, x.floor, federation.BindingOf(x.exporter))
		return err
	}, createAccess},
}

// TestVectors reads every vector, builds its bytes from the fields alone, and has this package
// judge it and what it must refuse.
func TestVectors(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			v := vectortest.Load(t, name+"-2", *update, func() vectortest.Vector { return k.create(t) })
			rebuild(t, &v, k.fields())
			v.Verify(t, func(signed []byte, minEpoch uint64) error { return k.verify(newVerifier(t, &v, minEpoch), signed) })
		})
	}
}

// rebuild builds the bytes as docs/protocol.md describes them, without this package's codec.
func rebuild(t *testing.T, v *vectortest.Vector, fields any) {
	t.Helper()
	if err := json.Unmarshal(v.Fields, fields); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(fields)
	if err != nil || !bytes.Equal(body, v.Compact(t)) {
		t.Fatalf("the fields encode as %s: %v", body, err)
	}
	var signed []byte
	for _, part := range [][]byte{[]byte(v.Context), body, v.Chain} {
		signed = append(binary.BigEndian.AppendUint32(signed, uint32(len(part))), part...)
	}
	statement := append([]byte{byte(len(v.Context))}, v.Context...)
	for _, part := range [][]byte{body, v.Chain} {
		statement = append(statement, byte(len(part)>>16), byte(len(part)>>8), byte(len(part)))
		statement = append(statement, part...)
	}
	statement = append(binary.BigEndian.AppendUint16(statement, uint16(len(v.Signature))), v.Signature...)
	v.Rebuilt(t, signed, statement)
}

// vectorOf takes a statement apart for its vector, with the refusals that each kind has.
func vectorOf(t *testing.T, about, specification string, keys map[string]identity.Public, signed []byte) vectortest.Vector {
	t.Helper()
	v := vectortest.Vector{About: about, Specification: specification, PublicKeys: map[string]vectortest.Hex{}, Statement: signed, Verdict: vectortest.Accepted}
	for name, k := range keys {
		v.PublicKeys[name] = k.Bytes()
	}
	next := func(n int) []byte {
		size := 0
		for _, b := range signed[:n] {
			size = size<<8 | int(b)
		}
		part := signed[n : n+size]
		signed = signed[n+size:]
		return part
	}
	v.Context = string(next(1))
	body := next(3)
	v.Fields, v.Chain, v.Signature = body, next(3), next(2)
	v.Signed = protocol.Join(v.Context, body, v.Chain)
	at := len(v.Context)
	v.Damage(1+at+3+len(body)/2, federation.ReasonMalformed, federation.ReasonSignature)
	v.Refused = append(v.Refused,
		vectortest.Refused{About: "the label is of version 1", Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: []byte("1")}, Reason: string(federation.ReasonVersion)},
		vectortest.Refused{About: "the label is of version 3", Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: []byte("3")}, Reason: string(federation.ReasonMalformed)})
	return v
}

// broker is the world of one vector, whose private keys end with the process.
type broker struct {
	*federationtest.World
	t *testing.T
}

func newBroker(t *testing.T) broker { return broker{federationtest.New(t), t} }

// vector is that of a statement; signer names the key that signed it.
func (b broker) vector(about, section, signer string, key identity.Public, signed []byte) vectortest.Vector {
	b.t.Helper()
	v := vectorOf(b.t, about, "docs/protocol.md section "+section, map[string]identity.Public{"root": b.Root.Public(), signer: key}, signed)
	v.MinEpoch, v.Now, v.Given = 1, uint64(begin+60_000), map[string]vectortest.Hex{}
	v.Refused = append(v.Refused, vectortest.Refused{About: "the verifier's lowest epoch is 2", MinEpoch: 2, Reason: string(protocol.ReasonEpochRetired)})
	return v
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// small is a round whose public key is a placeholder: no statement looks inside.
func (b broker) small(change func(*federation.Round)) (federation.Round, []byte) {
	r, signed, _ := b.Round(b.t, 100, func(r *federation.Round) {
		r.PublicKey = []byte("public key")
		if change != nil {
			change(r)
		}
	})
	return r, signed
}

func createRound(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	r, signed := b.small(nil)
	v := b.vector("a round of a weighted mean without noise, whose key one guest holds", "12", "epoch", b.EpochKey.Public(), signed)
	byAgent := must[[]byte](t)(federation.SignRound(b.Agent(t, nil).Key, b.EpochSigned, r))
	r.Opened = b.Epoch.NotBefore - 1
	early := must[[]byte](t)(federation.SignRound(b.EpochKey, b.EpochSigned, r))
	v.Refused = append(v.Refused, vectortest.Refused{About: "an agent signed it", Statement: byAgent, Reason: string(federation.ReasonSignature)},
		vectortest.Refused{About: "opened before the epoch began", Statement: early, Reason: string(federation.ReasonSignature)})
	return v
}

func createSetup(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	s, signed := b.Setup(t, 2, b.Agent(t, nil), b.Agent(t, nil), b.Agent(t, nil))
	v := b.vector("a set-up of a key that three agents hold, two of which decrypt", "12", "epoch", b.EpochKey.Public(), signed)
	s.Opened = b.Epoch.NotBefore - 1
	early := must[[]byte](t)(federation.SignSetup(b.EpochKey, b.EpochSigned, s))
	v.Refused = append(v.Refused, vectortest.Refused{About: "opened before the epoch began", Statement: early, Reason: string(federation.ReasonSignature)})
	return v
}

// close is a ticket for two contributions of weight 1.
func (b broker) close(r federation.Round, round []byte) (federation.Ticket, []byte) {
	t := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(round), Broker: b.Epoch.Broker, Epoch: b.Epoch.Epoch,
		Cohort: federation.CohortDigest([]digest.Digest{{1}, {2}, {3}, {4}}), Count: 4, TotalWeight: 4, Sum: federation.UploadDigest(r.ID, []digest.Digest{{5}}), Delta: r.Delta, Time: begin + 50_000}
	return t, must[[]byte](b.t)(federation.SignTicket(b.EpochKey, b.EpochSigned, t))
}

func createTicket(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	r, round := b.small(nil)
	ticket, signed := b.close(r, round)
	v := b.vector("a ticket that closes the given round over four contributions", "12", "epoch", b.EpochKey.Public(), signed)
	v.Given["round"] = round
	ticket.RoundDigest[0] ^= 1
	other := must[[]byte](t)(federation.SignTicket(b.EpochKey, b.EpochSigned, ticket))
	v.Refused = append(v.Refused, vectortest.Refused{About: "it names another statement of the round", Statement: other, Reason: string(federation.ReasonWrongRound)})
	return v
}

func createContribution(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	r, round := b.small(nil)
	a := b.Agent(t, nil)
	c := contribution(b.World, a, r, round)
	c.Answers = []digest.ReceiptID{{1}, {2}}
	sign := func(by *federationtest.Agent, key *identity.Private, c federation.Contribution) []byte {
		return must[[]byte](t)(federation.SignContribution(key, by.Chain, c))
	}
	v := b.vector("a contribution of one block to the given round, with two proven answers", "12", "agent", a.Key.Public(), sign(a, a.Key, c))
	v.Given["round"] = round
	late := c
	late.Time = a.Lease.NotAfter
	server := b.Agent(t, func(l *protocol.LeaseCertificate) { federationtest.SetRoles(l, protocol.RoleServe) })
	v.Refused = append(v.Refused,
		vectortest.Refused{About: "another agent signed it under this lease", Statement: sign(a, b.Agent(t, nil).Key, c), Reason: string(federation.ReasonSignature)},
		vectortest.Refused{About: "signed when the lease was over", Statement: sign(a, a.Key, late), Reason: string(federation.ReasonOutsideLease)},
		vectortest.Refused{About: "the lease has the role serve alone", Statement: sign(server, server.Key, c), Reason: string(protocol.ReasonRole)})
	return v
}

func createResult(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	r, round := b.small(nil)
	_, ticket := b.close(r, round)
	a, without := b.Agent(t, nil).GrantRound(t, r, round), b.Agent(t, nil)
	res := federation.Result{Round: r.ID, RoundDigest: digest.Of(round), TicketDigest: digest.Of(ticket), Agent: a.Key.Public().ID(), Length: r.Length,
		Values: sha256.Sum256([]byte("values")), Step: 0.25, Divisor: 4, Time: begin + 60_000}
	v := b.vector("a result of the given round, by the guest that its key was released to", "12", "agent", a.Key.Public(), must[[]byte](t)(federation.SignResult(a.Key, a.Chain, res)))
	v.Given["round"], v.Given["ticket"] = round, ticket
	res.Agent = without.Key.Public().ID()
	v.Refused = append(v.Refused, vectortest.Refused{About: "a guest without the round's key signed it", Statement: must[[]byte](t)(federation.SignResult(without.Key, without.Chain, res)), Reason: string(protocol.ReasonNotGranted)})
	return v
}

func createParty(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	first, second := b.Agent(t, nil), b.Agent(t, nil)
	s, setup := b.Setup(t, 2, first, second)
	commit := federation.PartyMessage{Kind: federation.PartyCommit, Payload: make([]byte, federation.CommitBytes)}
	v := b.vector("the commitment of party 2 in the given set-up", "12", "agent", second.Key.Public(), second.Message(t, s, setup, commit, nil))
	v.Given["setup"] = setup
	v.Refused = append(v.Refused, vectortest.Refused{About: "party 2 speaks as party 1", Reason: string(federation.ReasonSignature),
		Statement: second.Message(t, s, setup, commit, func(m *federation.PartyMessage) { m.From = 1 })})
	return v
}

func createShare(t *testing.T) vectortest.Vector {
	p := newParties(t)
	b := broker{p.World, t}
	r := p.define(t, func(r *federation.Round) { r.PublicKey = []byte("public key") })
	round := must[[]byte](t)(federation.SignRound(p.EpochKey, p.EpochSigned, r))
	_, ticket := b.close(r, round)
	a := p.agents[0]
	s := federation.Share{Round: r.ID, TicketDigest: digest.Of(ticket), Agent: a.Key.Public().ID(), From: 1, Active: []uint32{1, 3}, Blocks: 1,
		Upload: federation.UploadDigest(r.ID, []digest.Digest{{1}}), Time: begin + 60_000}
	v := b.vector("the share of party 1, which decrypts with party 3", "12", "agent", a.Key.Public(), must[[]byte](t)(federation.SignShare(a.Key, a.Chain, s)))
	v.Given["round"], v.Given["ticket"] = round, ticket
	s.Active = []uint32{1}
	v.Refused = append(v.Refused, vectortest.Refused{About: "one party alone", Statement: must[[]byte](t)(federation.SignShare(a.Key, a.Chain, s)), Reason: string(federation.ReasonParties)})
	return v
}

func createAccess(t *testing.T) vectortest.Vector {
	b := newBroker(t)
	a := b.Agent(t, nil)
	exporter := bytes.Repeat([]byte{3}, 32)
	access := federation.Access{Binding: federation.BindingOf(exporter), Agent: a.Key.Public().ID(), Time: begin + 30_000}
	v := b.vector("an agent's word about a connection whose exporter is given", "12", "agent", a.Key.Public(), must[[]byte](t)(federation.SignAccess(a.Key, a.Chain, access)))
	v.Given["exporter"] = exporter
	access.Binding[0] ^= 1
	v.Refused = append(v.Refused, vectortest.Refused{About: "about another connection", Statement: must[[]byte](t)(federation.SignAccess(a.Key, a.Chain, access)), Reason: string(federation.ReasonSignature)})
	return v
}

// TestAgreedVector: what two of three parties signed about the same values, joined.
func TestAgreedVector(t *testing.T) {
	v := vectortest.Load(t, "agreed-1", *update, func() vectortest.Vector { return createAgreed(t) })
	var fields struct {
		Results []vectortest.Hex `json:"results"`
	}
	if err := json.Unmarshal(v.Fields, &fields); err != nil {
		t.Fatal(err)
	}
	statement := append([]byte("anchorhold/fed/agreed/1\n"), byte(len(fields.Results)))
	for _, r := range fields.Results {
		statement = append(append(statement, byte(len(r)>>16), byte(len(r)>>8), byte(len(r))), r...)
	}
	v.Rebuilt(t, nil, statement)
	v.Verify(t, func(joined []byte, minEpoch uint64) error {
		return kinds["result"].verify(newVerifier(t, &v, minEpoch), joined)
	})
}

func createAgreed(t *testing.T) vectortest.Vector {
	p := newParties(t)
	b := broker{p.World, t}
	r := p.define(t, func(r *federation.Round) { r.PublicKey = []byte("public key") })
	round := must[[]byte](t)(federation.SignRound(p.EpochKey, p.EpochSigned, r))
	_, ticket := b.close(r, round)
	sign := func(i int, length uint64) vectortest.Hex {
		a := p.agents[i]
		return must[[]byte](t)(federation.SignResult(a.Key, a.Chain, federation.Result{Round: r.ID, RoundDigest: digest.Of(round), TicketDigest: digest.Of(ticket),
			Agent: a.Key.Public().ID(), Length: length, Values: sha256.Sum256([]byte("values")), Step: 0.25, Divisor: 4, Sigma: 1, Time: begin + 60_000}))
	}
	join := func(results ...vectortest.Hex) vectortest.Hex {
		var list [][]byte
		for _, r := range results {
			list = append(list, r)
		}
		return must[[]byte](t)(federation.JoinResults(list))
	}
	first, third := sign(0, r.Length), sign(2, r.Length)
	v := vectortest.Vector{About: "what parties 1 and 3 signed about the same values", Specification: "docs/protocol.md section 12",
		PublicKeys: map[string]vectortest.Hex{"root": p.Root.Public().Bytes()}, MinEpoch: 1, Now: uint64(begin + 60_000), Statement: join(first, third), Verdict: vectortest.Accepted,
		Given:  map[string]vectortest.Hex{"round": round, "ticket": ticket},
		Fields: must[[]byte](t)(json.Marshal(map[string]any{"results": []vectortest.Hex{first, third}}))}
	for about, joined := range map[string]vectortest.Hex{"one party alone": join(first), "one party twice": join(first, first), "other values": join(first, sign(2, r.Length+1))} {
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: joined, Reason: string(federation.ReasonParties)})
	}
	v.Refused = append(v.Refused, vectortest.Refused{About: "the label is another", Edit: &vectortest.Edit{Offset: 0, Remove: 1, Insert: []byte("b")}, Reason: string(federation.ReasonParties)})
	return v
}

// TestDatasetVector: a publisher's word, which no chain stands behind.
func TestDatasetVector(t *testing.T) {
	v := vectortest.Load(t, "dataset-2", *update, func() vectortest.Vector {
		k := must[*identity.Private](t)(identity.Generate(identity.LevelEpoch))
		defer k.Wipe()
		d := federation.Dataset{ID: digest.Digest{1}, Name: "digits", Time: begin}
		v := vectorOf(t, "a publisher's dataset", "docs/protocol.md section 12", map[string]identity.Public{"publisher": k.Public()}, must[[]byte](t)(federation.SignDataset(k, d)))
		other := must[*identity.Private](t)(identity.Generate(identity.LevelEpoch))
		defer other.Wipe()
		v.Refused = append(v.Refused, vectortest.Refused{About: "another publisher signed it", Statement: must[[]byte](t)(federation.SignDataset(other, d)), Reason: string(federation.ReasonSignature)})
		return v
	})
	rebuild(t, &v, new(federation.Dataset))
	v.Verify(t, func(signed []byte, _ uint64) error {
		_, err := federation.VerifyDataset(signed, []identity.Public{public(t, &v, "publisher")})
		return err
	})
}
