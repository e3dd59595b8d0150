package evidence

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
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
	return Envelope{Kind: KindSNP, Parts: []Part{{PartSNPReport, fill(1184, 5)}, {EndorsementARK, fill(3, 1)}, {EndorsementASK, fill(2, 2)}, {EndorsementVCEK, fill(1, 3)}}}
}

// The encoding byte by byte, written out by hand. It never changes under this label.
func TestEnvelopeVector(t *testing.T) {
	e := Envelope{Kind: KindTDX, Parts: []Part{{PartTDXQuote, []byte{0xaa, 0xbb}}, {PartCCLog, []byte{2, 3}}}}
	got, err := e.Marshal()
	want := "\x1eanchorhold/evidence/envelope/2" + "\x03tdx" + "\x02" + "\x09tdx-quote\x00\x00\x02\xaa\xbb" + "\x0ccc-event-log\x00\x00\x02\x02\x03"
	if err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	digest := sha256.Sum256([]byte("\x1canchorhold/evidence/digest/1" + "\x03tdx" + "\x00\x00\x02\xaa\xbb"))
	if e.Digest() != digest {
		t.Errorf("digest %x", e.Digest())
	}
}

// Envelopes of version 1 are read, and written again as they were.
func TestFormerEnvelopeVector(t *testing.T) {
	former := "\x1eanchorhold/evidence/envelope/1" + "\x07sev-snp" + "\x00\x00\x02\xaa\xbb" + "\x02" + "\x03ark\x00\x00\x01\x01" + "\x04vlek\x00\x00\x02\x02\x03"
	e, err := ParseEnvelope([]byte(former))
	if err != nil {
		t.Fatal(err)
	}
	if back, err := e.Marshal(); err != nil || string(back) != former {
		t.Errorf("%q, %v", back, err)
	}
	if string(e.Primary()) != "\xaa\xbb" || string(e.Part(EndorsementVLEK)) != "\x02\x03" || e.ReportData([64]byte{1}) != [64]byte{1} {
		t.Errorf("%+v", e)
	}
	for name, bad := range map[string]string{
		"another kind": strings.Replace(former, "\x07sev-snp", "\x03tdx", 1), "no report": strings.Replace(former, "\x00\x00\x02\xaa\xbb", "\x00\x00\x00", 1),
		"order": strings.Replace(former, "\x03ark", "\x03zzz", 1), "a part of version 2": strings.Replace(former, "\x04vlek", "\x09tpm-quote", 1),
		"trailing": former + "x", "cut": former[:len(former)-1],
	} {
		_, err := ParseEnvelope([]byte(bad))
		if reason, _ := refusal.ReasonOf(err); reason != ReasonMalformedEvidence {
			t.Errorf("%s: %v", name, err)
		}
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
	if string(e.Part(EndorsementASK)) != "\x02\x02" || e.Part(EndorsementVLEK) != nil || len(e.All(EndorsementVCEK)) != 1 {
		t.Error("part by type")
	}
	shuffled := slices.Clone(e.Parts)
	slices.Reverse(shuffled)
	if made, err := NewEnvelope(KindSNP, shuffled...); err != nil || !reflect.DeepEqual(made, e) {
		t.Errorf("%+v, %v", made, err)
	}
}

func TestDigestIsOfKindAndReportAlone(t *testing.T) {
	e := sampleEnvelope()
	bare, other, kind := e, e, e
	bare.Parts = e.Parts[:1]
	other.Parts = []Part{{PartSNPReport, fill(1184, 6)}}
	kind.Kind, kind.Parts = KindTDX, []Part{{PartTDXQuote, fill(1184, 5)}}
	if e.Digest() != bare.Digest() || e.Digest() == other.Digest() || e.Digest() == kind.Digest() {
		t.Error("digest")
	}
}

// What is bound is covered by REPORT_DATA: another part, its absence, its order or its type
// asks for another report. Endorsements are not bound: hosts add them when the report is made.
func TestReportDataCoversEveryBoundPart(t *testing.T) {
	challenge := [64]byte(fill(64, 9))
	e := Envelope{Kind: KindTDX, Parts: []Part{{PartTDXQuote, []byte{1}}, {PartTPMQuote, []byte{2}}, {PartCCLog, []byte{3}}, {PartGPUReport, []byte{4}}, {PartGPUReport, []byte{5}}, {PartGPUChain, []byte{6}}}}
	want := e.ReportData(challenge)
	// Written out by hand: SHA-512 of length-prefixed fields.
	field := func(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }
	parts := sha512.Sum512([]byte(field("anchorhold/evidence/2/parts") + field("tpm-quote") + field("\x02") + field("cc-event-log") + field("\x03") +
		field("nvidia-gpu-report") + field("\x04") + field("nvidia-gpu-report") + field("\x05") + field("nvidia-gpu-chain") + field("\x06")))
	if sha512.Sum512([]byte(field("anchorhold/evidence/2/report-data")+field(string(challenge[:]))+field(string(parts[:])))) != want {
		t.Error("not as the document says")
	}
	seen := map[[64]byte]string{want: "all", challenge: "the challenge itself"}
	for name, change := range map[string]func(*Envelope){
		"a byte":       func(e *Envelope) { e.Parts[2].Data = []byte{4} },
		"no log":       func(e *Envelope) { e.Parts = slices.Delete(e.Parts, 2, 3) },
		"no quote":     func(e *Envelope) { e.Parts = slices.Delete(e.Parts, 1, 2) },
		"other order":  func(e *Envelope) { e.Parts[3].Data, e.Parts[4].Data = e.Parts[4].Data, e.Parts[3].Data },
		"other type":   func(e *Envelope) { e.Parts[2].Type = PartTCGLog },
		"one device":   func(e *Envelope) { e.Parts = slices.Delete(e.Parts, 4, 5) },
		"moved a byte": func(e *Envelope) { e.Parts[3].Data, e.Parts[4].Data = []byte{4, 5}, []byte{} },
	} {
		other := e
		other.Parts = slices.Clone(e.Parts)
		change(&other)
		got := other.ReportData(challenge)
		if at, twice := seen[got]; twice {
			t.Errorf("%s is as %s", name, at)
		}
		seen[got] = name
	}
	endorsed := e
	endorsed.Parts = append(slices.Clone(e.Parts), Part{EndorsementAK, []byte{7}})
	if endorsed.ReportData(challenge) != want || (Envelope{Kind: KindTDX, Parts: e.Parts[:1]}).ReportData(challenge) != challenge {
		t.Error("an endorsement is bound, or a lone quote is not over the challenge")
	}
	if Nonce(PartTPMQuote, challenge) == Nonce(PartGPUReport, challenge) || Nonce(PartTPMQuote, challenge) == Nonce(PartTPMQuote, want) {
		t.Error("two uses of one nonce")
	}
}

// What must not be sent must not be read either: each row is refused by both.
func TestPitfall29EnvelopesOutsideTheFormatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Envelope){
		"no kind":          func(e *Envelope) { e.Kind = "" },
		"unknown kind":     func(e *Envelope) { e.Kind = "sev-es" },
		"no report":        func(e *Envelope) { e.Parts = e.Parts[1:] },
		"no parts":         func(e *Envelope) { e.Parts = nil },
		"huge report":      func(e *Envelope) { e.Parts[0].Data = make([]byte, 4<<10+1) },
		"unknown type":     func(e *Envelope) { e.Parts[1].Type = "aaa" },
		"empty data":       func(e *Envelope) { e.Parts[1].Data = nil },
		"huge endorsement": func(e *Envelope) { e.Parts[1].Data = make([]byte, 8<<10+1) },
		"out of order":     func(e *Envelope) { slices.Reverse(e.Parts) },
		"twice":            func(e *Envelope) { e.Parts[2].Type = EndorsementARK },
		"of another kind":  func(e *Envelope) { e.Parts = slices.Insert(e.Parts, 1, Part{PartTDXQuote, []byte{1}}) },
		"of one kind only": func(e *Envelope) { e.Kind, e.Parts = KindAzureSNP, []Part{{PartTPMQuote, []byte{1}}} },
		"too many": func(e *Envelope) {
			for range MaxGPUs + 1 {
				e.Parts = slices.Insert(e.Parts, 1, Part{PartGPUReport, []byte{1}})
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
	out = append(out, byte(len(e.Parts)))
	for _, p := range e.Parts {
		out = append(append(out, byte(len(p.Type))), p.Type...)
		out = append(append(out, u24(len(p.Data))...), p.Data...)
	}
	return out
}

func TestLargestEnvelope(t *testing.T) {
	e := Envelope{Kind: KindAzureSNP}
	for _, f := range forms() {
		if slices.Contains(f.kinds, KindAzureSNP) && f.count == 1 {
			e.Parts = append(e.Parts, Part{f.name, make([]byte, f.bytes)})
		}
	}
	data, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseEnvelope(data); err != nil {
		t.Error(err)
	}
	_, err = ParseEnvelope(append(data, make([]byte, MaxEnvelopeBytes)...))
	if wantReason(t, err, ReasonMalformedEvidence); !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v was found by reading it all", err)
	}
	for range MaxGPUs {
		e.Parts = append(e.Parts, Part{PartGPUReport, make([]byte, 16<<10)})
	}
	if _, err := NewEnvelope(e.Kind, e.Parts...); err != nil {
		t.Error(err)
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
	data[len(envelopeLabel)] = '3' // the label's last character is the version
	_, err = ParseEnvelope(data)
	wantReason(t, err, ReasonMalformedEvidence)
}

// TestChipOfEachKind: of the report itself, and of the one inside Azure's.
func TestChipOfEachKind(t *testing.T) {
	report := slices.Concat(fill(0x1a0, 1), fill(64, 2), fill(704, 3))
	if e := (Envelope{Kind: KindSNP, Parts: []Part{{PartSNPReport, report}}}); string(e.Chip()) != string(fill(64, 2)) {
		t.Errorf("%x", e.Chip())
	}
	if e := (Envelope{Kind: KindAzureSNP, Parts: []Part{{PartHCLReport, slices.Concat(fill(32, 9), report)}}}); string(e.Chip()) != string(fill(64, 2)) {
		t.Errorf("%x", e.Chip())
	}
	for _, e := range []Envelope{{Kind: KindSNP}, {Kind: KindTDX, Parts: []Part{{PartTDXQuote, report}}}, {Kind: KindAzureSNP, Parts: []Part{{PartHCLReport, report[:100]}}}} {
		if e.Chip() != nil {
			t.Errorf("%s has a chip", e.Kind)
		}
	}
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
	if b.Challenge() != want {
		t.Error("the binding's hash is not the specification's")
	}
	c := CallerBinding{Nonce: fill(16, 7), AgentKeyID: [32]byte(fill(32, 8))}
	want = sha512.Sum512(join([]byte("anchorhold/local-api/1/caller-report-data"), c.Nonce, c.AgentKeyID[:]))
	if c.Challenge() != want {
		t.Error("the caller binding's hash is not the specification's")
	}
}

func TestPitfall04EveryBoundByteCounts(t *testing.T) {
	seen := map[[64]byte]bool{sampleBinding().Challenge(): true}
	check := func(where string, b Binding) {
		if seen[b.Challenge()] {
			t.Errorf("%s changed and REPORT_DATA did not", where)
		}
		seen[b.Challenge()] = true
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
			if at, twice := seen[b.Challenge()]; twice {
				t.Fatalf("cut at %d and at %d hash alike", at, cut)
			}
			seen[b.Challenge()] = cut
		}
	}
}

// The local API cannot be made to quote a protocol binding: whatever nonce a
// caller chooses, were it the protocol's whole input, the label stands first.
func TestPitfall07CallerNeverGetsAProtocolBinding(t *testing.T) {
	b := sampleBinding()
	inputs := [][]byte{nil, fill(MaxCallerNonce, 0), []byte(bindingLabel), join([]byte(bindingLabel), b.Exporter[:], b.HashM1[:], b.HashM2[:], b.KEMKey, b.AgentKey, b.ClaimsDigest[:])}
	for _, nonce := range inputs {
		if (CallerBinding{Nonce: nonce}).Challenge() == b.Challenge() {
			t.Error("a caller's binding equals the protocol's")
		}
	}
	// The hash's inputs differ in their first four bytes, the label's length.
	if len(bindingLabel) == len(callerBindingLabel) || strings.HasPrefix(callerBindingLabel, bindingLabel) {
		t.Error("the labels must differ in length")
	}
	a, c := CallerBinding{Nonce: fill(16, 1)}, CallerBinding{Nonce: fill(17, 1)}
	if a.Challenge() == c.Challenge() || a.Challenge() == (CallerBinding{Nonce: a.Nonce, AgentKeyID: [32]byte{1}}).Challenge() {
		t.Error("two caller bindings hash alike")
	}
}
