package generation

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

var update = flag.Bool("update", false, "write the vectors that are missing; it never replaces one")

// TestVectors reads every vector, builds its bytes from the fields alone, and has this package judge it and what it
// must refuse. A statement of another kind has to be added here.
func TestVectors(t *testing.T) {
	for name, k := range map[string]struct {
		fields func() any
		verify func(v *vectortest.Vector, root identity.Public, floor protocol.Floor, signed []byte) error
		create func(*testing.T) vectortest.Vector
	}{
		"opening": {func() any { return new(Opening) }, func(v *vectortest.Vector, root identity.Public, floor protocol.Floor, signed []byte) error {
			_, _, err := VerifyOpening(signed, []identity.Public{root}, protocol.Of(root.ID()), floor, ConnectionOf(v.Given["exporter"]))
			return err
		}, createOpening},
		"current": {func() any { return new(Current) }, func(v *vectortest.Vector, root identity.Public, floor protocol.Floor, signed []byte) error {
			_, err := VerifyCurrent(signed, []identity.Public{root}, protocol.Of(root.ID()), floor, v.Given["opening"], volume)
			return err
		}, createCurrent},
	} {
		t.Run(name, func(t *testing.T) {
			v := vectortest.Load(t, name+"-1", *update, func() vectortest.Vector { return k.create(t) })
			rebuild(t, &v, k.fields())
			root, err := identity.ParsePublic(v.PublicKeys["root"])
			if err != nil {
				t.Fatal(err)
			}
			v.Verify(t, func(signed []byte, minEpoch uint64) error {
				return k.verify(&v, root, protocol.Live(protocol.AtLeast(minEpoch), protocol.Time(v.Now)), signed)
			})
		})
	}
}

// rebuild builds the bytes as docs/protocol.md describes them, without the codec of statements.
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
	statement = append(statement, byte(len(body)>>16), byte(len(body)>>8), byte(len(body)))
	statement = append(statement, body...)
	for _, part := range [][]byte{v.Chain, v.Signature} {
		statement = append(binary.BigEndian.AppendUint16(statement, uint16(len(part))), part...)
	}
	v.Rebuilt(t, signed, statement)
}

// vectorOf takes a statement apart for its vector, with the refusals that both kinds have.
func vectorOf(t *testing.T, w *federationtest.World, about, signer string, key identity.Public, statement []byte) vectortest.Vector {
	t.Helper()
	rest := statement
	next := func(n int) []byte {
		size := 0
		for _, b := range rest[:n] {
			size = size<<8 | int(b)
		}
		part := rest[n : n+size]
		rest = rest[n+size:]
		return part
	}
	v := vectortest.Vector{About: about, Specification: "docs/protocol.md section 17", MinEpoch: 1, Now: uint64(minute), Statement: statement, Verdict: vectortest.Accepted,
		PublicKeys: map[string]vectortest.Hex{"root": w.Root.Public().Bytes(), signer: key.Bytes()}, Given: map[string]vectortest.Hex{}}
	v.Context = string(next(1))
	body := next(3)
	v.Fields, v.Chain, v.Signature = body, next(2), next(2)
	v.Signed = protocol.Join(v.Context, body, v.Chain)
	at := len(v.Context)
	v.Damage(1+at+3+len(body)/2, ReasonMalformed, ReasonSignature)
	v.Refused = append(v.Refused,
		vectortest.Refused{About: "the label is of version 2", Edit: &vectortest.Edit{Offset: at, Remove: 1, Insert: []byte("2")}, Reason: string(ReasonMalformed)},
		vectortest.Refused{About: "the verifier's lowest epoch is 2", MinEpoch: 2, Reason: string(protocol.ReasonEpochRetired)})
	return v
}

func sign(t *testing.T, a *federationtest.Agent, change func(*Opening)) []byte {
	t.Helper()
	o := opening(a)
	change(&o)
	raw, err := SignOpening(a.Key, a.Chain, o)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func createOpening(t *testing.T) vectortest.Vector {
	w := federationtest.New(t)
	a, server := holder(t, w), w.Agent(t, nil)
	v := vectorOf(t, w, "an opening that makes generation 4 of a volume current, on a connection whose exporter is given", "agent", a.Key.Public(), sign(t, a, func(*Opening) {}))
	v.Given["exporter"] = []byte("exporter")
	imposter := *a
	imposter.Key = server.Key
	for about, r := range map[string]struct {
		by     *federationtest.Agent
		change func(*Opening)
		reason string
	}{
		"it is about another connection":           {a, func(o *Opening) { o.Connection[0]++ }, string(ReasonSignature)},
		"it names another agent":                   {a, func(o *Opening) { o.Agent[0]++ }, string(ReasonSignature)},
		"signed before the lease began":            {a, func(o *Opening) { o.Time = federationtest.Begin - 1 }, string(ReasonSignature)},
		"the lease was granted another volume":     {a, func(o *Opening) { o.Volume = "volumes/other" }, string(protocol.ReasonNotGranted)},
		"the lease was granted no volume":          {server, func(*Opening) {}, string(protocol.ReasonNotGranted)},
		"another agent signed it under this lease": {&imposter, func(*Opening) {}, string(ReasonSignature)},
	} {
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: sign(t, r.by, r.change), Reason: r.reason})
	}
	return v
}

func createCurrent(t *testing.T) vectortest.Vector {
	w := federationtest.New(t)
	a := holder(t, w)
	opening := sign(t, a, func(*Opening) {})
	answer := func(key *identity.Private, change func(*Current)) []byte {
		c := Current{Broker: w.Epoch.Broker, Epoch: 1, Answers: digest.Of(opening), Volume: volume, State: State{4, digest.Digest{2}}, Time: minute}
		change(&c)
		raw, err := SignCurrent(key, w.EpochSigned, c)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	v := vectorOf(t, w, "the broker's answer to the given opening: generation 4 of the volume is current", "epoch", w.EpochKey.Public(), answer(w.EpochKey, func(*Current) {}))
	v.Given["opening"] = opening
	for about, change := range map[string]func(*Current){
		"it answers another opening":      func(c *Current) { c.Answers[0]++ },
		"it is about another volume":      func(c *Current) { c.Volume = "volumes/other" },
		"it names another broker":         func(c *Current) { c.Broker[0]++ },
		"it names another epoch":          func(c *Current) { c.Epoch = 2 },
		"answered before the epoch began": func(c *Current) { c.Time = 1 },
	} {
		v.Refused = append(v.Refused, vectortest.Refused{About: about, Statement: answer(w.EpochKey, change), Reason: string(ReasonSignature)})
	}
	v.Refused = append(v.Refused, vectortest.Refused{About: "an agent signed it", Statement: answer(a.Key, func(*Current) {}), Reason: string(ReasonSignature)})
	return v
}
