package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/expect"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// The words of "receipt".
const (
	receiptShort = "Fetch and verify receipts of answers"
	receiptLong  = "A receipt says which model, in which attested guest, under which lease, answered\nat what time. It verifies with the broker's root public identity alone."
)

// The words of "get".
const (
	receiptGetUse     = "get ID"
	receiptGetShort   = "Fetch a receipt with its salts from the local agent"
	receiptGetExample = "  anchorhold receipt get 5c1e... > answer.receipt.json"
	receiptGetNeeds   = "the receipt's id"
	receiptGetBadID   = "%q is not a receipt's id: %w"
)

// The words of "verify".
const (
	receiptVerifyUse   = "verify FILE --root ROOT"
	receiptVerifyShort = "Verify a receipt with the broker's public identity alone"
	receiptVerifyLong  = `Verifies the chain root -> epoch -> lease -> agent key -> answer, and that the lease was
granted the key of the model that answered. With --input or --output, and a file that
holds the salts, it also proves that these bytes are what was asked or answered. State
what else you expect of the guest with --measurement, --image, --policy, --tenant,
--model-id and --min-epoch; whatever was not checked is printed.

The exit status is 3 if anything does not hold, if the receipt is of version 1, whose
lease does not say what it was granted, or if the guest was a software TEE, for which no
hardware vouches, unless --accept-software-tee accepts that.`
	receiptVerifyExample    = "  anchorhold receipt verify answer.receipt.json --root root.key.pub\n  anchorhold receipt verify answer.receipt.json --root root.key.pub --output answer.txt \\\n    --image sha256:0c1f... --model-id 5f1c..."
	receiptVerifyNeeds      = "one receipt file"
	receiptVerifyNoRoot     = "--root is required: " + receiptVerifyFlagRoot
	receiptVerifyNoSalts    = "%s holds no salts, which are needed to check what was asked or answered"
	receiptVerifyHolds      = "the receipt holds"
	receiptVerifyFlagRoot   = "the broker's root identity (ahpub1... or a file; repeat for several)"
	receiptVerifyFlagInput  = "file with the request's body, to prove that this was asked"
	receiptVerifyFlagOutput = "file with the answer's text, to prove that this was answered"
)

// The words of a receipt as it is shown.
const (
	receiptVerifySoftwareTEE = "software TEE: the signatures hold, but no hardware vouches for the guest"
	receiptVerifyNoAuthority = "authority not recorded: all else holds, but the lease does not say which models it was granted"
	reportAnswer             = "  answer       %s at %s\n  model        %s version %d, id %x\n"
	reportInput              = "  the input is the one given"
	reportOutput             = "  the output is the one given"
	reportSoftwareTEE        = "  WARNING: the guest was a software TEE, which proves nothing"
)

// NewReceipt is the command "receipt".
func NewReceipt(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("receipt", receiptShort,
		receiptLong, newReceiptGet(inv), newReceiptVerify(inv))
}

func newReceiptGet(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{
		Use: receiptGetUse, Short: receiptGetShort, Example: receiptGetExample,
		Args: cli.Exactly(1, receiptGetNeeds),
		RunE: inv.RunE(runReceiptGet),
	}
	dial.AgentFlag(inv, c)
	return c
}

func runReceiptGet(ctx context.Context, inv *cli.Invocation, args []string) error {
	id, err := digest.ParseID[digest.Receipt](args[0])
	if err != nil {
		return cli.Usage(fmt.Errorf(receiptGetBadID, args[0], err))
	}
	resp, err := dial.Agent(inv.Agent).Do(ctx, http.MethodGet, "/v1/receipts/"+id.String(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(inv.Out, io.LimitReader(resp.Body, dial.MaxAnswer))
	return err
}

// receiptVerifyOptions are the flags of "verify".
type receiptVerifyOptions struct {
	roots  []string // --root
	input  string   // --input
	output string   // --output
	expect expect.Expectation
}

func newReceiptVerify(inv *cli.Invocation) *cobra.Command {
	var o receiptVerifyOptions
	c := &cobra.Command{
		Use: receiptVerifyUse, Short: receiptVerifyShort,
		Long:    receiptVerifyLong,
		Example: receiptVerifyExample,
		Args:    cli.Exactly(1, receiptVerifyNeeds),
		RunE:    inv.RunE(o.run),
	}
	c.Flags().StringSliceVar(&o.roots, "root", nil, receiptVerifyFlagRoot)
	c.Flags().StringVar(&o.input, "input", "", receiptVerifyFlagInput)
	c.Flags().StringVar(&o.output, "output", "", receiptVerifyFlagOutput)
	o.expect.Flags(c)
	return c
}

func (o *receiptVerifyOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if len(o.roots) == 0 {
		return cli.Usage(errors.New(receiptVerifyNoRoot))
	}
	publics, err := keyfile.Publics(o.roots)
	if err != nil {
		return err
	}
	data, err := cli.ReadFile(args[0])
	if err != nil {
		return err
	}
	var opt receipt.Options
	if opt.Expect, err = o.expect.Parse(); err != nil {
		return err
	}
	r, salts, hasSalts, err := receipt.ParseFile(data)
	if err != nil {
		return receiptRefused(inv, r, receipt.Report{}, err)
	}
	if o.input != "" || o.output != "" {
		if !hasSalts {
			return fmt.Errorf(receiptVerifyNoSalts, args[0])
		}
		if opt.Input, err = opening(o.input, salts.Input); err != nil {
			return err
		}
		if opt.Output, err = opening(o.output, salts.Output); err != nil {
			return err
		}
	}
	report, err := receipt.Verify(r, publics, opt)
	if err != nil {
		return receiptRefused(inv, r, report, err)
	}
	if err := o.expect.Vouched(report.SoftwareTEE); err != nil {
		return receiptRefused(inv, r, report, err)
	}
	return inv.Print(receiptResult(r, report), func(w io.Writer) {
		fmt.Fprintln(w, receiptVerifyHolds)
		printReport(w, report)
	})
}

func opening(path string, salt receipt.Salt) (*receipt.Opening, error) {
	if path == "" {
		return nil, nil
	}
	data, err := cli.ReadFile(path)
	return &receipt.Opening{Salt: salt, Data: data}, err
}

// receiptRefused prints why a receipt does not hold. It shows what is in one of version 1, and
// in one of a software TEE, whose signatures hold.
func receiptRefused(inv *cli.Invocation, r receipt.Receipt, report receipt.Report, err error) error {
	result := map[string]any{"verified": false, "detail": err.Error()}
	if reason, ok := refusal.ReasonOf(err); ok {
		result["reason"] = reason
	}
	if len(report.Links) > 0 {
		result = receiptResult(r, report)
		reason, _ := refusal.ReasonOf(err)
		result["verified"], result["reason"], result["detail"] = false, reason, err.Error()
	}
	return errors.Join(inv.Print(result, func(w io.Writer) {
		switch {
		case len(report.Links) == 0:
			return
		case report.AuthorityRecorded:
			fmt.Fprintln(w, receiptVerifySoftwareTEE)
		default:
			fmt.Fprintln(w, receiptVerifyNoAuthority)
		}
		printReport(w, report)
	}), fmt.Errorf("%w: %w", cli.ErrRefused, err))
}

// receiptResult is what `receipt verify --json` prints.
func receiptResult(r receipt.Receipt, report receipt.Report) map[string]any {
	body, err := r.MarshalJSON()
	if err != nil {
		body = nil // it was parsed from this form
	}
	return map[string]any{"verified": true, "report": report, "receipt": json.RawMessage(body), "time": report.Body.Time.Time()}
}

func printReport(w io.Writer, r receipt.Report) {
	fmt.Fprintf(w, reportAnswer, r.Body.ID, r.Body.Time.Time().Format("2006-01-02 15:04:05 MST"),
		r.Body.ModelName, r.Body.ModelVersion, r.Body.ModelID)
	expect.PrintGuest(w, r.Guest, r.AuthorityRecorded)
	for _, l := range r.Links {
		fmt.Fprintf(w, "  %-22s %s\n", l.Name, l.Detail)
	}
	if r.InputShown {
		fmt.Fprintln(w, reportInput)
	}
	if r.OutputShown {
		fmt.Fprintln(w, reportOutput)
	}
	expect.PrintUnchecked(w, r.NotChecked)
	if r.SoftwareTEE {
		fmt.Fprintln(w, reportSoftwareTEE)
	}
}
