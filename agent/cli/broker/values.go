package broker

import (
	"context"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

func newReferenceValues(inv *cli.Invocation) *cobra.Command {
	var replace bool
	imports := dial.Operate(inv, "import FILE", "Add expected measurements", "  anchorhold policy values import image.values.yaml", cli.Exactly(1, "one file of reference values"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			data, err := cli.ReadFile(args[0])
			if err != nil {
				return nil, nil, err
			}
			n, err := b.ImportReferenceValues(ctx, data, replace)
			return struct {
				ReferenceValues int `json:"reference_values"`
				operator.ValuesImported
			}{n.Total, n}, func(w io.Writer) { writeImported(w, n) }, err
		})
	imports.Flags().BoolVar(&replace, "replace", false, "forget all others")
	list := dial.Operate(inv, "list", "List expected measurements", "  anchorhold policy values list", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.ReferenceValues(ctx)
			return all, func(w io.Writer) {
				for _, v := range all {
					fmt.Fprintf(w, "%-24s %s %s\n", v.ID, v.Measurement, v.Description)
				}
			}, err
		})
	return cli.Subcommands("values", "Import, list and remove reference values (expected measurements)", "", imports, list, newRemoveValue(inv))
}

func writeImported(w io.Writer, n operator.ValuesImported) {
	if n.Total == 1 {
		fmt.Fprintln(w, "1 reference value is known now")
	} else {
		fmt.Fprintf(w, "%d reference values are known now\n", n.Total)
	}
	if n.PolicyDigest != (audit.Digest{}) {
		fmt.Fprintf(w, "The policy's digest is %s now: an epoch that pins the former one allows nothing.\n", n.PolicyDigest)
	}
	warnUnmatched(w, n.Unmatched)
}

// warnUnmatched says that a policy in force refuses guests for want of a reference value.
func warnUnmatched(w io.Writer, names []string) {
	for _, name := range names {
		fmt.Fprintf(w, "WARNING: the policy names %s, and no reference value matches that: guests that must have one are refused (anchorhold policy values import)\n", name)
	}
}

func newRemoveValue(inv *cli.Invocation) *cobra.Command {
	var force bool
	c := dial.Operate(inv, "remove ID", "Forget an expected measurement", "  anchorhold policy values remove images/6", cli.Exactly(1, "the id of one reference value"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			out, err := b.RemoveReferenceValue(ctx, args[0], force)
			return out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is removed, %d reference values are left\n", out.ID, out.Total)
				if out.Accepted {
					fmt.Fprintf(w, "WARNING: the policy in force accepted guests with it. They get no lease any more; those that run end within 15 minutes (anchorhold leases list).\nThe policy's digest is %s now: an epoch that pins the former one allows nothing.\n", out.PolicyDigest)
				}
				for _, name := range out.Unmatched {
					fmt.Fprintf(w, "WARNING: the policy names %s, which nothing matches any more\n", name)
				}
			}, err
		})
	c.Long = `Guests that start with this measurement get no lease any more. The audit log says who removed it.

If the policy in force would be left with a name or subtree that no other value matches, the
command is refused with "reference-value-needed": --force says that those guests are to be refused.`
	c.Flags().BoolVar(&force, "force", false, "also if the policy in force needs it")
	return c
}
