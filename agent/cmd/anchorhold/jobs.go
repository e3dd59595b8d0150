package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/spf13/cobra"
)

func newJobs(inv *invocation) *cobra.Command {
	act := func(use, short, method, suffix string) *cobra.Command {
		return &cobra.Command{Use: use + " ID", Short: short, Example: "  anchorhold jobs " + use + " 5f2c...", Args: exactly(1, "one job's id"),
			RunE: func(c *cobra.Command, args []string) error {
				info, err := askJob(c.Context(), newAgentClient(inv.agent), method, args[0]+suffix)
				if err != nil {
					return err
				}
				return inv.print(c.OutOrStdout(), info, func(w io.Writer) { printJob(w, info) })
			}}
	}
	list := &cobra.Command{Use: "list", Short: "List your jobs, newest first (root sees all)", Example: "  anchorhold jobs list\n  anchorhold jobs list --json | jq '.[] | select(.state == \"failed\") | .id'", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var answer struct {
				Data []jobs.Info `json:"data"`
			}
			if err := newAgentClient(inv.agent).getJSON(c.Context(), "/v1/jobs", &answer); err != nil {
				return err
			}
			return inv.print(c.OutOrStdout(), answer.Data, func(w io.Writer) {
				for _, i := range answer.Data {
					fmt.Fprintf(w, "%s  %-14s  %-9s try %d  %s  %s\n", i.ID, i.Class, i.State, i.Tries, i.Updated.Format(time.RFC3339), i.Reason)
				}
			})
		}}
	c := subcommands("jobs", "List, show, cancel and retry long work of the local agent",
		"Encryptions and decryptions of federated rounds run as jobs in processes of\ntheir own. A job that failed for good says why and can be tried again.",
		list, act("show", "Show one job", http.MethodGet, ""), act("cancel", "Cancel a job that waits or runs", http.MethodDelete, ""),
		act("retry", "Try a dead job again", http.MethodPost, "/retry"))
	for _, child := range c.Commands() {
		agentFlag(inv, child)
	}
	return c
}

func askJob(ctx context.Context, agent *agentClient, method, path string) (jobs.Info, error) {
	var info jobs.Info
	resp, err := agent.do(ctx, method, "/v1/jobs/"+path, nil)
	if err != nil {
		return info, err
	}
	defer resp.Body.Close()
	return info, json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&info)
}

func printJob(w io.Writer, i jobs.Info) {
	fmt.Fprintf(w, "job      %s\nclass    %s\nstate    %s, try %d\nupdated  %s\n", i.ID, i.Class, i.State, i.Tries, i.Updated.Format(time.RFC3339))
	if i.Progress != nil && i.State == jobs.Leased {
		fmt.Fprintf(w, "progress %s %d of %d\n", i.Progress.Phase, i.Progress.Done, i.Progress.Total)
	}
	if i.Detail != "" {
		fmt.Fprintf(w, "last     %s %s: %s\n", i.Exit, i.Reason, i.Detail)
	}
	if len(i.Result) > 0 {
		fmt.Fprintf(w, "result   %s\n", i.Result)
	}
}

// waitJob asks for a job until it is over.
func waitJob(ctx context.Context, agent *agentClient, id string, told io.Writer) (jobs.Info, error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	phase := ""
	for {
		info, err := askJob(ctx, agent, http.MethodGet, id)
		if err != nil || info.Final() {
			if err == nil && info.State != jobs.Done {
				err = refusedBecause(fmt.Sprintf("the job is %s: %s", info.State, info.Detail), string(info.Reason))
			}
			return info, err
		}
		if p := info.Progress; p != nil && p.Phase != phase {
			phase = p.Phase
			fmt.Fprintf(told, "%s ...\n", phase)
		}
		select {
		case <-ctx.Done():
			return info, ctx.Err()
		case <-tick.C:
		}
	}
}
