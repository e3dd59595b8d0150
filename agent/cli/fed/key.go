package fed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/spf13/cobra"
)

func newFedKey(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("key", "Keys that several attested agents hold together, none of them whole",
		`For participants without a common trusted guest: any T of N agents decrypt a
round's sum together, and no one else can. A key serves one round; each agent gives
one share in decrypting it, ever. In order, with who runs each command:

  fed key open            broker operator   name the agents (anchorhold status shows agent_key)
  fed key join            every agent       draw the parts, within ten minutes
  fed round open --key    broker operator   a round under that key
  fed submit              participants
  fed round close         broker operator
  fed key share           T of the agents   all with the same --active
  fed decrypt             any agent         put the shares together, publish`,
		newKeyOpen(inv), newKeyJoin(inv), newKeyShare(inv), newKeyStatus(inv))
}

func newKeyOpen(inv *cli.Invocation) *cobra.Command {
	var p federation.Preparation
	var agents, aggregators []string
	c := &cobra.Command{
		Use: "open --threshold T --agent KEY --agent KEY ...", Short: "Ask agents to set up a key together",
		Example: "  anchorhold fed key open --threshold 2 --agent 1f0c... --agent 88ab... --agent 03d4... --aggregator /run/anchorhold-aggregator/admin.sock",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, a := range agents {
				d, err := federation.ParseDigest(a)
				if err != nil {
					return cli.Usage(fmt.Errorf("--agent %q: %w (anchorhold status shows it as agent_key)", a, err))
				}
				p.Agents = append(p.Agents, d)
			}
			prepared, err := dial.Broker(inv, c).PrepareKey(c.Context(), p)
			if err != nil {
				return dial.Explain(err, inv.Broker)
			}
			for _, socket := range aggregators {
				if err := dial.Aggregator(socket).AddSetup(c.Context(), prepared.Signed); err != nil {
					return fmt.Errorf("%w: aggregator %s: %w", cli.ErrRefused, socket, err)
				}
			}
			s := prepared.Setup
			return inv.Print(c.OutOrStdout(), s, func(w io.Writer) {
				fmt.Fprintf(w, "round    %s\nparties  %d, of which %d decrypt\nuntil    %s\n", s.Round, len(s.Agents), s.Threshold, s.Closes.Time().Format(time.RFC3339))
			})
		},
	}
	c.Flags().Uint32Var(&p.Threshold, "threshold", 2, "how many agents decrypt together")
	c.Flags().StringSliceVar(&agents, "agent", nil, "digest of an agent's key (repeat for each; their order numbers them from 1)")
	c.Flags().DurationVar(&p.Duration, "duration", 0, "time for the set-up (10m)")
	c.Flags().StringSliceVar(&aggregators, "aggregator", nil, "admin socket of the first aggregator, where the agents' messages lie")
	dial.BrokerFlag(inv, c)
	return c
}

// keyStatus is a party's status as the agent shows it.
type keyStatus struct {
	Round     string `json:"round"`
	Party     int    `json:"party"`
	Parties   int    `json:"parties"`
	Threshold int    `json:"threshold"`
	State     string `json:"state"`
	Phase     string `json:"phase,omitempty"`
	Key       string `json:"key,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Detail    string `json:"detail,omitempty"`
}

func printKey(inv *cli.Invocation, c *cobra.Command, st keyStatus) error {
	return inv.Print(c.OutOrStdout(), st, func(w io.Writer) {
		fmt.Fprintf(w, "round    %s\nparty    %d of %d, of which %d decrypt\nstate    %s %s\n", st.Round, st.Party, st.Parties, st.Threshold, st.State, st.Phase)
		if st.Key != "" {
			fmt.Fprintf(w, "key      %s\n", st.Key)
		}
		if st.Reason != "" {
			fmt.Fprintf(w, "failed   %s (%s)\n", st.Detail, st.Reason)
		}
	})
}

// keyCommand makes a command that asks the agent about a key, and waits if wanted.
func keyCommand(inv *cli.Invocation, use, short, example string, ask func(context.Context, *dial.AgentClient, string) (*http.Response, error)) *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cli.Exactly(1, "one round"), RunE: func(c *cobra.Command, args []string) error {
		if _, err := dial.Round(args[0]); err != nil {
			return err
		}
		agent := dial.Agent(inv.Agent)
		resp, err := ask(c.Context(), agent, args[0])
		if err != nil {
			return err
		}
		var st keyStatus
		if err := dial.Decode(resp, &st); err != nil {
			return err
		}
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for last := ""; wait && (st.State == "setting-up" || st.State == "sharing"); {
			if st.Phase != last {
				last = st.Phase
				fmt.Fprintln(c.ErrOrStderr(), last)
			}
			select {
			case <-c.Context().Done():
				return c.Context().Err()
			case <-tick.C:
			}
			st = keyStatus{}
			if err := agent.GetJSON(c.Context(), "/v1/fed/keys/"+args[0], &st); err != nil {
				return err
			}
		}
		if err := printKey(inv, c, st); err != nil {
			return err
		}
		if st.State == "failed" {
			return dial.Refused(st.Detail, string(st.Reason))
		}
		return nil
	}}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is done")
	dial.AgentFlag(inv, c)
	return c
}

func newKeyJoin(inv *cli.Invocation) *cobra.Command {
	return keyCommand(inv, "join ROUND", "Have the local agent take part in setting up a key", "  anchorhold fed key join 5f2c... --wait",
		func(ctx context.Context, a *dial.AgentClient, id string) (*http.Response, error) {
			return a.Do(ctx, http.MethodPost, "/v1/fed/keys/"+id+"/join", nil)
		})
}

func newKeyShare(inv *cli.Invocation) *cobra.Command {
	var active []int
	c := keyCommand(inv, "share ROUND --active 1,3", "Have the local agent give its one share in decrypting a closed round", "  anchorhold fed key share 5f2c... --active 1,3 --wait",
		func(ctx context.Context, a *dial.AgentClient, id string) (*http.Response, error) {
			if len(active) == 0 {
				return nil, cli.Usage(errors.New("--active is needed: the numbers of the parties that decrypt, the same for all of them"))
			}
			return a.Do(ctx, http.MethodPost, "/v1/fed/keys/"+id+"/share", map[string]any{"active": active})
		})
	c.Flags().IntSliceVar(&active, "active", nil, "numbers of the parties that decrypt")
	return c
}

func newKeyStatus(inv *cli.Invocation) *cobra.Command {
	return keyCommand(inv, "status ROUND", "Show where the local agent stands with a key", "  anchorhold fed key status 5f2c...",
		func(ctx context.Context, a *dial.AgentClient, id string) (*http.Response, error) {
			return a.Do(ctx, http.MethodGet, "/v1/fed/keys/"+id, nil)
		})
}
