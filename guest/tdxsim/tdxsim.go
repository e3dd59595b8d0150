//go:build !release

// Package tdxsim is a software TDX guest for development and tests. IT PROVES NOTHING.
//
// It behaves like a live guest with its platform and Intel's certification service: it signs
// quotes of versions 4 and 5, with every type of body, over any REPORT_DATA, and makes the
// documents that a verifier needs, in the real formats, under a root of its own. That root cannot
// be taken for Intel's: its common name is the one that verifiers look for, but its organization
// says that it is no hardware, and its key is pinned nowhere. [Hooks] spoil each part before or
// after it is signed. None of its files compiles into a release. Tests and the demo use it.
package tdxsim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Bodies of a quote.
const (
	BodyTD10   = 2
	BodyTD15   = 3
	BodyTD15ex = 4
)

// Options describe the simulated guest, its platform and Intel's documents about it. The zero
// value, with a time, is a good guest on a platform that is up to date.
type Options struct {
	// Now is the time around which certificates and documents are valid. Required.
	Now time.Time
	// Dir keeps the keys, which are made if missing, so that several processes share them. Empty:
	// they are made anew, and kept in memory.
	Dir string

	Guest    Guest
	Platform Platform
	TCBInfo  TCBInfo
	QE       QEIdentity
	Lists    Lists
	Hooks    Hooks
}

// Guest is what the quote says of the guest.
type Guest struct {
	// Version of the quote, 4 or 5; 0 is 4.
	Version uint16
	// BodyType of version 5; 0 is BodyTD15. Version 4 has BodyTD10.
	BodyType uint16
	// Attributes are the TD attributes; nil is SEPT_VE_DISABLE alone.
	Attributes *uint64
	// XFAM are the extended features; 0 is what a plain Linux guest has.
	XFAM                                     uint64
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [4][48]byte
	MRServiceTD                              [48]byte
	// Extended is the rest of a BodyTD15ex: 237 bytes as they lie there.
	Extended [extendedBytes]byte
	// Padding is the number of zeros behind the quote.
	Padding int
}

// Platform is what the quote and the PCK certificate say of the platform.
type Platform struct {
	// FMSPC and PCEID name the platform. A zero FMSPC is 50806f000000.
	FMSPC [6]byte
	PCEID [2]byte
	// Components are its SGX TCB component SVNs, PCESVN that of its provisioning enclave; zero
	// values are 5 in the first four components, and 13.
	Components [16]uint8
	PCESVN     uint16
	// TEETCBSVN is the module at launch; zero is 5.1.3. TEETCBSVN2 is the module now; zero is
	// TEETCBSVN.
	TEETCBSVN, TEETCBSVN2 [16]uint8
	MRSEAM, MRSignerSEAM  [48]byte
	SEAMAttributes        uint64
	// ProcessorCA: the Processor CA certified the platform, not the Platform CA.
	ProcessorCA bool
	// QESVN is the quoting enclave's version; 0 is 8.
	QESVN uint16
	// QEAuthBytes is the length of the QE's authentication data; 0 is 32.
	QEAuthBytes int
}

// Hooks change parts, for cases that no field covers. Any may be nil.
type Hooks struct {
	// QEReport changes the 384 bytes of the QE report before the PCK signs it.
	QEReport func(report []byte)
	// Body changes header and body before the attestation key signs them.
	Body func(signed []byte)
	// Quote changes the finished quote.
	Quote func(quote []byte) []byte
	// Chain changes the PEM text of the PCK chain.
	Chain func(pem []byte) []byte
	// Certificate changes a certificate before it is issued. Names are this
	// package's constants: Root, PlatformCA, ProcessorCA, TCBSigner, PCK.
	Certificate func(name string, c *CertificateTemplate)
	// List changes a revocation list before it is signed by the certificate of that name.
	List func(by string, l *RevocationListTemplate)
	// Document changes the text of "tcbInfo" or "enclaveIdentity" before it is signed.
	Document func(member string, text []byte) []byte
	// Response changes the text around it, with the signature.
	Response func(member string, text []byte) []byte
}

// TDX is a simulated guest. It is safe for concurrent use.
type TDX struct {
	opt Options
	pki *pki
}

// New makes a guest.
func New(o Options) (*TDX, error) {
	if o.Now.IsZero() {
		return nil, errors.New("tdxsim: the time is required")
	}
	if err := o.Guest.fill(); err != nil {
		return nil, err
	}
	o.Platform.fill()
	o.TCBInfo.fill(&o)
	o.QE.fill(&o)
	o.Lists.fill(&o)
	keys, err := openKeys(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("tdxsim: %w", err)
	}
	p, err := issueAll(keys, &o)
	if err != nil {
		return nil, fmt.Errorf("tdxsim: %w", err)
	}
	return &TDX{o, p}, nil
}

func (g *Guest) fill() error {
	if g.Version == 0 {
		g.Version = 4
	}
	if g.BodyType == 0 {
		g.BodyType = BodyTD10
		if g.Version == 5 {
			g.BodyType = BodyTD15
		}
	}
	if g.Version < 4 || g.Version > 5 || g.BodyType < BodyTD10 || g.BodyType > BodyTD15ex || g.Version == 4 && g.BodyType != BodyTD10 {
		return fmt.Errorf("tdxsim: no quote has version %d and body type %d", g.Version, g.BodyType)
	}
	if g.Attributes == nil {
		septVEDisable := uint64(1 << 28)
		g.Attributes = &septVEDisable
	}
	if g.XFAM == 0 {
		g.XFAM = 0x602e7
	}
	return nil
}

func (p *Platform) fill() {
	if p.FMSPC == ([6]byte{}) {
		p.FMSPC = [6]byte{0x50, 0x80, 0x6f}
	}
	if p.Components == ([16]uint8{}) {
		p.Components = [16]uint8{5, 5, 5, 5}
	}
	if p.PCESVN == 0 {
		p.PCESVN = 13
	}
	if p.TEETCBSVN == ([16]uint8{}) {
		p.TEETCBSVN = [16]uint8{5, 1, 3}
	}
	if p.TEETCBSVN2 == ([16]uint8{}) {
		p.TEETCBSVN2 = p.TEETCBSVN
	}
	if p.QESVN == 0 {
		p.QESVN = 8
	}
	if p.QEAuthBytes == 0 {
		p.QEAuthBytes = 32
	}
}

// RootsPEM is the root certificate, for a broker's development configuration.
func (t *TDX) RootsPEM() []byte { return pemOf(t.pki.root) }

// FMSPC is the platform's, by which its documents are found.
func (t *TDX) FMSPC() [6]byte { return t.opt.Platform.FMSPC }

// Collect signs a quote over reportData.
func (t *TDX) Collect(ctx context.Context, reportData [64]byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	quote, err := t.quote(reportData)
	if err != nil {
		return nil, fmt.Errorf("tdxsim: sign quote: %w", err)
	}
	if change := t.opt.Hooks.Quote; change != nil {
		quote = change(quote)
	}
	return quote, nil
}

// Collector is a running guest: it makes evidence as package guest/tdx does on hardware.
type Collector struct {
	TDX *TDX
	// Log is the firmware's event log, which must lead to Guest.RTMR; empty is none.
	Log []byte
}

// Kinds are the kinds of evidence that Collect makes.
func (c Collector) Kinds() []evidence.Kind { return []evidence.Kind{evidence.KindTDX} }

// Collect returns evidence for a challenge: a quote, and the log that it covers.
func (c Collector) Collect(ctx context.Context, challenge [64]byte) (evidence.Envelope, error) {
	var bound []evidence.Part
	if len(c.Log) > 0 {
		bound = []evidence.Part{{Type: evidence.PartCCLog, Data: c.Log}}
	}
	return evidence.Assemble(evidence.KindTDX, challenge, bound, func(reportData [64]byte) (evidence.Signed, error) {
		quote, err := c.TDX.Collect(ctx, reportData)
		return evidence.Signed{Primary: quote}, err
	})
}
