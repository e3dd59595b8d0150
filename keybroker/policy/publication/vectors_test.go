package publication

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/vectortest"
)

// TestVector: a signed statement with everything that another implementation needs.
func TestVector(t *testing.T) {
	v := vectortest.Load(t, "values-1", *update, func() vectortest.Vector { return createVector(t) })
	var s Statement
	if err := json.Unmarshal(v.Fields, &s); err != nil {
		t.Fatal(err)
	}
	publisher, err := identity.ParsePublic(v.PublicKeys["publisher"])
	if err != nil {
		t.Fatal(err)
	}
	body, err := s.marshal()
	if err != nil {
		t.Fatal(err)
	}
	text := append([]byte(Origin(publisher)+"\n"), body...)
	v.Rebuilt(t, text, bytes.Join([][]byte{text, v.Signature}, []byte("\n")))
	v.Verify(t, func(signed []byte, _ uint64) error {
		_, err := Open(signed, publisher)
		return err
	})
}

func createVector(t *testing.T) vectortest.Vector {
	k := publisher(t, identity.LevelEpoch)
	signed := sign(t, k, sample())
	text, signature, _ := strings.Cut(string(signed), "\n\n")
	fields, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(signature, "\n")
	at := strings.Index(text, `"covers": "firmware"`)
	return vectortest.Vector{
		About: "a publisher's statement of what guests of an image measure", Specification: "docs/measure.md, The signed file", Context: "anchorhold/note/1",
		PublicKeys: map[string]vectortest.Hex{"publisher": k.Public().Bytes()}, Fields: fields,
		Signed: vectortest.Hex(text + "\n"), Signature: vectortest.Hex(signature), Statement: signed, Verdict: vectortest.Accepted,
		Refused: []vectortest.Refused{
			{About: "another coverage", Edit: &vectortest.Edit{Offset: at + len(`"covers": "`), Remove: len("firmware"), Insert: []byte("image")}, Reason: string(ReasonInvalid)},
			{About: "the Ed25519 line alone", Statement: vectortest.Hex(text + "\n\n" + lines[0]), Reason: string(ReasonInvalid)},
			{About: "the ML-DSA line alone", Statement: vectortest.Hex(text + "\n\n" + lines[1]), Reason: string(ReasonInvalid)},
			{About: "another publisher's", Statement: sign(t, publisher(t, identity.LevelEpoch), sample()), Reason: string(ReasonPublisher)},
		},
	}
}
