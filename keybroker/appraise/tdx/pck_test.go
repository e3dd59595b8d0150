//go:build !release

package tdx

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// entry is one of the SGX extension.
type entry struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

func sgxOID(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
}

func mustDER(tb testing.TB, v any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func raw(tb testing.TB, v any) asn1.RawValue { return asn1.RawValue{FullBytes: mustDER(tb, v)} }

// emulatedExtension is that of the emulator's Platform CA.
func emulatedExtension(tb testing.TB) []byte {
	chain, err := parseChain(chainText(tb, emulate(tb, tdxsim.Options{}).quote), 3)
	if err != nil {
		tb.Fatal(err)
	}
	return extensionOf(chain[0])
}

func TestPlatformExtensionIsReadStrictly(t *testing.T) {
	der := emulatedExtension(t)
	for name, tc := range map[string]struct {
		change func(outer, tcb []entry) ([]entry, []entry)
		read   bool
	}{
		"as it is": {func(o, i []entry) ([]entry, []entry) { return o, i }, true},
		"other order": {func(o, i []entry) ([]entry, []entry) {
			o[0], o[3], i[0], i[17] = o[3], o[0], i[17], i[0]
			return o, i
		}, true},
		"entry that is new":             {func(o, i []entry) ([]entry, []entry) { return append(o, entry{sgxOID(9), raw(t, 7)}), i }, true},
		"entry twice":                   {func(o, i []entry) ([]entry, []entry) { return append(o, o[0]), i }, false},
		"component twice":               {func(o, i []entry) ([]entry, []entry) { return o, append(i, i[0]) }, false},
		"without FMSPC":                 {func(o, i []entry) ([]entry, []entry) { return append(o[:3:3], o[4:]...), i }, false},
		"without PCE id":                {func(o, i []entry) ([]entry, []entry) { return append(o[:2:2], o[3:]...), i }, false},
		"without a component":           {func(o, i []entry) ([]entry, []entry) { return o, i[1:] }, false},
		"without PCESVN":                {func(o, i []entry) ([]entry, []entry) { return o, append(i[:16:16], i[17]) }, false},
		"without CPUSVN":                {func(o, i []entry) ([]entry, []entry) { return o, i[:17] }, false},
		"component of 256":              {func(o, i []entry) ([]entry, []entry) { i[0].Value = raw(t, 256); return o, i }, false},
		"component below zero":          {func(o, i []entry) ([]entry, []entry) { i[0].Value = raw(t, -1); return o, i }, false},
		"PCESVN of 65536":               {func(o, i []entry) ([]entry, []entry) { i[16].Value = raw(t, 65536); return o, i }, false},
		"CPUSVN of 15 bytes":            {func(o, i []entry) ([]entry, []entry) { i[17].Value = raw(t, make([]byte, 15)); return o, i }, false},
		"FMSPC of 7 bytes":              {func(o, i []entry) ([]entry, []entry) { o[3].Value = raw(t, make([]byte, 7)); return o, i }, false},
		"PCE id of text":                {func(o, i []entry) ([]entry, []entry) { o[2].Value = raw(t, "ab"); return o, i }, false},
		"platform instance of 15 bytes": {func(o, i []entry) ([]entry, []entry) { o[5].Value = raw(t, make([]byte, 15)); return o, i }, false},
		"identifier of another tree": {func(o, i []entry) ([]entry, []entry) {
			o[0].ID = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
			return o, i
		}, false},
		"identifier of a sibling": {func(o, i []entry) ([]entry, []entry) {
			o[0].ID = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 14, 1, 1}
			return o, i
		}, false},
		"identifier with a longer arc": {func(o, i []entry) ([]entry, []entry) {
			o[0].ID = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 11}
			return o, i
		}, false},
		"identifier of the extension": {func(o, i []entry) ([]entry, []entry) { o[0].ID = sgxOID(); return o, i }, false},
		"more entries than there are": {func(o, i []entry) ([]entry, []entry) {
			for n := range maxSGXEntries {
				o = append(o, entry{sgxOID(100 + n), raw(t, 0)})
			}
			return o, i
		}, false},
	} {
		var outer, tcb []entry
		if _, err := asn1.Unmarshal(der, &outer); err != nil {
			t.Fatal(err)
		}
		if _, err := asn1.Unmarshal(outer[1].Value.FullBytes, &tcb); err != nil {
			t.Fatal(err)
		}
		outer, tcb = tc.change(outer, tcb)
		for i := range outer {
			if outer[i].ID.Equal(sgxOID(2)) {
				outer[i].Value = raw(t, tcb)
			}
		}
		p, ok := readPlatform(mustDER(t, outer))
		if ok != tc.read || ok && (p.fmspc != [6]byte{0x50, 0x80, 0x6f} || p.pceSVN != 13 || p.components != svns(5, 5, 5, 5)) {
			t.Errorf("%s: read is %v, %+v", name, ok, p)
		}
	}
	for _, bad := range [][]byte{nil, {}, {0x30}, {0x30, 0}, append(bytes.Clone(der), 0), der[:len(der)-1]} {
		if _, ok := readPlatform(bad); ok {
			t.Errorf("%x was read", bad)
		}
	}
}

func TestPCKHasOneSGXExtension(t *testing.T) {
	extension := pkix.Extension{Id: sgxOID(), Value: emulatedExtension(t)}
	if _, err := parsePlatform(&x509.Certificate{Extensions: []pkix.Extension{{Id: sgxOID(1)}, extension}}); err != nil {
		t.Error(err)
	}
	for _, list := range [][]pkix.Extension{nil, {extension, extension}, {{Id: sgxOID()}}} {
		_, err := parsePlatform(&x509.Certificate{Extensions: list})
		wantReason(t, err, ReasonCertificate)
	}
}
