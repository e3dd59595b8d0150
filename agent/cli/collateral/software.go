//go:build !release

package collateral

import (
	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/spf13/cobra"
)

const flagSoftwareRoot = "DEVELOPMENT: PEM file with the root of a software TEE, believed besides AMD's"

// softwareRoot is a root that only development builds believe.
type softwareRoot struct{ path string }

func (s *softwareRoot) add(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "software-tee-root", "", flagSoftwareRoot)
}

func (s *softwareRoot) allow(v *appraise.Verifier) error {
	if s.path == "" {
		return nil
	}
	pem, err := cli.ReadFile(s.path)
	if err != nil {
		return err
	}
	return v.AllowSoftwareTEE(pem)
}
