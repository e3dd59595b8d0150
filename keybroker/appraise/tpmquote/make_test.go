package tpmquote

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"maps"
	"math/big"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

const attrAK = attrRequired | attrUserWithAuth | attrNoDA

// maker makes quotes of which every part can be another than a TPM's.
type maker struct {
	key        crypto.Signer
	scheme     uint16
	hash       uint16
	magic      uint32
	typ        uint16
	nonce      []byte
	safe       uint8
	bank       uint16
	name       string // of the bank, in the container
	pcrs       map[int]evidence.Hex
	selections [][]byte // instead of the bitmap of pcrs
	attributes uint32
	nameAlg    uint16
	symmetric  uint16
	kdf        uint16
	exponent   uint32
	bits       uint16
	curve      uint16
	noPublic   bool
	attestTail []byte
	publicTail []byte
	sigTail    []byte
	sign       func(digest []byte) []byte // instead of the key
	digest     []byte                     // instead of the PCRs' digest
}

func nonce() []byte { return []byte("0123456789abcdef0123456789abcdef") }

// values are PCRs with contents that tell them apart.
func values(size int, numbers ...int) map[int]evidence.Hex {
	m := map[int]evidence.Hex{}
	for _, n := range numbers {
		m[n] = slices.Repeat([]byte{byte(n + 1)}, size)
	}
	return m
}

func newKey(tb testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// rsaKey is one that only tests use.
func rsaKey(tb testing.TB) *rsa.PrivateKey {
	tb.Helper()
	text, err := os.ReadFile("testdata/rsa2048.pem")
	if err != nil {
		tb.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		tb.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

// newMaker makes accepted quotes of ECDSA over P-256.
func newMaker(tb testing.TB) *maker {
	return &maker{key: newKey(tb, elliptic.P256()), scheme: algECDSA, hash: algSHA256, magic: magicGenerated, typ: attestQuote, nonce: nonce(), safe: 1,
		bank: algSHA256, name: evidence.BankSHA256, pcrs: values(32, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9), attributes: attrAK, nameAlg: algSHA256,
		symmetric: algNull, kdf: algNull, bits: 2048, curve: curveP256}
}

func add2B(b *cryptobyte.Builder, data []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
}

func (m *maker) attest() []byte {
	var b cryptobyte.Builder
	b.AddUint32(m.magic)
	b.AddUint16(m.typ)
	add2B(&b, Name(m.nameAlg, append([]byte{0x40, 0, 0, 0x0b}, m.keyName()...))) // primary, under the endorsement hierarchy
	add2B(&b, m.nonce)
	b.AddUint64(1000)
	b.AddUint32(3)
	b.AddUint32(4)
	b.AddUint8(m.safe)
	b.AddUint64(0x2019052300163636)
	selections := m.selections
	if selections == nil {
		bitmap := make([]byte, 3)
		for n := range m.pcrs {
			bitmap[n/8] |= 1 << (n % 8)
		}
		selections = [][]byte{append([]byte{byte(m.bank >> 8), byte(m.bank), 3}, bitmap...)}
	}
	b.AddUint32(uint32(len(selections)))
	for _, s := range selections {
		b.AddBytes(s)
	}
	d := m.digest
	if d == nil {
		var joined []byte
		for _, n := range slices.Sorted(maps.Keys(m.pcrs)) {
			joined = append(joined, m.pcrs[n]...)
		}
		d = digest(hashOf(m.hash), joined)
	}
	add2B(&b, d)
	b.AddBytes(m.attestTail)
	return b.BytesOrPanic()
}

func (m *maker) public() []byte {
	var b cryptobyte.Builder
	typ := uint16(algECC)
	if _, isRSA := m.key.Public().(*rsa.PublicKey); isRSA {
		typ = algRSA
	}
	b.AddUint16(typ)
	b.AddUint16(m.nameAlg)
	b.AddUint32(m.attributes)
	add2B(&b, nil)
	b.AddUint16(m.symmetric)
	b.AddUint16(m.scheme)
	b.AddUint16(m.hash)
	switch key := m.key.Public().(type) {
	case *rsa.PublicKey:
		b.AddUint16(m.bits)
		b.AddUint32(m.exponent)
		add2B(&b, key.N.Bytes())
	case *ecdsa.PublicKey:
		b.AddUint16(m.curve)
		b.AddUint16(m.kdf)
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		add2B(&b, point[1:1+half])
		add2B(&b, point[1+half:])
	}
	b.AddBytes(m.publicTail)
	return b.BytesOrPanic()
}

func (m *maker) signature(tb testing.TB, attest []byte) []byte {
	var b cryptobyte.Builder
	b.AddUint16(m.scheme)
	b.AddUint16(m.hash)
	var opts crypto.SignerOpts = crypto.SHA256
	var d []byte
	if m.hash == algSHA384 {
		sum := sha512.Sum384(attest)
		opts, d = crypto.SHA384, sum[:]
	} else {
		sum := sha256.Sum256(attest)
		d = sum[:]
	}
	if m.scheme == algRSAPSS {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: opts.HashFunc()}
	}
	if m.sign != nil {
		d = m.sign(d)
	}
	sig, err := m.key.Sign(rand.Reader, d, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if _, isECDSA := m.key.(*ecdsa.PrivateKey); isECDSA {
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(sig, &rs); err != nil {
			tb.Fatal(err)
		}
		add2B(&b, rs.R.Bytes())
		add2B(&b, rs.S.Bytes())
	} else {
		add2B(&b, sig)
	}
	b.AddBytes(m.sigTail)
	return b.BytesOrPanic()
}

func (m *maker) quote(tb testing.TB) []byte {
	tb.Helper()
	attest := m.attest()
	q := evidence.TPMQuote{Attest: attest, Signature: m.signature(tb, attest), Public: m.public(), Bank: m.name, PCRs: m.pcrs}
	if m.noPublic {
		q.Public = nil
	}
	out, err := q.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

func (m *maker) keyName() []byte { return Name(m.nameAlg, m.public()) }

// expected is what the maker's quotes answer, with an enrolled key.
func (m *maker) expected() Expected {
	return Expected{Nonce: nonce(), PCRs: []int{0, 4, 7}, Trust: TrustEnrolled(m.keyName()), Now: noon()}
}

func noon() time.Time { return time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC) }

func wantReason(tb testing.TB, err error, reason refusal.Reason) {
	tb.Helper()
	if got, _ := refusal.ReasonOf(err); got != reason {
		tb.Errorf("got %v, want a refusal %q", err, reason)
	}
}

// pki is an authority with one intermediate.
type pki struct {
	root, intermediate       *x509.Certificate
	rootKey, intermediateKey *ecdsa.PrivateKey
}

func certify(tb testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	tb.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = noon().Add(-time.Hour), noon().Add(24*time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func newPKI(tb testing.TB) *pki {
	p := &pki{rootKey: newKey(tb, elliptic.P256()), intermediateKey: newKey(tb, elliptic.P256())}
	authority := func(name string) *x509.Certificate {
		return &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	p.root = certify(tb, authority("AK root"), nil, p.rootKey.Public(), p.rootKey)
	p.intermediate = certify(tb, authority("AK intermediate"), p.root, p.intermediateKey.Public(), p.rootKey)
	return p
}

func leafTemplate() *x509.Certificate {
	return &x509.Certificate{Subject: pkix.Name{CommonName: "instance 1"}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
}

func (p *pki) leaf(tb testing.TB, template *x509.Certificate, pub crypto.PublicKey) *x509.Certificate {
	return certify(tb, template, p.intermediate, pub, p.intermediateKey)
}

func (p *pki) authorities(tb testing.TB) *Authorities {
	tb.Helper()
	a, err := NewAuthorities(AuthorityOptions{Roots: [][32]byte{sha256.Sum256(p.root.RawSubjectPublicKeyInfo)}, WithoutRevocation: true})
	if err != nil {
		tb.Fatal(err)
	}
	return a
}
