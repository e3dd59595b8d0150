package broker

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of "volume".
const (
	volumeShort = "List encrypted volumes, and let a backup of one be opened"
	volumeLong  = "Each opening of a guest's volume is a generation, which this broker confirms. A volume in an\nolder generation than the one confirmed last is refused with \"volume-rolled-back\"."
)

// The words of "list".
const (
	volumeListUse      = "list"
	volumeListShort    = "List the volumes that guests opened"
	volumeListExample  = "  anchorhold volume list\n  anchorhold volume list --json"
	volumeListLine     = "%s\n  generation %d, confirmed %s\n  agent      %s\n  lease      %s\n"
	volumeListReset    = "  RESET      the next opening may begin with any state\n"
	volumeListDisputed = "  DISPUTED   it went on from an old copy of the fleet's store: find out which disk is right, and reset it\n"
	volumeListNone     = "no guest has opened a volume"
)

// The words of "reset".
const (
	volumeResetUse     = "reset NAME"
	volumeResetShort   = "Let the next opening of a volume begin with any state"
	volumeResetExample = "  anchorhold volume reset volumes/var"
	volumeResetLong    = `After a backup of a volume was put back on purpose, or its disk was replaced by an empty
one, the guest is refused with "volume-rolled-back": the broker cannot tell an operator's
backup from a host's. This command says that it is an operator's. It is recorded in the
audit log, and over with the next opening, whatever disk that guest has: make sure that the
right one is attached, and that no other guest is about to open a copy. In a fleet it holds at
the broker that is told: the one that the guest asks, or each of them.`
	volumeResetNeeds  = "one volume's name, such as volumes/var"
	volumeResetResult = "%s: the next opening may begin with any state; generation %d was confirmed last\n"
)

// newVolume is the command "volume".
func newVolume(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("volume", volumeShort, volumeLong, newVolumeList(inv), newVolumeReset(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func newVolumeList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: volumeListUse, Short: volumeListShort, Example: volumeListExample, Args: cobra.NoArgs, RunE: inv.RunE(runVolumeList)}
}

func runVolumeList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		list, err := b.Volumes(ctx)
		return cli.List("volumes", list), func(w io.Writer) {
			for _, v := range list {
				fmt.Fprintf(w, volumeListLine, v.Volume, v.Generation, v.At.Format(time.RFC3339), v.Agent, v.Lease)
				if v.Reset {
					fmt.Fprint(w, volumeListReset)
				}
				if v.Disputed {
					fmt.Fprint(w, volumeListDisputed)
				}
			}
			if len(list) == 0 {
				fmt.Fprintln(w, volumeListNone)
			}
		}, err
	})
}

func newVolumeReset(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: volumeResetUse, Short: volumeResetShort, Example: volumeResetExample, Long: volumeResetLong, Args: cli.Exactly(1, volumeResetNeeds), RunE: inv.RunE(runVolumeReset)}
}

func runVolumeReset(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		v, err := b.ResetVolume(ctx, args[0])
		return v, func(w io.Writer) { fmt.Fprintf(w, volumeResetResult, v.Volume, v.Generation) }, err
	})
}
