package guest

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/spf13/cobra"
)

// NewJobs is the command "jobs".
func NewJobs(inv *cli.Invocation) *cobra.Command {
	act := func(use, short, method, suffix string) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Example: "  anchorhold jobs " + use + " 5f2c...", Args: cli.Exactly(1, "one job's id"),
			RunE: func(c *cobra.Command, args []string) error {
				info, err := dial.AskJob(c.Context(), dial.Agent(inv.Agent), method, args[0]+suffix)
				if err != nil {
					return err
				}
				return inv.Print(c.OutOrStdout(), info, func(w io.Writer) { dial.PrintJob(w, info) })
			}}
	}
	list := &cobra.Command{Use: "list", Short: "List your jobs, newest first (root sees all)", Example: "  anchorhold jobs list\n  anchorhold jobs list --json | jq '.[] | select(.state == \"failed\") | .id'", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer struct {
				Data []jobs.Info `json:"data"`
			}
			if err := dial.Agent(inv.Agent).GetJSON(c.Context(), "/v1/jobs", &answer); err != nil {
				return err
			}
			return inv.Print(c.OutOrStdout(), answer.Data, func(w io.Writer) {
				for _, i := range answer.Data {
					fmt.Fprintf(w, "%s  %-14s  %-9s try %d  %s  %s\n", i.ID, i.Class, i.State, i.Tries, i.Updated.Format(time.RFC3339), i.Reason)
				}
			})
		}}
	c := cli.Subcommands("jobs", "List, show, cancel and retry long work of the local agent",
		"Encryptions and decryptions of federated rounds run as jobs in processes of\ntheir own. A job that failed for good says why and can be tried again.",
		list, act("show", "Show one job", http.MethodGet, ""), act("cancel", "Cancel a job that waits or runs", http.MethodDelete, ""),
		act("retry", "Try a dead job again", http.MethodPost, "/retry"))
	for _, child := range c.Commands() {
		dial.AgentFlag(inv, child)
	}
	return c
}
