//go:build !release

package evidencejudge

import (
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

// snp makes the verifier believe them, if they are those of an emulator of AMD's chips.
func (s softwareRoots) snp(v *appraise.Verifier) error {
	if len(s.pem) == 0 {
		return nil
	}
	return v.AllowSoftwareTEE(s.pem)
}

// tdx and gpu believe root certificates alone, and leave others to snp, which refuses what is none.
func (s softwareRoots) tdx() (tdx.Roots, error) {
	if roots, err := tdx.SoftwareRoots(s.pem); err == nil {
		return roots, nil
	}
	return tdx.Roots{}, nil
}

func (s softwareRoots) gpu(v *gpu.Verifier) error {
	_ = v.AllowSoftware(s.pem) // it believes NVIDIA's root alone if it cannot
	return nil
}
