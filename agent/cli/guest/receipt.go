package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/expect"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
	"github.com/spf13/cobra"
)

// NewReceipt is the command "receipt".
func NewReceipt(inv *cli.Invocation) *cobra.Command {
	get := &cobra.Command{
		Use: "get ID", Short: "Fetch a receipt with its salts from the local agent", Example: "  anchorhold receipt get 5c1e... > answer.receipt.json",
		Args: cli.Exactly(1, "the receipt's id"),
		RunE: func(c *cobra.Command, args []string) error {
			id, err := receipt.ParseID(args[0])
			if err != nil {
				return cli.Usage(err)
			}
			resp, err := dial.Agent(inv.Agent).Do(c.Context(), http.MethodGet, "/v1/receipts/"+id.String(), nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(c.OutOrStdout(), io.LimitReader(resp.Body, dial.MaxAnswer))
			return err
		},
	}
	dial.AgentFlag(inv, get)
	return cli.Subcommands("receipt", "Fetch and verify receipts of answers",
		"A receipt says which model, in which attested guest, under which lease, answered\nat what time. It verifies with the broker's root public identity alone.", get, newReceiptVerify(inv))
}

func newReceiptVerify(inv *cli.Invocation) *cobra.Command {
	var roots []string
	var input, output string
	var expect expect.Expectation
	c := &cobra.Command{
		Use: "verify FILE --root ROOT", Short: "Verify a receipt with the broker's public identity alone",
		Long: `Verifies the chain root -> epoch -> lease -> agent key -> answer, and that the lease was
granted the key of the model that answered. With --input or --output, and a file that
holds the salts, it also proves that these bytes are the ones that were asked or
answered. What else you expect of the guest you say with --measurement, --image,
--policy, --tenant, --model-id and --min-epoch; what was not checked is printed. Exit
status 3 if anything does not hold, if the receipt is of version 1, whose lease does not
say what it was granted, or if the guest was a software TEE, for which no hardware
vouches, unless --accept-software-tee says that this is known.`,
		Example: "  anchorhold receipt verify answer.receipt.json --root root.key.pub\n  anchorhold receipt verify answer.receipt.json --root root.key.pub --output answer.txt \\\n    --image sha256:0c1f... --model-id 5f1c...",
		Args:    cli.Exactly(1, "one receipt file"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(roots) == 0 {
				return cli.Usage(errors.New("--root is needed: whom to believe"))
			}
			publics, err := keyfile.Publics(roots)
			if err != nil {
				return err
			}
			data, err := cli.ReadFile(args[0])
			if err != nil {
				return err
			}
			var opt receipt.Options
			if opt.Expect, err = expect.Parse(); err != nil {
				return err
			}
			r, salts, hasSalts, err := receipt.ParseFile(data)
			if err != nil {
				return receiptRefused(inv, c.OutOrStdout(), r, receipt.Report{}, err)
			}
			if input != "" || output != "" {
				if !hasSalts {
					return fmt.Errorf("%s holds no salts, without which nobody can tell what was asked or answered", args[0])
				}
				if opt.Input, err = opening(input, salts.Input); err != nil {
					return err
				}
				if opt.Output, err = opening(output, salts.Output); err != nil {
					return err
				}
			}
			report, err := receipt.Verify(r, publics, opt)
			if err != nil {
				return receiptRefused(inv, c.OutOrStdout(), r, report, err)
			}
			if err := expect.Vouched(report.SoftwareTEE); err != nil {
				return receiptRefused(inv, c.OutOrStdout(), r, report, err)
			}
			return inv.Print(c.OutOrStdout(), receiptResult(r, report), func(w io.Writer) {
				fmt.Fprintln(w, "the receipt holds")
				printReport(w, report)
			})
		},
	}
	c.Flags().StringSliceVar(&roots, "root", nil, "the broker's root identity (ahpub1... or a file; repeat for several)")
	c.Flags().StringVar(&input, "input", "", "file with the request's body, to prove that this was asked")
	c.Flags().StringVar(&output, "output", "", "file with the answer's text, to prove that this was answered")
	expect.Flags(c)
	return c
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
func receiptRefused(inv *cli.Invocation, w io.Writer, r receipt.Receipt, report receipt.Report, err error) error {
	result := map[string]any{"verified": false, "detail": err.Error()}
	if reason, ok := refusal.ReasonOf(err); ok {
		result["reason"] = reason
	}
	if len(report.Links) > 0 {
		result = receiptResult(r, report)
		reason, _ := refusal.ReasonOf(err)
		result["verified"], result["reason"], result["detail"] = false, reason, err.Error()
	}
	return errors.Join(inv.Print(w, result, func(w io.Writer) {
		switch {
		case len(report.Links) == 0:
			return
		case report.AuthorityRecorded:
			fmt.Fprintln(w, "software TEE: the signatures hold, but no hardware vouches for the guest")
		default:
			fmt.Fprintln(w, "authority not recorded: all else holds, but the lease does not say which models it was granted")
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
	fmt.Fprintf(w, "  answer       %s at %s\n  model        %s version %d, id %x\n", r.Body.ID, r.Body.Time.Time().Format("2006-01-02 15:04:05 MST"),
		r.Body.ModelName, r.Body.ModelVersion, r.Body.ModelID)
	expect.PrintGuest(w, r.Guest, r.AuthorityRecorded)
	for _, l := range r.Links {
		fmt.Fprintf(w, "  %-22s %s\n", l.Name, l.Detail)
	}
	if r.InputShown {
		fmt.Fprintln(w, "  the input is the one given")
	}
	if r.OutputShown {
		fmt.Fprintln(w, "  the output is the one given")
	}
	expect.PrintUnchecked(w, r.NotChecked)
	if r.SoftwareTEE {
		fmt.Fprintln(w, "  WARNING: the guest was a software TEE, which proves nothing")
	}
}
