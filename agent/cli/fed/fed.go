// Package fed is the commands of participants in federated rounds, and those about the
// parameter sets of encrypted sums. The operator's are in package round.
package fed

import (
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

// New is the command "fed".
func New(inv *cli.Invocation, more ...*cobra.Command) *cobra.Command {
	return cli.Subcommands("fed", "Federated rounds: open, submit, aggregate, close, decrypt",
		`A round is one sum of encrypted vectors. Its life, with who runs each command:

  fed round open     broker operator   terms, key, privacy charge; handed to the aggregator
  fed submit         participant       clip, encrypt and upload a vector through the agent
  fed update         participant       the same, with answers of a classifier and their proofs
  fed round close    broker operator   add what is complete, fix cohort and sum for ever
  fed decrypt        decrypting guest  open the sum once, add noise, sign, publish
  fed round finish   broker operator   check the result, destroy the key
  fed result         anybody           the mean as float32 values

Participants without a common trusted guest set up a key together: see fed key.`,
		append(more, newFedKey(inv), newFedSubmit(inv), newFedUpdate(inv), newFedDecrypt(inv), newFedResult(inv), newFedDataset(inv))...)
}

func newFedSubmit(inv *cli.Invocation) *cobra.Command {
	var weight uint32
	var half, strict, wait bool
	c := &cobra.Command{
		Use: "submit ROUND FILE", Short: "Submit a vector of little-endian float32 values through the local agent",
		Long:    "The agent clips, rounds, encrypts and uploads it; only the ciphertext leaves the\nguest. FILE may be - for standard input.",
		Example: "  anchorhold fed submit 5f2c... update.f32 --weight 120 --wait\n  python3 train.py | anchorhold fed submit 5f2c... -",
		Args:    cli.Exactly(2, "a round and a file"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := dial.Round(args[0]); err != nil {
				return err
			}
			in := c.InOrStdin()
			if args[1] != "-" {
				f, err := os.Open(args[1])
				if err != nil {
					return err
				}
				defer f.Close() // read only
				in = f
			}
			media := "application/octet-stream"
			if half {
				media = "application/vnd.anchorhold.float16"
			}
			query := url.Values{"weight": {strconv.FormatUint(uint64(weight), 10)}}
			if strict {
				query.Set("excess", "refuse")
			}
			agent := dial.Agent(inv.Agent)
			var info jobs.Info
			if err := agent.Post(c.Context(), "/v1/fed/rounds/"+args[0]+"/contributions?"+query.Encode(), media, in, &info); err != nil {
				return err
			}
			return finishJob(c, inv, agent, info, wait)
		},
	}
	c.Flags().Uint32Var(&weight, "weight", 1, "weight, such as the number of examples")
	c.Flags().BoolVar(&half, "f16", false, "the values are float16")
	c.Flags().BoolVar(&strict, "strict", false, "refuse a vector beyond the round's bounds instead of scaling it down and clamping its values")
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is uploaded")
	dial.AgentFlag(inv, c)
	return c
}

// finishJob prints a job, after its end where that is wanted.
func finishJob(c *cobra.Command, inv *cli.Invocation, agent *dial.AgentClient, info jobs.Info, wait bool) (err error) {
	if wait {
		if info, err = dial.WaitJob(c.Context(), agent, info.ID.String(), c.ErrOrStderr()); err != nil {
			return err
		}
	}
	return inv.Print(c.OutOrStdout(), info, func(w io.Writer) { dial.PrintJob(w, info) })
}

func newFedDecrypt(inv *cli.Invocation) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "decrypt ROUND", Short: "Have the local agent decrypt a closed round, add its noise and publish",
		Long: `Where parties hold the round's key, as many of their agents as the threshold
decrypt and sign; "awaits_parties" means that more have to, and the last one publishes.`,
		Example: "  anchorhold fed decrypt 5f2c... --wait", Args: cli.Exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) error {
			if _, err := dial.Round(args[0]); err != nil {
				return err
			}
			agent := dial.Agent(inv.Agent)
			var info jobs.Info
			if err := agent.Post(c.Context(), "/v1/fed/rounds/"+args[0]+"/decrypt", "application/json", nil, &info); err != nil {
				return err
			}
			return finishJob(c, inv, agent, info, wait)
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is published")
	dial.AgentFlag(inv, c)
	return c
}

func newFedResult(inv *cli.Invocation) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "result ROUND", Short: "Show a published result, and write its mean as float32 values",
		Example: "  anchorhold fed result 5f2c... --out mean.f32", Args: cli.Exactly(1, "one round"),
		RunE: func(c *cobra.Command, args []string) (err error) {
			if _, err := dial.Round(args[0]); err != nil {
				return err
			}
			agent := dial.Agent(inv.Agent)
			var result map[string]any
			if err := agent.GetJSON(c.Context(), "/v1/fed/rounds/"+args[0]+"/result", &result); err != nil {
				return err
			}
			if out != "" {
				resp, err := agent.Do(c.Context(), http.MethodGet, "/v1/fed/rounds/"+args[0]+"/result/values", nil)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				length, ok := result["length"].(float64)
				if !ok {
					return errors.New("the agent's result does not say its length")
				}
				if err := cli.WriteStream(out, &cli.Exact{From: resp.Body, Left: 4 * int64(length)}, 0o644); err != nil {
					return err
				}
			}
			return inv.Print(c.OutOrStdout(), result, func(w io.Writer) {
				data, err := json.Marshal(result)
				if err == nil {
					cli.PrintTree(w, data, "")
				}
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file for the mean, little-endian float32")
	dial.AgentFlag(inv, c)
	return c
}
