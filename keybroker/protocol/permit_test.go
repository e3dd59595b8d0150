package protocol

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// permitted is a guest that was permitted three restarts for eight hours, and has restarted once.
type permitted struct {
	parties
	key     *identity.Private // the restart key
	boot    *identity.Private // AK after the restart
	epoch   EpochStatement
	lease   LeaseCertificate
	permit  Permit
	restart Restart
}

func newPermitted(t testing.TB) *permitted {
	p := &permitted{parties: newParties(t), key: generate(t, identity.LevelEpoch), boot: generate(t, identity.LevelEpoch)}
	p.epoch, p.lease = sampleEpoch(p.parties), sampleLease(p.parties)
	p.lease.Grants[1].Roles = RoleServe | RoleContribute
	p.permit = Permit{Broker: p.epoch.Broker, Epoch: 7, Lease: p.lease.Lease, Claims: digest.Digest{1}, RestartKey: p.key.Public(), Sealing: SealingTPM, Restarts: 3,
		Keys: []Permitted{{"models/demo", 3}}, NotBefore: p.lease.NotBefore, NotAfter: p.lease.NotBefore.Add(8 * time.Hour)}
	p.restart = Restart{Number: 1, AgentKey: p.boot.Public(), At: p.lease.NotBefore.Add(time.Hour), Clock: evidence.ClockParavirtual}
	return p
}

// sign makes the chain; change may spoil what is signed last, when digests are known.
func (p *permitted) sign(t testing.TB, change func(*permitted)) PermitChain {
	t.Helper()
	bytes := must[[]byte](t)
	var c PermitChain
	c.Epoch = bytes(SignEpoch(p.root, p.epoch))
	c.Lease = bytes(SignLease(p.parties.epoch, p.lease))
	p.permit.Certificate = digest.Of(c.Lease)
	q := *p
	if change != nil {
		change(&q)
	}
	c.Permit = bytes(SignPermit(q.parties.epoch, q.permit))
	if q.restart.Permit == (digest.Digest{}) {
		q.restart.Permit = digest.Of(c.Permit)
	}
	c.Restart = bytes(SignRestart(q.key, q.restart))
	return c
}

func (p *permitted) roots() []identity.Public { return []identity.Public{p.root.Public()} }

func (p *permitted) verify(t testing.TB, c PermitChain) (Authority, error) {
	t.Helper()
	return VerifyPermitted(must[[]byte](t)(c.Marshal()), p.roots(), AnyBroker(), Recorded(AtLeast(6)), Named("models/demo"), Everyone())
}

func TestAPermitLeavesTheRoleServeOfItsKeys(t *testing.T) {
	p := newPermitted(t)
	c := p.sign(t, nil)
	a, err := p.verify(t, c)
	if err != nil {
		t.Fatal(err)
	}
	l := a.Lease
	if len(l.Grants) != 1 || l.Grants[0].Resource != "models/demo" || l.Roles() != RoleServe || !l.AgentKey.Equal(p.boot.Public()) || l.NotBefore != p.restart.At || l.NotAfter != p.permit.NotAfter {
		t.Errorf("%+v", l)
	}
	if a.Permit == nil || a.Permit.Restart.Number != 1 || a.Permit.Digest != digest.Of(c.Permit) {
		t.Errorf("%+v", a.Permit)
	}
	chain := must[[]byte](t)(c.Marshal())
	if !IsPermitChain(chain) {
		t.Error("the chain is not known by its label")
	}
	// Whoever relies on a lease does not rely on a permit.
	_, err = VerifyAuthority(chain, p.roots(), AnyBroker(), Recorded(AtLeast(6)), RoleServe, Named("models/demo"), Everyone())
	wantReason(t, err, ReasonOnPermit)
}

// TestPermitRefusals: in each only one thing is wrong.
func TestPermitRefusals(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*permitted)
		want   refusal.Reason
	}{
		"signed by the agent":        {func(p *permitted) { p.parties.epoch = p.agent }, ReasonPermit},
		"another epoch":              {func(p *permitted) { p.permit.Epoch++ }, ReasonPermit},
		"another broker":             {func(p *permitted) { p.permit.Broker[0]++ }, ReasonPermit},
		"another lease":              {func(p *permitted) { p.permit.Lease[0]++ }, ReasonPermit},
		"another certificate":        {func(p *permitted) { p.permit.Certificate[0]++ }, ReasonPermit},
		"before the lease":           {func(p *permitted) { p.permit.NotBefore-- }, ReasonPermit},
		"after the lease":            {func(p *permitted) { p.permit.NotBefore = p.lease.NotAfter }, ReasonPermit},
		"longer than the epoch":      {func(p *permitted) { p.permit.NotAfter = p.epoch.NotAfter + 1 }, ReasonPermit},
		"a key that was not granted": {func(p *permitted) { p.permit.Keys = []Permitted{{"models/other", 3}} }, ReasonPermit},
		"another version of a key":   {func(p *permitted) { p.permit.Keys = []Permitted{{"models/demo", 4}} }, ReasonPermit},
		"restart by another key":     {func(p *permitted) { p.key = p.boot }, ReasonRestart},
		"restart of another permit":  {func(p *permitted) { p.restart.Permit = digest.Digest{9} }, ReasonRestart},
		"restart before the permit":  {func(p *permitted) { p.restart.At = p.permit.NotBefore - 1 }, ReasonRestart},
		"restart after the permit":   {func(p *permitted) { p.restart.At = p.permit.NotAfter }, ReasonRestart},
		"one restart too many":       {func(p *permitted) { p.restart.Number = 4 }, ReasonRestart},
		"a restart not counted":      {func(p *permitted) { p.restart.Number = 0 }, ReasonRestart},
		"counted by nothing":         {func(p *permitted) { p.permit.Sealing, p.permit.Restarts = SealingSNP, 0 }, ReasonRestart},
		"the key of something else":  {func(p *permitted) { p.permit.Keys = []Permitted{{"fed/0011", 1}} }, ReasonRole},
	} {
		p := newPermitted(t)
		_, err := p.verify(t, p.sign(t, tc.change))
		if reason, _ := refusal.ReasonOf(err); reason != tc.want {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	p := newPermitted(t)
	c := p.sign(t, nil)
	chain := must[[]byte](t)(c.Marshal())
	for name, tc := range map[string]struct {
		err  error
		want refusal.Reason
	}{
		"lowest epoch": {second(VerifyPermitted(chain, p.roots(), AnyBroker(), Recorded(AtLeast(8)), Named("models/demo"), Everyone())), ReasonEpochRetired},
		"broker":       {second(VerifyPermitted(chain, p.roots(), Of([32]byte{1}), Recorded(AtLeast(6)), Named("models/demo"), Everyone())), ReasonAnotherBroker},
		"resource":     {second(VerifyPermitted(chain, p.roots(), AnyBroker(), Recorded(AtLeast(6)), Named("fed/0011"), Everyone())), ReasonNotGranted},
		"audience":     {second(VerifyPermitted(chain, p.roots(), AnyBroker(), Recorded(AtLeast(6)), Named("models/demo"), Audience{})), ReasonAudience},
		"root":         {second(VerifyPermitted(chain, []identity.Public{generate(t, identity.LevelRoot).Public()}, AnyBroker(), Recorded(AtLeast(6)), Named("models/demo"), Everyone())), ReasonBrokerUnknown},
	} {
		if reason, _ := refusal.ReasonOf(tc.err); reason != tc.want {
			t.Errorf("%s: got %v, want %s", name, tc.err, tc.want)
		}
	}
	c.Restart = nil
	_, err := p.verify(t, c)
	wantReason(t, err, ReasonRestart)
	if _, err := c.VerifyPermit(p.roots()); err != nil {
		t.Errorf("a permit that was not used: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestPermitLimits: what is outside them has no encoding.
func TestPermitLimits(t *testing.T) {
	p := newPermitted(t)
	for name, change := range map[string]func(*Permit){
		"too long":             func(q *Permit) { q.NotAfter = q.NotBefore.Add(MaxPermit) + 1 },
		"too many restarts":    func(q *Permit) { q.Restarts = MaxRestarts + 1 },
		"no restarts":          func(q *Permit) { q.Restarts = 0 },
		"a count without TPM":  func(q *Permit) { q.Sealing = SealingSNP },
		"no sealing":           func(q *Permit) { q.Sealing, q.Restarts = 0, 0 },
		"an unknown sealing":   func(q *Permit) { q.Sealing = 4 | SealingTPM },
		"no key":               func(q *Permit) { q.Keys = nil },
		"no restart key":       func(q *Permit) { q.RestartKey = identity.Public{} },
		"a key without number": func(q *Permit) { q.Keys = []Permitted{{"models/demo", 0}} },
		"unsorted keys":        func(q *Permit) { q.Keys = []Permitted{{"models/demo", 1}, {"fed/1", 1}} },
		"no time":              func(q *Permit) { q.NotAfter = q.NotBefore },
	} {
		q := p.permit
		change(&q)
		if _, err := SignPermit(p.parties.epoch, q); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	for name, change := range map[string]func(*Restart){
		"an unknown clock": func(r *Restart) { r.Clock = evidence.ClockUnknown }, "no clock": func(r *Restart) { r.Clock = evidence.ClockTimer + 1 },
		"no time": func(r *Restart) { r.At = 0 }, "no key": func(r *Restart) { r.AgentKey = identity.Public{} }, "too many": func(r *Restart) { r.Number = MaxRestarts + 1 },
	} {
		r := p.restart
		change(&r)
		if _, err := SignRestart(p.key, r); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := (PermitChain{Epoch: make([]byte, maxPermitChainBytes)}).Marshal(); err == nil {
		t.Error("a chain over the limit was encoded")
	}
	for _, s := range []Sealing{SealingTPM, SealingSNP, SealingTPM | SealingSNP} {
		if ParseSealing(s.String()) != s {
			t.Errorf("%s is read as %s", s, ParseSealing(s.String()))
		}
	}
	if ParseSealing("none") != 0 || Sealing(4).String() != "none" || len(Sealings()) != 3 {
		t.Error("an unknown way to seal has a name")
	}
}

func TestPermitRequestIsForOneExchange(t *testing.T) {
	p := newPermitted(t)
	c := p.sign(t, nil)
	m := &PermitRequest{Release: Digest{1}, Sealing: SealingTPM, RestartKey: p.key.Public(), Restarts: [][]byte{c.Restart}}
	c.Restart = nil
	m.Report = must[[]byte](t)(c.Marshal())
	ekm := [48]byte{2}
	if err := m.Sign(p.agent, ekm); err != nil {
		t.Fatal(err)
	}
	var again PermitRequest
	if err := Parse(must[[]byte](t)(Marshal(m)), &again); err != nil {
		t.Fatal(err)
	}
	if err := again.Verify(p.agent.Public(), ekm, Digest{1}); err != nil {
		t.Error(err)
	}
	wantReason(t, again.Verify(p.agent.Public(), [48]byte{3}, Digest{1}), ReasonAgentSignature)
	wantReason(t, again.Verify(p.boot.Public(), ekm, Digest{1}), ReasonAgentSignature)
	wantReason(t, again.Verify(p.agent.Public(), ekm, Digest{2}), ReasonReleaseMismatch)
	for name, change := range map[string]func(*PermitRequest){
		"nothing":            func(m *PermitRequest) { *m = PermitRequest{Release: m.Release, Signature: m.Signature} },
		"a key alone":        func(m *PermitRequest) { m.Sealing = 0 },
		"no key":             func(m *PermitRequest) { m.RestartKey = identity.Public{} },
		"no report":          func(m *PermitRequest) { m.Report = nil },
		"no restarts":        func(m *PermitRequest) { m.Restarts = nil },
		"an empty restart":   func(m *PermitRequest) { m.Restarts = [][]byte{nil} },
		"too many":           func(m *PermitRequest) { m.Restarts = make([][]byte, MaxRestarts+1) },
		"a restart too long": func(m *PermitRequest) { m.Restarts = [][]byte{make([]byte, maxSignedRestartBytes+1)} },
		"an unknown sealing": func(m *PermitRequest) { m.Sealing = 8 },
		"no signature":       func(m *PermitRequest) { m.Signature = nil },
	} {
		bad := again
		change(&bad)
		if _, err := Marshal(&bad); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	// The most that a guest may report still fits.
	again.Restarts = nil
	for range MaxRestarts {
		again.Restarts = append(again.Restarts, make([]byte, maxSignedRestartBytes))
	}
	again.Report = make([]byte, maxPermitChainBytes)
	if _, err := Marshal(&again); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]*PermitAnswer{"both": {Permit: []byte{1}, Reason: ReasonNoPermit}, "a story": {Reason: "No."}, "long": {Permit: make([]byte, maxSignedPermitBytes+1)}} {
		if _, err := Marshal(bad); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// permitFrames are M8 and M9, for fuzzing.
func permitFrames(t testing.TB) [][]byte {
	p := newPermitted(t)
	m := &PermitRequest{Sealing: SealingTPM, RestartKey: p.key.Public(), Signature: []byte{1}}
	report := &PermitRequest{Report: []byte{1}, Restarts: [][]byte{{1}, {2, 3}}, Signature: []byte{1}}
	marshal := must[[]byte](t)
	return [][]byte{marshal(Marshal(m)), marshal(Marshal(report)), marshal(Marshal(&PermitAnswer{Permit: []byte{1}})), marshal(Marshal(&PermitAnswer{Reason: ReasonNoPermit}))}
}

func FuzzPermitChain(f *testing.F) {
	p := newPermitted(f)
	f.Add(must[[]byte](f)(p.sign(f, nil).Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParsePermitChain(b)
		if err != nil {
			return
		}
		if again, err := c.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("parsed, but encodes differently: %v", err)
		}
		var q Permit
		var r Restart
		_, _, _ = parseSigned(c.Permit, maxSignedPermitBytes, &q) // must not fail in another way
		_, _, _ = parseSigned(c.Restart, maxSignedRestartBytes, &r)
	})
}

type keyFields struct {
	Resource string `json:"resource"`
	Version  uint64 `json:"version"`
}

// permitFields is a permit by the names of its fields.
type permitFields struct {
	Broker      vectortest.Hex `json:"broker"`
	Epoch       uint64         `json:"epoch"`
	Lease       vectortest.Hex `json:"lease"`
	Certificate vectortest.Hex `json:"certificate"`
	Claims      vectortest.Hex `json:"claims"`
	RestartKey  vectortest.Hex `json:"restart_key"`
	Sealing     uint64         `json:"sealing"`
	Restarts    uint64         `json:"restarts"`
	Keys        []keyFields    `json:"keys"`
	NotBefore   uint64         `json:"not_before"`
	NotAfter    uint64         `json:"not_after"`
}

func (f permitFields) body() []byte {
	var w, keys writer
	for _, k := range f.Keys {
		keys.part(1, []byte(k.Resource))
		keys.number(8, k.Version)
	}
	w.Write(f.Broker)
	w.number(8, f.Epoch)
	w.Write(f.Lease)
	w.Write(f.Certificate)
	w.Write(f.Claims)
	w.part(2, f.RestartKey)
	w.number(1, f.Sealing)
	w.number(2, f.Restarts)
	w.part(2, keys.Bytes())
	w.number(8, f.NotBefore)
	w.number(8, f.NotAfter)
	return w.Bytes()
}

func TestPermitVector(t *testing.T) {
	v := vectortest.Load(t, "permit-2", *update, func() vectortest.Vector {
		p := newPermitted(t)
		c := p.sign(t, nil)
		q := p.permit
		f := permitFields{q.Broker[:], q.Epoch, q.Lease[:], q.Certificate[:], q.Claims[:], q.RestartKey.Bytes(), uint64(q.Sealing), uint64(q.Restarts), nil, uint64(q.NotBefore), uint64(q.NotAfter)}
		for _, k := range q.Keys {
			f.Keys = append(f.Keys, keyFields(k))
		}
		v := vectorOf(t, "three restarts in eight hours, counted by a TPM, with one of the keys of the given lease", "5.12",
			map[string]identity.Public{"root": p.root.Public(), "epoch": p.parties.epoch.Public(), "restart": p.key.Public()}, f, new(Permit), c.Permit, ReasonPermit)
		v.Given["epoch"], v.Given["lease"] = c.Epoch, c.Lease
		refuse(&v, "an agent signed it", must[[]byte](t)(SignPermit(p.agent, q)), ReasonPermit)
		q.Keys = []Permitted{{"models/other", 3}}
		refuse(&v, "its lease was not granted the key", must[[]byte](t)(SignPermit(p.parties.epoch, q)), ReasonPermit)
		q = p.permit
		q.NotAfter = p.epoch.NotAfter + 1
		refuse(&v, "it outlasts its epoch", must[[]byte](t)(SignPermit(p.parties.epoch, q)), ReasonPermit)
		return v
	})
	rebuild(t, &v, fieldsOf[permitFields](t, &v).body())
	v.Verify(t, func(signed []byte, _ uint64) error {
		return second(PermitChain{Epoch: v.Given["epoch"], Lease: v.Given["lease"], Permit: signed}.VerifyPermit(rootsOf(t, &v)))
	})
}

// restartFields is a restart by the names of its fields.
type restartFields struct {
	Permit   vectortest.Hex `json:"permit"`
	Number   uint64         `json:"number"`
	AgentKey vectortest.Hex `json:"agent_key"`
	At       uint64         `json:"at"`
	Clock    uint64         `json:"clock"`
}

func (f restartFields) body() []byte {
	var w writer
	w.Write(f.Permit)
	w.number(2, f.Number)
	w.part(2, f.AgentKey)
	w.number(8, f.At)
	w.number(1, f.Clock)
	return w.Bytes()
}

func TestRestartVector(t *testing.T) {
	v := vectortest.Load(t, "restart-2", *update, func() vectortest.Vector {
		p := newPermitted(t)
		c := p.sign(t, nil)
		r := p.restart
		r.Permit = digest.Of(c.Permit)
		f := restartFields{r.Permit[:], uint64(r.Number), r.AgentKey.Bytes(), uint64(r.At), uint64(r.Clock)}
		v := vectorOf(t, "the first restart on the given permit", "5.12", map[string]identity.Public{"root": p.root.Public(), "restart": p.key.Public(), "agent": p.boot.Public()}, f, new(Restart), c.Restart, ReasonRestart)
		v.Given["epoch"], v.Given["lease"], v.Given["permit"] = c.Epoch, c.Lease, c.Permit
		refuse(&v, "another key signed it", must[[]byte](t)(SignRestart(p.boot, r)), ReasonRestart)
		r.Number = 4
		refuse(&v, "it is one too many", must[[]byte](t)(SignRestart(p.key, r)), ReasonRestart)
		r = p.restart
		r.Permit, r.At = digest.Of(c.Permit), p.permit.NotAfter
		refuse(&v, "the permit was over", must[[]byte](t)(SignRestart(p.key, r)), ReasonRestart)
		return v
	})
	rebuild(t, &v, fieldsOf[restartFields](t, &v).body())
	v.Verify(t, func(signed []byte, _ uint64) error {
		return second(PermitChain{Epoch: v.Given["epoch"], Lease: v.Given["lease"], Permit: v.Given["permit"], Restart: signed}.VerifyPermit(rootsOf(t, &v)))
	})
}

// TestPermitChainVector is about authority, as TestLeaseChainVector is.
func TestPermitChainVector(t *testing.T) {
	type fields struct {
		Epoch   vectortest.Hex `json:"epoch"`
		Lease   vectortest.Hex `json:"lease"`
		Permit  vectortest.Hex `json:"permit"`
		Restart vectortest.Hex `json:"restart"`
	}
	v := vectortest.Load(t, "permit-chain-2", *update, func() vectortest.Vector {
		p := newPermitted(t)
		c := p.sign(t, nil)
		chain := func(c PermitChain) []byte { return must[[]byte](t)(c.Marshal()) }
		v := vectortest.Vector{About: "the chain of a guest that restarted on a permit and may serve with the key models/demo, on record from epoch 6", Specification: "docs/protocol.md sections 4.6 and 5.12", MinEpoch: 6,
			PublicKeys: map[string]vectortest.Hex{"root": p.root.Public().Bytes()}, Fields: must[[]byte](t)(json.Marshal(fields{c.Epoch, c.Lease, c.Permit, c.Restart})), Statement: chain(c), Verdict: vectortest.Accepted}
		v.Damage(400, ReasonMalformedMessage, ReasonRestart)
		v.Refused[2].Reason = string(ReasonEpochSignature) // the flipped bit is in the epoch statement
		v.Refused = append(v.Refused, vectortest.Refused{About: "the verifier's lowest epoch is 8", MinEpoch: 8, Reason: string(ReasonEpochRetired)})
		refuse(&v, "nobody restarted", chain(PermitChain{Epoch: c.Epoch, Lease: c.Lease, Permit: c.Permit}), ReasonRestart)
		refuse(&v, "the permit is for the key of something else", chain(p.sign(t, func(p *permitted) { p.permit.Keys = []Permitted{{"fed/0011", 1}} })), ReasonRole)
		return v
	})
	f := fieldsOf[fields](t, &v)
	var w writer
	w.part(1, []byte("anchorhold/kbp/2/permit-chain"))
	for _, part := range [][]byte{f.Epoch, f.Lease, f.Permit, f.Restart} {
		w.part(3, part)
	}
	v.Rebuilt(t, nil, w.Bytes())
	v.Verify(t, func(chain []byte, minEpoch uint64) error {
		return second(VerifyPermitted(chain, rootsOf(t, &v), AnyBroker(), Recorded(AtLeast(minEpoch)), Named("models/demo"), Everyone()))
	})
}
