package hardware

import (
	"fmt"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/guest/localseal"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/vtpm"
)

// Sealer makes what seals keys for a restart without the broker, out of the devices that the configuration names; nil
// where it names none. It asks whether the processor's device is there; the TPM's was asked by [Open].
func Sealer(cfg settings.Config) (restart.Sealer, error) {
	l := cfg.LocalRestart
	if l.Seal == "" {
		return nil, nil
	}
	s := &localseal.Sealer{Index: l.Index()}
	if l.UsesSNP() {
		d, err := snp.NewDeriver(snp.Options{Privilege: privilege(cfg.Compute.TEE.VMPL)})
		if err != nil {
			return nil, fmt.Errorf("local_restart.seal: %s: %w", l.Seal, err)
		}
		s.SNP = d
	}
	if l.UsesTPM() {
		c, err := sealingTPM(cfg)
		if err != nil {
			return nil, fmt.Errorf("local_restart.seal: %s: %w", l.Seal, err)
		}
		s.TPM = c
	}
	return s, nil
}

func sealingTPM(cfg settings.Config) (*vtpm.Collector, error) {
	var tpm settings.TPM
	if cfg.Compute.TEE.TPM != nil {
		tpm = *cfg.Compute.TEE.TPM
	}
	pcrs := cfg.LocalRestart.PCRs
	if len(pcrs) == 0 {
		pcrs = settings.DefaultSealPCRs()
	}
	return vtpm.New(vtpm.Options{Device: tpm.Device, Bank: tpm.Bank, PCRs: pcrs})
}
