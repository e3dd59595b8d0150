package protocol

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/strictjson"
)

const (
	testLabel                    = "anchorhold/test/1"
	reasonTest    refusal.Reason = "test-malformed"
	reasonForgery refusal.Reason = "test-signature"
)

func testForm(long bool) Form {
	return Form{Bytes: 16 << 10, Body: 64, Chain: 32, Signature: 6 << 10, LongChain: long,
		Decoded: strictjson.Limits{Values: 8, List: 4}, Malformed: reasonTest, Forged: reasonForgery}
}

type testBody struct {
	Name string `json:"name"`
}

func none() error { return nil }

func newKey(t *testing.T) *identity.Private {
	t.Helper()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestAFormOpensWhatItSealed(t *testing.T) {
	key := newKey(t)
	for _, long := range []bool{false, true} {
		f := testForm(long)
		signed, err := f.Seal(key, testLabel, testBody{"a"}, []byte("chain"))
		if err != nil {
			t.Fatal(err)
		}
		chain, err := f.ChainOf(signed)
		if LabelOf(signed) != testLabel || err != nil || string(chain) != "chain" {
			t.Errorf("label %q, chain %q: %v", LabelOf(signed), chain, err)
		}
		s, err := f.Split(signed, testLabel)
		var v testBody
		if err != nil || string(s.Chain()) != "chain" || s.Open(key.Public(), "the key", &v, none) != nil || v.Name != "a" {
			t.Errorf("%+v: %v", v, err)
		}
		other := testForm(!long)
		if _, err := other.Split(signed, testLabel); err == nil {
			t.Error("the two lengths of a chain are read alike")
		}
	}
}

func TestAFormRefusesWhateverElseThereIs(t *testing.T) {
	key, f := newKey(t), testForm(true)
	signed := must[[]byte](t)(f.Seal(key, testLabel, testBody{"a"}, []byte("chain")))
	for n := range signed {
		_, err := f.Split(signed[:n], testLabel)
		wantReason(t, err, reasonTest)
	}
	for name, raw := range map[string][]byte{
		"trailing": append(bytes.Clone(signed), 0), "long": make([]byte, f.Bytes+1), "label": bytes.Replace(signed, []byte("/1"), []byte("/2"), 1),
	} {
		if _, err := f.Split(raw, testLabel); err == nil {
			t.Errorf("%s: split", name)
		}
	}
	_, err := f.ChainOf(make([]byte, f.Bytes+1))
	wantReason(t, err, reasonTest)
	_, err = f.Seal(key, testLabel, testBody{strings.Repeat("a", 64)}, nil)
	wantReason(t, err, reasonTest)
	_, err = f.Seal(key, testLabel, testBody{"a"}, make([]byte, 33))
	wantReason(t, err, reasonTest)
}

// TestAFormDecodesNothingUnsigned: each case breaks one thing alone.
func TestAFormDecodesNothingUnsigned(t *testing.T) {
	key, f := newKey(t), testForm(true)
	signed := must[[]byte](t)(f.Seal(key, testLabel, testBody{"a"}, []byte("chain")))
	refused := errors.New("refused")
	for name, tc := range map[string]struct {
		raw   []byte
		key   identity.Public
		check func() error
		want  refusal.Reason
	}{
		"another key":   {signed, newKey(t).Public(), none, reasonForgery},
		"another chain": {bytes.Replace(signed, []byte("chain"), []byte("chAin"), 1), key.Public(), none, reasonForgery},
		"another body":  {bytes.Replace(signed, []byte(`"a"`), []byte(`"b"`), 1), key.Public(), none, reasonForgery},
		"not canonical": {must[[]byte](t)(f.Seal(key, testLabel, map[string]any{"Name": "a"}, nil)), key.Public(), none, reasonTest},
		"unknown field": {must[[]byte](t)(f.Seal(key, testLabel, map[string]any{"other": 1}, nil)), key.Public(), none, reasonTest},
		"too many":      {must[[]byte](t)(f.Seal(key, testLabel, []int{1, 2, 3, 4, 5}, nil)), key.Public(), none, reasonTest},
	} {
		s, err := f.Split(tc.raw, testLabel)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var v testBody
		err = s.Open(tc.key, "the key", &v, tc.check)
		if reason, _ := refusal.ReasonOf(err); reason != tc.want || tc.want == reasonForgery && v != (testBody{}) {
			t.Errorf("%s: %v, %+v", name, err, v)
		}
	}
	s, _ := f.Split(signed, testLabel)
	if err := s.Open(key.Public(), "the key", new(testBody), func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("the body's own check is not asked: %v", err)
	}
}
