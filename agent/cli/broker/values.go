package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/valuefile"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "values".
const referenceValuesShort = "Extract, import, list, export and remove reference values (expected measurements)"

// The words of "remove".
const (
	removeValueUse       = "remove ID"
	removeValueShort     = "Remove an expected measurement"
	removeValueExample   = "  anchorhold policy values remove images/6"
	removeValueNeeds     = "the id of one reference value"
	removeValueResult    = "%s is removed; reference values left: %d\n"
	removeValueAccepted  = "WARNING: the policy in force accepted guests with it. They get no more leases; those that run end within 15 minutes (anchorhold leases list).\nThe policy's digest is now %s: an epoch that pins the former one allows nothing.\n"
	removeValueUnmatched = "WARNING: the policy names %s, which no reference value matches any more\n"
	removeValueLong      = `Guests that start with this measurement get no more leases. The audit log records who
removed it.

If the removal would leave the policy in force with a name or subtree that no other
value matches, the command is refused with "reference-value-needed"; --force says that
those guests are to be refused.`
	removeValueFlagForce = "remove it even if the policy in force needs it"
)

// The words of "import".
const (
	importValuesUse     = "import FILE"
	importValuesShort   = "Add expected measurements"
	importValuesExample = "  anchorhold policy values import image.values.yaml\n  anchorhold policy values import web-7.values --signer publisher.key.pub"
	importValuesLong    = `Adds the values of a file of reference values, which is believed as it is, or of a file that
its publisher signed, which needs --signer. Other signed files: 'policy values extract'.`
	importValuesFlagSigner  = "the file is a publisher's statement: the publisher's public key, as text or in a file"
	importValuesNeeds       = "one file of reference values"
	importValuesFlagReplace = "remove all others"
)

// The words of "list".
const (
	listValuesUse     = "list"
	listValuesShort   = "List expected measurements"
	listValuesExample = "  anchorhold policy values list"
)

// The words of "export".
const (
	exportValuesUse   = "export"
	exportValuesShort = "Print the broker's expected measurements as a file"
	exportValuesLong  = `Prints a file that 'policy values import' of another broker takes, and --values of 'policy
check', 'explain', 'test' and 'replay'.`
	exportValuesExample = "  anchorhold policy values export --out values.json"
	exportValuesFlagOut = "write the values to this new file instead of standard output"
	exportValuesWritten = "%s is written, reference values: %d\n"
	exportValuesNone    = "the broker has no reference values"
)

// The words of what an import changed.
const (
	importValuesOne    = "1 reference value is now known"
	importValuesResult = "%d reference values are now known\n"
	importValuesDigest = "The policy's digest is now %s: an epoch that pins the former one allows nothing.\n"
	unmatchedWarning   = "WARNING: the policy names %s, and no reference value matches it: guests that must have one are refused (anchorhold policy values import)\n"
)

func newReferenceValues(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("values", referenceValuesShort, "", newExtractValues(inv), newImportValues(inv), newListValues(inv), newExportValues(inv), newRemoveValue(inv))
}

func writeImported(w io.Writer, n operator.ValuesImported) {
	if n.Total == 1 {
		fmt.Fprintln(w, importValuesOne)
	} else {
		fmt.Fprintf(w, importValuesResult, n.Total)
	}
	if n.PolicyDigest != (digest.Digest{}) {
		fmt.Fprintf(w, importValuesDigest, n.PolicyDigest)
	}
	warnUnmatched(w, n.Unmatched)
}

// warnUnmatched says that a policy in force refuses guests for want of a reference value.
func warnUnmatched(w io.Writer, names []string) {
	for _, name := range names {
		fmt.Fprintf(w, unmatchedWarning, name)
	}
}

// removeValueOptions are the flags of "remove".
type removeValueOptions struct {
	force bool // --force
}

func newRemoveValue(inv *cli.Invocation) *cobra.Command {
	var o removeValueOptions
	c := &cobra.Command{Use: removeValueUse, Short: removeValueShort, Example: removeValueExample, Args: cli.Exactly(1, removeValueNeeds), RunE: inv.RunE(o.run)}
	c.Long = removeValueLong
	c.Flags().BoolVar(&o.force, "force", false, removeValueFlagForce)
	return c
}

func (o *removeValueOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		out, err := b.RemoveReferenceValue(ctx, args[0], o.force)
		return out, func(w io.Writer) {
			fmt.Fprintf(w, removeValueResult, out.ID, out.Total)
			if out.Accepted {
				fmt.Fprintf(w, removeValueAccepted, out.PolicyDigest)
			}
			for _, name := range out.Unmatched {
				fmt.Fprintf(w, removeValueUnmatched, name)
			}
		}, err
	})
}

// importValuesOptions are the flags of "import".
type importValuesOptions struct {
	replace bool   // --replace
	signer  string // --signer
}

func newImportValues(inv *cli.Invocation) *cobra.Command {
	var o importValuesOptions
	c := &cobra.Command{Use: importValuesUse, Short: importValuesShort, Example: importValuesExample, Args: cli.Exactly(1, importValuesNeeds), RunE: inv.RunE(o.run)}
	c.Long = importValuesLong
	c.Flags().BoolVar(&o.replace, "replace", false, importValuesFlagReplace)
	c.Flags().StringVar(&o.signer, "signer", "", importValuesFlagSigner)
	return c
}

func (o *importValuesOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		data, err := o.read(args[0])
		if err != nil {
			return nil, nil, err
		}
		n, err := b.ImportReferenceValues(ctx, data, o.replace)
		return struct {
			ReferenceValues int `json:"reference_values"`
			operator.ValuesImported
		}{n.Total, n}, func(w io.Writer) { writeImported(w, n) }, err
	})
}

// read reads the file. One that a publisher signed is verified, and its values are written as the broker reads them.
func (o *importValuesOptions) read(path string) ([]byte, error) {
	data, err := cli.ReadFile(path)
	if err != nil || o.signer == "" && !valuefile.IsPublished(data) {
		return data, err
	}
	var trust valuefile.Trust
	if o.signer != "" {
		publisher, err := keyfile.Public(o.signer)
		if err != nil {
			return nil, fmt.Errorf("--signer: %w", err)
		}
		trust.Publishers = append(trust.Publishers, publisher)
	}
	f, err := valuefile.ReadPublished(filepath.Base(path), data, trust)
	if err != nil {
		return nil, cli.RefusedFor(fmt.Errorf("%s: %w", path, err))
	}
	return f.YAML(), nil
}

func newListValues(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: listValuesUse, Short: listValuesShort, Example: listValuesExample, Args: cobra.NoArgs, RunE: inv.RunE(runListValues)}
}

func runListValues(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.ReferenceValues(ctx)
		return cli.List("reference_values", all), func(w io.Writer) {
			if len(all) == 0 {
				fmt.Fprintln(w, exportValuesNone)
			}
			for _, v := range all {
				writeValue(w, v)
			}
		}, err
	})
}

// writeValue prints a value's name, and each of its registers in a line of its own.
func writeValue(w io.Writer, v policy.ReferenceValue) {
	fmt.Fprintf(w, "%-24s %s", v.ID, cmp.Or(v.Kind, string(evidence.KindSNP)))
	covers := ""
	if v.Covers != "" {
		covers = "covers " + v.Covers
	}
	for _, more := range []string{v.Product, covers, v.Description} {
		if more != "" {
			fmt.Fprintf(w, ", %s", more)
		}
	}
	fmt.Fprintln(w)
	registers := map[string]string{}
	if v.Measurement != "" {
		registers["launch"] = v.Measurement
	}
	maps.Copy(registers, v.Registers)
	for _, name := range slices.Sorted(maps.Keys(registers)) {
		fmt.Fprintf(w, "  %-7s %s\n", name, registers[name])
	}
}

// exportValuesOptions are the flags of "export".
type exportValuesOptions struct {
	out string // --out
}

func newExportValues(inv *cli.Invocation) *cobra.Command {
	var o exportValuesOptions
	c := &cobra.Command{Use: exportValuesUse, Short: exportValuesShort, Long: exportValuesLong, Example: exportValuesExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.out, "out", "", exportValuesFlagOut)
	return c
}

// valuesFile is a file of reference values, as JSON.
type valuesFile struct {
	Format int                     `json:"format"`
	Values []policy.ReferenceValue `json:"reference_values"`
}

func (o *exportValuesOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.ReferenceValues(ctx)
		if err != nil {
			return nil, nil, err
		}
		if len(all) == 0 {
			return nil, nil, errors.New(exportValuesNone) // a file without any is refused everywhere
		}
		file := valuesFile{2, all}
		text, err := json.MarshalIndent(file, "", "  ")
		if err != nil {
			return nil, nil, err
		}
		text = append(text, '\n')
		if o.out != "" {
			if err := cli.WriteNew(o.out, text, 0o644); err != nil {
				return nil, nil, err
			}
		}
		return file, func(w io.Writer) {
			if o.out != "" {
				fmt.Fprintf(w, exportValuesWritten, o.out, len(all))
				return
			}
			_, _ = w.Write(text) // as every other output of a command
		}, nil
	})
}
