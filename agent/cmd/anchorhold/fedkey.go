package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/he/ckks"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/uplink"
	"github.com/spf13/cobra"
)

func newFedKey(inv *invocation) *cobra.Command {
	return subcommands("key", "Keys that several attested agents hold together, none of them whole",
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

func newKeyOpen(inv *invocation) *cobra.Command {
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
					return usageError{fmt.Errorf("--agent %q: %w (anchorhold status shows it as agent_key)", a, err)}
				}
				p.Agents = append(p.Agents, d)
			}
			prepared, err := brokerClient(inv, c).PrepareKey(c.Context(), p)
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			for _, socket := range aggregators {
				if err := localAggregator(socket).AddSetup(c.Context(), prepared.Signed); err != nil {
					return fmt.Errorf("%w: aggregator %s: %w", errRefused, socket, err)
				}
			}
			s := prepared.Setup
			return inv.print(c.OutOrStdout(), s, func(w io.Writer) {
				fmt.Fprintf(w, "round    %s\nparties  %d, of which %d decrypt\nuntil    %s\n", s.Round, len(s.Agents), s.Threshold, s.Closes.Time().Format(time.RFC3339))
			})
		},
	}
	c.Flags().Uint32Var(&p.Threshold, "threshold", 2, "how many agents decrypt together")
	c.Flags().StringSliceVar(&agents, "agent", nil, "digest of an agent's key (repeat for each; their order numbers them from 1)")
	c.Flags().DurationVar(&p.Duration, "duration", 0, "time for the set-up (10m)")
	c.Flags().StringSliceVar(&aggregators, "aggregator", nil, "admin socket of the first aggregator, where the agents' messages lie")
	brokerFlag(inv, c)
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

func printKey(inv *invocation, c *cobra.Command, st keyStatus) error {
	return inv.print(c.OutOrStdout(), st, func(w io.Writer) {
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
func keyCommand(inv *invocation, use, short, example string, ask func(context.Context, *agentClient, string) (*http.Response, error)) *cobra.Command {
	var wait bool
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: exactly(1, "one round"), RunE: func(c *cobra.Command, args []string) error {
		if _, err := parseRound(args[0]); err != nil {
			return err
		}
		agent := newAgentClient(inv.agent)
		resp, err := ask(c.Context(), agent, args[0])
		if err != nil {
			return err
		}
		var st keyStatus
		if err := decodeBody(resp, &st); err != nil {
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
			if err := agent.getJSON(c.Context(), "/v1/fed/keys/"+args[0], &st); err != nil {
				return err
			}
		}
		if err := printKey(inv, c, st); err != nil {
			return err
		}
		if st.State == "failed" {
			return refusedBecause(st.Detail, string(st.Reason))
		}
		return nil
	}}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is done")
	agentFlag(inv, c)
	return c
}

func newKeyJoin(inv *invocation) *cobra.Command {
	return keyCommand(inv, "join ROUND", "Have the local agent take part in setting up a key", "  anchorhold fed key join 5f2c... --wait",
		func(ctx context.Context, a *agentClient, id string) (*http.Response, error) {
			return a.do(ctx, http.MethodPost, "/v1/fed/keys/"+id+"/join", nil)
		})
}

func newKeyShare(inv *invocation) *cobra.Command {
	var active []int
	c := keyCommand(inv, "share ROUND --active 1,3", "Have the local agent give its one share in decrypting a closed round", "  anchorhold fed key share 5f2c... --active 1,3 --wait",
		func(ctx context.Context, a *agentClient, id string) (*http.Response, error) {
			if len(active) == 0 {
				return nil, usageError{errors.New("--active is needed: the numbers of the parties that decrypt, the same for all of them")}
			}
			return a.do(ctx, http.MethodPost, "/v1/fed/keys/"+id+"/share", map[string]any{"active": active})
		})
	c.Flags().IntSliceVar(&active, "active", nil, "numbers of the parties that decrypt")
	return c
}

func newKeyStatus(inv *invocation) *cobra.Command {
	return keyCommand(inv, "status ROUND", "Show where the local agent stands with a key", "  anchorhold fed key status 5f2c...",
		func(ctx context.Context, a *agentClient, id string) (*http.Response, error) {
			return a.do(ctx, http.MethodGet, "/v1/fed/keys/"+id, nil)
		})
}

// partyKey collects what the parties of a key left at an aggregator, and computes the
// key from it. The broker and every agent verify it again.
func partyKey(ctx context.Context, socket string, roots []identity.Public, id federation.ID) (*federation.PartyKey, error) {
	board := uplink.NewLocal(socket, roots)
	floor := protocol.Live(protocol.AtLeast(1), protocol.TimeOf(time.Now()))
	setup, signed, err := board.Setup(ctx, protocol.AnyBroker(), floor, id)
	if err != nil {
		return nil, err
	}
	digest := federation.DigestOf(signed)
	key := &federation.PartyKey{Setup: signed}
	var shares [][]byte
	for i := range setup.Agents {
		public, _, err := board.PartyMessage(ctx, floor, setup, digest, federation.PartyPublic, i+1, 0)
		if err != nil {
			return nil, err
		}
		_, ready, err := board.PartyMessage(ctx, floor, setup, digest, federation.PartyReady, i+1, 0)
		if err != nil {
			return nil, err
		}
		shares, key.Ready = append(shares, public.Payload), append(key.Ready, ready)
	}
	access := ckks.Access{Params: ckks.Threshold(), Round: setup.Round, Parties: len(setup.Agents), Threshold: int(setup.Threshold), Flood: ckks.Flood}
	key.PublicKey, err = ckks.CombineKeys(access, ckks.CommonSeed(setup.Round), shares)
	return key, err
}
