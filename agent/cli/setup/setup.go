// Package setup has the commands that make keys for proofs: for development, from public powers
// of tau, or in a ceremony of several parties.
package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/spf13/cobra"
)

// The words of "setup".
const (
	setupUse   = "setup {MODEL.ahm --key KEY --publisher PUB | --gradient N} --out DIR"
	setupShort = "Make a circuit and its keys, for development or from public powers of tau"
	setupLong  = `Compiles a circuit and makes Groth16 keys for it: either for the answers of a sealed
classifier's architecture (whatever its weights: one set serves every version), or for
the bounds of updates of N values (fed round open --norm-keys).

WHOEVER RUNS THIS COULD KEEP THE SECRETS WITH WHICH PROOFS CAN BE FORGED. The record
says so ("development"), and agents and verifiers refuse such keys unless told
otherwise.

With --plonk the keys are PLONK keys from a public powers-of-tau file, as snarkjs writes
it (.ptau): use it if you cannot hold a ceremony. They are sound if at least one of the
file's many contributors was honest; compare --ptau-digest with the digest that the
file's ceremony published. PLONK proofs are larger, take longer to make, and exist for
classifiers only.`
	setupExample = `  anchorhold proof setup digits.ahm --key digits.key --publisher publisher.key.pub --out keys/
  anchorhold proof setup --gradient 650 --out norm-keys/
  anchorhold proof setup digits.ahm --key digits.key --publisher publisher.key.pub --out keys/ \
    --plonk --ptau powersOfTau28_hez_final_16.ptau --ptau-digest PUBLISHED`
	setupNoOut     = "--out is required: a directory for circuit, keys and record"
	setupPtauAlone = "--ptau needs --plonk; for Groth16 see anchorhold proof ceremony begin --ptau"
	setupFlagPLONK = "make PLONK keys from the powers of --ptau"
	setupFlagOut   = "directory for circuit, keys and record"
)

// The words of keys as they are shown.
const (
	setResult      = "circuit        %s\nconstraints    %d\nverifying key  %s\nproving key    %s\ntime           %.1f s\n"
	setDevelopment = "setup          DEVELOPMENT: whoever made these keys could forge proofs"
	setPowers      = "setup          powers of tau, SHA-256 %s\n               sound if at least one of their contributors was honest and destroyed its secret\n"
)

// setupOptions are the flags of "setup".
type setupOptions struct {
	choice circuitChoice
	powers powersChoice
	out    string // --out
}

// New is the command "proof setup".
func New(inv *cli.Invocation) *cobra.Command {
	var o setupOptions
	c := &cobra.Command{
		Use: setupUse, Short: setupShort,
		Long:    setupLong,
		Example: setupExample,
		RunE:    inv.RunE(o.run),
	}
	o.choice.flags(c)
	o.powers.flags(c)
	c.Flags().BoolVar(&o.powers.plonk, "plonk", false, setupFlagPLONK)
	c.Flags().StringVar(&o.out, "out", "", setupFlagOut)
	return c
}

func (o *setupOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if o.out == "" {
		return cli.Usage(errors.New(setupNoOut))
	}
	if o.powers.plonk {
		return o.powers.setup(ctx, inv, &o.choice, args, o.out)
	}
	if o.powers.path != "" {
		return cli.Usage(errors.New(setupPtauAlone))
	}
	began := time.Now()
	fmt.Fprintln(inv.Err, setupCompiling)
	circuit, record, err := o.choice.compile(args)
	if err != nil {
		return err
	}
	fmt.Fprintf(inv.Err, setupMaking, circuit.Constraints())
	set, err := developmentKeys(o.out, circuit, record)
	if err != nil {
		return err
	}
	return printSet(inv, set, circuit, time.Since(began))
}

// printSet shows keys that were made.
func printSet(inv *cli.Invocation, set keyset.Set, circuit *circuits.Circuit, took time.Duration) error {
	r := set.Record
	result := map[string]any{"system": r.System.String(), "ceremony": r.Ceremony, "circuit": r.Circuit, "verifying_key": r.VerifyingKey, "proving_key": r.ProvingKey, "constraints": circuit.Constraints(), "development": r.Development, "seconds": took.Seconds()}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, setResult, r.Circuit, circuit.Constraints(), r.VerifyingKey, r.ProvingKey, took.Seconds())
		if r.Development {
			fmt.Fprintln(w, setDevelopment)
			return
		}
		fmt.Fprintf(w, setPowers, r.Ceremony)
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
