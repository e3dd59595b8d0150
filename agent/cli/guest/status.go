package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/spf13/cobra"
)

// The words of "status".
const (
	statusUse     = "status"
	statusShort   = "Show what the local agent and the local broker are doing"
	statusExample = `  anchorhold status
  anchorhold status --json | jq .agent.lease`
	statusAgentSilent = "the agent at %s has not answered for %s: its process is stopped or hangs"
)

// NewStatus is the command "status".
func NewStatus(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{
		Use:     statusUse,
		Short:   statusShort,
		Example: statusExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(runStatus),
	}
	dial.AgentFlag(inv, c)
	dial.BrokerFlag(inv, c)
	return c
}

func runStatus(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return status(ctx, inv)
}

// status asks both sockets; a socket that does not exist means that this
// machine has no such daemon, and only the absence of both is an error.
func status(ctx context.Context, inv *cli.Invocation) error {
	both := map[string]any{}
	var agent json.RawMessage
	patient, cancel := context.WithTimeoutCause(ctx, inv.Patience, fmt.Errorf(statusAgentSilent, inv.Agent, inv.Patience))
	defer cancel()
	agentErr := dial.Agent(inv.Agent).GetJSON(patient, "/v1/status", &agent)
	if agentErr != nil && patient.Err() != nil {
		agentErr = context.Cause(patient)
	}
	if agentErr == nil {
		both["agent"] = agent
	}
	broker, brokerErr := dial.Broker(inv).Status(ctx)
	if brokerErr == nil {
		both["broker"] = broker
	}
	if len(both) == 0 {
		return errors.Join(agentErr, dial.Explain(brokerErr, inv.Broker))
	}
	if brokerErr != nil && !errors.Is(brokerErr, fs.ErrNotExist) {
		brokerErr = dial.Explain(brokerErr, inv.Broker)
	}
	return inv.Print(both, func(w io.Writer) {
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
				cli.PrintTree(w, data, "  ")
			}
		}
	})
}
