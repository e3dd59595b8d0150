// Package proof has the commands with which clients request proofs of answers and anyone verifies
// them. Package setup makes the keys; package registry draws the answers to be proven.
package proof

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/setup"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// The words of "proof".
const (
	proofShort = "Make keys for proofs of answers, request proofs and verify them"
	proofLong  = `A classifier's answer has a receipt at once and a proof later. With the proof anyone can
check, without the model and the input, that the committed model gave this output for
the committed input. In order, with who runs each command:

  proof setup     operator   keys for an architecture; one set serves all its versions
  proof ceremony  parties    the same, but no one can keep the secrets that forge proofs
  proof register  operator   the broker vouches for the keys; agents use no others
  proof challenge operator   the broker draws answers that must be proven, after they were given
  proof audit     operator   everything about one answer
  proof make      client     request the proof of an answer (or the agent's mode does)
  proof show      client     fetch it, with its receipt
  proof verify    anyone     "this output, from this model, in this guest, at this time"`
)

// The words of "make".
const (
	makeUse      = "make RECEIPT"
	makeShort    = "Ask the local agent for the proof of an answer, by its receipt's id"
	makeExample  = "  anchorhold proof make 5f2c... --wait"
	makeNeeds    = "one receipt's id"
	makeResult   = "job %s\n"
	makeFlagWait = "wait until it is made"
)

// The words of "show".
const (
	showUse     = "show RECEIPT --out FILE"
	showShort   = "Fetch the proof of an answer with its receipt, to pass on"
	showExample = "  anchorhold proof show 5f2c... --out answer.proof.json"
	showNeeds   = "one receipt's id"
	showFlagOut = "new file (default standard output)"
)

// New is the command "proof", with the commands of package setup and more, which are given
// because their package and this one do not know each other.
func New(inv *cli.Invocation, more ...*cobra.Command) *cobra.Command {
	return cli.Subcommands("proof", proofShort,
		proofLong,
		append(more, setup.New(inv), setup.NewCeremony(inv), newProofMake(inv), newProofShow(inv), newProofVerify(inv))...)
}

// makeOptions are the flags of "make".
type makeOptions struct {
	wait bool // --wait
}

func newProofMake(inv *cli.Invocation) *cobra.Command {
	var o makeOptions
	c := &cobra.Command{
		Use: makeUse, Short: makeShort,
		Example: makeExample, Args: cli.Exactly(1, makeNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().BoolVar(&o.wait, "wait", false, makeFlagWait)
	dial.AgentFlag(inv, c)
	return c
}

func (o *makeOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	agent := dial.Agent(inv.Agent)
	resp, err := agent.Do(ctx, http.MethodPost, "/v1/proofs/"+args[0], nil)
	if err != nil {
		return err
	}
	var queued struct {
		Job string `json:"job"`
	}
	if err := dial.Decode(resp, &queued); err != nil {
		return err
	}
	if o.wait {
		info, err := dial.WaitJob(ctx, agent, queued.Job, inv.Err)
		if err != nil {
			return err
		}
		return inv.Print(info, func(w io.Writer) { dial.PrintJob(w, info) })
	}
	return inv.Print(queued, func(w io.Writer) { fmt.Fprintf(w, makeResult, queued.Job) })
}

// showOptions are the flags of "show".
type showOptions struct {
	out string // --out
}

func newProofShow(inv *cli.Invocation) *cobra.Command {
	var o showOptions
	c := &cobra.Command{
		Use: showUse, Short: showShort,
		Example: showExample, Args: cli.Exactly(1, showNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.out, "out", "", showFlagOut)
	dial.AgentFlag(inv, c)
	return c
}

func (o *showOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	agent := dial.Agent(inv.Agent)
	resp, err := agent.Do(ctx, http.MethodGet, "/v1/proofs/"+args[0], nil)
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
	if o.out == "" {
		_, err = inv.Out.Write(raw)
		return err
	}
	return cli.WriteNew(o.out, raw, 0o600)
}
