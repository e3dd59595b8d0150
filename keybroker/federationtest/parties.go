package federationtest

import (
	"crypto/sha256"
	"encoding/json"
	"testing"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Setup is a set-up of a key of some agents, as the broker signs it.
func (w *World) Setup(t testing.TB, threshold int, agents ...*Agent) (federation.Setup, []byte) {
	t.Helper()
	p := federation.Preparation{Threshold: uint32(threshold)}
	for _, a := range agents {
		p.Agents = append(p.Agents, a.Key.Public().ID())
	}
	s, err := p.Setup(w.Epoch.Broker, w.Epoch.Epoch, Begin)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := federation.SignSetup(w.EpochKey, w.EpochSigned, s)
	if err != nil {
		t.Fatal(err)
	}
	return s, signed
}

// Message is what a party signs in a set-up. change, if given, alters it first.
func (a *Agent) Message(t testing.TB, s federation.Setup, signed []byte, m federation.PartyMessage, change func(*federation.PartyMessage)) []byte {
	t.Helper()
	m.Round, m.Setup, m.Agent, m.Time = s.Round, digest.Of(signed), a.Key.Public().ID(), Begin+1000
	for i, id := range s.Agents {
		if id == m.Agent {
			m.From = uint32(i + 1)
		}
	}
	if change != nil {
		change(&m)
	}
	raw, err := federation.SignPartyMessage(a.Key, a.Chain, m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Forge is a statement of a kind, "party" for instance, that the agent signs though it is
// none: a dishonest agent does not ask whether what it signs is well-formed.
func (a *Agent) Forge(t testing.TB, kind string, statement any) []byte {
	t.Helper()
	body, err := json.Marshal(statement)
	if err != nil {
		t.Fatal(err)
	}
	label := "anchorhold/fed/" + kind + "/2"
	sig, err := a.Key.Sign(label, protocol.Join(label, body, a.Chain))
	if err != nil {
		t.Fatal(err)
	}
	var b cryptobyte.Builder
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(label)) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(body) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(a.Chain) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(sig) })
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// PartyKey is a key that agents vouch for, whatever it is.
func (w *World) PartyKey(t testing.TB, public []byte, threshold int, agents ...*Agent) *federation.PartyKey {
	t.Helper()
	s, signed := w.Setup(t, threshold, agents...)
	k := &federation.PartyKey{Setup: signed, PublicKey: public}
	sum := sha256.Sum256(public)
	for _, a := range agents {
		k.Ready = append(k.Ready, a.Message(t, s, signed, federation.PartyMessage{Kind: federation.PartyReady, View: digest.Digest{5}, Payload: sum[:]}, nil))
	}
	return k
}
