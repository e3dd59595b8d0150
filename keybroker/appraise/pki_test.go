//go:build !release

package appraise

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// authority is a certificate with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

//go:embed testdata/authorities.pem
var authorityKeys []byte

// signingKeys are kept in testdata: making them takes many seconds.
var signingKeys = sync.OnceValue(func() (keys [4]*rsa.PrivateKey) {
	rest := authorityKeys
	for i := range keys {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

var (
	pkiStart = day(2026, 1, 1)
	pkiEnd   = day(2030, 1, 1)
	pkiNow   = day(2026, 6, 1)
)

// platform is a whole vendor in miniature, whose every part a test may spoil
// before the evidence is made.
type platform struct {
	product       product
	family, model byte
	version       uint32
	tcb           uint64
	hwid          []byte
	csp           string
	signer        signerKind
	leafName      string

	leaf       func(*x509.Certificate) // changes the chip key's certificate before it is signed
	issuer     func(*x509.Certificate)
	root       func(*x509.Certificate)
	extensions func([]pkix.Extension) []pkix.Extension
	leafKey    crypto.Signer // P-384 unless set
	signWith   *ecdsa.PrivateKey
	report     func([]byte) // changes the report before it is signed
	signed     func([]byte) // and after

	ark, ask authority // made by evidence
}

func genoaPlatform() *platform {
	return &platform{product: genoa, family: 0x19, model: 0x11, version: 3, tcb: 72<<56 | 23<<48 | 9, hwid: fill(64, 7), leafName: "SEV-VCEK"}
}

func turinPlatform() *platform {
	return &platform{product: turin, family: 0x1a, model: 0x02, version: 5, tcb: 0x4400_0000_0403_0201, hwid: fill(8, 5), leafName: "SEV-VCEK"}
}

func vlekPlatform() *platform {
	p := genoaPlatform()
	p.signer, p.csp, p.hwid, p.leafName = signerVLEK, "provider", nil, "SEV-VLEK"
	return p
}

func fill(n int, v byte) []byte { return slices.Repeat([]byte{v}, n) }

func kdsOID(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...)
}

func mustDER(tb testing.TB, v any, params string) []byte {
	tb.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func (p *platform) chipExtensions(tb testing.TB) []pkix.Extension {
	t := p.product.tcb(p.tcb)
	list := []pkix.Extension{{Id: kdsOID(1), Value: mustDER(tb, 0, "")}, {Id: kdsOID(2), Value: mustDER(tb, string(p.product)+"-B1", "ia5")}}
	parts := map[int]uint8{1: t.BootLoader, 2: t.TEE, 3: t.SNP, 8: t.Microcode}
	if p.product == turin {
		parts[9] = t.FMC
	}
	for _, n := range []int{1, 2, 3, 8, 9} {
		if v, has := parts[n]; has {
			list = append(list, pkix.Extension{Id: kdsOID(3, n), Value: mustDER(tb, int(v), "")})
		}
	}
	if p.hwid != nil {
		list = append(list, pkix.Extension{Id: kdsOID(4), Value: p.hwid})
	}
	if p.csp != "" {
		list = append(list, pkix.Extension{Id: kdsOID(5), Value: mustDER(tb, p.csp, "ia5")})
	}
	return list
}

func issueCertificate(tb testing.TB, t *x509.Certificate, parent authority, public crypto.PublicKey) *x509.Certificate {
	tb.Helper()
	parentCert := parent.cert
	if parentCert == nil {
		parentCert = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parentCert, public, parent.key)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

func template(name string, serial int64, authority bool, change func(*x509.Certificate)) *x509.Certificate {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name}, SerialNumber: big.NewInt(serial), NotBefore: pkiStart, NotAfter: pkiEnd,
		SignatureAlgorithm: x509.SHA384WithRSAPSS}
	if authority {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if change != nil {
		change(t)
	}
	return t
}

// evidence makes a report over reportData with its chain, and remembers the authorities.
func (p *platform) evidence(tb testing.TB, reportData [64]byte) evidence.Envelope {
	tb.Helper()
	c := p.chain(tb)
	p.ark, p.ask = c.ark, c.ask
	leaf, ecKey := c.leaf, c.key
	if p.signWith != nil {
		ecKey = p.signWith
	}
	issuerType, leafType := evidence.EndorsementASK, evidence.EndorsementVCEK
	if p.signer == signerVLEK {
		issuerType, leafType = evidence.EndorsementASVK, evidence.EndorsementVLEK
	}
	return evidence.Envelope{Kind: evidence.KindSNP, Parts: []evidence.Part{{Type: evidence.PartSNPReport, Data: p.sign(tb, ecKey, reportData)},
		{Type: evidence.EndorsementARK, Data: p.ark.cert.Raw}, {Type: issuerType, Data: p.ask.cert.Raw}, {Type: leafType, Data: leaf.Raw}}}
}

// issuedChain is a chain with the chip's key.
type issuedChain struct {
	ark, ask authority
	leaf     *x509.Certificate
	key      *ecdsa.PrivateKey
}

// chains are the ordinary ones of this test binary, by what they depend on: each takes three signatures of
// RSA-4096.
var chains sync.Map

// chain is the platform's, which is issued once where nothing is changed about its certificates.
func (p *platform) chain(tb testing.TB) *issuedChain {
	tb.Helper()
	if p.root != nil || p.issuer != nil || p.leaf != nil || p.extensions != nil || p.leafKey != nil {
		return p.issue(tb)
	}
	of := fmt.Sprintf("%s %d %x %q %d %s", p.product, p.tcb, p.hwid, p.csp, p.signer, p.leafName)
	kept, ok := chains.Load(of)
	if !ok {
		kept, _ = chains.LoadOrStore(of, p.issue(tb))
	}
	c, ok := kept.(*issuedChain)
	if !ok {
		tb.Fatalf("a chain of %T", kept)
	}
	return c
}

// issue issues a platform's certificates.
func (p *platform) issue(tb testing.TB) *issuedChain {
	tb.Helper()
	c := new(issuedChain)
	keys := signingKeys()
	c.ark = authority{key: keys[0]}
	c.ark.cert = issueCertificate(tb, template("ARK-"+string(p.product), 1, true, p.root), c.ark, keys[0].Public())
	c.ask = authority{key: keys[1]}
	c.ask.cert = issueCertificate(tb, template("SEV-"+string(p.product), 2, true, p.issuer), c.ark, keys[1].Public())
	var err error
	if c.key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader); err != nil {
		tb.Fatal(err)
	}
	var leafKey crypto.Signer = c.key
	if p.leafKey != nil {
		leafKey = p.leafKey
	}
	t := template(p.leafName, 0, false, p.leaf)
	t.ExtraExtensions = append(t.ExtraExtensions, p.chipExtensions(tb)...)
	if p.extensions != nil {
		t.ExtraExtensions = p.extensions(t.ExtraExtensions)
	}
	c.leaf = issueCertificate(tb, t, c.ask, leafKey.Public())
	return c
}

// sign writes the report's fixed layout, independently of the parser, and signs it.
func (p *platform) sign(tb testing.TB, key *ecdsa.PrivateKey, reportData [64]byte) []byte {
	tb.Helper()
	r := make([]byte, 1184)
	binary.LittleEndian.PutUint32(r, p.version)
	binary.LittleEndian.PutUint64(r[8:], 1<<17|1<<16|31)
	r[0x34] = 1
	r[0x48] = byte(p.signer) << 2
	copy(r[0x50:], reportData[:])
	copy(r[0x90:], fill(48, 0xaa))
	for _, at := range []int{0x38, 0x180, 0x1e0, 0x1f0} {
		binary.LittleEndian.PutUint64(r[at:], p.tcb)
	}
	if p.version >= 3 {
		r[0x188], r[0x189] = p.family, p.model
	}
	copy(r[0x1a0:], p.hwid)
	if p.report != nil {
		p.report(r)
	}
	digest := sha512.Sum384(r[:0x2a0])
	x, y, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		tb.Fatal(err)
	}
	for i, n := range []*big.Int{x, y} {
		be := n.FillBytes(make([]byte, 72))
		slices.Reverse(be)
		copy(r[0x2a0+72*i:], be)
	}
	if p.signed != nil {
		p.signed(r)
	}
	return r
}

func pemOf(certs ...*x509.Certificate) (out []byte) {
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// crl is a revocation list of the platform's root.
func (p *platform) crl(tb testing.TB, number int64, from, to time.Time, change func(*x509.RevocationList), serials ...int64) []byte {
	tb.Helper()
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: to, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, s := range serials {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: from})
	}
	if change != nil {
		change(t)
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, p.ark.cert, p.ark.key)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// trusting is a verifier that believes the platform's root as a software TEE's.
func (p *platform) trusting(tb testing.TB, o Options) *Verifier {
	tb.Helper()
	v, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.AllowSoftwareTEE(pemOf(p.ark.cert)); err != nil {
		tb.Fatal(err)
	}
	return v
}
