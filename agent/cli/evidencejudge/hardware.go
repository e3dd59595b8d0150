//go:build release

package evidencejudge

import (
	"errors"

	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/gpu"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
)

func (s softwareRoots) refuse() error {
	if len(s.pem) > 0 {
		return errors.New("a release believes the vendors' roots alone")
	}
	return nil
}

func (s softwareRoots) snp(*appraise.Verifier) error { return s.refuse() }

func (s softwareRoots) tdx() (tdx.Roots, error) { return tdx.Roots{}, s.refuse() }

func (s softwareRoots) gpu(*gpu.Verifier) error { return s.refuse() }
