//go:build release

package cli

import "github.com/spf13/cobra"

// SoftwareRoot is absent: a release believes the vendors' roots alone.
type SoftwareRoot struct{}

// Add adds no flag.
func (SoftwareRoot) Add(*cobra.Command) {}

// Read returns none.
func (SoftwareRoot) Read() ([]byte, error) { return nil, nil }
