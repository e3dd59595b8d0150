package evidencelook

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/evidencefile"
	"github.com/anchorhold/anchorhold/agent/cli/evidencejudge"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "verify".
const (
	verifyUse   = "verify FILE..."
	verifyShort = "Verify evidence from files, offline"
	verifyLong  = `Recognises by the bytes what each file is, verifies the evidence up to the vendors' pinned
roots, prints each check with its result, what was proven, and a start for a policy that
accepts such a guest. It works without a network.

Evidence: our own envelopes and answers of the agent, reports of SEV-SNP, quotes of TDX,
directories or JSON of configfs-tsm, evidence of Trustee's attesters (SEV-SNP, TDX, Azure),
attestations of go-tpm-tools, reports of NVIDIA GPUs with their chains, event logs beside the
evidence that they belong to; binary, in hexadecimal or in base64.

Further files help to verify: certificates and revocation lists (PEM, DER), Intel's TCB
information and QE identity with their chains, the collateral of dcap-qvl. --collateral takes
them from a directory, of any names, or one that 'anchorhold collateral' keeps.

Without --nonce or --challenge nobody knows whether the evidence is fresh, and the answer says
so. A Milan, Genoa or Turin chain is refused if AMD's revocation list is not at hand, unless
--without-revocation is written; documents of Intel's always bring their lists.

Exit status: 0 verified, 1 failed, 2 wrong command line, 3 refused, with the reason.`
	verifyExample = `  anchorhold evidence verify evidence.bin --collateral /var/lib/anchorhold/collateral
  anchorhold evidence verify report.bin vcek.der chain.pem milan.crl --at 2026-01-15T12:00:00Z
  anchorhold evidence verify quote.bin --collateral collateral --nonce 00112233445566778899aabbccddeeff --json
  anchorhold evidence verify evidence.bin --enrolled-ak 000b5f2c... --registers quoted.json`
	flagRegisters        = "write the registers that were proven to this new file, as anchorhold-measure --booted reads them"
	verifyNeeds          = "at least one file"
	flagAt               = "judge as of this time, RFC 3339 (default now)"
	flagCollateral       = "directory of certificates, revocation lists and Intel's documents"
	flagNonce            = "what the evidence must have been made for, in hexadecimal, 8 to 64 bytes: REPORT_DATA, a TPM's or GPU's nonce, or the nonce asked of the agent"
	flagChallenge        = "what our agent's evidence must have been made for, in hexadecimal, 64 bytes"
	flagWithoutRevoked   = "accept an AMD chain although its revocation list is not at hand, and certificates of TPM keys, which have none"
	flagEvaluation       = "lowest number of Intel's TCB recoveries that its documents may be of"
	flagEnrolled         = "name of a TPM's attestation key that is believed, in hexadecimal (repeatable)"
	wrongHex             = "--%s: got %q, want %d to %d bytes in hexadecimal"
	wrongBoth            = "--nonce and --challenge exclude each other"
	minNonce, maxNonce   = 8, 64
	minAKName, maxAKName = 34, 50 // algorithm and SHA-256 or SHA-384
)

// verifyOptions are the flags of "verify".
type verifyOptions struct {
	at, collateral    string   // --at, --collateral
	nonce, challenge  string   // --nonce, --challenge
	withoutRevocation bool     // --without-revocation
	evaluation        uint32   // --minimum-evaluation-number
	enrolled          []string // --enrolled-ak
	registers         string   // --registers
	software          cli.SoftwareRoot
}

// NewVerify is the command "evidence verify".
func NewVerify(inv *cli.Invocation) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{Use: verifyUse, Short: verifyShort, Long: verifyLong, Example: verifyExample, Args: cli.AtLeast(1, verifyNeeds), RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.at, "at", "", flagAt)
	c.Flags().StringVar(&o.collateral, "collateral", "", flagCollateral)
	c.Flags().StringVar(&o.nonce, "nonce", "", flagNonce)
	c.Flags().StringVar(&o.challenge, "challenge", "", flagChallenge)
	c.Flags().BoolVar(&o.withoutRevocation, "without-revocation", false, flagWithoutRevoked)
	c.Flags().Uint32Var(&o.evaluation, "minimum-evaluation-number", 1, flagEvaluation)
	c.Flags().StringSliceVar(&o.enrolled, "enrolled-ak", nil, flagEnrolled)
	c.Flags().StringVar(&o.registers, "registers", "", flagRegisters)
	o.software.Add(c)
	return c
}

// parse checks the flags.
func (o *verifyOptions) parse(now time.Time) (out evidencejudge.Options, err error) {
	out = evidencejudge.Options{WithoutRevocation: o.withoutRevocation, MinimumEvaluationNumber: o.evaluation}
	if out.Now, err = cli.ParseTime("--at", o.at, now); err != nil {
		return out, err
	}
	if o.nonce != "" && o.challenge != "" {
		return out, cli.Usage(errors.New(wrongBoth))
	}
	if o.nonce != "" {
		if out.Nonce, err = parseHex("nonce", o.nonce, minNonce, maxNonce); err != nil {
			return out, err
		}
	}
	if o.challenge != "" {
		raw, err := parseHex("challenge", o.challenge, 64, 64)
		if err != nil {
			return out, err
		}
		out.Challenge = (*[64]byte)(raw)
	}
	for _, name := range o.enrolled {
		raw, err := parseHex("enrolled-ak", name, minAKName, maxAKName)
		if err != nil {
			return out, err
		}
		out.EnrolledKeys = append(out.EnrolledKeys, raw)
	}
	out.SoftwareRoots, err = o.software.Read()
	return out, err
}

func parseHex(flag, text string, least, most int) ([]byte, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) < least || len(raw) > most {
		return nil, cli.Usage(fmt.Errorf(wrongHex, flag, text, least, most))
	}
	return raw, nil
}

// verified is what "verify --json" prints.
type verified struct {
	evidencejudge.Verdict
	// Next is what to do, where the refusal is about what was given beside the evidence.
	Next       string      `json:"next,omitempty"`
	Suggestion *suggestion `json:"suggestion,omitempty"`
}

// suggestion is a start for a policy, as YAML.
type suggestion struct {
	Policy          string   `json:"policy"`
	ReferenceValues string   `json:"reference_values"`
	Warnings        []string `json:"warnings"`
}

func (o *verifyOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	judging, err := o.parse(time.Now())
	if err != nil {
		return err
	}
	if o.registers != "" {
		if err := cli.CheckNew(o.registers); err != nil {
			return err
		}
	}
	contents, err := evidencefile.Open(args, o.collateral)
	if err != nil {
		return cli.RefusedFor(err)
	}
	verdict, err := evidencejudge.Judge(ctx, contents, judging)
	if err != nil {
		return err
	}
	out := verified{Verdict: verdict}
	if verdict.Error != nil {
		out.Next = next[string(verdict.Error.Reason)]
	}
	if verdict.Claims != nil {
		if s := policy.Suggest(*verdict.Claims, verdict.At); s.Policy != "" {
			out.Suggestion = &suggestion{s.Policy, s.ReferenceValues, append([]string{}, s.Warnings...)}
		}
	}
	if o.registers != "" && verdict.Verified && verdict.Claims != nil {
		if err := writeRegisters(o.registers, verdict.Claims.Registers); err != nil {
			return err
		}
	}
	if err := inv.Print(out, func(w io.Writer) { printVerdict(w, out) }); err != nil {
		return err
	}
	return cli.RefusedFor(verdict.Refusal())
}

// writeRegisters writes registers by name, in hexadecimal. Of evidence that does not verify there are none.
func writeRegisters(file string, registers []evidence.Measured) error {
	quoted := map[string]string{}
	for _, r := range registers {
		quoted[string(r.Name)] = hex.EncodeToString(r.Value)
	}
	text, err := json.MarshalIndent(quoted, "", "  ")
	if err != nil {
		return err
	}
	const readable = 0o644
	return cli.WriteNew(file, append(text, '\n'), readable)
}
