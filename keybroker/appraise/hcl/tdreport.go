package hcl

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Layout of TDREPORT_STRUCT: REPORTMACSTRUCT, TEE_TCB_INFO, TDINFO_STRUCT.
const (
	macTCBHashAt, macInfoHashAt = 0x20, 0x50
	macSize                     = 0x100
	tcbInfoSize                 = 239
	tdInfoAt                    = 0x200
	typeTDX                     = 0x81
	maxTDReportVersion          = 1
)

// tdReport has those fields of a TDREPORT that a quote repeats and signs.
type tdReport struct {
	teeTCBSVN, mrSEAM, mrSignerSEAM, teeTCBSVN2 []byte
	seamAttributes, tdAttributes, xfam          uint64
	mrTD, mrConfigID, mrOwner, mrOwnerConfig    []byte
	rtmr                                        [4][]byte
	mrServiceTD                                 []byte
}

// parseTDReport reads 1024 bytes. The MAC in them is for the CPU that made it; only the digests
// beside it can be recomputed.
func parseTDReport(raw []byte) (*tdReport, error) {
	if raw[0] != typeTDX || raw[1] != 0 || raw[2] > maxTDReportVersion {
		return nil, refusal.New(ReasonTDReport, "type %#x, subtype %d, version %d", raw[0], raw[1], raw[2])
	}
	if !allZero(raw[3:0x10]) || !allZero(raw[0xc0:0xe0]) || !allZero(raw[macSize+tcbInfoSize:tdInfoAt]) {
		return nil, refusal.New(ReasonReserved, "reserved bytes of the TDREPORT are not zero")
	}
	tcb, info := raw[macSize:macSize+tcbInfoSize], raw[tdInfoAt:]
	if sum := sha512.Sum384(tcb); !bytes.Equal(sum[:], raw[macTCBHashAt:macInfoHashAt]) {
		return nil, refusal.New(ReasonTDReport, "TEE_TCB_INFO has another digest than REPORTMACSTRUCT states")
	}
	if sum := sha512.Sum384(info); !bytes.Equal(sum[:], raw[macInfoHashAt:tdReportDataAt]) {
		return nil, refusal.New(ReasonTDReport, "TDINFO_STRUCT has another digest than REPORTMACSTRUCT states")
	}
	u64 := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }
	t := &tdReport{
		teeTCBSVN: tcb[8:24], mrSEAM: tcb[24:72], mrSignerSEAM: tcb[72:120], seamAttributes: u64(tcb[120:]), teeTCBSVN2: tcb[128:144],
		tdAttributes: u64(info), xfam: u64(info[8:]), mrTD: info[16:64], mrConfigID: info[64:112], mrOwner: info[112:160],
		mrOwnerConfig: info[160:208], mrServiceTD: info[400:448],
	}
	for i := range t.rtmr {
		t.rtmr[i] = info[208+48*i : 256+48*i]
	}
	return t, nil
}

// differs names the first field in which a verified quote's claims differ from the TDREPORT, or
// is empty. A quote of TDX 1.0 has neither TEE_TCB_SVN2 nor MRSERVICETD to compare.
func (t *tdReport) differs(c evidence.TDXClaims) string {
	fields := []struct {
		name string
		a, b []byte
	}{
		{"TEE_TCB_SVN", t.teeTCBSVN, c.TEETCBSVN}, {"MRSEAM", t.mrSEAM, c.MRSEAM}, {"MRSIGNERSEAM", t.mrSignerSEAM, c.MRSignerSEAM},
		{"MRTD", t.mrTD, c.MRTD}, {"MRCONFIGID", t.mrConfigID, c.MRConfigID}, {"MROWNER", t.mrOwner, c.MROwner},
		{"MROWNERCONFIG", t.mrOwnerConfig, c.MROwnerConfig}, {"RTMR0", t.rtmr[0], c.RTMR[0]}, {"RTMR1", t.rtmr[1], c.RTMR[1]},
		{"RTMR2", t.rtmr[2], c.RTMR[2]}, {"RTMR3", t.rtmr[3], c.RTMR[3]},
	}
	for _, f := range fields {
		if !bytes.Equal(f.a, f.b) {
			return f.name
		}
	}
	switch {
	case t.seamAttributes != c.SEAMAttributes:
		return "SEAMATTRIBUTES"
	case t.tdAttributes != c.TDAttributes:
		return "TDATTRIBUTES"
	case t.xfam != c.XFAM:
		return "XFAM"
	case c.BodyType < 3:
		return ""
	case !bytes.Equal(t.teeTCBSVN2, c.TEETCBSVN2):
		return "TEE_TCB_SVN2"
	case !bytes.Equal(t.mrServiceTD, c.MRServiceTD):
		return "MRSERVICETD"
	}
	return ""
}
