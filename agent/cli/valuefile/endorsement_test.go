package valuefile

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"google.golang.org/protobuf/encoding/protowire"
)

// googleKey is the RSA key of the emulated signer: one for the process, since making one takes long.
var googleKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	key, err := googleKey()
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// fields writes a message of numbers and bytes.
func fields(list ...any) (out []byte) {
	for i := 0; i < len(list); i += 2 {
		num := protowire.Number(list[i].(int))
		switch v := list[i+1].(type) {
		case int:
			out = protowire.AppendVarint(protowire.AppendTag(out, num, protowire.VarintType), uint64(v))
		case []byte:
			out = protowire.AppendBytes(protowire.AppendTag(out, num, protowire.BytesType), v)
		}
	}
	return out
}

func repeated(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func snpPart(more ...any) []byte {
	return fields(append([]any{fieldSNPVersion, 3, fieldSNPMeasurements, fields(1, 4, 2, repeated(4, 48)), fieldSNPMeasurements, fields(1, 2, 2, repeated(2, 48)),
		fieldFamily, repeated(9, 16), fieldGuestPolicy, 0x30000}, more...)...)
}

func tdxPart(more ...any) []byte {
	return fields(append([]any{fieldTDXVersion, 5, fieldTDXMeasurements, fields(fieldRAM, 16, fieldMRTD, repeated(6, 48)),
		fieldTDXMeasurements, fields(fieldRAM, 16, fieldEarlyAccept, 1, fieldMRTD, repeated(7, 48))}, more...)...)
}

func goldenOf(leaf []byte, snp, tdx []byte, more ...any) []byte {
	made := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC).Unix()
	return fields(append([]any{fieldTimestamp, fields(fieldSeconds, int(made), nanos, 5), fieldChange, 77, fieldCert, leaf, fieldDigest, repeated(0xd1, 48), fieldSNP, snp, fieldTDX, tdx}, more...)...)
}

// endorse signs a golden measurement as Google does.
func endorse(tb testing.TB, key *rsa.PrivateKey, golden []byte, more ...any) []byte {
	tb.Helper()
	digest := sha256.Sum256(golden)
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		tb.Fatal(err)
	}
	return fields(append([]any{fieldGolden, golden, fieldSignature, signature}, more...)...)
}

func TestEndorsementsGiveAValueForEachMachine(t *testing.T) {
	key := rsaKey(t)
	a := newAuthority(t, key, nil)
	raw := endorse(t, key, goldenOf(a.leaf, snpPart(20, 1), tdxPart(), 21, 1))
	f, err := Read("endorsement.binarypb", raw, Options{Trust: a.trust(), Now: testNow()})
	if err != nil {
		t.Fatal(err)
	}
	checkFile(t, f, "gce-launch-endorsement endorsement.binarypb, signed by CN=test signer (key sha256:")
	got := registersOf(f)
	for id, want := range map[string]map[string]string{
		"google/d1d1d1d1d1d1/snp/vcpus-2":               {"launch": strings.Repeat("02", 48)},
		"google/d1d1d1d1d1d1/snp/vcpus-4":               {"launch": strings.Repeat("04", 48)},
		"google/d1d1d1d1d1d1/tdx/ram-16":                {"mrtd": strings.Repeat("06", 48)},
		"google/d1d1d1d1d1d1/tdx/ram-16-accepted-early": {"mrtd": strings.Repeat("07", 48)},
	} {
		for name, value := range want {
			if got[id][name] != value || len(got[id]) != 1 {
				t.Errorf("%s: got %v", id, got[id])
			}
		}
	}
	if len(f.Values) != 4 || f.Values[0].Covers != "firmware" || f.Values[3].Covers != "firmware" {
		t.Errorf("got %+v", f.Values)
	}
	notes := strings.Join(f.Notes, "\n")
	for _, says := range []string{"any image starts under them", "guest policy 0x30000", "field 20 of the SEV-SNP part", "field 21 of the golden measurement", "2026-03-01"} {
		if !strings.Contains(notes, says) {
			t.Errorf("notes do not say %q:\n%s", says, notes)
		}
	}
	for name, o := range map[string]Options{"by key": {Trust: Trust{Keys: []crypto.PublicKey{key.Public()}}, Now: testNow()}, "named": {Trust: a.trust(), Now: testNow(), ID: "gce"}} {
		if f, err = Read("x", raw, o); err != nil || o.ID != "" && f.Values[0].ID != "gce/snp/vcpus-2" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
	if _, err := Read("x", []byte(base64.StdEncoding.EncodeToString(raw)), Options{Trust: a.trust(), Now: testNow()}); err != nil {
		t.Errorf("in base64: %v", err)
	}
}

// TestEndorsementsAreRefused has one case for each check, in which the others hold.
func TestEndorsementsAreRefused(t *testing.T) {
	key := rsaKey(t)
	a, other := newAuthority(t, key, nil), newAuthority(t, key, nil)
	ended := newAuthority(t, key, func(c *x509.Certificate) { c.NotAfter = testNow().AddDate(0, -1, 0) })
	early := newAuthority(t, key, func(c *x509.Certificate) { c.NotBefore = testNow().AddDate(0, 1, 0) })
	encipher := newAuthority(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	snp, tdx := snpPart(), tdxPart()
	golden := func(a authority, more ...any) []byte { return goldenOf(a.leaf, snp, tdx, more...) }
	with := func(snp, tdx []byte) []byte { return endorse(t, key, goldenOf(a.leaf, snp, tdx)) }
	changed := slices.Clone(endorse(t, key, golden(a)))
	changed[bytes.Index(changed, repeated(4, 48))] ^= 1
	for name, c := range map[string]struct {
		raw    []byte
		trust  Trust
		reason refusal.Reason
	}{
		"nothing changed":           {endorse(t, key, golden(a)), a.trust(), ""},
		"a measurement":             {changed, a.trust(), ReasonSignature},
		"no signature":              {fields(fieldGolden, golden(a)), a.trust(), ReasonSignature},
		"another root":              {endorse(t, key, golden(a)), other.trust(), ReasonSigner},
		"another key":               {endorse(t, key, golden(a)), Trust{Keys: []crypto.PublicKey{newAuthority(t, key, nil).root.PublicKey}}, ReasonSignature},
		"nobody is trusted":         {endorse(t, key, golden(a)), Trust{}, ReasonSigner},
		"unsigned files only":       {endorse(t, key, golden(a)), Trust{Unsigned: "test"}, ReasonSigner},
		"no certificate":            {endorse(t, key, goldenOf(nil, snp, tdx)), a.trust(), ReasonSigner},
		"a damaged certificate":     {endorse(t, key, goldenOf(a.leaf[:100], snp, tdx)), a.trust(), ReasonMalformed},
		"an expired certificate":    {endorse(t, key, golden(ended)), ended.trust(), ReasonPeriod},
		"a certificate to come":     {endorse(t, key, golden(early)), early.trust(), ReasonPeriod},
		"a key for other things":    {endorse(t, key, golden(encipher)), encipher.trust(), ReasonSigner},
		"a field outside":           {endorse(t, key, golden(a), 3, 1), a.trust(), ReasonMalformed},
		"two payloads":              {endorse(t, key, golden(a), fieldGolden, golden(a)), a.trust(), ReasonMalformed},
		"two certificates":          {endorse(t, key, golden(a, fieldCert, a.leaf)), a.trust(), ReasonMalformed},
		"trailing bytes":            {append(endorse(t, key, golden(a)), 0xff), a.trust(), ReasonMalformed},
		"a damaged bundle":          {endorse(t, key, golden(a, fieldBundle, []byte("x"))), a.trust(), ReasonMalformed},
		"a chain too long":          {endorse(t, key, golden(a, fieldBundle, bytes.Repeat(pemOf(t, "CERTIFICATE", a.leaf), maxChain))), a.trust(), ReasonSize},
		"made in the future":        {endorse(t, key, fields(fieldTimestamp, fields(fieldSeconds, int(testNow().Unix())+1), fieldCert, a.leaf, fieldSNP, snp)), a.trust(), ReasonPeriod},
		"no time at all":            {endorse(t, key, fields(fieldTimestamp, fields(fieldSeconds, math.MaxInt), fieldCert, a.leaf, fieldSNP, snp)), a.trust(), ReasonMalformed},
		"a short launch digest":     {with(fields(fieldSNPMeasurements, fields(1, 4, 2, repeated(4, 47))), tdx), a.trust(), ReasonMalformed},
		"two for as many vCPUs":     {with(snpPart(fieldSNPMeasurements, fields(1, 4, 2, repeated(5, 48))), tdx), a.trust(), ReasonMalformed},
		"a measurement for no vCPU": {with(fields(fieldSNPMeasurements, fields(2, repeated(4, 48))), tdx), a.trust(), ReasonMalformed},
		"a number that is bytes":    {with(fields(fieldSNPMeasurements, fields(1, []byte{4}, 2, repeated(4, 48))), tdx), a.trust(), ReasonMalformed},
		"a short MRTD":              {with(snp, fields(fieldTDXMeasurements, fields(fieldRAM, 1, fieldMRTD, repeated(4, 32)))), a.trust(), ReasonMalformed},
		"two for as much memory":    {with(snp, tdxPart(fieldTDXMeasurements, fields(fieldRAM, 16, fieldMRTD, repeated(8, 48)))), a.trust(), ReasonMalformed},
		"a condition not known":     {with(snp, fields(fieldTDXMeasurements, fields(fieldRAM, 1, fieldMRTD, repeated(4, 48), 4, 1))), a.trust(), ReasonUnsupported},
		"no measurement":            {with(fields(fieldSNPVersion, 1), nil), a.trust(), ReasonEmpty},
		"an MRTD of zeros":          {with(snp, fields(fieldTDXMeasurements, fields(fieldRAM, 1, fieldMRTD, repeated(0, 48)))), a.trust(), ReasonMalformed},
	} {
		_, err := Read("x", c.raw, Options{Trust: c.trust, Now: testNow()})
		wantReason(t, name, err, c.reason)
	}
	var many []byte
	for i := range MaxValues + 1 {
		many = append(many, fields(fieldTDXMeasurements, fields(fieldRAM, i+1, fieldMRTD, repeated(4, 48)))...)
	}
	_, err := Read("x", with(nil, many), Options{Trust: a.trust(), Now: testNow()})
	wantReason(t, "too many", err, ReasonSize)
	_, err = protoFields("x", bytes.Repeat(fields(1, 1), maxFields+1), nil, []protowire.Number{1})
	wantReason(t, "too many fields", err, ReasonSize)
	_, err = protoFields("x", protowire.AppendFixed32(protowire.AppendTag(nil, 1, protowire.Fixed32Type), 1), nil, nil)
	wantReason(t, "a wire type that is not used", err, ReasonMalformed)
}

// TestAnIntermediateOfTheFileNeedsTheRoot verifies a chain of three.
func TestAnIntermediateOfTheFileNeedsTheRoot(t *testing.T) {
	key := rsaKey(t)
	between := newAuthority(t, key, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	})
	issuer, err := x509.ParseCertificate(between.leaf)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: issuer.SerialNumber, Subject: issuer.Subject, NotBefore: issuer.NotBefore, NotAfter: issuer.NotAfter}
	template.Subject.CommonName = "third"
	leaf, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	bundle := pemOf(t, "CERTIFICATE", between.leaf)
	_, err = Read("x", endorse(t, key, goldenOf(leaf, snpPart(), nil, fieldBundle, bundle)), Options{Trust: between.trust(), Now: testNow()})
	wantReason(t, "with it", err, "")
	_, err = Read("x", endorse(t, key, goldenOf(leaf, snpPart(), nil)), Options{Trust: between.trust(), Now: testNow()})
	wantReason(t, "without it", err, ReasonSigner)
}

// FuzzEndorsement reads payloads as if their signature had verified: whoever signs may be wrong.
func FuzzEndorsement(f *testing.F) {
	f.Add(goldenOf([]byte("certificate"), snpPart(), tdxPart()))
	f.Add(snpPart())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if golden, err := protoFields("golden", raw, []protowire.Number{fieldChange}, nil); err == nil {
			file := File{Form: FormEndorsement}
			if file.golden(golden, Options{Now: testNow()}) == nil && len(file.Values) > MaxValues {
				t.Error("too many values")
			}
		}
		if _, err := readEndorsement(raw, Options{Now: testNow()}); err == nil {
			t.Error("values of an unverified file")
		}
	})
}

// TestFirmwareIsNotCalledAnImage: a policy would then release keys to any image without a warning, and believe
// that image's word about a TPM.
func TestFirmwareIsNotCalledAnImage(t *testing.T) {
	key := rsaKey(t)
	a := newAuthority(t, key, nil)
	for _, part := range [][2][]byte{{snpPart(), nil}, {nil, tdxPart()}} {
		raw := endorse(t, key, goldenOf(a.leaf, part[0], part[1]))
		_, err := Read("x", raw, Options{Trust: a.trust(), Now: testNow(), Covers: "image"})
		if reason, _ := refusal.ReasonOf(err); reason != ReasonUnsupported {
			t.Errorf("got %v, want %s", err, ReasonUnsupported)
		}
		if f, err := Read("x", raw, Options{Trust: a.trust(), Now: testNow(), Covers: "firmware"}); err != nil || f.Values[0].Covers != "firmware" {
			t.Errorf("%+v, %v", f, err)
		}
	}
}
