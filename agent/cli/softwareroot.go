//go:build !release

package cli

import "github.com/spf13/cobra"

const flagSoftwareRoot = "DEVELOPMENT: PEM file with the root of a software TEE, believed besides the vendors'"

// SoftwareRoot is a root that only development builds believe.
type SoftwareRoot struct{ path string }

// Add adds the flag.
func (s *SoftwareRoot) Add(c *cobra.Command) {
	c.Flags().StringVar(&s.path, "software-tee-root", "", flagSoftwareRoot)
}

// Read returns the roots; nil if none are named.
func (s *SoftwareRoot) Read() ([]byte, error) {
	if s.path == "" {
		return nil, nil
	}
	return ReadFile(s.path)
}
