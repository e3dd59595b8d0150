//go:build !release

package tdxsim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/anchorhold/anchorhold/guest/kept"
)

// Names of the certificates, as verifiers of Intel's look for them.
const (
	Root        = "Intel SGX Root CA"
	PlatformCA  = "Intel SGX PCK Platform CA"
	ProcessorCA = "Intel SGX PCK Processor CA"
	TCBSigner   = "Intel SGX TCB Signing"
	PCK         = "Intel SGX PCK Certificate"
)

// organization stands in every subject.
const organization = "Anchorhold Software TEE - NOT HARDWARE"

// SerialOf are the serial numbers of the certificates, for revocation lists.
func SerialOf(name string) *big.Int {
	for i, n := range []string{Root, PlatformCA, ProcessorCA, TCBSigner, PCK} {
		if n == name {
			return big.NewInt(int64(0x1001 + i))
		}
	}
	return new(big.Int)
}

// CertificateTemplate is a certificate before it is issued.
type CertificateTemplate = x509.Certificate

// RevocationListTemplate is a list before it is signed.
type RevocationListTemplate = x509.RevocationList

// keys are what lasts: certificates are issued from them anew.
type keys struct {
	root, platformCA, processorCA, tcbSigner, pck *ecdsa.PrivateKey
}

func (k *keys) all() []**ecdsa.PrivateKey {
	return []**ecdsa.PrivateKey{&k.root, &k.platformCA, &k.processorCA, &k.tcbSigner, &k.pck}
}

const keyFile = "tdx-keys.pem"

// openKeys reads the keys in dir, or makes them; without one they are for this process.
func openKeys(dir string) (*keys, error) {
	if dir == "" {
		return makeKeys()
	}
	data, err := kept.File(dir, keyFile, func() ([]byte, error) {
		k, err := makeKeys()
		if err != nil {
			return nil, err
		}
		return k.marshal()
	})
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

func (k *keys) marshal() ([]byte, error) {
	var out bytes.Buffer
	for _, key := range k.all() {
		der, err := x509.MarshalECPrivateKey(*key)
		if err != nil {
			return nil, err
		}
		if err := pem.Encode(&out, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func makeKeys() (*keys, error) {
	k := &keys{}
	for _, key := range k.all() {
		made, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		*key = made
	}
	return k, nil
}

func parseKeys(data []byte) (*keys, error) {
	k := &keys{}
	for i, key := range k.all() {
		block, rest := pem.Decode(data)
		if block == nil {
			return nil, fmt.Errorf("%s has %d keys, want %d; remove it to make new ones", keyFile, i, len(k.all()))
		}
		read, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		*key, data = read, rest
	}
	return k, nil
}

// pki is the keys with their certificates.
type pki struct {
	keys                                          *keys
	root, platformCA, processorCA, tcbSigner, pck *x509.Certificate
	attestation                                   *ecdsa.PrivateKey
}

// issueAll issues the certificates, from a day before the time given.
func issueAll(k *keys, o *Options) (*pki, error) {
	p := &pki{keys: k}
	var err error
	if p.attestation, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	extension, err := sgxExtension(&o.Platform)
	if err != nil {
		return nil, err
	}
	issue := func(name string, key *ecdsa.PrivateKey, parent *x509.Certificate, signer *ecdsa.PrivateKey, extra ...pkix.Extension) *x509.Certificate {
		if err != nil {
			return nil
		}
		var cert *x509.Certificate
		cert, err = issueOne(name, key, parent, signer, extra, o)
		return cert
	}
	p.root = issue(Root, k.root, nil, k.root)
	p.platformCA = issue(PlatformCA, k.platformCA, p.root, k.root)
	p.processorCA = issue(ProcessorCA, k.processorCA, p.root, k.root)
	p.tcbSigner = issue(TCBSigner, k.tcbSigner, p.root, k.root)
	ca, caKey := p.platformCA, k.platformCA
	if o.Platform.ProcessorCA {
		ca, caKey = p.processorCA, k.processorCA
	}
	p.pck = issue(PCK, k.pck, ca, caKey, extension)
	return p, err
}

func issueOne(name string, key *ecdsa.PrivateKey, parent *x509.Certificate, signer *ecdsa.PrivateKey, extra []pkix.Extension, o *Options) (*x509.Certificate, error) {
	t := &x509.Certificate{
		SerialNumber: SerialOf(name), Subject: pkix.Name{CommonName: name, Organization: []string{organization}},
		NotBefore: o.Now.Add(-24 * time.Hour), NotAfter: o.Now.AddDate(7, 0, 0), SignatureAlgorithm: x509.ECDSAWithSHA256,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		CRLDistributionPoints: []string{"https://localhost.invalid/" + keyFile}, SubjectKeyId: keyID(key), ExtraExtensions: extra,
	}
	switch name {
	case Root, PlatformCA, ProcessorCA:
		t.IsCA, t.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if change := o.Hooks.Certificate; change != nil {
		change(name, t)
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func keyID(key *ecdsa.PrivateKey) []byte { return rawKey(&key.PublicKey)[:20] }

// sgxExtension names the platform (PCK Certificate and CRL Profile Specification).
func sgxExtension(p *Platform) (pkix.Extension, error) {
	type entry struct {
		ID    asn1.ObjectIdentifier
		Value any
	}
	oid := func(tail ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}, tail...)
	}
	var tcb []entry
	for i, svn := range p.Components {
		tcb = append(tcb, entry{oid(2, i+1), int(svn)})
	}
	tcb = append(tcb, entry{oid(2, 17), int(p.PCESVN)}, entry{oid(2, 18), p.Components[:]})
	list := []entry{{oid(1), make([]byte, 16)}, {oid(2), tcb}, {oid(3), p.PCEID[:]}, {oid(4), p.FMSPC[:]}, {oid(5), asn1.Enumerated(1)}}
	if !p.ProcessorCA {
		list = append(list, entry{oid(6), append([]byte("software"), make([]byte, 8)...)},
			entry{oid(7), []entry{{oid(7, 1), true}, {oid(7, 2), false}, {oid(7, 3), false}}})
	}
	der, err := asn1.Marshal(list)
	return pkix.Extension{Id: oid(), Value: der}, err
}

// pemOf is the PEM text of certificates.
func pemOf(certs ...*x509.Certificate) (text []byte) {
	for _, c := range certs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}
