package tdx

import (
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Types of a body, as the descriptor of version 5 numbers them. A version 4 quote has the first
// of TDX.
const (
	bodySGX    = 1
	bodyTD10   = 2
	bodyTD15   = 3
	bodyTD15ex = 4

	descriptorBytes = 6
)

// bodySize is the size of a known type, and 0 of others.
func bodySize(typ uint16) int {
	switch typ {
	case bodyTD10:
		return 584
	case bodyTD15:
		return 648
	case bodyTD15ex:
		return 885
	}
	return 0
}

func checkBodyType(typ uint16, size uint32) error {
	want := bodySize(typ)
	switch {
	case typ == bodySGX:
		return refusal.New(ReasonTEEType, "a body of an SGX enclave, not of a TDX guest")
	case want == 0:
		return refusal.New(ReasonBodyType, "body of type %d; %d to %d are known", typ, bodyTD10, bodyTD15ex)
	case uint64(size) != uint64(want):
		return refusal.New(ReasonQuoteMalformed, "body of type %d with %d bytes, it has %d", typ, size, want)
	}
	return nil
}

// tcbSVN is a TEE_TCB_SVN: the TDX module's minor and major version, the version of the last
// SEAM loader patch, and 13 components more.
type tcbSVN [16]uint8

// major is the version of the module's interface: it chooses the module's identity, and above 0
// the levels of the platform no longer judge components 0 and 1.
func (s tcbSVN) major() uint8 { return s[1] }
func (s tcbSVN) minor() uint8 { return s[0] }

// body is a TD report as far as a quote carries it.
type body struct {
	typ                                      uint16
	svn                                      tcbSVN
	mrSEAM, mrSignerSEAM                     []byte
	seamAttributes, tdAttributes, xfam       uint64
	mrTD, mrConfigID, mrOwner, mrOwnerConfig []byte
	rtmr                                     [4][]byte
	reportData                               [64]byte
	currentSVN                               tcbSVN // TDX 1.5
	mrServiceTD                              []byte // TDX 1.5
	extended                                 *evidence.TDXExtended
}

// readBody reads the body, and in version 5 its descriptor. [Parse] has checked their sizes.
func (q *Quote) readBody(s *littleEndian) error {
	b := &q.body
	b.typ = bodyTD10
	if q.version == version5 {
		b.typ = s.uint16()
		s.skip(4)
	}
	b.svn = tcbSVN(s.bytes(16))
	b.mrSEAM, b.mrSignerSEAM, b.seamAttributes = s.bytes(48), s.bytes(48), s.uint64()
	b.tdAttributes, b.xfam = s.uint64(), s.uint64()
	b.mrTD, b.mrConfigID, b.mrOwner, b.mrOwnerConfig = s.bytes(48), s.bytes(48), s.bytes(48), s.bytes(48)
	for i := range b.rtmr {
		b.rtmr[i] = s.bytes(48)
	}
	b.reportData = [64]byte(s.bytes(64))
	if b.typ >= bodyTD15 {
		b.currentSVN, b.mrServiceTD = tcbSVN(s.bytes(16)), s.bytes(48)
	}
	if b.typ == bodyTD15ex {
		b.extended = readExtended(s)
	}
	return nil
}

// readExtended reads what sgx_report2_body_v1_5_ex_t adds to the TD 1.5 report.
func readExtended(s *littleEndian) *evidence.TDXExtended {
	return &evidence.TDXExtended{
		VMID: s.bytes(1)[0], TDID: s.bytes(32), DeviceInfo: s.bytes(48),
		InitialServiceTD: s.bytes(48), InitialServiceTDAttributes: s.uint64(),
		InitialCPUSVN: s.bytes(16), InitialTEETCBSVN: s.bytes(16), InitialFMSPC: s.bytes(12),
		CurrentServiceTD: s.bytes(48), CurrentServiceTDAttributes: s.uint64(),
	}
}

// claims are what the body says.
func (q *Quote) claims() evidence.TDXClaims {
	b := &q.body
	c := evidence.TDXClaims{
		QuoteVersion: q.version, BodyType: b.typ, TEETCBSVN: b.svn[:],
		MRSEAM: b.mrSEAM, MRSignerSEAM: b.mrSignerSEAM,
		SEAMAttributes: b.seamAttributes, TDAttributes: b.tdAttributes, XFAM: b.xfam,
		MRTD: b.mrTD, MRConfigID: b.mrConfigID, MROwner: b.mrOwner, MROwnerConfig: b.mrOwnerConfig,
	}
	for i := range b.rtmr {
		c.RTMR[i] = b.rtmr[i]
	}
	if b.typ >= bodyTD15 {
		c.TEETCBSVN2, c.MRServiceTD = b.currentSVN[:], b.mrServiceTD
	}
	if b.extended != nil {
		extended := *b.extended
		c.InitialServiceTCB, c.Extended = extended.InitialTEETCBSVN, &extended
	}
	return c
}
