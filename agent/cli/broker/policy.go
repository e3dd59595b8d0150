// Package broker is the commands of a broker's operator about who gets which keys: policies,
// reference values, secrets and leases.
package broker

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// NewPolicy is the command "policy".
func NewPolicy(inv *cli.Invocation) *cobra.Command {
	check := &cobra.Command{
		Use: "check FILE", Short: "Check a policy and explain it; changes nothing", Example: "  anchorhold policy check policy.yaml",
		Args: cli.Exactly(1, "one policy file"),
		RunE: func(c *cobra.Command, args []string) error {
			data, err := cli.ReadFile(args[0])
			if err != nil {
				return err
			}
			p, err := policy.Parse(data)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", cli.ErrRefused, args[0], err)
			}
			digest := p.Digest()
			return inv.Print(c.OutOrStdout(), map[string]any{"id": p.ID(), "version": p.Version(), "digest": fmt.Sprintf("%x", digest), "waived": p.Waived()},
				func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(policy.Explain(p), "\n")) })
		},
	}
	imports := dial.Operate(inv, "import FILE", "Put a policy in force", "  anchorhold policy import policy.yaml", cli.Exactly(1, "one policy file"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			data, err := cli.ReadFile(args[0])
			if err != nil {
				return nil, nil, err
			}
			info, err := b.ImportPolicy(ctx, data)
			return info, func(w io.Writer) {
				fmt.Fprintf(w, "policy %s version %d is in force, digest %s\n", info.ID, info.Version, info.Digest)
				for _, waived := range info.Waived {
					fmt.Fprintf(w, "  waived: %s\n", waived)
				}
				switch now := time.Now(); {
				case now.Before(info.NotBefore):
					fmt.Fprintf(w, "WARNING: it allows nothing before %s (not_before)\n", info.NotBefore.Format(time.RFC3339))
				case !now.Before(info.NotAfter):
					fmt.Fprintf(w, "WARNING: it has allowed nothing since %s (not_after)\n", info.NotAfter.Format(time.RFC3339))
				}
				warnUnmatched(w, info.Unmatched)
			}, err
		})
	show := dial.Operate(inv, "show", "Show the policy in force", "  anchorhold policy show", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			info, err := b.Policy(ctx)
			return info, func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(info.Explanation, "\n")) }, err
		})
	list := dial.Operate(inv, "list", "List every policy that was imported", "  anchorhold policy list", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.Policies(ctx)
			var bad []string
			for _, p := range all {
				if p.Unreadable != "" {
					bad = append(bad, p.File)
				}
			}
			if len(bad) > 0 {
				err = dial.Incomplete(fmt.Errorf("%d of %d policies cannot be read: %s in the broker's state directory; put them back from a copy, or import their source again under a higher version", len(bad), len(all), strings.Join(bad, ", ")))
			}
			return all, func(w io.Writer) {
				for _, p := range all {
					if p.Unreadable != "" {
						fmt.Fprintf(w, "! %s: %s\n", p.File, p.Unreadable)
						continue
					}
					mark := " "
					if p.Active {
						mark = "*"
					}
					fmt.Fprintf(w, "%s %-24s version %-6d %s  %s\n", mark, p.ID, p.Version, p.Imported.Format(time.RFC3339), p.Digest)
				}
			}, err
		})
	checks := &cobra.Command{
		Use: "checks", Short: "List the checks that a policy requires or waives", Example: "  anchorhold policy checks", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return inv.Print(c.OutOrStdout(), policy.Checks(), func(w io.Writer) {
				for _, k := range policy.Checks() {
					if k.Waivable {
						fmt.Fprintf(w, "%-24s may be waived in writing\n", k.Name)
					} else {
						fmt.Fprintf(w, "%-24s always\n", k.Name)
					}
				}
			})
		},
	}
	c := cli.Subcommands("policy", "Check, import and show policies and reference values",
		"A policy says which guests get which keys. Everything that it does not allow in\nwriting is refused; every check is required or waived in writing.",
		check, checks, imports, show, list, newReferenceValues(inv))
	dial.BrokerFlag(inv, c)
	return c
}
