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
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/spf13/cobra"
)

// The words of "key".
const (
	keyShort = "Set up and use keys that several agents hold together, none of them whole"
	keyLong  = `For participants without a common trusted guest: any T of N agents can decrypt a
round's sum together, and no one else can. A key serves one round; each agent gives
only one share for its decryption, ever. In order, with who runs each command:

  fed key open            broker operator   name the agents (anchorhold status shows agent_key)
  fed key join            every agent       generate the shares, within ten minutes
  fed round open --key    broker operator   a round under that key
  fed submit              participants
  fed round close         broker operator
  fed key share           T of the agents   all with the same --active
  fed decrypt             any agent         combine the shares, publish`
)

// The words of "open".
const (
	keyOpenUse            = "open --threshold T --agent KEY --agent KEY ..."
	keyOpenShort          = "Ask agents to set up a key together"
	keyOpenExample        = "  anchorhold fed key open --threshold 2 --agent 1f0c... --agent 88ab... --agent 03d4... --aggregator /run/anchorhold-aggregator/admin.sock"
	keyOpenAgentInvalid   = "--agent %q: %w (anchorhold status shows it as agent_key)"
	keyOpenNotTaken       = "%w: aggregator %s: %w"
	keyOpenResult         = "round    %s\nparties  %d, of which %d decrypt\nuntil    %s\n"
	keyOpenFlagThreshold  = "number of agents that decrypt together"
	keyOpenFlagAgent      = "digest of an agent's key (repeat for each; their order numbers them from 1)"
	keyOpenFlagDuration   = "time for the setup (default 10m)"
	keyOpenFlagAggregator = "admin socket of the first aggregator, which keeps the agents' messages"
)

// The words of "join", "share" and "status".
const (
	keyNeeds    = "one round"
	keyFlagWait = "wait until it is done"
)

// The words of "join".
const (
	keyJoinUse     = "join ROUND"
	keyJoinShort   = "Have the local agent take part in setting up a key"
	keyJoinExample = "  anchorhold fed key join 5f2c... --wait"
)

// The words of "share".
const (
	keyShareNoParties  = "--active is required: the numbers of the parties that decrypt, the same for all of them"
	keyShareFlagActive = "numbers of the parties that decrypt"
	keyShareUse        = "share ROUND --active 1,3"
	keyShareShort      = "Have the local agent give its only share for decrypting a closed round"
	keyShareExample    = "  anchorhold fed key share 5f2c... --active 1,3 --wait"
)

// The words of "status".
const (
	keyStatusUse     = "status ROUND"
	keyStatusShort   = "Show the local agent's progress with a key"
	keyStatusExample = "  anchorhold fed key status 5f2c..."
)

// The words of a key as it is shown.
const (
	keySummary = "round    %s\nparty    %d of %d, of which %d decrypt\nstate    %s %s\n"
	keyDigest  = "key      %s\n"
	keyFailed  = "failed   %s (%s)\n"
)

func newFedKey(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("key", keyShort,
		keyLong,
		newKeyOpen(inv), newKeyJoin(inv), newKeyShare(inv), newKeyStatus(inv))
}

// keyOpenOptions are the flags of "open".
type keyOpenOptions struct {
	asked       federation.Preparation
	agents      []string // --agent
	aggregators []string // --aggregator
}

func newKeyOpen(inv *cli.Invocation) *cobra.Command {
	var o keyOpenOptions
	c := &cobra.Command{
		Use: keyOpenUse, Short: keyOpenShort,
		Example: keyOpenExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run),
	}
	c.Flags().Uint32Var(&o.asked.Threshold, "threshold", 2, keyOpenFlagThreshold)
	c.Flags().StringSliceVar(&o.agents, "agent", nil, keyOpenFlagAgent)
	c.Flags().DurationVar(&o.asked.Duration, "duration", 0, keyOpenFlagDuration)
	c.Flags().StringSliceVar(&o.aggregators, "aggregator", nil, keyOpenFlagAggregator)
	dial.BrokerFlag(inv, c)
	return c
}

func (o *keyOpenOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	for _, a := range o.agents {
		d, err := digest.Parse(a)
		if err != nil {
			return cli.Usage(fmt.Errorf(keyOpenAgentInvalid, a, err))
		}
		o.asked.Agents = append(o.asked.Agents, d)
	}
	prepared, err := dial.Broker(inv).PrepareKey(ctx, o.asked)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	for _, socket := range o.aggregators {
		if err := dial.Aggregator(socket).AddSetup(ctx, prepared.Signed); err != nil {
			return fmt.Errorf(keyOpenNotTaken, cli.ErrRefused, socket, err)
		}
	}
	s := prepared.Setup
	return inv.Print(s, func(w io.Writer) {
		fmt.Fprintf(w, keyOpenResult, s.Round, len(s.Agents), s.Threshold, s.Closes.Time().Format(time.RFC3339))
	})
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

// printKey shows how the agent stands with a key.
func printKey(inv *cli.Invocation, st keyStatus) error {
	return inv.Print(st, func(w io.Writer) {
		fmt.Fprintf(w, keySummary, st.Round, st.Party, st.Parties, st.Threshold, st.State, st.Phase)
		if st.Key != "" {
			fmt.Fprintf(w, keyDigest, st.Key)
		}
		if st.Reason != "" {
			fmt.Fprintf(w, keyFailed, st.Detail, st.Reason)
		}
	})
}

// keyOptions are the flags of a command that asks the agent about a key.
type keyOptions struct {
	wait   bool  // --wait
	active []int // --active, of "share"
	// ask sends the request.
	ask func(o *keyOptions, ctx context.Context, agent *dial.AgentClient, round string) (*http.Response, error)
}

// keyCommand makes a command that asks the agent about a key, and waits if wanted.
func keyCommand(inv *cli.Invocation, o *keyOptions, use, short, example string) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cli.Exactly(1, keyNeeds), RunE: inv.RunE(o.run)}
	c.Flags().BoolVar(&o.wait, "wait", false, keyFlagWait)
	dial.AgentFlag(inv, c)
	return c
}

func (o *keyOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if _, err := dial.Round(args[0]); err != nil {
		return err
	}
	agent := dial.Agent(inv.Agent)
	resp, err := o.ask(o, ctx, agent, args[0])
	if err != nil {
		return err
	}
	var st keyStatus
	if err := dial.Decode(resp, &st); err != nil {
		return err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for last := ""; o.wait && (st.State == "setting-up" || st.State == "sharing"); {
		if st.Phase != last {
			last = st.Phase
			fmt.Fprintln(inv.Err, last)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		st = keyStatus{}
		if err := agent.GetJSON(ctx, "/v1/fed/keys/"+args[0], &st); err != nil {
			return err
		}
	}
	if err := printKey(inv, st); err != nil {
		return err
	}
	if st.State == "failed" {
		return dial.Refused(st.Detail, string(st.Reason))
	}
	return nil
}

func newKeyJoin(inv *cli.Invocation) *cobra.Command {
	return keyCommand(inv, &keyOptions{ask: (*keyOptions).join}, keyJoinUse, keyJoinShort, keyJoinExample)
}

func (*keyOptions) join(ctx context.Context, agent *dial.AgentClient, round string) (*http.Response, error) {
	return agent.Do(ctx, http.MethodPost, "/v1/fed/keys/"+round+"/join", nil)
}

func newKeyShare(inv *cli.Invocation) *cobra.Command {
	o := &keyOptions{ask: (*keyOptions).share}
	c := keyCommand(inv, o, keyShareUse, keyShareShort, keyShareExample)
	c.Flags().IntSliceVar(&o.active, "active", nil, keyShareFlagActive)
	return c
}

func (o *keyOptions) share(ctx context.Context, agent *dial.AgentClient, round string) (*http.Response, error) {
	if len(o.active) == 0 {
		return nil, cli.Usage(errors.New(keyShareNoParties))
	}
	return agent.Do(ctx, http.MethodPost, "/v1/fed/keys/"+round+"/share", map[string]any{"active": o.active})
}

func newKeyStatus(inv *cli.Invocation) *cobra.Command {
	return keyCommand(inv, &keyOptions{ask: (*keyOptions).status}, keyStatusUse, keyStatusShort, keyStatusExample)
}

func (*keyOptions) status(ctx context.Context, agent *dial.AgentClient, round string) (*http.Response, error) {
	return agent.Do(ctx, http.MethodGet, "/v1/fed/keys/"+round, nil)
}
