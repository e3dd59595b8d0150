// Package proof is the commands about proofs of answers for clients and for anybody who
// verifies one. Keys are made by package setup, answers drawn by package registry.
package proof

import (
	"fmt"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/setup"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// New is the command "proof", with the commands of package setup and more, which are given
// because their package and this one do not know each other.
func New(inv *cli.Invocation, more ...*cobra.Command) *cobra.Command {
	return cli.Subcommands("proof", "Proofs that an answer came from a model: keys, requests, verification",
		`A classifier's answer has a receipt at once and a proof later. With the proof
anybody can check, without the model and the input, that the committed model gave
this output for the committed input. In order, with who runs each command:

  proof setup     operator   keys for an architecture; one set serves all its versions
  proof ceremony  parties    the same, where no one can keep what forges proofs
  proof register  operator   the broker vouches for the keys; agents use no others
  proof challenge operator   the broker draws answers that must be proven, after they were given
  proof audit     operator   everything about one answer
  proof make      client     ask for the proof of an answer (or the agent's mode does)
  proof show      client     fetch it, with its receipt
  proof verify    anybody    "this output, from this model, in this guest, at this time"`,
		append(more, setup.New(inv), setup.NewCeremony(inv), newProofMake(inv), newProofShow(inv), newProofVerify(inv))...)
}

func newProofMake(inv *cli.Invocation) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "make RECEIPT", Short: "Ask the local agent for the proof of an answer, by its receipt's id",
		Example: "  anchorhold proof make 5f2c... --wait", Args: cli.Exactly(1, "one receipt's id"),
		RunE: func(c *cobra.Command, args []string) error {
			agent := dial.Agent(inv.Agent)
			resp, err := agent.Do(c.Context(), http.MethodPost, "/v1/proofs/"+args[0], nil)
			if err != nil {
				return err
			}
			var queued struct {
				Job string `json:"job"`
			}
			if err := dial.Decode(resp, &queued); err != nil {
				return err
			}
			if wait {
				info, err := dial.WaitJob(c.Context(), agent, queued.Job, c.ErrOrStderr())
				if err != nil {
					return err
				}
				return inv.Print(c.OutOrStdout(), info, func(w io.Writer) { dial.PrintJob(w, info) })
			}
			return inv.Print(c.OutOrStdout(), queued, func(w io.Writer) { fmt.Fprintf(w, "job %s\n", queued.Job) })
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is made")
	dial.AgentFlag(inv, c)
	return c
}

func newProofShow(inv *cli.Invocation) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "show RECEIPT --out FILE", Short: "Fetch the proof of an answer with its receipt, to hand on",
		Example: "  anchorhold proof show 5f2c... --out answer.proof.json", Args: cli.Exactly(1, "one receipt's id"),
		RunE: func(c *cobra.Command, args []string) error {
			agent := dial.Agent(inv.Agent)
			resp, err := agent.Do(c.Context(), http.MethodGet, "/v1/proofs/"+args[0], nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(io.LimitReader(resp.Body, receipt.MaxBundleBytes+1))
			if err != nil {
				return err
			}
			if _, err := receipt.ParseBundle(raw); err != nil {
				return fmt.Errorf("%w: %w", cli.ErrRefused, err)
			}
			if out == "" {
				_, err = c.OutOrStdout().Write(raw)
				return err
			}
			return cli.WriteNew(out, raw, 0o600)
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file; standard output without it")
	dial.AgentFlag(inv, c)
	return c
}
