package broker

import (
	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/collateral"
	"github.com/spf13/cobra"
)

// New makes the families of commands by which a broker judges and releases: policy, secret, leases, volume
// and collateral. More commands join the family secret: those of a guest's side.
func New(inv *cli.Invocation, secret ...*cobra.Command) []*cobra.Command {
	return []*cobra.Command{newPolicy(inv), newSecret(inv, secret...), newLeases(inv), newVolume(inv), collateral.New(inv)}
}
