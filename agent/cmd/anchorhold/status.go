package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"
)

func newStatus(inv *invocation) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the local agent and the local broker are doing",
		Example: `  anchorhold status
  anchorhold status --json | jq .agent.lease`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return status(c, inv) },
	}
	agentFlag(inv, c)
	brokerFlag(inv, c)
	return c
}

// status asks both sockets; a socket that does not exist means that this
// machine has no such daemon, and only the absence of both is an error.
func status(c *cobra.Command, inv *invocation) error {
	ctx, out := c.Context(), c.OutOrStdout()
	both := map[string]any{}
	var agent json.RawMessage
	patient, cancel := context.WithTimeoutCause(ctx, inv.patience, fmt.Errorf("the agent at %s has not answered for %s: its process is stopped or hangs", inv.agent, inv.patience))
	defer cancel()
	agentErr := newAgentClient(inv.agent).getJSON(patient, "/v1/status", &agent)
	if agentErr != nil && patient.Err() != nil {
		agentErr = context.Cause(patient)
	}
	if agentErr == nil {
		both["agent"] = agent
	}
	broker, brokerErr := brokerClient(inv, c).Status(ctx)
	if brokerErr == nil {
		both["broker"] = broker
	}
	if len(both) == 0 {
		return errors.Join(agentErr, explainBroker(brokerErr, inv.broker))
	}
	if brokerErr != nil && !errors.Is(brokerErr, fs.ErrNotExist) {
		brokerErr = explainBroker(brokerErr, inv.broker)
	}
	return inv.print(out, both, func(w io.Writer) {
		for _, part := range []struct {
			name string
			err  error
		}{{"agent", agentErr}, {"broker", brokerErr}} {
			if part.err != nil {
				if !errors.Is(part.err, fs.ErrNotExist) {
					fmt.Fprintf(w, "%s: %v\n", part.name, part.err)
				}
				continue
			}
			fmt.Fprintf(w, "%s:\n", part.name)
			data, err := json.Marshal(both[part.name])
			if err == nil {
				printTree(w, data, "  ")
			}
		}
	})
}

// printTree prints a JSON object as indented lines, keys in order.
func printTree(w io.Writer, data []byte, indent string) {
	var object map[string]json.RawMessage
	if json.Unmarshal(data, &object) != nil {
		fmt.Fprintf(w, "%s%s\n", indent, data)
		return
	}
	keys := make([]string, 0, len(object))
	for k := range object {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		var text string
		switch value := object[k]; {
		case len(value) > 0 && value[0] == '{':
			fmt.Fprintf(w, "%s%s:\n", indent, k)
			printTree(w, value, indent+"  ")
		case json.Unmarshal(value, &text) == nil:
			fmt.Fprintf(w, "%s%-18s %s\n", indent, k, text)
		case len(value) > 0 && value[0] == '[':
			fmt.Fprintf(w, "%s%-18s %d\n", indent, k, entries(value))
		default:
			fmt.Fprintf(w, "%s%-18s %s\n", indent, k, value)
		}
	}
}

// entries is the length of a JSON array; --json shows what is in it.
func entries(data []byte) int {
	var list []json.RawMessage
	if json.Unmarshal(data, &list) != nil {
		return 0
	}
	return len(list)
}
