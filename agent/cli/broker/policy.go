// Package broker has the commands with which a broker's operator decides who gets which keys:
// policies, reference values, secrets and leases. [New] adds the family that keeps collateral.
package broker

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/dryrun"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// The words of "policy".
const (
	policyShort = "Check, import and show policies and reference values"
	policyLong  = "A policy says which guests get which keys. Anything that it does not explicitly allow\nis refused; every check is either required or waived in writing."
)

// The words of "check".
const (
	policyCheckUse   = "check FILE"
	policyCheckShort = "Check a policy and explain it; changes nothing"
	policyCheckLong  = `Asks no broker, so it knows the reference values that the policy names from --values
alone. Without them it cannot warn of values that identify no image. The digest covers
these values as well: the one to pin or to compare is the one that 'policy import' and
'policy show' print.`
	policyCheckExample = "  anchorhold policy check policy.yaml --values values.yaml"
	policyCheckNeeds   = "one policy file"
)

// The words of "import".
const (
	policyImportUse     = "import FILE"
	policyImportShort   = "Put a policy in force"
	policyImportExample = "  anchorhold policy import policy.yaml"
	policyImportNeeds   = "one policy file"
	policyImportResult  = "policy %s version %d is in force, digest %s\n"
	policyImportWaived  = "  waived: %s\n"
	policyImportWarning = "WARNING: %s\n"
	policyImportNotYet  = "WARNING: it allows nothing before %s (not_before)\n"
	policyImportExpired = "WARNING: it has allowed nothing since %s (not_after)\n"
)

// The words of "show".
const (
	policyShowUse     = "show"
	policyShowShort   = "Show the policy in force"
	policyShowExample = "  anchorhold policy show"
)

// The words of "list".
const (
	policyListUse        = "list"
	policyListShort      = "List every policy that was imported"
	policyListExample    = "  anchorhold policy list"
	policyListUnreadable = "%d of %d policies cannot be read: %s in the broker's state directory; restore them from a copy, or import their source again under a higher version"
	policyListNone       = "no policies: the broker releases nothing (anchorhold policy import)"
	policyListLine       = "%s %-24s version %-6d %s  %s\n"
)

// The words of "checks".
const (
	policyChecksUse      = "checks"
	policyChecksShort    = "List the checks that a policy requires or waives"
	policyChecksLong     = "Lists every check, or those that a policy must require or waive if it accepts one kind of evidence,\neach with the setting that configures it under \"require\"."
	policyChecksExample  = "  anchorhold policy checks\n  anchorhold policy checks --kind tdx"
	policyChecksKind     = "only the checks of this kind of evidence (sev-snp, tdx, vtpm, azure-sev-snp, azure-tdx)"
	policyChecksNoKind   = "--kind: there is no kind of evidence %q"
	policyChecksWaivable = "may be waived in writing"
	policyChecksAlways   = "always"
	policyChecksLine     = "%-22s %-33s %-25s %s\n"
)

// The words of "migrate".
const (
	policyMigrateUse   = "migrate FILE"
	policyMigrateShort = "Write a policy of format 1 anew in format 2"
	policyMigrateLong  = `Prints the same policy in format 2, which knows more kinds of evidence than SEV-SNP, and on
standard error what changed. The version is the next one. Checks that format 1 did not have
are waived in writing: read each waiver, and replace it by a requirement where you can.

Import the result, and sign an epoch that pins its digest if your epochs pin policies.`
	policyMigrateExample = "  anchorhold policy migrate old.yaml --out policy.yaml\n  anchorhold policy check policy.yaml"
	policyMigrateNeeds   = "one policy file"
	policyMigrateOut     = "write the policy to this new file instead of standard output"
	policyMigrateWritten = "%s is written\n"
	policyMigrateChange  = "changed: %s\n"
)

// newPolicy is the command "policy".
func newPolicy(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("policy", policyShort,
		policyLong,
		newPolicyCheck(inv), newPolicyChecks(inv), newPolicyMigrate(inv), newPolicyImport(inv), newPolicyShow(inv), newPolicyList(inv), newReferenceValues(inv),
		dryrun.NewExplain(inv), dryrun.NewTest(inv), dryrun.NewReplay(inv))
	dial.BrokerFlag(inv, c)
	return c
}

// policyCheckOptions are the flags of "policy check".
type policyCheckOptions struct{ values []string }

func newPolicyCheck(inv *cli.Invocation) *cobra.Command {
	var o policyCheckOptions
	c := &cobra.Command{
		Use: policyCheckUse, Short: policyCheckShort, Long: policyCheckLong, Example: policyCheckExample,
		Args: cli.Exactly(1, policyCheckNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().StringSliceVar(&o.values, "values", nil, dryrun.FlagValues)
	return c
}

func (o *policyCheckOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	p, err := dryrun.ReadPolicy(inv.Err, args[0], o.values)
	if err != nil {
		return err
	}
	digest := p.Digest()
	return inv.Print(map[string]any{"id": p.ID(), "version": p.Version(), "digest": fmt.Sprintf("%x", digest), "waived": p.Waived(), "warnings": append([]string{}, p.Warnings()...)},
		func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(policy.Explain(p), "\n")) })
}

func newPolicyImport(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: policyImportUse, Short: policyImportShort, Example: policyImportExample, Args: cli.Exactly(1, policyImportNeeds), RunE: inv.RunE(runPolicyImport)}
}

func runPolicyImport(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		data, err := cli.ReadFile(args[0])
		if err != nil {
			return nil, nil, err
		}
		info, err := b.ImportPolicy(ctx, data)
		return info, func(w io.Writer) {
			fmt.Fprintf(w, policyImportResult, info.ID, info.Version, info.Digest)
			for _, waived := range info.Waived {
				fmt.Fprintf(w, policyImportWaived, waived)
			}
			for _, warning := range info.Warnings {
				fmt.Fprintf(w, policyImportWarning, warning)
			}
			switch now := time.Now(); {
			case now.Before(info.NotBefore):
				fmt.Fprintf(w, policyImportNotYet, info.NotBefore.Format(time.RFC3339))
			case !now.Before(info.NotAfter):
				fmt.Fprintf(w, policyImportExpired, info.NotAfter.Format(time.RFC3339))
			}
			warnUnmatched(w, info.Unmatched)
		}, err
	})
}

func newPolicyShow(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: policyShowUse, Short: policyShowShort, Example: policyShowExample, Args: cobra.NoArgs, RunE: inv.RunE(runPolicyShow)}
}

func runPolicyShow(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		info, err := b.Policy(ctx)
		return info, func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(info.Explanation, "\n")) }, err
	})
}

func newPolicyList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: policyListUse, Short: policyListShort, Example: policyListExample, Args: cobra.NoArgs, RunE: inv.RunE(runPolicyList)}
}

func runPolicyList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.Policies(ctx)
		var bad []string
		for _, p := range all {
			if p.Unreadable != "" {
				bad = append(bad, p.File)
			}
		}
		if len(bad) > 0 {
			err = dial.Incomplete(fmt.Errorf(policyListUnreadable, len(bad), len(all), strings.Join(bad, ", ")))
		}
		return cli.List("policies", all), func(w io.Writer) {
			if len(all) == 0 {
				fmt.Fprintln(w, policyListNone)
			}
			for _, p := range all {
				if p.Unreadable != "" {
					fmt.Fprintf(w, "! %s: %s\n", p.File, p.Unreadable)
					continue
				}
				mark := " "
				if p.Active {
					mark = "*"
				}
				fmt.Fprintf(w, policyListLine, mark, p.ID, p.Version, p.Imported.Format(time.RFC3339), p.Digest)
			}
		}, err
	})
}

// checksOptions are the flags of "policy checks".
type checksOptions struct{ kind string }

func newPolicyChecks(inv *cli.Invocation) *cobra.Command {
	var o checksOptions
	c := &cobra.Command{
		Use: policyChecksUse, Short: policyChecksShort, Long: policyChecksLong, Example: policyChecksExample, Args: cobra.NoArgs,
		RunE: inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.kind, "kind", "", policyChecksKind)
	return c
}

func (o *checksOptions) run(_ context.Context, inv *cli.Invocation, _ []string) error {
	checks := policy.Checks()
	if o.kind != "" {
		if !evidence.Kind(o.kind).Known() {
			return cli.Usage(fmt.Errorf(policyChecksNoKind, o.kind))
		}
		checks = policy.ChecksOf(evidence.Kind(o.kind))
	}
	return inv.Print(cli.List("checks", checks), func(w io.Writer) {
		for _, k := range checks {
			when := policyChecksAlways
			if k.Waivable {
				when = policyChecksWaivable
			}
			var kinds []string
			for _, kind := range k.Kinds {
				kinds = append(kinds, string(kind))
			}
			of := "every kind"
			if len(kinds) < len(evidence.Kinds()) {
				of = strings.Join(kinds, ", ")
			}
			fmt.Fprintf(w, policyChecksLine, k.Name, cmp.Or(k.Setting, "-"), when, of)
		}
	})
}

// migrateOptions are the flags of "policy migrate".
type migrateOptions struct{ out string }

func newPolicyMigrate(inv *cli.Invocation) *cobra.Command {
	var o migrateOptions
	c := &cobra.Command{
		Use: policyMigrateUse, Short: policyMigrateShort, Long: policyMigrateLong, Example: policyMigrateExample,
		Args: cli.Exactly(1, policyMigrateNeeds),
		RunE: inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.out, "out", "", policyMigrateOut)
	return c
}

func (o *migrateOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	data, err := cli.ReadFile(args[0])
	if err != nil {
		return err
	}
	migrated, changes, err := policy.Migrate(data)
	if err != nil {
		return dryrun.Malformed(args[0], err)
	}
	if o.out != "" {
		if err := cli.WriteNew(o.out, migrated, 0o644); err != nil {
			return err
		}
	}
	return inv.Print(map[string]any{"policy": string(migrated), "changes": changes}, func(w io.Writer) {
		for _, c := range changes {
			fmt.Fprintf(inv.Err, policyMigrateChange, c)
		}
		if o.out != "" {
			fmt.Fprintf(w, policyMigrateWritten, o.out)
			return
		}
		_, _ = w.Write(migrated) // as every other output of a command
	})
}
