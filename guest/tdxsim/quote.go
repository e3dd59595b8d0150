//go:build !release

package tdxsim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
)

// Sizes of a quote's parts (Intel TDX DCAP Quoting Library API, appendix "Quote Format").
const (
	bodyTD10Bytes = 584
	bodyTD15Bytes = 648
	extendedBytes = 237
	qeReportBytes = 384
)

var le = binary.LittleEndian

// quote puts together and signs one.
func (t *TDX) quote(reportData [64]byte) ([]byte, error) {
	g := &t.opt.Guest
	signed := t.header()
	body := t.body(reportData)
	if g.Version == 5 {
		signed = le.AppendUint16(signed, g.BodyType)
		signed = le.AppendUint32(signed, uint32(len(body)))
	}
	signed = append(signed, body...)
	if change := t.opt.Hooks.Body; change != nil {
		change(signed)
	}
	signature, err := sign(t.pki.attestation, signed)
	if err != nil {
		return nil, err
	}
	certification, err := t.certification()
	if err != nil {
		return nil, err
	}
	auth := append(signature, rawKey(&t.pki.attestation.PublicKey)...)
	auth = appendTyped(auth, 6, certification)
	out := le.AppendUint32(signed, uint32(len(auth)))
	out = append(out, auth...)
	return append(out, make([]byte, g.Padding)...), nil
}

// header is that of Intel's quoting enclave.
func (t *TDX) header() []byte {
	h := le.AppendUint16(nil, t.opt.Guest.Version)
	h = le.AppendUint16(h, 2)    // ECDSA P-256
	h = le.AppendUint32(h, 0x81) // TDX
	h = append(h, 0, 0, 0, 0)
	h = append(h, 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07)
	return append(h, make([]byte, 20)...)
}

// body is the TD report.
func (t *TDX) body(reportData [64]byte) []byte {
	g, p := &t.opt.Guest, &t.opt.Platform
	var b bytes.Buffer
	put := func(parts ...[]byte) {
		for _, part := range parts {
			b.Write(part)
		}
	}
	put(p.TEETCBSVN[:], p.MRSEAM[:], p.MRSignerSEAM[:], le.AppendUint64(nil, p.SEAMAttributes))
	put(le.AppendUint64(nil, *g.Attributes), le.AppendUint64(nil, g.XFAM))
	put(g.MRTD[:], g.MRConfigID[:], g.MROwner[:], g.MROwnerConfig[:])
	for _, r := range g.RTMR {
		put(r[:])
	}
	put(reportData[:])
	if g.BodyType >= BodyTD15 {
		put(p.TEETCBSVN2[:], g.MRServiceTD[:])
	}
	if g.BodyType == BodyTD15ex {
		put(g.Extended[:])
	}
	return b.Bytes()
}

// certification is the QE's report on the attestation key, signed by the platform, with the PCK
// chain.
func (t *TDX) certification() ([]byte, error) {
	auth := make([]byte, t.opt.Platform.QEAuthBytes)
	for i := range auth {
		auth[i] = byte(i)
	}
	vouched := sha256.Sum256(append(rawKey(&t.pki.attestation.PublicKey), auth...))
	report := make([]byte, qeReportBytes)
	copy(report[0:], t.opt.Platform.Components[:])
	copy(report[16:], t.opt.QE.MiscSelect[:])
	copy(report[48:], t.opt.QE.Attributes[:])
	copy(report[128:], t.opt.QE.MRSigner[:])
	le.PutUint16(report[256:], t.opt.QE.ProductID)
	le.PutUint16(report[258:], t.opt.Platform.QESVN)
	copy(report[320:], vouched[:])
	if change := t.opt.Hooks.QEReport; change != nil {
		change(report)
	}
	signature, err := sign(t.pki.keys.pck, report)
	if err != nil {
		return nil, err
	}
	out := append(report, signature...)
	out = le.AppendUint16(out, uint16(len(auth)))
	out = append(out, auth...)
	return appendTyped(out, 5, t.chain()), nil
}

// chain is the PEM text with the end of a C string, as Intel's library writes it.
func (t *TDX) chain() []byte {
	issuer := t.pki.platformCA
	if t.opt.Platform.ProcessorCA {
		issuer = t.pki.processorCA
	}
	text := append(pemOf(t.pki.pck, issuer, t.pki.root), 0)
	if change := t.opt.Hooks.Chain; change != nil {
		text = change(text)
	}
	return text
}

func appendTyped(to []byte, typ uint16, data []byte) []byte {
	to = le.AppendUint16(to, typ)
	to = le.AppendUint32(to, uint32(len(data)))
	return append(to, data...)
}

// sign gives r and s, 32 bytes each.
func sign(key *ecdsa.PrivateKey, message []byte) ([]byte, error) {
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}

// rawKey is x and y, 32 bytes each.
func rawKey(key *ecdsa.PublicKey) []byte {
	uncompressed, err := key.Bytes()
	if err != nil {
		return make([]byte, 64) // P-256 keys of this package have no such failure
	}
	return uncompressed[1:]
}
