//go:build !release

package teesim

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/anchorhold/anchorhold/guest/kept"
)

// description stands in every subject of the chain.
const description = "Anchorhold Software TEE - NOT HARDWARE"

// subject has AMD's address, which go-sev-guest wants in every name, and says what it is.
func subject(name string) pkix.Name {
	return pkix.Name{CommonName: name, Country: []string{"US"}, Province: []string{"CA"}, Locality: []string{"Santa Clara"},
		Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 13}, Value: description}}}
}

// chain is ARK -> ASK -> VCEK and ARK -> ASVK -> VLEK.
type chain struct {
	ark, ask, asvk, vcek, vlek []byte
	vcekKey, vlekKey           *ecdsa.PrivateKey
	chipID                     [64]byte
	rootsPEM                   []byte
}

// File of a chain: PEM blocks, certificates in the order below, then the two keys.
const chainFile = "chain.pem"

// openChain reads the chain in dir, or makes one.
func openChain(dir string) (*chain, error) {
	data, err := kept.File(dir, chainFile, makeChain)
	if err != nil {
		return nil, err
	}
	return parseChain(data)
}

func parseChain(data []byte) (*chain, error) {
	var blocks []*pem.Block
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			break
		}
		blocks = append(blocks, b)
	}
	if len(blocks) != 7 {
		return nil, fmt.Errorf("the chain has %d parts, want 7; remove its directory to make a new one", len(blocks))
	}
	c := &chain{ark: blocks[0].Bytes, ask: blocks[1].Bytes, asvk: blocks[2].Bytes, vcek: blocks[3].Bytes, vlek: blocks[4].Bytes}
	for i, to := range []**ecdsa.PrivateKey{&c.vcekKey, &c.vlekKey} {
		key, err := x509.ParseECPrivateKey(blocks[5+i].Bytes)
		if err != nil {
			return nil, err
		}
		*to = key
	}
	cert, err := x509.ParseCertificate(c.vcek)
	if err != nil {
		return nil, err
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid(4)) {
			copy(c.chipID[:], e.Value)
		}
	}
	var roots bytes.Buffer
	for _, b := range blocks[:3] {
		if err := pem.Encode(&roots, b); err != nil {
			return nil, err
		}
	}
	c.rootsPEM = roots.Bytes()
	return c, nil
}

func oid(tail ...int) asn1.ObjectIdentifier {
	return append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, tail...)
}

// issue signs one certificate with SHA384-RSAPSS, as AMD's are.
func issue(name string, serial int64, public crypto.PublicKey, parent *x509.Certificate, signer *rsa.PrivateKey, authority bool, extra []pkix.Extension) (*x509.Certificate, error) {
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: subject(name),
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(25, 0, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions: extra,
	}
	if authority {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// chipExtensions are what a chip key's certificate states (57230, table 8).
func chipExtensions(chipID []byte, csp string) ([]pkix.Extension, error) {
	product := "Genoa-B1"
	if csp != "" {
		product = "Genoa" // a loaded key is of no stepping
	}
	values := []struct {
		id    asn1.ObjectIdentifier
		value any
		tag   string
	}{
		{oid(1), 0, ""}, {oid(2), product, "ia5"},
		{oid(3, 1), goodTCB & 0xff, ""}, {oid(3, 2), goodTCB >> 8 & 0xff, ""}, {oid(3, 4), 0, ""}, {oid(3, 5), 0, ""},
		{oid(3, 6), 0, ""}, {oid(3, 7), 0, ""}, {oid(3, 3), goodTCB >> 48 & 0xff, ""}, {oid(3, 8), goodTCB >> 56 & 0xff, ""},
	}
	if csp != "" {
		values = append(values, struct {
			id    asn1.ObjectIdentifier
			value any
			tag   string
		}{oid(5), csp, "ia5"})
	}
	var list []pkix.Extension
	for _, v := range values {
		der, err := asn1.MarshalWithParams(v.value, v.tag)
		if err != nil {
			return nil, err
		}
		list = append(list, pkix.Extension{Id: v.id, Value: der})
	}
	if chipID != nil {
		list = append(list, pkix.Extension{Id: oid(4), Value: chipID}) // as it is, not DER
	}
	return list, nil
}

// makeChain makes keys and certificates and returns them as PEM. The keys of
// the authorities are dropped: nothing is ever issued under them again.
func makeChain() ([]byte, error) {
	var authorities [3]*rsa.PrivateKey
	for i := range authorities {
		key, err := rsa.GenerateKey(rand.Reader, 4096)
		if err != nil {
			return nil, err
		}
		authorities[i] = key
	}
	ark, err := issue("ARK-Genoa", 1, authorities[0].Public(), nil, authorities[0], true, nil)
	if err != nil {
		return nil, err
	}
	ask, err := issue("SEV-Genoa", 2, authorities[1].Public(), ark, authorities[0], true, nil)
	if err != nil {
		return nil, err
	}
	asvk, err := issue("SEV-VLEK-Genoa", 3, authorities[2].Public(), ark, authorities[0], true, nil)
	if err != nil {
		return nil, err
	}
	chipID := make([]byte, 64)
	rand.Read(chipID)
	vcek, vcekKey, err := issueChipKey("SEV-VCEK", chipID, "", ask, authorities[1])
	if err != nil {
		return nil, err
	}
	vlek, vlekKey, err := issueChipKey("SEV-VLEK", nil, "software-tee", asvk, authorities[2])
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, cert := range []*x509.Certificate{ark, ask, asvk, vcek, vlek} {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}); err != nil {
			return nil, err
		}
	}
	for _, key := range []*ecdsa.PrivateKey{vcekKey, vlekKey} {
		der, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			return nil, err
		}
		if err := pem.Encode(&out, &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func issueChipKey(name string, chipID []byte, csp string, issuer *x509.Certificate, signer *rsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	extensions, err := chipExtensions(chipID, csp)
	if err != nil {
		return nil, nil, err
	}
	cert, err := issue(name, 0, key.Public(), issuer, signer, false, extensions)
	return cert, key, err
}
