package collateral

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/spf13/cobra"
)

// The words of "show".
const (
	showUse     = "show --dir DIR"
	showShort   = "Show what the directory holds, its age, and what failed last"
	showExample = "  anchorhold collateral show --dir /var/lib/anchorhold/collateral\n  anchorhold collateral show --dir collateral --json | jq -r '.items[] | select(.ended) | .key'"
	showLong    = `Shows each item with its age, the number and date of each document, when it ends, when a
broker with a network would fetch it again, and the last attempt if that failed.`
	showCertificates = "%d certificates of chips\n"
	showItem         = "%s\n  fetched  %s ago\n  ends     %s%s\n  next     %s\n"
	showDocument     = "  document %s%s, issued %s\n"
	showFailure      = "  FAILED   %s, %d in a row: %s\n"
	showDamaged      = "%s\n  DAMAGED or missing; fetch it again\n"
	showEnded        = " ENDED"
)

// showOptions are the flags of "show".
type showOptions struct{ directory }

func newShow(inv *cli.Invocation) *cobra.Command {
	var o showOptions
	c := &cobra.Command{Use: showUse, Short: showShort, Long: showLong, Example: showExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run, "dir")}
	o.add(c)
	return c
}

func (o *showOptions) run(_ context.Context, inv *cli.Invocation, _ []string) error {
	d, err := o.open(depot.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	st, err := d.Status()
	if err != nil {
		return err
	}
	return inv.Print(st, func(w io.Writer) {
		fmt.Fprintf(w, showCertificates, st.Certificates)
		for _, it := range st.Items {
			printItem(w, it)
		}
	})
}

func printItem(w io.Writer, it depot.ItemStatus) {
	if it.Missing {
		fmt.Fprintf(w, showDamaged, it.Key)
	} else {
		ended := ""
		if it.Ended {
			ended = showEnded
		}
		fmt.Fprintf(w, showItem, it.Key, (time.Duration(it.AgeSeconds) * time.Second).String(), it.Ends.UTC().Format(time.RFC3339), ended, it.Next.UTC().Format(time.RFC3339))
	}
	for _, d := range it.Documents {
		number := ""
		if d.Number != nil {
			number = " number " + d.Number.String()
		}
		fmt.Fprintf(w, showDocument, d.Name, number, d.Issued.Format(time.RFC3339))
	}
	if it.Failures > 0 {
		fmt.Fprintf(w, showFailure, it.Attempted.UTC().Format(time.RFC3339), it.Failures, it.Error)
	}
}
