//go:build !release

// Package gpusim is an NVIDIA GPU in confidential computing mode for development and tests. IT
// PROVES NOTHING.
//
// It answers a nonce as a device does: with a signed SPDM measurement report and a chain of five
// certificates, of Hopper's form or Blackwell's, under a root of its own whose names say what it
// is and whose key is pinned nowhere. Devices that share an [Authority] share that root. None of
// its files compiles into a release. Tests and the demo use it.
package gpusim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Options describe a device.
type Options struct {
	// Authority certifies the device; nil makes one.
	Authority *Authority
	// Chip is "GH100" (Hopper; the default) or one of Blackwell's, "GB100" or "GB20X".
	Chip string
	// Driver and VBIOS are the versions; empty is one good version each. VBIOS is eight bytes.
	Driver string
	VBIOS  []byte
	// Mode is the feature flag of Blackwell's reports: 0 SPT, 1 MPT, 2 PPCIE.
	Mode byte
	// ProtectedPCIe is what Hopper's reports say of it.
	ProtectedPCIe bool
	// Debug sets the flag of Blackwell's certificates.
	Debug bool
	// WithoutFWID leaves the firmware's digest out of the report, as old drivers do.
	WithoutFWID bool
	// Firmware is what the report key is derived for; another one is another key.
	Firmware string
	// Change alters the report before it is signed, for cases that no field covers.
	Change func(report []byte) []byte
	// ChangeCertificates alters the templates before they are signed.
	ChangeCertificates func(*Templates)
}

// GPU is a simulated device. It is safe for concurrent use.
type GPU struct {
	opt   Options
	chain [][]byte
	key   *ecdsa.PrivateKey
	fwid  []byte
	// authorities are the keys that sign lists: of the root, the chip's authority and the provisioner.
	authorities []*ecdsa.PrivateKey
}

// New makes a device.
func New(o Options) (*GPU, error) {
	if o.Chip == "" {
		o.Chip = "GH100"
	}
	if o.Driver == "" {
		o.Driver = "550.90.07"
	}
	if o.VBIOS == nil {
		o.VBIOS = []byte{0, 0x9f, 0, 0x96, 1, 0, 0, 0}
	}
	if o.Authority == nil {
		authority, err := NewAuthority()
		if err != nil {
			return nil, err
		}
		o.Authority = authority
	}
	fwid := sha512.Sum384([]byte("gpusim firmware " + o.Firmware))
	g := &GPU{opt: o, fwid: fwid[:]}
	err := g.certify()
	return g, err
}

// RootPEM is the root's certificate, for a broker's development configuration.
func (g *GPU) RootPEM() []byte { return slices.Clone(g.opt.Authority.rootPEM) }

// Revocation is a list of an authority, 0 for the root, 1 for the chip's authority, 2 for the provisioner, which revokes what
// that certified if revoked is set.
func (g *GPU) Revocation(authority int, number int64, from, until time.Time, revoked bool) ([]byte, error) {
	at := len(g.chain) - 1 - authority
	by, err := x509.ParseCertificate(g.chain[at])
	if err != nil {
		return nil, err
	}
	below, err := x509.ParseCertificate(g.chain[at-1])
	if err != nil {
		return nil, err
	}
	list := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: from, NextUpdate: until}
	if revoked {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: below.SerialNumber, RevocationTime: from}}
	}
	return x509.CreateRevocationList(rand.Reader, list, by, g.authorities[authority])
}

// blackwell says whether the chip is of that generation.
func (g *GPU) blackwell() bool { return g.opt.Chip[:2] == "GB" }

// Collect signs a report over a nonce and returns it with the chain in DER, leaf first.
func (g *GPU) Collect(nonce [32]byte) (report []byte, chain [][]byte, err error) {
	report = g.report(nonce)
	if g.opt.Change != nil {
		report = g.opt.Change(report)
	}
	digest := sha512.Sum384(report)
	r, s, err := ecdsa.Sign(rand.Reader, g.key, digest[:])
	if err != nil {
		return nil, nil, fmt.Errorf("gpusim: sign report: %w", err)
	}
	signature := make([]byte, 96)
	r.FillBytes(signature[:48])
	s.FillBytes(signature[48:])
	return append(report, signature...), slices.Clone(g.chain), nil
}

// blocks is the number of measurements that devices give.
const blocks = 64

// report makes request and response up to the signature (DMTF DSP0274 1.1).
func (g *GPU) report(nonce [32]byte) []byte {
	var b bytes.Buffer
	b.Write([]byte{0x11, 0xe0, 1, 0xff})
	b.Write(nonce[:])
	b.WriteByte(0) // slot
	record := blocks * (4 + 3 + 48)
	b.Write([]byte{0x11, 0x60, 0, 0, blocks, byte(record), byte(record >> 8), byte(record >> 16)})
	for i := range blocks {
		digest := sha512.Sum384(fmt.Appendf(nil, "gpusim block %d %s", i, g.opt.Firmware))
		b.Write([]byte{byte(i + 1), 1, 51, 0, 1, 48, 0})
		b.Write(digest[:])
	}
	var own [32]byte
	rand.Read(own[:])
	b.Write(own[:])
	data := g.opaque()
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(data))))
	b.Write(data)
	return b.Bytes()
}

// opaque makes NVIDIA's data: type, size, value.
func (g *GPU) opaque() (out []byte) {
	add := func(kind int, value []byte) {
		out = binary.LittleEndian.AppendUint16(out, uint16(kind))
		out = append(binary.LittleEndian.AppendUint16(out, uint16(len(value))), value...)
	}
	onOff := func(on bool) []byte {
		if on {
			return []byte{0xaa}
		}
		return []byte{0x55}
	}
	add(6, g.opt.VBIOS)
	add(14, []byte{0xb1, 3, 0, 0})
	add(15, []byte("882\x00\x00\x00\x00\x00\x00"))
	add(17, []byte("1010\x00"))
	add(18, []byte("0200\x00"))
	add(3, []byte(g.opt.Driver+"\x00"))
	add(12, make([]byte, 4*blocks))
	add(11, onOff(false))
	if !g.opt.WithoutFWID {
		add(20, g.fwid)
	}
	if g.blackwell() {
		add(34, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		add(35, []byte(g.opt.Chip+"\x00"))
		add(36, []byte{g.opt.Mode})
	} else {
		add(21, onOff(g.opt.ProtectedPCIe))
	}
	return out
}
