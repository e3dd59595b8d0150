// Package fed has the commands of participants in federated rounds, and those for the parameter
// sets of encrypted sums. The operator's commands are in package round.
package fed

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/spf13/cobra"
)

// The words of "fed".
const (
	fedShort = "Run federated rounds: open, submit, aggregate, close, decrypt"
	fedLong  = `A round is one sum of encrypted vectors. Its life, with who runs each command:

  fed round open     broker operator   terms, key, privacy charge; handed to the aggregator
  fed submit         participant       clip, encrypt and upload a vector through the agent
  fed update         participant       the same, with a classifier's answers and their proofs
  fed round close    broker operator   add what is complete; fix the cohort and the sum
  fed decrypt        decrypting guest  open the sum once, add noise, sign, publish
  fed round finish   broker operator   check the result, destroy the key
  fed result         anyone            the mean as float32 values

Participants without a common trusted guest set up a key together: see fed key.`
)

// The words of "submit".
const (
	submitUse        = "submit ROUND FILE"
	submitShort      = "Submit a vector of little-endian float32 values through the local agent"
	submitLong       = "The agent clips, rounds, encrypts and uploads it; only the ciphertext leaves the\nguest. FILE may be - for standard input."
	submitExample    = "  anchorhold fed submit 5f2c... update.f32 --weight 120 --wait\n  python3 train.py | anchorhold fed submit 5f2c... -"
	submitNeeds      = "a round and a file"
	submitFlagWeight = "weight, such as the number of examples"
	submitFlagF16    = "the values are float16"
	submitFlagStrict = "refuse a vector that exceeds the round's bounds, instead of scaling and clamping it"
	submitFlagWait   = "wait until it is uploaded"
)

// The words of "decrypt".
const (
	decryptUse   = "decrypt ROUND"
	decryptShort = "Have the local agent decrypt a closed round, add its noise and publish"
	decryptLong  = `If parties hold the round's key, as many of their agents as the threshold must decrypt
and sign; "awaits_parties" means that more are needed. The last one publishes.`
	decryptExample  = "  anchorhold fed decrypt 5f2c... --wait"
	decryptNeeds    = "one round"
	decryptFlagWait = "wait until it is published"
)

// The words of "result".
const (
	resultUse      = "result ROUND"
	resultShort    = "Show a published result, and write its mean as float32 values"
	resultExample  = "  anchorhold fed result 5f2c... --out mean.f32"
	resultNeeds    = "one round"
	resultNoLength = "the agent's result does not state its length"
	resultFlagOut  = "new file for the mean, little-endian float32"
)

// New is the command "fed".
func New(inv *cli.Invocation, more ...*cobra.Command) *cobra.Command {
	return cli.Subcommands("fed", fedShort,
		fedLong,
		append(more, newFedKey(inv), newFedSubmit(inv), newFedUpdate(inv), newFedDecrypt(inv), newFedResult(inv), newFedDataset(inv))...)
}

// submitOptions are the flags of "submit".
type submitOptions struct {
	weight uint32 // --weight
	half   bool   // --f16
	strict bool   // --strict
	wait   bool   // --wait
}

func newFedSubmit(inv *cli.Invocation) *cobra.Command {
	var o submitOptions
	c := &cobra.Command{
		Use: submitUse, Short: submitShort,
		Long:    submitLong,
		Example: submitExample,
		Args:    cli.Exactly(2, submitNeeds),
		RunE:    inv.RunE(o.run),
	}
	c.Flags().Uint32Var(&o.weight, "weight", 1, submitFlagWeight)
	c.Flags().BoolVar(&o.half, "f16", false, submitFlagF16)
	c.Flags().BoolVar(&o.strict, "strict", false, submitFlagStrict)
	c.Flags().BoolVar(&o.wait, "wait", false, submitFlagWait)
	dial.AgentFlag(inv, c)
	return c
}

func (o *submitOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if _, err := dial.Round(args[0]); err != nil {
		return err
	}
	in := inv.In
	if args[1] != "-" {
		f, err := os.Open(args[1])
		if err != nil {
			return err
		}
		defer f.Close() // read only
		in = f
	}
	media := "application/octet-stream"
	if o.half {
		media = "application/vnd.anchorhold.float16"
	}
	query := url.Values{"weight": {strconv.FormatUint(uint64(o.weight), 10)}}
	if o.strict {
		query.Set("excess", "refuse")
	}
	agent := dial.Agent(inv.Agent)
	var info jobs.Info
	if err := agent.Post(ctx, "/v1/fed/rounds/"+args[0]+"/contributions?"+query.Encode(), media, in, &info); err != nil {
		return err
	}
	return finishJob(ctx, inv, agent, info, o.wait)
}

// finishJob prints a job, after its end where that is wanted.
func finishJob(ctx context.Context, inv *cli.Invocation, agent *dial.AgentClient, info jobs.Info, wait bool) (err error) {
	if wait {
		if info, err = dial.WaitJob(ctx, agent, info.ID.String(), inv.Err); err != nil {
			return err
		}
	}
	return inv.Print(info, func(w io.Writer) { dial.PrintJob(w, info) })
}

// decryptOptions are the flags of "decrypt".
type decryptOptions struct {
	wait bool // --wait
}

func newFedDecrypt(inv *cli.Invocation) *cobra.Command {
	var o decryptOptions
	c := &cobra.Command{
		Use: decryptUse, Short: decryptShort,
		Long:    decryptLong,
		Example: decryptExample, Args: cli.Exactly(1, decryptNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().BoolVar(&o.wait, "wait", false, decryptFlagWait)
	dial.AgentFlag(inv, c)
	return c
}

func (o *decryptOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if _, err := dial.Round(args[0]); err != nil {
		return err
	}
	agent := dial.Agent(inv.Agent)
	var info jobs.Info
	if err := agent.Post(ctx, "/v1/fed/rounds/"+args[0]+"/decrypt", "application/json", nil, &info); err != nil {
		return err
	}
	return finishJob(ctx, inv, agent, info, o.wait)
}

// resultOptions are the flags of "result".
type resultOptions struct {
	out string // --out
}

func newFedResult(inv *cli.Invocation) *cobra.Command {
	var o resultOptions
	c := &cobra.Command{
		Use: resultUse, Short: resultShort,
		Example: resultExample, Args: cli.Exactly(1, resultNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.out, "out", "", resultFlagOut)
	dial.AgentFlag(inv, c)
	return c
}

func (o *resultOptions) run(ctx context.Context, inv *cli.Invocation, args []string) (err error) {
	if _, err := dial.Round(args[0]); err != nil {
		return err
	}
	agent := dial.Agent(inv.Agent)
	var result map[string]any
	if err := agent.GetJSON(ctx, "/v1/fed/rounds/"+args[0]+"/result", &result); err != nil {
		return err
	}
	if o.out != "" {
		resp, err := agent.Do(ctx, http.MethodGet, "/v1/fed/rounds/"+args[0]+"/result/values", nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		length, ok := result["length"].(float64)
		if !ok {
			return errors.New(resultNoLength)
		}
		if err := cli.WriteStream(o.out, &cli.Exact{From: resp.Body, Left: 4 * int64(length)}, 0o644); err != nil {
			return err
		}
	}
	return inv.Print(result, func(w io.Writer) {
		data, err := json.Marshal(result)
		if err == nil {
			cli.PrintTree(w, data, "")
		}
	})
}
