package valuefile

import (
	"crypto"
	"crypto/elliptic"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/policy"
)

// FuzzRead: whatever a file holds, it is refused with a reason or gives values that the broker reads. What is behind a
// signature is fuzzed as if it were signed.
func FuzzRead(f *testing.F) {
	key := newEC(f, elliptic.P384())
	a := newAuthority(f, key, nil)
	unsigned := manifest(f, nil, reference(amdClass(), snpMeasurement(1)))
	f.Add(unsigned)
	f.Add(manifest(f, func(m item) { m[3] = intelOID() }, reference(tdClass(), item{0: keyMRTEE, 1: item{2: []any{sha384(1)}, 14: item{0: []any{sha384(2)}}}})))
	f.Add(sign1(f, key, -35, crypto.SHA384, unsigned, nil, item{33: a.leaf}))
	f.Add(goldenOf(a.leaf, snpPart(), tdxPart()))
	f.Add(fields(fieldGolden, goldenOf(a.leaf, snpPart(), tdxPart()), fieldSignature, repeated(1, 256)))
	f.Add(make([]byte, idBlockBytes+idAuthBytes))
	trust := a.trust()
	trust.Keys = append(trust.Keys, key.Public())
	check := func(t *testing.T, file File, err error) {
		if err != nil {
			if _, ok := refusal.ReasonOf(err); !ok {
				t.Errorf("a refusal without a reason: %v", err)
			}
			return
		}
		if _, err := policy.ParseReferenceValues(file.YAML()); err != nil && len(file.Values) > 0 && len(file.Values) < MaxValues {
			t.Log(err) // a payload alone is not read by the broker's parser, as Read does
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, o := range []Options{{Trust: Trust{Unsigned: "a test"}, Now: testNow()}, {Trust: trust, Now: testNow(), ID: "x", Covers: "image"}} {
			file, err := Read("file", raw, o)
			check(t, file, err)
			if err == nil && len(file.Values) == 0 {
				t.Error("accepted without a value")
			}
		}
		payload := File{Form: FormEndorsement}
		golden, err := protoFields("payload", raw, nil, nil)
		if err == nil {
			_, err = goldenChain(golden)
		}
		if err == nil {
			err = payload.golden(golden, Options{Now: testNow()})
		}
		check(t, payload, err)
		_, _, err = parseIDBlock(raw)
		check(t, File{}, err)
	})
}
