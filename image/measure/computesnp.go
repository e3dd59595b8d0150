package measure

import (
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/image/measure/snp"
	"github.com/anchorhold/anchorhold/image/measure/uki"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// maxCommandLine is what QEMU's and Linux' interfaces hold.
const maxCommandLine = 4096

func badLog(format string, args ...any) error { return refusal.New(ReasonLog, format, args...) }

// oneLine makes an error the text of a gap.
func oneLine(err error) string {
	const most = 400
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, err.Error())
	return text[:min(len(text), most)]
}

// snp computes a value for each machine, model and number of processors.
func (c *computation) snp() error {
	for i, m := range c.p.SNP {
		if m.Name == "" {
			m.Name = m.VMM
		}
		if err := c.snpMachine(fmt.Sprintf("sev_snp[%d]", i), m); err != nil {
			return err
		}
	}
	return nil
}

// model is a processor by name and signature; both are empty where the hypervisor does not tell the guest's model.
type model struct {
	name      string
	signature uint32
}

func (m SNPMachine) models() (list []model, err error) {
	for _, name := range m.CPUs {
		signature, err := snp.Model(name)
		if err != nil {
			return nil, err
		}
		list = append(list, model{name, signature})
	}
	switch {
	case m.Signature != 0:
		list = append(list, model{fmt.Sprintf("%#x", m.Signature), m.Signature})
	case len(list) == 0:
		list = append(list, model{})
	}
	return list, nil
}

func (c *computation) snpMachine(role string, m SNPMachine) error {
	image, err := c.firmware(role, m.Firmware)
	if err != nil {
		return err
	}
	models, err := m.models()
	if err != nil {
		return err
	}
	hashes, err := c.kernelHashes(role, m)
	if err != nil {
		return err
	}
	covers := evidence.CoversFirmware
	if hashes != nil {
		covers = evidence.CoversImage
	}
	for _, cpu := range models {
		for _, n := range m.VCPUs {
			digest, err := snp.Digest(image, snp.Machine{VMM: snp.VMM(m.VMM), VCPUs: n, Signature: cpu.signature, Features: m.Features}, hashes)
			if err != nil {
				return fmt.Errorf("%s: %w", role, err)
			}
			c.value(m.id(cpu, n), evidence.KindSNP, covers, m.describe(cpu, n), register{evidence.RegisterLaunch, digest[:], publication.CheckVectors})
		}
	}
	return nil
}

func (m SNPMachine) id(cpu model, n int) string {
	id := "sev-snp/" + m.Name
	if cpu.name != "" {
		id += "/" + strings.ToLower(cpu.name)
	}
	return fmt.Sprintf("%s/%d", id, n)
}

func (m SNPMachine) describe(cpu model, n int) string {
	parts := []string{fmt.Sprintf("SEV-SNP, %s, processors: %d", m.VMM, n)}
	if cpu.name != "" {
		parts = append(parts, "model "+cpu.name)
	}
	parts = append(parts, fmt.Sprintf("guest features %#x", m.Features))
	if m.KernelHashes {
		return strings.Join(append(parts, "kernel hashes"), ", ")
	}
	return strings.Join(append(parts, "no kernel hashes"), ", ")
}

// kernelHashes hashes what QEMU loads; nil without kernel hashes.
func (c *computation) kernelHashes(role string, m SNPMachine) (*snp.KernelHashes, error) {
	if !m.KernelHashes {
		return nil, nil
	}
	kernel, initrd := c.raw, []byte(nil)
	var err error
	if m.Kernel != "" {
		if kernel, err = c.files.read(role+".kernel", m.Kernel, uki.MaxBytes); err != nil {
			return nil, err
		}
	}
	if m.InitialDisk != "" {
		if initrd, err = c.files.read(role+".initrd", m.InitialDisk, uki.MaxBytes); err != nil {
			return nil, err
		}
	}
	switch {
	case kernel == nil:
		return nil, bad("%s: kernel_hashes needs a kernel, image.uki or --uki", role)
	case len(m.CommandLine) > maxCommandLine || strings.Contains(m.CommandLine, "\x00"):
		return nil, bad("%s.cmdline: got %d bytes, want at most %d without zero bytes", role, len(m.CommandLine), maxCommandLine)
	}
	hashes := snp.HashKernel(kernel, initrd, m.CommandLine)
	return &hashes, nil
}
