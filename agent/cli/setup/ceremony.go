package setup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/zk/ceremony"
	"github.com/spf13/cobra"
)

// The words of "ceremony".
const (
	ceremonyShort = "Make keys with several parties; sound if at least one of them is honest"
	ceremonyLong  = `A ceremony is a directory that goes from party to party, in two phases. Each phase ends
with a beacon: public randomness from a time after the last contribution.

  proof ceremony begin       compile the circuit, make the directory
  proof ceremony contribute  each party, on its own machine, in each phase (at least two)
  proof ceremony end         end the phase with the beacon
  proof ceremony verify      anyone, at any time: every contribution and beacon
  proof ceremony keys        make the keys of a ceremony that has ended; everyone gets the same`
)

// The words of "begin".
const (
	ceremonyBeginUse   = "begin {MODEL.ahm --key KEY --publisher PUB | --gradient N} --out DIR"
	ceremonyBeginShort = "Compile a circuit and begin a ceremony for it"
	ceremonyBeginLong  = `Compiles a circuit and makes the directory of a ceremony for it. With --ptau the first
phase is taken from a public powers-of-tau file, as snarkjs writes it (.ptau), and the
parties hold only the second phase.`
	ceremonyBeginExample = "  anchorhold proof ceremony begin digits.ahm --key digits.key --publisher publisher.key.pub --out digits.ceremony\n  anchorhold proof ceremony begin --gradient 650 --out norm.ceremony --ptau powersOfTau28_hez_final_15.ptau --ptau-digest PUBLISHED"
	ceremonyBeginNoOut   = "--out is required: the directory of the ceremony"
	ceremonyBeginFlagOut = "new directory for the ceremony"
	ceremonyBeginDone    = "A ceremony has begun in "
)

// stepNeeds is said where the directory is missing.
const stepNeeds = "the directory of a ceremony"

// The words of "contribute".
const (
	contributeNoName   = "--name is required: the name of this party"
	contributeFlagName = "name of this party"
	contributeUse      = "contribute DIR --name NAME"
	contributeShort    = "Verify what is there and add one contribution to the open phase"
	contributeExample  = "  anchorhold proof ceremony contribute digits.ceremony --name 'Alice, Example Ltd'"
	contributeDone     = "Contributed. Publish the digest of your contribution, and pass the directory on."
)

// The words of "end".
const (
	endNoBeacon   = "--beacon is required, in hexadecimal: for example the hash of a block named in advance"
	endFlagBeacon = "public randomness in hexadecimal, at least 16 bytes"
	endUse        = "end DIR --beacon HEX"
	endShort      = "End the open phase with public randomness of a time after its last contribution"
	endExample    = "  anchorhold proof ceremony end digits.ceremony --beacon 00000000000000000002a7c4c1e48d76c5a37902165a270156b7a8d72728a054"
	endDone       = "The phase has ended."
)

// The words of "verify".
const (
	verifyUse     = "verify DIR"
	verifyShort   = "Verify every contribution and beacon from the beginning"
	verifyExample = "  anchorhold proof ceremony verify digits.ceremony\n  anchorhold proof ceremony verify norm.ceremony --ptau powersOfTau28_hez_final_15.ptau --ptau-digest PUBLISHED"
	verifyDone    = "The transcript is an unbroken chain of contributions."
)

// The words of "keys".
const (
	keysNoOut   = "--out is required: a directory for circuit, keys and record"
	keysFlagOut = "directory for circuit, keys and record"
	keysUse     = "keys DIR --out KEYS"
	keysShort   = "Verify a ceremony that has ended and write its keys"
	keysExample = "  anchorhold proof ceremony keys digits.ceremony --out keys/"
	keysDone    = "The keys are written. Everyone who repeats this gets the same ones."
)

// The words of a ceremony as it is shown.
const (
	ceremonyHead         = "%s\ncircuit     %s, %d constraints\n"
	ceremonyContribution = "phase %d     %d. %s  %s\n"
	ceremonyBeacon       = "            beacon %s\n"
	ceremonyTranscript   = "transcript  %s\n"
)

// NewCeremony is the command "proof ceremony".
func NewCeremony(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("ceremony", ceremonyShort,
		ceremonyLong,
		newCeremonyBegin(inv), newCeremonyContribute(inv), newCeremonyEnd(inv), newCeremonyVerify(inv), newCeremonyKeys(inv))
}

// tell prints what is being done.
func tell(w io.Writer) ceremony.Progress {
	began := time.Now()
	return func(what string) {
		fmt.Fprintf(w, "%6.1f s  %s\n", time.Since(began).Seconds(), what)
	}
}

func ceremonyError(err error) error {
	if errors.Is(err, ceremony.ErrTranscript) || errors.Is(err, ceremony.ErrOrder) {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	return err
}

// printCeremony prints where a ceremony stands.
func printCeremony(inv *cli.Invocation, open *ceremony.Ceremony, note string) error {
	digest, err := open.Digest()
	if err != nil {
		return err
	}
	result := map[string]any{"phase": open.Phase(), "transcript": digest, "state": open.State}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, ceremonyHead, note, open.State.Circuit, open.State.Constraints)
		for i, p := range open.State.Phases {
			for k, party := range p.Contributions {
				fmt.Fprintf(w, ceremonyContribution, i+1, k+1, party.Digest, party.Name)
			}
			if p.Beacon != "" {
				fmt.Fprintf(w, ceremonyBeacon, p.Beacon)
			}
		}
		fmt.Fprintf(w, ceremonyTranscript, digest)
	})
}

// ceremonyBeginOptions are the flags of "begin".
type ceremonyBeginOptions struct {
	choice circuitChoice
	powers powersChoice
	out    string // --out
}

func newCeremonyBegin(inv *cli.Invocation) *cobra.Command {
	var o ceremonyBeginOptions
	c := &cobra.Command{
		Use: ceremonyBeginUse, Short: ceremonyBeginShort,
		Long:    ceremonyBeginLong,
		Example: ceremonyBeginExample,
		RunE:    inv.RunE(o.run),
	}
	o.choice.flags(c)
	o.powers.flags(c)
	c.Flags().StringVar(&o.out, "out", "", ceremonyBeginFlagOut)
	return c
}

func (o *ceremonyBeginOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if o.out == "" {
		return cli.Usage(errors.New(ceremonyBeginNoOut))
	}
	circuit, record, err := o.choice.compile(args)
	if err != nil {
		return err
	}
	if o.powers.path != "" || o.powers.digest != "" {
		return o.powers.begin(ctx, inv, circuit, record, o.out)
	}
	open, err := ceremony.Begin(o.out, circuit, record.Inference, record.Gradient)
	if err != nil {
		return err
	}
	return printCeremony(inv, open, ceremonyBeginDone+o.out)
}

// stepOptions are the flags of a command that works on the directory of a ceremony.
type stepOptions struct {
	name   string       // --name, of "contribute"
	beacon string       // --beacon, of "end"
	out    string       // --out, of "keys"
	powers powersChoice // of "verify"
	// note is printed when it is done.
	note string
	// do is the work.
	do func(o *stepOptions, ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error
}

// step makes a command that works on the directory of a ceremony.
func step(inv *cli.Invocation, o *stepOptions, use, short, example string) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: cli.Exactly(1, stepNeeds), RunE: inv.RunE(o.run)}
}

func (o *stepOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	open, err := ceremony.Open(args[0])
	if err == nil {
		err = o.do(o, ctx, inv, open)
	}
	if err != nil {
		return ceremonyError(err)
	}
	return printCeremony(inv, open, o.note)
}

func newCeremonyContribute(inv *cli.Invocation) *cobra.Command {
	o := &stepOptions{note: contributeDone, do: (*stepOptions).contribute}
	c := step(inv, o, contributeUse, contributeShort, contributeExample)
	c.Flags().StringVar(&o.name, "name", "", contributeFlagName)
	return c
}

func (o *stepOptions) contribute(ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error {
	if o.name == "" {
		return cli.Usage(errors.New(contributeNoName))
	}
	_, err := open.ContributeAs(ctx, ceremony.Party{Name: o.name}, tell(inv.Err))
	return err
}

func newCeremonyEnd(inv *cli.Invocation) *cobra.Command {
	o := &stepOptions{note: endDone, do: (*stepOptions).end}
	c := step(inv, o, endUse, endShort, endExample)
	c.Flags().StringVar(&o.beacon, "beacon", "", endFlagBeacon)
	return c
}

func (o *stepOptions) end(ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error {
	raw, err := hex.DecodeString(o.beacon)
	if err != nil || len(raw) == 0 {
		return cli.Usage(errors.New(endNoBeacon))
	}
	return open.EndContext(ctx, raw, tell(inv.Err))
}

func newCeremonyVerify(inv *cli.Invocation) *cobra.Command {
	o := &stepOptions{note: verifyDone, do: (*stepOptions).verify}
	c := step(inv, o, verifyUse, verifyShort, verifyExample)
	o.powers.flags(c)
	return c
}

func (o *stepOptions) verify(ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error {
	if o.powers.path != "" || o.powers.digest != "" {
		if err := o.powers.verify(ctx, inv, open); err != nil {
			return err
		}
	}
	return open.VerifyContext(ctx, tell(inv.Err))
}

func newCeremonyKeys(inv *cli.Invocation) *cobra.Command {
	o := &stepOptions{note: keysDone, do: (*stepOptions).keys}
	c := step(inv, o, keysUse, keysShort, keysExample)
	c.Flags().StringVar(&o.out, "out", "", keysFlagOut)
	return c
}

func (o *stepOptions) keys(ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error {
	if o.out == "" {
		return cli.Usage(errors.New(keysNoOut))
	}
	_, err := open.KeysContext(ctx, o.out, tell(inv.Err))
	return err
}
