package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// verifier is everything that a reader of one vector has.
type verifier struct {
	roots  []identity.Public
	broker protocol.Broker
	v      *vectortest.Vector
	lowest protocol.Lowest
}

var kinds = map[string]struct {
	fields func() any
	verify func(x verifier, raw []byte) error
	create func(t *testing.T) vectortest.Vector
}{
	"record": {func() any { return new(wire.Record) }, func(x verifier, raw []byte) error {
		_, err := wire.VerifyRecord(raw, x.roots, x.broker, protocol.Recorded(x.lowest))
		return err
	}, createRecord},
	"challenge": {func() any { return new(wire.Challenge) }, func(x verifier, raw []byte) error {
		_, err := wire.VerifyChallenge(raw, x.roots, x.broker, protocol.Recorded(x.lowest))
		return err
	}, createChallenge},
	"introduction": {func() any { return new(wire.Introduction) }, func(x verifier, raw []byte) error {
		_, err := wire.VerifyIntroduction(raw, x.roots, x.broker, protocol.Live(x.lowest, protocol.Time(x.v.Now)), wire.ConnectionOf(x.v.Given["exporter"]))
		return err
	}, createIntroduction},
}

// TestVectors reads every vector, builds its bytes from the fields alone, and has this package
// judge it and what it must refuse.
func TestVectors(t *testing.T) {
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			v := vectortest.Load(t, name+"-1", *update, func() vectortest.Vector { return k.create(t) })
			root := must[identity.Public](t)(identity.ParsePublic(v.PublicKeys["root"]))
			rebuild(t, &v, k.fields())
			v.Verify(t, func(raw []byte, minEpoch uint64) error {
				return k.verify(verifier{[]identity.Public{root}, protocol.Of(root.ID()), &v, protocol.AtLeast(minEpoch)}, raw)
			})
		})
	}
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
	raw := append([]byte{byte(len(v.Context))}, v.Context...)
	raw = append(append(raw, byte(len(body)>>16), byte(len(body)>>8), byte(len(body))), body...)
	for _, part := range [][]byte{v.Chain, v.Signature} {
		raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(part))), part...)
	}
	v.Rebuilt(t, signed, raw)
}

// vectorOf takes signed bytes apart; signer names the key that signed them.
func vectorOf(t *testing.T, w *federationtest.World, about, signer string, key identity.Public, raw []byte) vectortest.Vector {
	t.Helper()
	v := vectortest.Vector{About: about, Specification: "docs/protocol.md section 13", MinEpoch: 1, Statement: raw, Verdict: vectortest.Accepted,
		PublicKeys: map[string]vectortest.Hex{"root": w.Root.Public().Bytes(), signer: key.Bytes()}}
	next := func(n int) []byte {
		size := 0
		for _, b := range raw[:n] {
			size = size<<8 | int(b)
		}
		part := raw[n : n+size]
		raw = raw[n+size:]
		return part
	}
	v.Context = string(next(1))
	body := next(3)
	v.Fields, v.Chain, v.Signature = body, next(2), next(2)
	v.Signed = protocol.Join(v.Context, body, v.Chain)
	v.Damage(1+len(v.Context)+3+len(body)/2, wire.ReasonMalformed, wire.ReasonSignature)
	v.Refused = append(v.Refused,
		vectortest.Refused{About: "the label is of version 2", Edit: &vectortest.Edit{Offset: len(v.Context), Remove: 1, Insert: []byte("2")}, Reason: string(wire.ReasonMalformed)},
		vectortest.Refused{About: "the verifier's lowest epoch is 2", MinEpoch: 2, Reason: string(protocol.ReasonEpochRetired)})
	return v
}

func refuse(v *vectortest.Vector, about string, raw []byte, reason refusal.Reason) {
	v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: raw, Reason: string(reason)})
}

func createRecord(t *testing.T) vectortest.Vector {
	w := federationtest.New(t)
	r := record(w)
	r.Models = []digest.Digest{{1}, {2}}
	v := vectorOf(t, w, "a record of a Groth16 key for the answers of two models", "epoch", w.EpochKey.Public(), must[[]byte](t)(wire.SignRecord(w.EpochKey, w.EpochSigned, r)))
	refuse(&v, "an agent signed it", must[[]byte](t)(wire.SignRecord(w.Agent(t, nil).Key, w.EpochSigned, r)), wire.ReasonSignature)
	r.Registered = w.Epoch.NotBefore - 1
	refuse(&v, "registered before the epoch began", must[[]byte](t)(wire.SignRecord(w.EpochKey, w.EpochSigned, r)), wire.ReasonSignature)
	return v
}

func createChallenge(t *testing.T) vectortest.Vector {
	w := federationtest.New(t)
	c := challenge(w)
	v := vectorOf(t, w, "a challenge that asks for the proofs of two receipts", "epoch", w.EpochKey.Public(), must[[]byte](t)(wire.SignChallenge(w.EpochKey, w.EpochSigned, c)))
	c.Epoch++
	refuse(&v, "it names another epoch", must[[]byte](t)(wire.SignChallenge(w.EpochKey, w.EpochSigned, c)), wire.ReasonSignature)
	return v
}

func createIntroduction(t *testing.T) vectortest.Vector {
	w := federationtest.New(t)
	a := w.Agent(t, nil)
	exporter := bytes.Repeat([]byte{3}, 32)
	i := wire.Introduction{Connection: wire.ConnectionOf(exporter), Agent: a.Key.Public().ID(), Time: begin + 30_000}
	v := vectorOf(t, w, "an agent's word about a connection whose exporter is given", "agent", a.Key.Public(), must[[]byte](t)(wire.SignIntroduction(a.Key, a.Chain, i)))
	v.Now, v.Given = uint64(begin+60_000), map[string]vectortest.Hex{"exporter": exporter}
	late := i
	late.Time = begin.Add(time.Hour)
	refuse(&v, "signed when the lease was over", must[[]byte](t)(wire.SignIntroduction(a.Key, a.Chain, late)), wire.ReasonSignature)
	i.Connection[0] ^= 1
	refuse(&v, "about another connection", must[[]byte](t)(wire.SignIntroduction(a.Key, a.Chain, i)), wire.ReasonSignature)
	contributor := w.Agent(t, func(c *protocol.LeaseCertificate) { federationtest.SetRoles(c, protocol.RoleContribute) })
	i.Connection, i.Agent = wire.ConnectionOf(exporter), contributor.Key.Public().ID()
	refuse(&v, "the lease has the role contribute alone", must[[]byte](t)(wire.SignIntroduction(contributor.Key, contributor.Chain, i)), protocol.ReasonRole)
	return v
}
