package measure

import (
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/image/measure/pcr"
	"github.com/anchorhold/anchorhold/image/measure/snp"
	"github.com/anchorhold/anchorhold/image/measure/tdx"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// Reasons of this package.
const (
	// ReasonPlatform: the description of the platform is malformed, incomplete or contradicts itself.
	ReasonPlatform refusal.Reason = "platform-invalid"
	// ReasonLog: an event log lacks a register that it was given for, or is of another image.
	ReasonLog refusal.Reason = "event-log-unsuitable"
	// ReasonBoot: a guest measured otherwise than was computed.
	ReasonBoot refusal.Reason = "boot-mismatch"
)

// Limits of a description.
const (
	maxMachines = 16
	maxChoices  = 64 // processors' numbers, and models
)

// Platform describes an image and the machines that it runs on. Paths are relative to the description's directory.
type Platform struct {
	// Format is 1.
	Format int `yaml:"format"`
	// Name is the first part of the values' ids, such as images/web-7.
	Name string `yaml:"name"`
	// Image is what is booted.
	Image Image `yaml:"image"`
	// TPM asks for values of a virtual TPM's PCRs.
	TPM TPM `yaml:"tpm"`
	// SNP are machines of SEV-SNP whose firmware is at hand.
	SNP []SNPMachine `yaml:"sev_snp"`
	// TDX are machines of TDX whose firmware is at hand.
	TDX []TDXMachine `yaml:"tdx"`
	// Clouds are those whose firmware is not: gce, azure, aws. Each becomes gaps that say which claim replaces the value.
	Clouds []string `yaml:"clouds"`
}

// Image is what is booted.
type Image struct {
	// UKI is the unified kernel image. --uki takes its place.
	UKI string `yaml:"uki"`
	// Disk is the disk that firmware boots the UKI from, for its partition table, which RTMR1 covers.
	Disk string `yaml:"disk"`
	// Initrd is what runs in the initial RAM disk: "systemd", which extends two phases of its own into PCR 11, or "plain".
	Initrd string `yaml:"initrd"`
}

// TPM says which PCRs are wanted.
type TPM struct {
	// Bank is sha256 or sha384; empty asks for no PCRs.
	Bank string `yaml:"bank"`
	// EventLog is the log of a boot on this machine (binary_bios_measurements), from which PCR 7 is taken: it
	// depends on the firmware and its Secure Boot variables alone. Without one there is no PCR 7.
	EventLog string `yaml:"event_log"`
}

// SNPMachine is a machine of SEV-SNP.
type SNPMachine struct {
	// Name is a part of the values' ids; empty takes the hypervisor's.
	Name string `yaml:"name"`
	// Firmware is the whole image, such as OVMF.fd, not OVMF_CODE.fd.
	Firmware string `yaml:"firmware"`
	// VMM is qemu, ec2, ec2-before-2026 or gce.
	VMM string `yaml:"vmm"`
	// VCPUs are the numbers of virtual processors, each with values of its own.
	VCPUs []int `yaml:"vcpus"`
	// CPUs are QEMU's processor models (-cpu), such as EPYC-Milan.
	CPUs []string `yaml:"cpus"`
	// Signature is CPUID's leaf 1, eax, of a model that has no known name.
	Signature uint32 `yaml:"signature"`
	// Features are SEV_FEATURES, such as 0x1 or, with debug swap, 0x21.
	Features uint64 `yaml:"guest_features"`
	// KernelHashes says that QEMU is told kernel-hashes=on with -kernel, so that the digest covers what is booted.
	KernelHashes bool `yaml:"kernel_hashes"`
	// Kernel is what -kernel loads; empty is the image's UKI. InitialDisk is -initrd's, CommandLine -append's: with
	// a UKI both stay empty.
	Kernel      string `yaml:"kernel"`
	InitialDisk string `yaml:"initrd"`
	CommandLine string `yaml:"cmdline"`
}

// TDXMachine is a machine of TDX.
type TDXMachine struct {
	// Name is a part of the value's id; empty is "qemu".
	Name string `yaml:"name"`
	// Firmware is the whole image, TDVF or OVMF.
	Firmware string `yaml:"firmware"`
	// PageOrder is by-page or by-section: how the hypervisor builds a domain.
	PageOrder string `yaml:"page_order"`
	// EventLog is the log of a boot of this image on this machine (the data of ACPI table CCEL), from which
	// RTMR0 and RTMR2 are taken.
	EventLog string `yaml:"event_log"`
}

// ParsePlatform reads a description.
func ParsePlatform(data []byte) (Platform, error) {
	var p Platform
	if err := config.Decode(data, &p); err != nil {
		return Platform{}, refusal.New(ReasonPlatform, "%w", err)
	}
	return p, p.check()
}

func bad(format string, args ...any) error { return refusal.New(ReasonPlatform, format, args...) }

func (p *Platform) check() error {
	switch {
	case p.Format != 1:
		return bad("format: got %d, want 1", p.Format)
	case p.Name == "":
		return bad("name is required: the first part of the values' ids, such as images/web-7")
	case !publication.ValidName(p.Name):
		return bad("name: got %q, want a-z 0-9 . _ - in parts joined by /, such as images/web-7", p.Name)
	case p.Image.Initrd != "" && p.Image.Initrd != "systemd" && p.Image.Initrd != "plain":
		return bad("image.initrd: got %q, want systemd or plain", p.Image.Initrd)
	case p.TPM == TPM{} && len(p.SNP)+len(p.TDX)+len(p.Clouds) == 0:
		return bad("nothing is asked for: give tpm, sev_snp, tdx or clouds")
	case p.TPM.Bank == "" && p.TPM.EventLog != "":
		return bad("tpm.bank is required beside tpm.event_log: sha256 or sha384")
	case p.TPM.Bank != "" && p.Image.Initrd == "":
		return bad("image.initrd is required for PCR 11: systemd or plain")
	case len(p.SNP) > maxMachines || len(p.TDX) > maxMachines:
		return bad("got %d machines of SEV-SNP and %d of TDX, want at most %d each", len(p.SNP), len(p.TDX), maxMachines)
	}
	if p.TPM.Bank != "" {
		if err := pcr.Bank(p.TPM.Bank).Check(); err != nil {
			return err
		}
	}
	return p.checkMachines()
}

func (p *Platform) checkMachines() error {
	for i, m := range p.SNP {
		if err := m.check(fmt.Sprintf("sev_snp[%d]", i)); err != nil {
			return err
		}
	}
	for i, m := range p.TDX {
		switch {
		case m.Firmware == "":
			return bad("tdx[%d].firmware is required", i)
		case m.PageOrder != string(tdx.ByPage) && m.PageOrder != string(tdx.BySection):
			return bad("tdx[%d].page_order: got %q, want %s (Linux 6.16 and later, Google) or %s (earlier patches)", i, m.PageOrder, tdx.ByPage, tdx.BySection)
		}
	}
	for i, c := range p.Clouds {
		if len(cloudGaps(c)) == 0 || slices.Contains(p.Clouds[:i], c) {
			return bad("clouds[%d]: got %q, want gce, azure or aws, each once", i, c)
		}
	}
	return nil
}

func (m SNPMachine) check(at string) error {
	switch {
	case m.Firmware == "":
		return bad("%s.firmware is required", at)
	case len(m.VCPUs) == 0 || len(m.VCPUs) > maxChoices || len(m.CPUs) > maxChoices:
		return bad("%s: got %d numbers of processors and %d models, want 1 to %d, and at most as many", at, len(m.VCPUs), len(m.CPUs), maxChoices)
	case !m.KernelHashes && m.Kernel+m.InitialDisk+m.CommandLine != "":
		return bad("%s: kernel, initrd and cmdline have no effect without kernel_hashes", at)
	case m.Signature != 0 && len(m.CPUs) > 0:
		return bad("%s: give cpus or a signature, not both", at)
	case m.VMM == string(snp.QEMU) && m.Signature == 0 && len(m.CPUs) == 0:
		return bad("%s.cpus is required with qemu: the models of -cpu, such as EPYC-Milan", at)
	}
	return nil
}
