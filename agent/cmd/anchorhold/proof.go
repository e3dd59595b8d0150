package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/agent/proofaudit"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/spf13/cobra"
)

func newProof(inv *invocation, more ...*cobra.Command) *cobra.Command {
	return subcommands("proof", "Proofs that an answer came from a model: keys, requests, verification",
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
		append(more, newProofMake(inv), newProofShow(inv), newProofVerify(inv))...)
}

func newProofSetup(inv *invocation) *cobra.Command {
	var choice circuitChoice
	var powers powersChoice
	var out string
	c := &cobra.Command{
		Use: "setup {MODEL.ahm --key KEY --publisher PUB | --gradient N} --out DIR", Short: "Make circuit and keys, for development or from public powers of tau",
		Long: `Compiles a circuit and makes Groth16 keys for it: for the answers of a sealed
classifier's architecture (weights are no part of it: one set serves every version),
or for the bounds of updates of N values (fed round open --norm-keys).

WHOEVER RUNS THIS COULD KEEP WHAT LETS PROOFS BE FORGED. The record says so
("development"), and agents and verifiers refuse it unless they are told otherwise.

With --plonk the keys are of PLONK and come from a public powers-of-tau file, as snarkjs
writes it (.ptau): for those who cannot hold a ceremony. They are sound if one of the
file's many contributors was honest; compare --ptau-digest with what the file's ceremony
published. PLONK's proofs are larger, take longer to make, and are for classifiers alone.`,
		Example: `  anchorhold proof setup digits.ahm --key digits.key --publisher publisher.key.pub --out keys/
  anchorhold proof setup --gradient 650 --out norm-keys/
  anchorhold proof setup digits.ahm --key digits.key --publisher publisher.key.pub --out keys/ \
    --plonk --ptau powersOfTau28_hez_final_16.ptau --ptau-digest PUBLISHED`,
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return usageError{errors.New("--out is needed: a directory for circuit, keys and record")}
			}
			if powers.plonk {
				return powers.setup(c, inv, &choice, args, out)
			}
			if powers.path != "" {
				return usageError{errors.New("--ptau goes with --plonk; for Groth16 see anchorhold proof ceremony begin --ptau")}
			}
			began := time.Now()
			fmt.Fprintln(c.ErrOrStderr(), "compiling the circuit ...")
			circuit, record, err := choice.compile(args)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.ErrOrStderr(), "making keys for %d constraints ...\n", circuit.Constraints())
			set, err := developmentKeys(out, circuit, record)
			if err != nil {
				return err
			}
			return printSet(inv, c, set, circuit, time.Since(began))
		},
	}
	choice.flags(c)
	powers.flags(c)
	c.Flags().BoolVar(&powers.plonk, "plonk", false, "make keys of PLONK from the powers of --ptau")
	c.Flags().StringVar(&out, "out", "", "directory for circuit, keys and record")
	return c
}

func printSet(inv *invocation, c *cobra.Command, set keyset.Set, circuit *circuits.Circuit, took time.Duration) error {
	r := set.Record
	result := map[string]any{"system": r.System.String(), "ceremony": r.Ceremony, "circuit": r.Circuit, "verifying_key": r.VerifyingKey, "proving_key": r.ProvingKey, "constraints": circuit.Constraints(), "development": r.Development, "seconds": took.Seconds()}
	return inv.print(c.OutOrStdout(), result, func(w io.Writer) {
		fmt.Fprintf(w, "circuit        %s\nconstraints    %d\nverifying key  %s\nproving key    %s\ntime           %.1f s\n", r.Circuit, circuit.Constraints(), r.VerifyingKey, r.ProvingKey, took.Seconds())
		if r.Development {
			fmt.Fprintln(w, "set-up         DEVELOPMENT: whoever made these keys could forge proofs")
			return
		}
		fmt.Fprintf(w, "set-up         powers of tau, SHA-256 %s\n               sound if one of their contributors was honest and forgot what it drew\n", r.Ceremony)
	})
}

// developmentKeys makes and saves keys that one party made.
func developmentKeys(dir string, circuit *circuits.Circuit, r statement.Record) (keyset.Set, error) {
	pk, vk, err := circuits.Setup(circuit)
	if err != nil {
		return keyset.Set{}, err
	}
	r.System, r.Circuit, r.Library, r.Development = statement.Groth16, circuit.Digest, circuits.Library, true
	verifying, err := circuits.Encode(vk)
	if err != nil {
		return keyset.Set{}, err
	}
	return keyset.Save(dir, r, func(w io.Writer) error { _, err := circuit.WriteTo(w); return err },
		func(w io.Writer) error { _, err := pk.WriteRawTo(w); return err }, verifying)
}

func newProofMake(inv *invocation) *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use: "make RECEIPT", Short: "Ask the local agent for the proof of an answer, by its receipt's id",
		Example: "  anchorhold proof make 5f2c... --wait", Args: exactly(1, "one receipt's id"),
		RunE: func(c *cobra.Command, args []string) error {
			agent := newAgentClient(inv.agent)
			resp, err := agent.do(c.Context(), http.MethodPost, "/v1/proofs/"+args[0], nil)
			if err != nil {
				return err
			}
			var queued struct {
				Job string `json:"job"`
			}
			if err := decodeBody(resp, &queued); err != nil {
				return err
			}
			if wait {
				info, err := waitJob(c.Context(), agent, queued.Job, c.ErrOrStderr())
				if err != nil {
					return err
				}
				return inv.print(c.OutOrStdout(), info, func(w io.Writer) { printJob(w, info) })
			}
			return inv.print(c.OutOrStdout(), queued, func(w io.Writer) { fmt.Fprintf(w, "job %s\n", queued.Job) })
		},
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until it is made")
	agentFlag(inv, c)
	return c
}

func newProofShow(inv *invocation) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "show RECEIPT --out FILE", Short: "Fetch the proof of an answer with its receipt, to hand on",
		Example: "  anchorhold proof show 5f2c... --out answer.proof.json", Args: exactly(1, "one receipt's id"),
		RunE: func(c *cobra.Command, args []string) error {
			agent := newAgentClient(inv.agent)
			resp, err := agent.do(c.Context(), http.MethodGet, "/v1/proofs/"+args[0], nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			raw, err := io.ReadAll(io.LimitReader(resp.Body, proofaudit.MaxBytes+1))
			if err != nil {
				return err
			}
			if _, err := proofaudit.Parse(raw); err != nil {
				return fmt.Errorf("%w: %w", errRefused, err)
			}
			if out == "" {
				_, err = c.OutOrStdout().Write(raw)
				return err
			}
			return writeNew(out, raw, 0o600)
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file; standard output without it")
	agentFlag(inv, c)
	return c
}
