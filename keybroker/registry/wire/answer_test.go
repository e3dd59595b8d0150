package wire_test

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/registry/wire"
)

// answer is a whole answer about the first receipt of bundle.
func answer(t *testing.T, w *federationtest.World) wire.Answer {
	t.Helper()
	b, r, c := bundle(), record(w), challenge(w)
	f := b.Envelope.Statement.Inference
	b.Envelope.Key, b.Envelope.Statement.Circuit = r.Record.VerifyingKey, r.Record.Circuit
	f.Model.Architecture, r.Record.Inference.Items = r.Record.Inference.Architecture, 2
	signedRecord, err := wire.SignRecord(w.EpochKey, w.EpochSigned, r)
	if err != nil {
		t.Fatal(err)
	}
	signedChallenge, err := wire.SignChallenge(w.EpochKey, w.EpochSigned, c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := b.Envelope.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	subject, err := b.Envelope.Statement.Digest()
	if err != nil {
		t.Fatal(err)
	}
	receipt := []byte("receipt")
	return wire.Answer{
		Receipt:   wire.ReceiptView{ID: digest.ReceiptID{1}, Digest: digest.Of(receipt), Agent: c.Agent, Model: f.Model.ID()},
		Challenge: &wire.ChallengeView{Digest: digest.Of(signedChallenge)},
		Proof: &wire.ProofView{Digest: digest.Of(envelope), Statement: subject, System: statement.Groth16, Circuit: r.Record.Circuit, Key: r.Record.VerifyingKey,
			Ceremony: r.Record.Ceremony, Outputs: f.Items[0].Outputs},
		Documents: wire.Documents{Receipt: receipt, Challenge: signedChallenge, Record: signedRecord, Bundle: raw},
	}
}

func TestAnswerVerifiesAsAWhole(t *testing.T) {
	w := federationtest.New(t)
	good := answer(t, w)
	if err := good.Verify(w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
		t.Fatal(err)
	}
	good.Redact()
	if err := good.Verify(w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))); err != nil {
		t.Errorf("redacted: %v", err)
	}
	for name, change := range map[string]func(*wire.Answer){
		"receipt":         func(a *wire.Answer) { a.Documents.Receipt = nil },
		"challenge":       func(a *wire.Answer) { a.Documents.Challenge = nil },
		"challenge name":  func(a *wire.Answer) { a.Challenge.Digest[0]++ },
		"agent":           func(a *wire.Answer) { a.Receipt.Agent[0]++ },
		"not challenged":  func(a *wire.Answer) { a.Receipt.ID = digest.ReceiptID{3} },
		"record":          func(a *wire.Answer) { a.Documents.Record = nil },
		"system":          func(a *wire.Answer) { a.Proof.System = statement.PLONK },
		"circuit":         func(a *wire.Answer) { a.Proof.Circuit[0]++ },
		"key":             func(a *wire.Answer) { a.Proof.Key[0]++ },
		"ceremony":        func(a *wire.Answer) { a.Proof.Ceremony[0]++ },
		"development":     func(a *wire.Answer) { a.Proof.Development = true },
		"bundle":          func(a *wire.Answer) { a.Documents.Bundle = []byte{} },
		"proof":           func(a *wire.Answer) { a.Proof.Digest[0]++ },
		"statement":       func(a *wire.Answer) { a.Proof.Statement[0]++ },
		"model":           func(a *wire.Answer) { a.Receipt.Model[0]++ },
		"outputs":         func(a *wire.Answer) { a.Proof.Outputs = a.Proof.Outputs[1:] },
		"another receipt": func(a *wire.Answer) { a.Challenge = nil; a.Receipt.ID = digest.ReceiptID{3} },
		"another's outputs": func(a *wire.Answer) {
			a.Challenge = nil
			a.Receipt.ID = digest.ReceiptID{2}
		},
		"other circuit": func(a *wire.Answer) {
			r := record(w)
			r.Record.Inference.Items = 3
			signed, err := wire.SignRecord(w.EpochKey, w.EpochSigned, r)
			if err != nil {
				t.Fatal(err)
			}
			a.Documents.Record = signed
		},
	} {
		a := answer(t, w)
		change(&a)
		if a.Verify(w.Roots(), w.Broker(), protocol.Recorded(protocol.AtLeast(1))) == nil {
			t.Errorf("%s: verifies", name)
		}
	}
}

func TestSaltText(t *testing.T) {
	text, _ := wire.Salt{1, 31: 9}.MarshalText()
	var s wire.Salt
	if err := s.UnmarshalText(text); err != nil || s != (wire.Salt{1, 31: 9}) {
		t.Error(err)
	}
	for _, bad := range []string{"", string(text) + "=", string(text) + "\n", string(text[1:]), "!" + string(text[1:])} {
		if s.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
