package setup

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/zk/ceremony"
	"github.com/spf13/cobra"
)

// NewCeremony is the command "proof ceremony".
func NewCeremony(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("ceremony", "Make keys with several parties: sound if one of them was honest",
		`A ceremony is a directory that goes from party to party, in two phases; each ends
with a beacon, public randomness of a time after the last contribution:

  proof ceremony begin       compile the circuit, make the directory
  proof ceremony contribute  each party, on its own machine, in each phase (two at least)
  proof ceremony end         end the phase with the beacon
  proof ceremony verify      anybody, at any time: every contribution and beacon
  proof ceremony keys        keys from a ceremony that has ended; everyone gets the same`,
		newCeremonyBegin(inv), newCeremonyContribute(inv), newCeremonyEnd(inv), newCeremonyVerify(inv), newCeremonyKeys(inv))
}

// tell prints what is being done.
func tell(c *cobra.Command) ceremony.Progress {
	began := time.Now()
	return func(what string) {
		fmt.Fprintf(c.ErrOrStderr(), "%6.1f s  %s\n", time.Since(began).Seconds(), what)
	}
}

func ceremonyError(err error) error {
	if errors.Is(err, ceremony.ErrTranscript) || errors.Is(err, ceremony.ErrOrder) {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return err
}

// printCeremony prints where a ceremony stands.
func printCeremony(inv *cli.Invocation, c *cobra.Command, open *ceremony.Ceremony, note string) error {
	digest, err := open.Digest()
	if err != nil {
		return err
	}
	result := map[string]any{"phase": open.Phase(), "transcript": digest, "state": open.State}
	return inv.Print(c.OutOrStdout(), result, func(w io.Writer) {
		fmt.Fprintf(w, "%s\ncircuit     %s, %d constraints\n", note, open.State.Circuit, open.State.Constraints)
		for i, p := range open.State.Phases {
			for k, party := range p.Contributions {
				fmt.Fprintf(w, "phase %d     %d. %s  %s\n", i+1, k+1, party.Digest, party.Name)
			}
			if p.Beacon != "" {
				fmt.Fprintf(w, "            beacon %s\n", p.Beacon)
			}
		}
		fmt.Fprintf(w, "transcript  %s\n", digest)
	})
}

func newCeremonyBegin(inv *cli.Invocation) *cobra.Command {
	var choice circuitChoice
	var powers powersChoice
	var out string
	c := &cobra.Command{
		Use: "begin {MODEL.ahm --key KEY --publisher PUB | --gradient N} --out DIR", Short: "Compile a circuit and begin a ceremony for it",
		Long: `Compiles a circuit and makes the directory of a ceremony for it. With --ptau the first
phase is taken from a public powers-of-tau file, as snarkjs writes it (.ptau), and the
parties hold the second one alone.`,
		Example: "  anchorhold proof ceremony begin digits.ahm --key digits.key --publisher publisher.key.pub --out digits.ceremony\n  anchorhold proof ceremony begin --gradient 650 --out norm.ceremony --ptau powersOfTau28_hez_final_15.ptau --ptau-digest PUBLISHED",
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				return cli.Usage(errors.New("--out is needed: the directory of the ceremony"))
			}
			circuit, record, err := choice.compile(args)
			if err != nil {
				return err
			}
			if powers.path != "" || powers.digest != "" {
				return powers.begin(c, inv, circuit, record, out)
			}
			open, err := ceremony.Begin(out, circuit, record.Inference, record.Gradient)
			if err != nil {
				return err
			}
			return printCeremony(inv, c, open, "A ceremony has begun in "+out)
		},
	}
	choice.flags(c)
	powers.flags(c)
	c.Flags().StringVar(&out, "out", "", "directory of the ceremony; it must not exist")
	return c
}

// inCeremony makes a command that works on a directory.
func inCeremony(inv *cli.Invocation, use, short, example, note string, do func(*cobra.Command, *ceremony.Ceremony) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: cli.Exactly(1, "the directory of a ceremony"), RunE: func(c *cobra.Command, args []string) error {
		open, err := ceremony.Open(args[0])
		if err == nil {
			err = do(c, open)
		}
		if err != nil {
			return ceremonyError(err)
		}
		return printCeremony(inv, c, open, note)
	}}
}

func newCeremonyContribute(inv *cli.Invocation) *cobra.Command {
	var name string
	c := inCeremony(inv, "contribute DIR --name NAME", "Verify what is there and add one contribution to the open phase",
		"  anchorhold proof ceremony contribute digits.ceremony --name 'Alice, Example Ltd'", "Contributed. Publish the digest of your contribution; hand the directory on.",
		func(c *cobra.Command, open *ceremony.Ceremony) error {
			if name == "" {
				return cli.Usage(errors.New("--name is needed: what you call yourself"))
			}
			_, err := open.Contribute(name, tell(c))
			return err
		})
	c.Flags().StringVar(&name, "name", "", "what this party calls itself")
	return c
}

func newCeremonyEnd(inv *cli.Invocation) *cobra.Command {
	var beacon string
	c := inCeremony(inv, "end DIR --beacon HEX", "End the open phase with public randomness of a time after its last contribution",
		"  anchorhold proof ceremony end digits.ceremony --beacon 00000000000000000002a7c4c1e48d76c5a37902165a270156b7a8d72728a054", "The phase has ended.",
		func(c *cobra.Command, open *ceremony.Ceremony) error {
			raw, err := hex.DecodeString(beacon)
			if err != nil || len(raw) == 0 {
				return cli.Usage(errors.New("--beacon is needed, in hexadecimal: such as the hash of a block that was named in advance"))
			}
			return open.End(raw, tell(c))
		})
	c.Flags().StringVar(&beacon, "beacon", "", "hexadecimal, 16 bytes at least")
	return c
}

func newCeremonyVerify(inv *cli.Invocation) *cobra.Command {
	var powers powersChoice
	c := inCeremony(inv, "verify DIR", "Verify every contribution and beacon from the beginning", "  anchorhold proof ceremony verify digits.ceremony\n  anchorhold proof ceremony verify norm.ceremony --ptau powersOfTau28_hez_final_15.ptau --ptau-digest PUBLISHED",
		"The transcript is an unbroken chain of contributions.", func(c *cobra.Command, open *ceremony.Ceremony) error {
			if powers.path != "" || powers.digest != "" {
				if err := powers.verify(c, open); err != nil {
					return err
				}
			}
			return open.Verify(tell(c))
		})
	powers.flags(c)
	return c
}

func newCeremonyKeys(inv *cli.Invocation) *cobra.Command {
	var out string
	c := inCeremony(inv, "keys DIR --out KEYS", "Verify a ceremony that has ended and write its keys", "  anchorhold proof ceremony keys digits.ceremony --out keys/",
		"Keys are written. Everyone who does this gets the same.", func(c *cobra.Command, open *ceremony.Ceremony) error {
			if out == "" {
				return cli.Usage(errors.New("--out is needed: a directory for circuit, keys and record"))
			}
			_, err := open.Keys(out, tell(c))
			return err
		})
	c.Flags().StringVar(&out, "out", "", "directory for circuit, keys and record")
	return c
}
