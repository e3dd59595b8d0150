//go:build !release

package gpusim

import (
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
)

// organization stands in every subject of the chain.
const organization = "Anchorhold GPU emulator - NOT HARDWARE"

// Authority is a root like NVIDIA's.
type Authority struct {
	root    *x509.Certificate
	key     *ecdsa.PrivateKey
	rootPEM []byte
}

// NewAuthority makes a root.
func NewAuthority() (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := template("NVIDIA Device Identity CA", "", true)
	a := &Authority{key: key}
	if a.root, err = issue(t, t, key.Public(), key); err != nil {
		return nil, err
	}
	a.rootPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.root.Raw})
	return a, nil
}

// Templates are the certificates below the root before they are signed: the authority of a chip,
// a provisioner, a device, and the firmware that holds the report key.
type Templates struct {
	Identity, Provisioner, Device, Firmware *x509.Certificate
	// Reissued, if set, is made for the provisioner's key once the device's certificate was
	// signed, and stands in the chain in the provisioner's place.
	Reissued *x509.Certificate
}

// template is a certificate with NVIDIA's validity, which ends in the year 9999.
func template(name, serial string, authority bool) *x509.Certificate {
	number := make([]byte, 16)
	rand.Read(number)
	t := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(number), Subject: pkix.Name{CommonName: name, Organization: []string{organization}, SerialNumber: serial},
		NotBefore: time.Date(2020, 10, 17, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		SignatureAlgorithm: x509.ECDSAWithSHA384, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if authority {
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign
	}
	return t
}

func issue(t, parent *x509.Certificate, public any, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// certify makes the four certificates below the root.
func (g *GPU) certify() error {
	model := g.opt.Chip + " A01 GSP"
	t := &Templates{
		Identity:    template("NVIDIA "+g.opt.Chip+" Identity", "", true),
		Provisioner: template("NVIDIA "+g.opt.Chip+" Provisioner ICA 1", "", true),
		Device:      template(model+" BROM", "", true),
		Firmware:    template(model+" FMC LF", "", false),
	}
	g.authorities = []*ecdsa.PrivateKey{g.opt.Authority.key}
	keys := make([]*ecdsa.PrivateKey, 4)
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			return err
		}
		keys[i] = key
	}
	device, err := x509.MarshalPKIXPublicKey(keys[2].Public())
	if err != nil {
		return err
	}
	extension, err := g.extension(device)
	if err != nil {
		return err
	}
	t.Device.KeyUsage = x509.KeyUsageCertSign
	t.Firmware.ExtraExtensions = []pkix.Extension{extension}
	if g.opt.ChangeCertificates != nil {
		g.opt.ChangeCertificates(t)
	}
	parent, signer := g.opt.Authority.root, g.opt.Authority.key
	g.chain = [][]byte{parent.Raw}
	for i, part := range []*x509.Certificate{t.Identity, t.Provisioner, t.Device, t.Firmware} {
		if parent, err = issue(part, parent, keys[i].Public(), signer); err != nil {
			return fmt.Errorf("gpusim: %w", err)
		}
		signer = keys[i]
		g.chain = append([][]byte{parent.Raw}, g.chain...)
	}
	g.key, g.authorities = signer, append(g.authorities, keys[:2]...)
	if t.Reissued != nil {
		identity, err := x509.ParseCertificate(g.chain[3])
		if err != nil {
			return err
		}
		again, err := issue(t.Reissued, identity, keys[1].Public(), keys[0])
		if err != nil {
			return err
		}
		g.chain[2] = again.Raw
	}
	return nil
}

// fwid is FWID of TCG's DICE architecture.
type fwid struct {
	Algorithm asn1.ObjectIdentifier
	Digest    []byte
}

// extension names the firmware: on Hopper with the device's key, on Blackwell in a DiceTcbInfo.
func (g *GPU) extension(deviceKey []byte) (pkix.Extension, error) {
	sha384 := asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	if !g.blackwell() {
		value, err := asn1.Marshal(struct {
			Version int
			Device  asn1.RawValue
			FWID    fwid
		}{1, asn1.RawValue{FullBytes: deviceKey}, fwid{sha384, g.fwid}})
		return pkix.Extension{Id: asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}, Value: value}, err
	}
	flags := asn1.BitString{Bytes: []byte{0, 0, 0, 1}, BitLength: 32} // of fixed width
	if g.opt.Debug {
		flags.Bytes[0] |= 1 << 4
	}
	value, err := asn1.Marshal(struct {
		Vendor  string         `asn1:"tag:0,utf8"`
		Model   string         `asn1:"tag:1,utf8"`
		Version string         `asn1:"tag:2,utf8"`
		SVN     int            `asn1:"tag:3"`
		Layer   int            `asn1:"tag:4"`
		Index   int            `asn1:"tag:5"`
		FWIDs   []fwid         `asn1:"tag:6"`
		Flags   asn1.BitString `asn1:"tag:7"`
		Info    []byte         `asn1:"tag:8"`
		Type    []byte         `asn1:"tag:9"`
	}{"NVIDIA", g.opt.Chip + " A01 GSP", "02", 2, 0, 0, []fwid{{sha384, g.fwid}, {sha384, make([]byte, 48)}}, flags, []byte{0xc0}, []byte{0}})
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1, 1}, Value: value}, err
}
