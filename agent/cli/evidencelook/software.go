//go:build !release

package evidencelook

import (
	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/spf13/cobra"
)

const flagSoftwareRoot = "DEVELOPMENT: PEM file with the root of a software TEE, believed besides the vendors'"

// softwareRoot is a root that only development builds believe.
type softwareRoot struct{ path string }

func (s *softwareRoot) add(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "software-tee-root", "", flagSoftwareRoot)
}

func (s *softwareRoot) read() ([]byte, error) {
	if s.path == "" {
		return nil, nil
	}
	return cli.ReadFile(s.path)
}
