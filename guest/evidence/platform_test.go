package evidence

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"math/big"
	"slices"
	"testing"
	"time"
)

// sgxEntry is one pair of the extension that names a platform.
type sgxEntry struct {
	ID    asn1.ObjectIdentifier
	Value any
}

func sgxID(last ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, last...)
}

// pckPEM is a certificate with an extension of these entries; without any it has none.
func pckPEM(tb testing.TB, entries ...sgxEntry) []byte {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<32, 0)}
	if len(entries) > 0 {
		der, err := asn1.Marshal(entries)
		if err != nil {
			tb.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: sgxID(), Value: der}}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// quoteWith is a quote around a chain, with nothing true in it; of version 5 with a body of some size.
func quoteWith(version uint16, body uint32, chain []byte) []byte {
	le := binary.LittleEndian
	q := append(le.AppendUint16(nil, version), make([]byte, quoteHeaderBytes-2)...)
	if version == 5 {
		q = le.AppendUint32(le.AppendUint16(q, 3), body)
	}
	q = append(q, make([]byte, body)...)
	auth := append(make([]byte, 384+64), le.AppendUint16(nil, 3)...)
	auth = le.AppendUint32(le.AppendUint16(append(auth, 1, 2, 3), 5), uint32(len(chain)))
	auth = append(auth, chain...)
	signed := le.AppendUint32(le.AppendUint16(make([]byte, 128), 6), uint32(len(auth)))
	signed = append(signed, auth...)
	return slices.Concat(q, le.AppendUint32(nil, uint32(len(signed))), signed, make([]byte, 100))
}

// TestAPlatformIsNamedByItsCertificate, wherever the id stands in it.
func TestAPlatformIsNamedByItsCertificate(t *testing.T) {
	id := fill(16, 7)
	chain := pckPEM(t, sgxEntry{sgxID(1), fill(16, 1)}, sgxEntry{sgxID(5), asn1.Enumerated(1)}, sgxEntry{sgxID(6), id})
	for _, q := range [][]byte{quoteWith(4, 584, chain), quoteWith(5, 584, chain), quoteWith(5, 885, chain), quoteWith(4, 584, slices.Concat(chain, pckPEM(t)))} {
		for _, kind := range []Kind{KindTDX, KindAzureTDX} {
			if got := (Envelope{Kind: kind, Parts: []Part{{PartTDXQuote, q}}}).Chip(); !bytes.Equal(got, id) {
				t.Errorf("%s: got %x, want %x", kind, got, id)
			}
		}
		whole := bytes.LastIndex(q, []byte("-----END CERTIFICATE-----"))
		for n := range whole { // what is cut short names nothing, and does no harm
			if got := quotePlatform(q[:n]); got != nil {
				t.Fatalf("%d bytes name %x", n, got)
			}
		}
	}
	for name, chain := range map[string][]byte{
		"no id":            pckPEM(t, sgxEntry{sgxID(1), fill(16, 1)}),
		"another size":     pckPEM(t, sgxEntry{sgxID(6), fill(17, 1)}),
		"another type":     pckPEM(t, sgxEntry{sgxID(6), asn1.Enumerated(1)}),
		"no extension":     pckPEM(t),
		"of another issue": slices.Concat(pckPEM(t), chain), // the first certificate is the platform's
		"no certificate":   []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"no PEM":           fill(100, 'a'),
	} {
		if got := quotePlatform(quoteWith(4, 584, chain)); got != nil {
			t.Errorf("%s: %x", name, got)
		}
	}
	q := quoteWith(4, 584, chain)
	for _, at := range []int{0, 48 + 584 + 4 + 128} { // version, type of certification data
		other := bytes.Clone(q)
		other[at]++
		if got := quotePlatform(other); at > 0 && got != nil {
			t.Errorf("byte %d: %x", at, got)
		}
	}
}

// FuzzQuotePlatform: a quote is read before anybody verified it.
func FuzzQuotePlatform(f *testing.F) {
	chain := pckPEM(f, sgxEntry{sgxID(6), fill(16, 7)})
	f.Add(quoteWith(4, 584, chain))
	f.Add(quoteWith(5, 885, chain))
	f.Fuzz(func(t *testing.T, quote []byte) {
		if got := quotePlatform(quote); got != nil && len(got) != 16 {
			t.Errorf("%x", got)
		}
	})
}
