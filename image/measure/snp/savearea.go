package snp

import (
	"encoding/binary"

	"github.com/anchorhold/anchorhold/image/measure/firmware"
)

// bootAddress is x86's reset vector.
const bootAddress = 0xfffffff0

// Offsets in a save area (AMD 24593, table B-4).
const (
	areaES, areaCS, areaSS, areaDS             = 0x000, 0x010, 0x020, 0x030
	areaFS, areaGS, areaGDTR, areaLDTR         = 0x040, 0x050, 0x060, 0x070
	areaIDTR, areaTR, areaEFER, areaCR4        = 0x080, 0x090, 0x0d0, 0x148
	areaCR0, areaDR7, areaDR6                  = 0x158, 0x160, 0x168
	areaRFLAGS, areaRIP, areaPAT               = 0x170, 0x178, 0x268
	areaRDX, areaFeatures, areaXCR0            = 0x310, 0x3b0, 0x3e8
	areaMXCSR, areaX87ControlWord              = 0x408, 0x410
	segmentLimit, segmentCode                  = 0xffff, 0xf000
	highHalf                            uint32 = 0xffff0000
)

// registers are the initial registers in which hypervisors differ.
type registers struct {
	codeAttributes, stackAttributes, taskAttributes uint16
	pat, rdx                                        uint64
	mxcsr                                           uint32
	x87ControlWord                                  uint16
}

// initial are the registers that a hypervisor sets for a processor that begins at an address. QEMU passes
// the processor's signature in rdx as hardware does after a reset; EC2 and GCE pass a constant.
func initial(m Machine, begin uint32) registers {
	const (
		patAfterReset = 0x0007040600070406
		patGCE        = 0x0000000000070106
		rdxConstant   = 0x600
	)
	r := registers{codeAttributes: 0x9b, stackAttributes: 0x93, taskAttributes: 0x8b, pat: patAfterReset, rdx: rdxConstant}
	switch m.VMM {
	case QEMU:
		r.rdx, r.mxcsr, r.x87ControlWord = uint64(m.Signature), 0x1f80, 0x37f
	case EC2, EC2Before2026:
		r.stackAttributes, r.taskAttributes = 0x92, 0x83
		if begin == bootAddress {
			r.codeAttributes = 0x9a
		}
		if m.VMM == EC2Before2026 {
			r.rdx = 0
		}
	case GCE:
		r.pat = patGCE
	}
	return r
}

// saveArea is the page of a virtual processor that begins at an address, as KVM fills it before launch.
func saveArea(m Machine, begin uint32) []byte {
	r, page := initial(m, begin), make([]byte, firmware.PageBytes)
	segment := func(at int, selector, attributes uint16, base uint32) {
		binary.LittleEndian.PutUint16(page[at:], selector)
		binary.LittleEndian.PutUint16(page[at+2:], attributes)
		binary.LittleEndian.PutUint32(page[at+4:], segmentLimit)
		binary.LittleEndian.PutUint64(page[at+8:], uint64(base))
	}
	for _, at := range []int{areaES, areaDS, areaFS, areaGS} {
		segment(at, 0, 0x93, 0)
	}
	segment(areaCS, segmentCode, r.codeAttributes, begin&highHalf)
	segment(areaSS, 0, r.stackAttributes, 0)
	segment(areaGDTR, 0, 0, 0)
	segment(areaLDTR, 0, 0x82, 0)
	segment(areaIDTR, 0, 0, 0)
	segment(areaTR, 0, r.taskAttributes, 0)
	for at, value := range map[int]uint64{
		areaEFER: 0x1000, // SVME, which KVM sets
		areaCR4:  0x40,   // MCE, which KVM sets
		areaCR0:  0x10, areaDR7: 0x400, areaDR6: 0xffff0ff0, areaRFLAGS: 0x2,
		areaRIP: uint64(begin &^ highHalf), areaPAT: r.pat, areaRDX: r.rdx,
		areaFeatures: m.Features, areaXCR0: 0x1,
	} {
		binary.LittleEndian.PutUint64(page[at:], value)
	}
	binary.LittleEndian.PutUint32(page[areaMXCSR:], r.mxcsr)
	binary.LittleEndian.PutUint16(page[areaX87ControlWord:], r.x87ControlWord)
	return page
}
