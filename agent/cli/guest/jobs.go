package guest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/spf13/cobra"
)

// The words of "jobs".
const (
	jobsShort = "List, show, cancel and retry the local agent's long-running work"
	jobsLong  = "Encryptions and decryptions of federated rounds run as jobs in processes of\ntheir own. A job that failed for good says why and can be retried."
)

// The words of "list".
const (
	jobsListUse     = "list"
	jobsListShort   = "List your jobs, newest first (root sees all)"
	jobsListExample = "  anchorhold jobs list\n  anchorhold jobs list --json | jq '.jobs[] | select(.state == \"dead\") | .id'"
	jobsListNone    = "no jobs"
	jobsListLine    = "%s  %-14s  %-9s try %d  %s  %s\n"
)

// The words of "show", "cancel" and "retry".
const (
	jobUse        = " ID" // behind the verb
	jobNeeds      = "one job's id"
	showShort     = "Show one job"
	showExample   = "  anchorhold jobs show 5f2c..."
	cancelShort   = "Cancel a waiting or running job"
	cancelExample = "  anchorhold jobs cancel 5f2c..."
	retryShort    = "Retry a dead job"
	retryExample  = "  anchorhold jobs retry 5f2c..."
)

// NewJobs is the command "jobs".
func NewJobs(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("jobs", jobsShort,
		jobsLong,
		newJobsList(inv), newJob(inv, "show", showShort, showExample, jobOptions{http.MethodGet, ""}), newJob(inv, "cancel", cancelShort, cancelExample, jobOptions{http.MethodDelete, ""}),
		newJob(inv, "retry", retryShort, retryExample, jobOptions{http.MethodPost, "/retry"}))
	for _, child := range c.Commands() {
		dial.AgentFlag(inv, child)
	}
	return c
}

func newJobsList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: jobsListUse, Short: jobsListShort, Example: jobsListExample, Args: cobra.NoArgs,
		RunE: inv.RunE(runJobsList)}
}

func runJobsList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	var answer struct {
		Data []jobs.Info `json:"data"`
	}
	if err := dial.Agent(inv.Agent).GetJSON(ctx, "/v1/jobs", &answer); err != nil {
		return err
	}
	return inv.Print(cli.List("jobs", answer.Data), func(w io.Writer) {
		if len(answer.Data) == 0 {
			fmt.Fprintln(w, jobsListNone)
		}
		for _, i := range answer.Data {
			fmt.Fprintf(w, jobsListLine, i.ID, i.Class, i.State, i.Tries, i.Updated.Format(time.RFC3339), i.Reason)
		}
	})
}

// jobOptions are what the commands about one job differ in; they have no flags.
type jobOptions struct{ method, suffix string }

// newJob makes a command that sends one request about a job.
func newJob(inv *cli.Invocation, verb, short, example string, o jobOptions) *cobra.Command {
	return &cobra.Command{Use: verb + jobUse, Short: short, Example: example, Args: cli.Exactly(1, jobNeeds), RunE: inv.RunE(o.run)}
}

func (o *jobOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	info, err := dial.AskJob(ctx, dial.Agent(inv.Agent), o.method, args[0]+o.suffix)
	if err != nil {
		return err
	}
	return inv.Print(info, func(w io.Writer) { dial.PrintJob(w, info) })
}
