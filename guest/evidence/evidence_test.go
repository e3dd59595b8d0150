package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func wantReason(tb testing.TB, err error, want refusal.Reason) {
	tb.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != want {
		tb.Errorf("got %v, want a refusal %q", err, want)
	}
}

func fill(n int, v byte) []byte { return bytes.Repeat([]byte{v}, n) }

func sampleEnvelope() Envelope {
	return Envelope{Kind: KindSNP, Report: fill(1184, 5), Endorsements: []Endorsement{{EndorsementARK, fill(3, 1)}, {EndorsementASK, fill(2, 2)}, {EndorsementVCEK, fill(1, 3)}}}
}

// The encoding byte by byte, written out by hand. It never changes under this label.
func TestEnvelopeVector(t *testing.T) {
	e := Envelope{Kind: KindTDX, Report: []byte{0xaa, 0xbb}, Endorsements: []Endorsement{{EndorsementARK, []byte{1}}, {EndorsementVLEK, []byte{2, 3}}}}
	got, err := e.Marshal()
	want := "\x1eanchorhold/evidence/envelope/1" + "\x03tdx" + "\x00\x00\x02\xaa\xbb" + "\x02" + "\x03ark\x00\x00\x01\x01" + "\x04vlek\x00\x00\x02\x02\x03"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	digest := sha256.Sum256([]byte("\x1canchorhold/evidence/digest/1" + "\x03tdx" + "\x00\x00\x02\xaa\xbb"))
	if e.Digest() != digest {
		t.Errorf("digest %x", e.Digest())
	}
}

func TestEnvelopeComesBack(t *testing.T) {
	e := sampleEnvelope()
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseEnvelope(data)
	if err != nil || !reflect.DeepEqual(back, e) {
		t.Fatalf("%+v, %v", back, err)
	}
	data[len(data)-1] ^= 1 // what was parsed is a copy
	if !reflect.DeepEqual(back, e) {
		t.Error("the envelope shares memory with its encoding")
	}
	if string(e.Endorsement(EndorsementASK)) != "\x02\x02" || e.Endorsement(EndorsementVLEK) != nil {
		t.Error("endorsement by type")
	}
}

func TestDigestIsOfKindAndReportAlone(t *testing.T) {
	e := sampleEnvelope()
	bare, other, kind := e, e, e
	bare.Endorsements = nil
	other.Report = fill(1184, 6)
	kind.Kind = KindTDX
	if e.Digest() != bare.Digest() || e.Digest() == other.Digest() || e.Digest() == kind.Digest() {
		t.Error("digest")
	}
}

// What must not be sent must not be read either: each row is refused by both.
func TestPitfall29EnvelopesOutsideTheFormatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Envelope){
		"no kind":          func(e *Envelope) { e.Kind = "" },
		"unknown kind":     func(e *Envelope) { e.Kind = "sev-es" },
		"no report":        func(e *Envelope) { e.Report = nil },
		"huge report":      func(e *Envelope) { e.Report = make([]byte, MaxReportBytes+1) },
		"unknown type":     func(e *Envelope) { e.Endorsements[0].Type = "aaa" },
		"empty data":       func(e *Envelope) { e.Endorsements[0].Data = nil },
		"huge endorsement": func(e *Envelope) { e.Endorsements[0].Data = make([]byte, MaxEndorsementBytes+1) },
		"out of order":     func(e *Envelope) { slices.Reverse(e.Endorsements) },
		"twice":            func(e *Envelope) { e.Endorsements[1].Type = EndorsementARK },
		"too many": func(e *Envelope) {
			for range MaxEndorsements {
				e.Endorsements = append(e.Endorsements, Endorsement{EndorsementVLEK, []byte{1}})
			}
		},
	} {
		e := sampleEnvelope()
		change(&e)
		if _, err := e.Marshal(); err == nil {
			t.Errorf("%s: encoded", name)
		} else {
			wantReason(t, err, ReasonMalformedEvidence)
		}
		_, err := ParseEnvelope(encodeUnchecked(e))
		if _, ok := refusal.ReasonOf(err); !ok {
			t.Errorf("%s: parsed (%v)", name, err)
		}
	}
}

// encodeUnchecked writes the format on its own, without its limits.
func encodeUnchecked(e Envelope) []byte {
	u24 := func(n int) []byte { return []byte{byte(n >> 16), byte(n >> 8), byte(n)} }
	out := append([]byte{byte(len(envelopeLabel))}, envelopeLabel...)
	out = append(append(out, byte(len(e.Kind))), e.Kind...)
	out = append(append(out, u24(len(e.Report))...), e.Report...)
	out = append(out, byte(len(e.Endorsements)))
	for _, en := range e.Endorsements {
		out = append(append(out, byte(len(en.Type))), en.Type...)
		out = append(append(out, u24(len(en.Data))...), en.Data...)
	}
	return out
}

func TestLargestEnvelope(t *testing.T) {
	e := Envelope{Kind: KindSNP, Report: make([]byte, MaxReportBytes)}
	for _, typ := range []EndorsementType{EndorsementARK, EndorsementASK, EndorsementASVK, EndorsementVCEK, EndorsementVLEK} {
		e.Endorsements = append(e.Endorsements, Endorsement{typ, make([]byte, MaxEndorsementBytes)})
	}
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err) // 16 KiB and 5 times 8 KiB fit 64 KiB
	}
	if _, err := ParseEnvelope(data); err != nil {
		t.Error(err)
	}
	_, err = ParseEnvelope(append(data, make([]byte, MaxEnvelopeBytes)...))
	if wantReason(t, err, ReasonMalformedEvidence); !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v was found by reading it all", err)
	}
}

func TestTruncatedAndExtendedEnvelopesAreRefused(t *testing.T) {
	data, err := sampleEnvelope().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for cut := range data {
		_, err := ParseEnvelope(data[:cut])
		wantReason(t, err, ReasonMalformedEvidence)
	}
	_, err = ParseEnvelope(append(data, 0))
	wantReason(t, err, ReasonMalformedEvidence)
	data[len(envelopeLabel)] = '2' // the label's last character is the version
	_, err = ParseEnvelope(data)
	wantReason(t, err, ReasonMalformedEvidence)
}

func sampleClaims() GuestClaims {
	return GuestClaims{EventLogDigest: [32]byte(fill(32, 9)), ImageID: "image-1", AgentBuild: "v1", Tenant: "t", MemoryLimit: 128 << 20, ClockSource: ClockSecureTSC}
}

func TestGuestClaimsVector(t *testing.T) {
	got, err := sampleClaims().Marshal()
	want := "\x22anchorhold/evidence/guest-claims/2" + string(fill(32, 9)) + "\x07image-1\x02v1\x01t" + "\x00\x00\x00\x00\x08\x00\x00\x00\x01"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	if sampleClaims().Digest() != sha256.Sum256([]byte(want)) {
		t.Error("digest")
	}
	back, err := ParseGuestClaims(got)
	if err != nil || back != sampleClaims() {
		t.Errorf("%+v, %v", back, err)
	}
	for cut := range got {
		_, err := ParseGuestClaims(got[:cut])
		wantReason(t, err, ReasonMalformedClaims)
	}
	_, err = ParseGuestClaims(append(got, 0))
	wantReason(t, err, ReasonMalformedClaims)
	got[len(guestClaimsLabel)] = '3'
	_, err = ParseGuestClaims(got)
	wantReason(t, err, ReasonClaimsVersion)
	got[1] = 'x'
	_, err = ParseGuestClaims(got)
	wantReason(t, err, ReasonMalformedClaims)
}

// TestGuestClaimsOfVersion1AreRefused: they say nothing of the clock. The vector
// is that of version 1.
func TestGuestClaimsOfVersion1AreRefused(t *testing.T) {
	_, err := ParseGuestClaims([]byte("\x22anchorhold/evidence/guest-claims/1" + string(fill(32, 9)) + "\x07image-1\x02v1\x01t" + "\x00\x00\x00\x00\x08\x00\x00\x00"))
	wantReason(t, err, ReasonClaimsVersion)
}

// TestClockSourceIsAKnownOne: a number without a meaning is no claim.
func TestClockSourceIsAKnownOne(t *testing.T) {
	for c := range numClocks {
		g := sampleClaims()
		g.ClockSource = c
		data, err := g.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseGuestClaims(data)
		if err != nil || back.ClockSource != c || c.HostProof() != (c == ClockSecureTSC || c == ClockTDX) {
			t.Errorf("%v: %v, %v", c, back.ClockSource, err)
		}
		text, err := c.MarshalText()
		var named ClockSource
		if err != nil || named.UnmarshalText(text) != nil || named != c {
			t.Errorf("%v: %s, %v", c, text, err)
		}
	}
	g := sampleClaims()
	g.ClockSource = numClocks
	_, err := g.Marshal()
	wantReason(t, err, ReasonMalformedClaims)
	_, err = ParseGuestClaims(g.encode())
	wantReason(t, err, ReasonMalformedClaims)
	if _, err := g.ClockSource.MarshalText(); err == nil || g.ClockSource.String() == "" || new(ClockSource).UnmarshalText([]byte("sundial")) == nil {
		t.Error("a clock source without a name has one")
	}
}

func TestGuestClaimsTexts(t *testing.T) {
	long := strings.Repeat("x", MaxClaimBytes)
	for text, ok := range map[string]bool{"": true, long: true, long + "x": false, "a b": false, "a\n": false, "\x7f": false, "é": false, "~!": true, strings.Repeat("x", 300): false} {
		for i := range 3 {
			g := sampleClaims()
			*[]*string{&g.ImageID, &g.AgentBuild, &g.Tenant}[i] = text
			_, err := g.Marshal()
			if (err == nil) != ok {
				t.Errorf("field %d, %q: %v", i, text, err)
			}
			if ok {
				continue
			}
			wantReason(t, err, ReasonMalformedClaims)
			if data := g.encode(); data != nil {
				_, err = ParseGuestClaims(data)
				wantReason(t, err, ReasonMalformedClaims)
			}
		}
	}
}

func sampleBinding() Binding {
	return Binding{Exporter: [48]byte(fill(48, 1)), HashM1: [64]byte(fill(64, 2)), HashM2: [64]byte(fill(64, 3)), KEMKey: fill(1216, 4), AgentKey: fill(2000, 5), ClaimsDigest: [32]byte(fill(32, 6))}
}

// join is the hash's input as the specification has it, written out again.
func join(fields ...[]byte) (out []byte) {
	for _, f := range fields {
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(f))), f...)
	}
	return out
}

func TestReportDataVector(t *testing.T) {
	b := sampleBinding()
	want := sha512.Sum512(join([]byte("anchorhold/kbp/2/report-data"), b.Exporter[:], b.HashM1[:], b.HashM2[:], b.KEMKey, b.AgentKey, b.ClaimsDigest[:]))
	if b.ReportData() != want {
		t.Error("the binding's hash is not the specification's")
	}
	c := CallerBinding{Nonce: fill(16, 7), AgentKeyID: [32]byte(fill(32, 8))}
	want = sha512.Sum512(join([]byte("anchorhold/local-api/1/caller-report-data"), c.Nonce, c.AgentKeyID[:]))
	if c.ReportData() != want {
		t.Error("the caller binding's hash is not the specification's")
	}
}

func TestPitfall04EveryBoundByteCounts(t *testing.T) {
	seen := map[[64]byte]bool{sampleBinding().ReportData(): true}
	check := func(where string, b Binding) {
		if seen[b.ReportData()] {
			t.Errorf("%s changed and REPORT_DATA did not", where)
		}
		seen[b.ReportData()] = true
	}
	for _, field := range []struct {
		name string
		of   func(*Binding) []byte
	}{
		{"exporter", func(b *Binding) []byte { return b.Exporter[:] }}, {"H(M1)", func(b *Binding) []byte { return b.HashM1[:] }},
		{"H(M2)", func(b *Binding) []byte { return b.HashM2[:] }}, {"KK", func(b *Binding) []byte { return b.KEMKey }},
		{"AK", func(b *Binding) []byte { return b.AgentKey }}, {"claims", func(b *Binding) []byte { return b.ClaimsDigest[:] }},
	} {
		size := len(field.of(new(sampleBinding())))
		for i := range size {
			b := sampleBinding()
			field.of(&b)[i] ^= 1
			check(field.name, b)
		}
	}
	for _, change := range []func(*Binding){
		func(b *Binding) { b.HashM1, b.HashM2 = b.HashM2, b.HashM1 }, func(b *Binding) { b.KEMKey, b.AgentKey = b.AgentKey, b.KEMKey },
		func(b *Binding) { b.KEMKey = nil }, func(b *Binding) { b.AgentKey = nil }, func(b *Binding) { *b = Binding{} },
	} {
		b := sampleBinding()
		change(&b)
		check("a whole field", b)
	}
}

// Moving bytes over the border of two fields is the attack on concatenation: it
// must change the hash, for every border and every content.
func TestPitfall08BindingIsInjective(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		all := make([]byte, rnd.IntN(40))
		for i := range all {
			all[i] = byte(rnd.IntN(2)) // few values, so that parts look alike
		}
		seen := map[[64]byte]int{}
		for cut := range len(all) + 1 {
			b := Binding{KEMKey: all[:cut], AgentKey: all[cut:]}
			if at, twice := seen[b.ReportData()]; twice {
				t.Fatalf("cut at %d and at %d hash alike", at, cut)
			}
			seen[b.ReportData()] = cut
		}
	}
}

// The local API cannot be made to quote a protocol binding: whatever nonce a
// caller chooses, were it the protocol's whole input, the label stands first.
func TestPitfall07CallerNeverGetsAProtocolBinding(t *testing.T) {
	b := sampleBinding()
	inputs := [][]byte{nil, fill(MaxCallerNonce, 0), []byte(bindingLabel), join([]byte(bindingLabel), b.Exporter[:], b.HashM1[:], b.HashM2[:], b.KEMKey, b.AgentKey, b.ClaimsDigest[:])}
	for _, nonce := range inputs {
		if (CallerBinding{Nonce: nonce}).ReportData() == b.ReportData() {
			t.Error("a caller's binding equals the protocol's")
		}
	}
	// The hash's inputs differ in their first four bytes, the label's length.
	if len(bindingLabel) == len(callerBindingLabel) || strings.HasPrefix(callerBindingLabel, bindingLabel) {
		t.Error("the labels must differ in length")
	}
	a, c := CallerBinding{Nonce: fill(16, 1)}, CallerBinding{Nonce: fill(17, 1)}
	if a.ReportData() == c.ReportData() || a.ReportData() == (CallerBinding{Nonce: a.Nonce, AgentKeyID: [32]byte{1}}).ReportData() {
		t.Error("two caller bindings hash alike")
	}
}

func TestClaimsShowAndDigest(t *testing.T) {
	c := Claims{Kind: KindSNP, Measurement: fill(48, 0xab), TCB: TCBs{Reported: TCB{SNP: 3}}}
	data, err := json.Marshal(c)
	if err != nil || !strings.Contains(string(data), `"measurement":"`+strings.Repeat("ab", 48)+`"`) {
		t.Errorf("%s, %v", data, err)
	}
	var back Claims
	if err := json.Unmarshal(data, &back); err != nil || back.Digest() != c.Digest() {
		t.Errorf("%+v, %v", back, err)
	}
	if c.Measurement.String() != hex.EncodeToString(c.Measurement) {
		t.Error("String")
	}
	if err := new(Hex).UnmarshalText([]byte("zz")); err == nil {
		t.Error("not hexadecimal, and accepted")
	}
}

// Every claim counts: a change of any field changes the digest.
func TestEveryClaimIsInTheDigest(t *testing.T) {
	base := Claims{}.Digest()
	v := reflect.TypeFor[Claims]()
	for i := range v.NumField() {
		var c Claims
		touch(reflect.ValueOf(&c).Elem().Field(i))
		if c.Digest() == base {
			t.Errorf("%s is not in the digest", v.Field(i).Name)
		}
		if tag := v.Field(i).Tag.Get("json"); tag == "" || tag == "-" {
			t.Errorf("%s has no JSON name", v.Field(i).Name)
		}
	}
}

func touch(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.SetBytes([]byte{1})
	case reflect.Struct:
		touch(v.Field(0))
	default:
		v.SetUint(1)
	}
}
