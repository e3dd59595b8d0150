package proof

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/expect"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/zk/groth16verify"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkverify"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// The words of "verify".
const (
	verifyUse   = "verify FILE... --keys DIR --root ROOT"
	verifyShort = "Verify proofs with their receipts, without an agent or a model"
	verifyLong  = `Verifies that each file proves: this output, from this version of this model, in this
attested guest, at this time. The receipt's chain is checked with the broker's root
identity, the proof with a verifying key from the directory. State what else you expect
of the guest with --measurement, --image, --policy, --tenant, --model-id and
--min-epoch; whatever was not checked is printed.

The exit status is 3 if any file does not hold, or if a guest was a software TEE, unless
--accept-software-tee accepts that. The stand-alone anchorhold-verify checks proofs
alone.`
	verifyExample              = "  anchorhold proof verify answer.proof.json --keys keys/ --root root.key.pub --image sha256:0c1f...\n  anchorhold proof verify *.proof.json --keys keys/ --root root.key.pub --json"
	verifyNeeds                = "at least one file"
	verifyKeysRefused          = "%w: %w (--allow-development accepts it)"
	verifyRefused              = "%w: %d of %d proofs do not hold"
	verifyFlagRoot             = "the broker's root identity (ahpub1... or a file; repeat for several)"
	verifyFlagKeys             = "directory with verifying keys and their records"
	verifyFlagAllowDevelopment = "accept keys whose maker could forge proofs"
	verifyFlagTimeout          = "time limit of one verification"
)

// The words of a proof as it is shown.
const (
	verifiedHolds        = "%s: verified\n"
	verifiedNoAuthority  = "%s: REFUSED: authority not recorded: the receipt is of version 1\n"
	verifiedSoftwareTEE  = "%s: REFUSED: software TEE: proof and signatures hold, but no hardware vouches for the guest\n"
	verifiedRefused      = "%s: REFUSED: %s\n"
	verifiedModel        = "  output       %v\n  model        %s version %d, id %s\n"
	verifiedProof        = "  time         %s\n  proof        %s, %d bytes, key %s\n"
	verifiedGuestWarning = "  WARNING      the guest is a software TEE, which proves nothing about where it ran"
	verifiedKeysWarning  = "  WARNING      the keys are from a development setup: their maker could forge proofs"
)

// Verifiers are those of every proof system.
func Verifiers() keyset.Parsers {
	return keyset.Parsers{statement.Groth16: keyset.By(groth16verify.ParseKey), statement.PLONK: keyset.By(plonkverify.ParseKey)}
}

// verifyOptions are the flags of "verify".
type verifyOptions struct {
	roots       []string      // --root
	keys        string        // --keys
	development bool          // --allow-development
	timeout     time.Duration // --timeout
	expect      expect.Expectation
}

func newProofVerify(inv *cli.Invocation) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{
		Use: verifyUse, Short: verifyShort,
		Long:    verifyLong,
		Example: verifyExample,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Exactly(1, verifyNeeds)(c, args)
			}
			return nil
		},
		RunE: inv.RunE(o.run, "root", "keys"),
	}
	f := c.Flags()
	f.StringSliceVar(&o.roots, "root", nil, verifyFlagRoot)
	f.StringVar(&o.keys, "keys", "", verifyFlagKeys)
	f.BoolVar(&o.development, "allow-development", false, verifyFlagAllowDevelopment)
	o.expect.Flags(c)
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, verifyFlagTimeout)
	return c
}

func (o *verifyOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	publics, err := keyfile.Publics(o.roots)
	if err != nil {
		return err
	}
	sets, err := keyset.Load(o.keys)
	if err != nil {
		return fmt.Errorf("%w: %w", cli.ErrRefused, err)
	}
	ring, err := keyset.NewRing(sets, o.development, o.timeout, Verifiers())
	if err != nil {
		return fmt.Errorf(verifyKeysRefused, cli.ErrRefused, err)
	}
	expected, err := o.expect.Parse()
	if err != nil {
		return err
	}
	var views []verified
	bad := 0
	for _, file := range args {
		raw, err := cli.ReadFile(file)
		if err != nil {
			return err
		}
		v := verifyBundle(ctx, file, raw, publics, ring, expected, &o.expect)
		if v.Error != "" {
			bad++
		}
		views = append(views, v)
	}
	if err := inv.Print(cli.List("proofs", views), func(w io.Writer) { printVerified(w, views) }); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf(verifyRefused, cli.ErrRefused, bad, len(args))
	}
	return nil
}

// verified is what became of one file: a view of it, or why it does not hold. A proof
// whose receipt is of version 1 or of a software TEE has both.
type verified struct {
	File   string              `json:"file"`
	View   *receipt.BundleView `json:"verified,omitempty"`
	Former *receipt.BundleView `json:"authority_not_recorded,omitempty"`
	// Software is the view of a proof that holds, of a guest for which no hardware vouches.
	Software *receipt.BundleView `json:"software_tee_not_accepted,omitempty"`
	Reason   refusal.Reason      `json:"reason,omitempty"`
	Error    string              `json:"error,omitempty"`
}

func verifyBundle(ctx context.Context, file string, raw []byte, roots []identity.Public, keys receipt.Keys, expected receipt.Expect, expect *expect.Expectation) verified {
	v := verified{File: file}
	b, err := receipt.ParseBundle(raw)
	if err == nil {
		var view receipt.BundleView
		view, err = b.Verify(ctx, roots, keys, expected)
		switch {
		case err == nil:
			if err = expect.Vouched(view.Guest.SoftwareTEE); err == nil {
				v.View = &view
			} else {
				v.Software = &view
			}
		case view.Receipt != "":
			v.Former = &view
		}
	}
	if err != nil {
		v.Error = err.Error()
		v.Reason, _ = refusal.ReasonOf(err)
	}
	return v
}

func printVerified(w io.Writer, list []verified) {
	for _, v := range list {
		a := v.View
		switch {
		case v.View != nil:
			fmt.Fprintf(w, verifiedHolds, v.File)
		case v.Former != nil:
			fmt.Fprintf(w, verifiedNoAuthority, v.File)
			a = v.Former
		case v.Software != nil:
			fmt.Fprintf(w, verifiedSoftwareTEE, v.File)
			a = v.Software
		default:
			fmt.Fprintf(w, verifiedRefused, v.File, v.Error)
			continue
		}
		fmt.Fprintf(w, verifiedModel, a.Outputs, a.Model, a.ModelVersion, a.ModelID)
		expect.PrintGuest(w, a.Guest.Guest, a.AuthorityRecorded)
		fmt.Fprintf(w, verifiedProof, a.Time.Format(time.RFC3339), a.Proof.System, a.Proof.Bytes, a.Proof.Key)
		expect.PrintUnchecked(w, a.NotChecked)
		if a.Guest.SoftwareTEE {
			fmt.Fprintln(w, verifiedGuestWarning)
		}
		if a.Proof.Development {
			fmt.Fprintln(w, verifiedKeysWarning)
		}
	}
}
