package protocol

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// writer builds an encoding field by field, with nothing of this package.
type writer struct{ bytes.Buffer }

// number writes an unsigned integer of so many bytes, big-endian.
func (w *writer) number(size int, n uint64) {
	b := binary.BigEndian.AppendUint64(nil, n)
	w.Write(b[8-size:])
}

// part writes bytes behind their length, which takes so many bytes.
func (w *writer) part(size int, b []byte) {
	w.number(size, uint64(len(b)))
	w.Write(b)
}

// epochFields is an epoch statement by the names of its fields.
type epochFields struct {
	Broker       vectortest.Hex `json:"broker"`
	Epoch        uint64         `json:"epoch"`
	MinEpoch     uint64         `json:"min_epoch"`
	Key          vectortest.Hex `json:"key"`
	NotBefore    uint64         `json:"not_before"`
	NotAfter     uint64         `json:"not_after"`
	AnyPolicy    bool           `json:"any_policy"`
	PolicyDigest vectortest.Hex `json:"policy_digest"`
	AuditKey     vectortest.Hex `json:"audit_key"`
}

func epochFieldsOf(st EpochStatement) epochFields {
	return epochFields{st.Broker[:], st.Epoch, st.MinEpoch, st.Key.Bytes(), uint64(st.NotBefore), uint64(st.NotAfter), st.AnyPolicy, st.PolicyDigest[:], st.AuditKey[:]}
}

func (f epochFields) body() []byte {
	var w writer
	w.Write(f.Broker)
	w.number(8, f.Epoch)
	w.number(8, f.MinEpoch)
	w.part(2, f.Key)
	w.number(8, f.NotBefore)
	w.number(8, f.NotAfter)
	w.number(1, bit(f.AnyPolicy))
	w.Write(f.PolicyDigest)
	w.Write(f.AuditKey)
	return w.Bytes()
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// requestFields is a request for an epoch.
type requestFields struct {
	Asked   epochFields    `json:"asked"`
	Current vectortest.Hex `json:"current"`
}

func (f requestFields) body() []byte {
	var w writer
	w.Write(f.Asked.body())
	w.part(2, f.Current)
	return w.Bytes()
}

type registerFields struct {
	Name  string         `json:"name"`
	Value vectortest.Hex `json:"value"`
}

type grantFields struct {
	Resource string         `json:"resource"`
	Version  uint64         `json:"version"`
	Subject  vectortest.Hex `json:"subject"`
	Roles    uint64         `json:"roles"`
}

// leaseFields is a lease certificate by the names of its fields.
type leaseFields struct {
	Lease          vectortest.Hex   `json:"lease"`
	Broker         vectortest.Hex   `json:"broker"`
	Epoch          uint64           `json:"epoch"`
	AgentKey       vectortest.Hex   `json:"agent_key"`
	Kind           string           `json:"kind"`
	SoftwareTEE    bool             `json:"software_tee"`
	EvidenceDigest vectortest.Hex   `json:"evidence_digest"`
	Processor      vectortest.Hex   `json:"processor"`
	Image          vectortest.Hex   `json:"image"`
	Registers      []registerFields `json:"registers"`
	ImageID        string           `json:"image_id"`
	Tenant         string           `json:"tenant"`
	Grants         []grantFields    `json:"grants"`
	PolicyID       string           `json:"policy_id"`
	PolicyVersion  uint64           `json:"policy_version"`
	PolicyDigest   vectortest.Hex   `json:"policy_digest"`
	NotBefore      uint64           `json:"not_before"`
	NotAfter       uint64           `json:"not_after"`
	Exchange       vectortest.Hex   `json:"exchange"`
}

func leaseFieldsOf(c LeaseCertificate) leaseFields {
	f := leaseFields{Lease: c.Lease[:], Broker: c.Broker[:], Epoch: c.Epoch, AgentKey: c.AgentKey.Bytes(), Kind: string(c.Kind), SoftwareTEE: c.SoftwareTEE,
		EvidenceDigest: c.EvidenceDigest[:], Processor: c.Processor[:], Image: c.Image.Bytes(), ImageID: c.ImageID, Tenant: c.Tenant, PolicyID: c.PolicyID,
		PolicyVersion: c.PolicyVersion, PolicyDigest: c.PolicyDigest[:], NotBefore: uint64(c.NotBefore), NotAfter: uint64(c.NotAfter), Exchange: c.Exchange[:]}
	for _, r := range c.Registers {
		f.Registers = append(f.Registers, registerFields{r.Name, vectortest.Hex(r.Value)})
	}
	for _, g := range c.Grants {
		f.Grants = append(f.Grants, grantFields{g.Resource, g.Version, bytes.Clone(g.Subject[:]), uint64(g.Roles)})
	}
	return f
}

func (f leaseFields) body() []byte {
	var w, registers, grants writer
	for _, r := range f.Registers {
		registers.part(1, []byte(r.Name))
		registers.part(1, r.Value)
	}
	for _, g := range f.Grants {
		grants.part(1, []byte(g.Resource))
		grants.number(8, g.Version)
		grants.Write(g.Subject)
		grants.number(2, g.Roles)
	}
	w.Write(f.Lease)
	w.Write(f.Broker)
	w.number(8, f.Epoch)
	w.part(2, f.AgentKey)
	w.part(1, []byte(f.Kind))
	w.number(1, bit(f.SoftwareTEE))
	w.Write(f.EvidenceDigest)
	w.Write(f.Processor)
	w.part(1, f.Image)
	w.part(2, registers.Bytes())
	w.part(1, []byte(f.ImageID))
	w.part(1, []byte(f.Tenant))
	w.part(2, grants.Bytes())
	w.part(1, []byte(f.PolicyID))
	w.number(8, f.PolicyVersion)
	w.Write(f.PolicyDigest)
	w.number(8, f.NotBefore)
	w.number(8, f.NotAfter)
	w.Write(f.Exchange)
	return w.Bytes()
}

// rebuild builds signed bytes and statement around a body, as section 4.5 describes them.
func rebuild(t *testing.T, v *vectortest.Vector, body []byte) {
	t.Helper()
	var signed, statement writer
	signed.part(4, []byte(v.Context))
	signed.part(4, body)
	statement.part(1, []byte(v.Context))
	statement.part(3, body)
	statement.part(2, v.Signature)
	v.Rebuilt(t, signed.Bytes(), statement.Bytes())
}

func fieldsOf[T any](t *testing.T, v *vectortest.Vector) (f T) {
	t.Helper()
	if err := json.Unmarshal(v.Fields, &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// vectorOf is the vector of a signed statement, with the refusals that each kind has.
func vectorOf(t *testing.T, about, section string, keys map[string]identity.Public, fields any, st statement, signed []byte, signature refusal.Reason) vectortest.Vector {
	t.Helper()
	msg, sig, err := parseSigned(signed, len(signed), st)
	if err != nil {
		t.Fatal(err)
	}
	v := vectortest.Vector{About: about, Specification: "docs/protocol.md section " + section, Context: st.label(), PublicKeys: map[string]vectortest.Hex{}, Given: map[string]vectortest.Hex{},
		Fields: must[[]byte](t)(json.Marshal(fields)), Signed: msg, Signature: sig, Statement: signed, Verdict: vectortest.Accepted}
	for name, k := range keys {
		v.PublicKeys[name] = k.Bytes()
	}
	const inKey = 300 // bytes into the body: in the key that the statement is about
	v.Damage(1+len(st.label())+3+inKey, ReasonMalformedMessage, signature)
	at := 1 + len("anchorhold/kbp/")
	other := v.Statement[at] ^ '1' ^ '2'
	v.Refused = append(v.Refused, vectortest.Refused{About: "the label is of the protocol's other version", Reason: string(ReasonStatementVersion),
		Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: vectortest.Hex{other}}})
	return v
}

func refuse(v *vectortest.Vector, about string, signed []byte, reason refusal.Reason) {
	v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: signed, Reason: string(reason)})
}

func rootsOf(t *testing.T, v *vectortest.Vector) []identity.Public {
	t.Helper()
	return []identity.Public{must[identity.Public](t)(identity.ParsePublic(v.PublicKeys["root"]))}
}

func TestEpochVector(t *testing.T) {
	v := vectortest.Load(t, "epoch-1", *update, func() vectortest.Vector {
		p := newParties(t)
		st := sampleEpoch(p)
		signed := must[[]byte](t)(SignEpoch(p.root, st))
		v := vectorOf(t, "the root's statement about epoch 7, which pins a policy", "5.9", map[string]identity.Public{"root": p.root.Public()}, epochFieldsOf(st), new(EpochStatement), signed, ReasonEpochSignature)
		refuse(&v, "another root signed it", must[[]byte](t)(sign(generate(t, identity.LevelRoot), &st)), ReasonEpochSignature)
		st.Broker[0] ^= 1
		refuse(&v, "it names another root", must[[]byte](t)(sign(p.root, &st)), ReasonBrokerUnknown)
		return v
	})
	rebuild(t, &v, fieldsOf[epochFields](t, &v).body())
	v.Verify(t, func(signed []byte, _ uint64) error {
		st, err := VerifyEpoch(signed, rootsOf(t, &v))
		if err == nil && !bytes.Equal(epochFieldsOf(st).body(), fieldsOf[epochFields](t, &v).body()) {
			t.Error("another statement was read")
		}
		return err
	})
}

func TestEpochRequestVector(t *testing.T) {
	v := vectortest.Load(t, "epoch-request-2", *update, func() vectortest.Vector {
		p := newParties(t)
		st := sampleEpoch(p)
		r := EpochRequest{Asked: st, Current: must[[]byte](t)(SignEpoch(p.root, st))}
		r.Asked.Epoch, r.Asked.Key = 8, generate(t, identity.LevelEpoch).Public()
		signed := must[[]byte](t)(SignEpochRequest(p.epoch, r))
		v := vectorOf(t, "a broker in epoch 7 asks its root for epoch 8", "5.9", map[string]identity.Public{"root": p.root.Public(), "epoch": p.epoch.Public()},
			requestFields{epochFieldsOf(r.Asked), r.Current}, new(EpochRequest), signed, ReasonEpochRequest)
		refuse(&v, "an agent signed it", must[[]byte](t)(SignEpochRequest(p.agent, r)), ReasonEpochRequest)
		other := r
		other.Asked.AuditKey[0] ^= 1
		refuse(&v, "it names another audit key", must[[]byte](t)(SignEpochRequest(p.epoch, other)), ReasonEpochRequest)
		r.Asked.Key = p.epoch.Public()
		refuse(&v, "it asks for the current key again", must[[]byte](t)(SignEpochRequest(p.epoch, r)), ReasonEpochRequest)
		return v
	})
	rebuild(t, &v, fieldsOf[requestFields](t, &v).body())
	v.Verify(t, func(signed []byte, _ uint64) error {
		_, _, err := VerifyEpochRequest(signed, rootsOf(t, &v))
		return err
	})
}

func TestLeaseVector(t *testing.T) {
	v := vectortest.Load(t, "lease-2", *update, func() vectortest.Vector {
		p := newParties(t)
		c := sampleLease(p)
		v := vectorOf(t, "a lease certificate with two grants under the given epoch", "5.10", map[string]identity.Public{"root": p.root.Public(), "epoch": p.epoch.Public(), "agent": p.agent.Public()},
			leaseFieldsOf(c), new(LeaseCertificate), must[[]byte](t)(SignLease(p.epoch, c)), ReasonBrokerSignature)
		v.Given["epoch"] = must[[]byte](t)(SignEpoch(p.root, sampleEpoch(p)))
		refuse(&v, "an agent signed it", must[[]byte](t)(SignLease(p.agent, c)), ReasonBrokerSignature)
		for about, tc := range map[string]struct {
			change func(*LeaseCertificate)
			reason refusal.Reason
		}{
			"it names another epoch":                  {func(c *LeaseCertificate) { c.Epoch++ }, ReasonLeaseMismatch},
			"it began before the epoch":               {func(c *LeaseCertificate) { c.NotBefore = sampleTime - 2000 }, ReasonEpochNotValid},
			"another policy decided than the epoch's": {func(c *LeaseCertificate) { c.PolicyDigest[0] ^= 1 }, ReasonPolicyNotPinned},
		} {
			other := c
			tc.change(&other)
			refuse(&v, about, must[[]byte](t)(SignLease(p.epoch, other)), tc.reason)
		}
		return v
	})
	rebuild(t, &v, fieldsOf[leaseFields](t, &v).body())
	st, err := VerifyEpoch(v.Given["epoch"], rootsOf(t, &v))
	if err != nil {
		t.Fatal(err)
	}
	v.Verify(t, func(signed []byte, _ uint64) error {
		_, err := VerifyLease(signed, st)
		return err
	})
}

// TestLeaseChainVector is about authority: the chain is asked for the role serve with the key
// models/demo.
func TestLeaseChainVector(t *testing.T) {
	type fields struct {
		Epoch vectortest.Hex `json:"epoch"`
		Lease vectortest.Hex `json:"lease"`
	}
	v := vectortest.Load(t, "lease-chain-2", *update, func() vectortest.Vector {
		p := newParties(t)
		c := sampleLease(p)
		epoch := must[[]byte](t)(SignEpoch(p.root, sampleEpoch(p)))
		chain := func(lease []byte) []byte { return must[[]byte](t)(MarshalLeaseChain(epoch, lease)) }
		lease := must[[]byte](t)(SignLease(p.epoch, c))
		v := vectortest.Vector{About: "a lease chain that gives the role serve with the key models/demo, on record from epoch 6", Specification: "docs/protocol.md sections 4.6 and 15", MinEpoch: 6,
			PublicKeys: map[string]vectortest.Hex{"root": p.root.Public().Bytes()}, Fields: must[[]byte](t)(json.Marshal(fields{epoch, lease})), Statement: chain(lease), Verdict: vectortest.Accepted}
		v.Damage(400, ReasonMalformedMessage, ReasonBrokerSignature)
		v.Refused[2].Reason = string(ReasonEpochSignature) // the flipped bit is in the epoch statement
		v.Refused = append(v.Refused, vectortest.Refused{About: "the verifier's lowest epoch is 8", MinEpoch: 8, Reason: string(ReasonEpochRetired)})
		refuse(&v, "an agent signed the lease", chain(must[[]byte](t)(SignLease(p.agent, c))), ReasonBrokerSignature)
		c.Grants = []Granted{{Resource: "models/demo", Version: 3, Roles: RoleContribute}}
		refuse(&v, "the key came with another role", chain(must[[]byte](t)(SignLease(p.epoch, c))), ReasonRole)
		c.Grants = []Granted{{Resource: "models/other", Version: 3, Roles: RoleServe}}
		refuse(&v, "another key came with the role", chain(must[[]byte](t)(SignLease(p.epoch, c))), ReasonNotGranted)
		return v
	})
	f := fieldsOf[fields](t, &v)
	var w writer
	w.part(1, []byte("anchorhold/kbp/2/lease-chain"))
	w.part(3, f.Epoch)
	w.part(3, f.Lease)
	v.Rebuilt(t, nil, w.Bytes())
	v.Verify(t, func(chain []byte, minEpoch uint64) error {
		_, err := VerifyAuthority(chain, rootsOf(t, &v), AnyBroker(), Recorded(AtLeast(minEpoch)), RoleServe, Named("models/demo"), Everyone())
		return err
	})
}
