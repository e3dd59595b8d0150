package snp

import (
	"crypto/sha512"
	"encoding/binary"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/measure/firmware"
)

// DigestBytes is the size of a launch digest.
const DigestBytes = sha512.Size384

// MaxVCPUs bounds the virtual processors of a guest. KVM starts at most 4096.
const MaxVCPUs = 4096

// Reasons of this package.
const (
	// ReasonMachine: the machine's description is incomplete or contradicts itself.
	ReasonMachine refusal.Reason = "machine-invalid"
	// ReasonKernelHashes: kernel hashes are wanted and the firmware has no place for them.
	ReasonKernelHashes refusal.Reason = "kernel-hashes-unsupported"
)

// VMM is the hypervisor's program, which sets the initial registers of virtual processors.
type VMM string

// Hypervisors. The values are those of sev-snp-measure's option --vmm-type in lower case.
const (
	QEMU VMM = "qemu"
	EC2  VMM = "ec2"
	GCE  VMM = "gce"
	// EC2Before2026 is EC2 with the initial registers of guests launched from 2023 until about April 2026,
	// when it changed one (virtee/sev-snp-measure, pull request 60). Such a guest keeps its digest until it is
	// launched anew.
	EC2Before2026 VMM = "ec2-before-2026"
)

// VMMs are all that this version knows.
func VMMs() []VMM { return []VMM{QEMU, EC2, EC2Before2026, GCE} }

// isEC2 says whether EC2's order of pages holds.
func (v VMM) isEC2() bool { return v == EC2 || v == EC2Before2026 }

// Machine is what the digest depends on besides the firmware.
type Machine struct {
	VMM VMM
	// VCPUs is the number of virtual processors.
	VCPUs int
	// Signature is the processor's family, model and stepping as CPUID gives them ([Model]). Only QEMU
	// puts it into a register at the start: for the others it is 0.
	Signature uint32
	// Features are SEV_FEATURES of the save areas: bit 0 is SEV-SNP and always set.
	Features uint64
}

// featureSNP is SNPActive in SEV_FEATURES (AMD 24593, 15.34.10).
const featureSNP = 1 << 0

func (m Machine) check() error {
	switch {
	case !slices.Contains(VMMs(), m.VMM):
		return refusal.New(ReasonMachine, "vmm: got %q, want one of %v", m.VMM, VMMs())
	case m.VCPUs < 1 || m.VCPUs > MaxVCPUs:
		return refusal.New(ReasonMachine, "vcpus: got %d, want 1 to %d", m.VCPUs, MaxVCPUs)
	case m.Features&featureSNP == 0:
		return refusal.New(ReasonMachine, "guest_features: got %#x, want bit 0 (SEV-SNP) set", m.Features)
	case (m.VMM == QEMU) != (m.Signature != 0):
		return refusal.New(ReasonMachine, "cpus: processor models are needed with %s, and have no effect with other hypervisors", QEMU)
	}
	return nil
}

// Digest computes the launch digest. Without kernel hashes (nil) it identifies the firmware alone.
func Digest(image *firmware.Image, m Machine, kernel *KernelHashes) ([DigestBytes]byte, error) {
	if err := m.check(); err != nil {
		return [DigestBytes]byte{}, err
	}
	sections, err := image.SEV()
	if err != nil {
		return [DigestBytes]byte{}, err
	}
	var page []byte
	if kernel != nil {
		if page, err = hashesPage(image, sections, *kernel); err != nil {
			return [DigestBytes]byte{}, err
		}
	}
	var c chain
	c.pages(image.Base(), image.Bytes())
	c.sections(m.VMM, sections, page)
	return c.digest, c.processors(image, m)
}

// hashesPage is the page of kernel hashes, whose section the firmware must have.
func hashesPage(image *firmware.Image, sections []firmware.Section, kernel KernelHashes) ([]byte, error) {
	at, err := image.HashesTable()
	if err != nil {
		return nil, refusal.New(ReasonKernelHashes, "%w", err)
	}
	for _, s := range sections {
		if s.Type == firmware.SectionKernelHashes {
			return kernel.page(int(at) - int(s.Address))
		}
	}
	return nil, refusal.New(ReasonKernelHashes, "the firmware's metadata have no section of kernel hashes: use edk2's AmdSev build, or measure without kernel hashes")
}

// Types of pages (AMD 56860, table of PAGE_TYPE).
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

const (
	pageInfoBytes = 0x70
	// vmsaAddress is that of every save area: the highest page that an address of 52 bits can name.
	vmsaAddress = 0xFFFFFFFFF000
)

// chain is a launch digest under way; the zero value is its beginning.
type chain struct{ digest [DigestBytes]byte }

// extend appends PAGE_INFO of one page: the digest so far, that of the contents, and what the page is.
// The permissions of lower privilege levels and the IMI flag are zero.
func (c *chain) extend(kind byte, address uint64, contents [DigestBytes]byte) {
	info := make([]byte, 0, pageInfoBytes)
	info = append(info, c.digest[:]...)
	info = append(info, contents[:]...)
	info = binary.LittleEndian.AppendUint16(info, pageInfoBytes)
	info = append(info, kind, 0, 0, 0, 0, 0)
	info = binary.LittleEndian.AppendUint64(info, address)
	c.digest = sha512.Sum384(info)
}

func (c *chain) pages(address uint64, data []byte) {
	for ; len(data) > 0; data, address = data[firmware.PageBytes:], address+firmware.PageBytes {
		c.extend(pageNormal, address, sha512.Sum384(data[:firmware.PageBytes]))
	}
}

// blank adds pages whose contents are not measured.
func (c *chain) blank(kind byte, s firmware.Section) {
	for at := uint64(0); at < uint64(s.Bytes); at += firmware.PageBytes {
		c.extend(kind, uint64(s.Address)+at, [DigestBytes]byte{})
	}
}

// sections adds what the metadata ask for, in their order; EC2 adds CPUID pages last.
func (c *chain) sections(vmm VMM, sections []firmware.Section, hashes []byte) {
	var last []firmware.Section
	for _, s := range sections {
		switch {
		case s.Type == firmware.SectionMemory && vmm == GCE:
			c.blank(pageUnmeasured, s)
		case s.Type == firmware.SectionSecrets:
			c.blank(pageSecrets, s)
		case s.Type == firmware.SectionCPUID && vmm.isEC2():
			last = append(last, s)
		case s.Type == firmware.SectionCPUID:
			c.blank(pageCPUID, s)
		case s.Type == firmware.SectionKernelHashes && hashes != nil:
			c.pages(uint64(s.Address), hashes)
		default: // memory, an SVSM's calling area, and a place for hashes that stays empty
			c.blank(pageZero, s)
		}
	}
	for _, s := range last {
		c.blank(pageCPUID, s)
	}
}

// processors adds the save areas: the first begins at the reset vector, the others where the firmware says.
func (c *chain) processors(image *firmware.Image, m Machine) error {
	c.extend(pageVMSA, vmsaAddress, sha512.Sum384(saveArea(m, bootAddress)))
	if m.VCPUs == 1 {
		return nil
	}
	at, err := image.APReset()
	if err != nil {
		return err
	}
	other := sha512.Sum384(saveArea(m, at))
	for range m.VCPUs - 1 {
		c.extend(pageVMSA, vmsaAddress, other)
	}
	return nil
}
