package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/spf13/cobra"
)

// maxPolicyBytes bounds a policy or a file of reference values.
const maxPolicyBytes = 1 << 20

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxPolicyBytes+1))
	if err == nil && len(data) > maxPolicyBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxPolicyBytes)
	}
	return data, err
}

// silenceNoticed is how long a broker may be silent until somebody who waits is told.
const silenceNoticed = 10 * time.Second

// brokerClient is a client of the broker's operator socket, which says on standard error when
// it waits.
func brokerClient(inv *invocation, c *cobra.Command) *operator.Client {
	w := c.ErrOrStderr()
	return operator.NewPatientClient(inv.broker, operator.Patience{Silence: inv.patience, NoticeAfter: silenceNoticed, Notice: func() {
		fmt.Fprintf(w, "the broker has not answered for %s; waiting up to %s (--timeout)\n", silenceNoticed, inv.patience)
	}})
}

// incomplete is the error of an answer that is worth printing and does not have everything.
type incomplete struct{ error }

// operate makes a command that talks to the broker's operator socket.
func operate(inv *invocation, use, short, example string, args cobra.PositionalArgs, do func(context.Context, *operator.Client, []string) (any, func(io.Writer), error)) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Example: example, Args: args, RunE: func(c *cobra.Command, args []string) error {
		value, text, err := do(c.Context(), brokerClient(inv, c), args)
		if part, ok := errors.AsType[incomplete](err); ok {
			return errors.Join(inv.print(c.OutOrStdout(), value, text), part)
		}
		if err != nil {
			return explainBroker(err, inv.broker)
		}
		return inv.print(c.OutOrStdout(), value, text)
	}}
}

// Reasons of a broker that gives no answer.
const (
	reasonBrokerUnreachable = "broker-unreachable"
	reasonBrokerCut         = "broker-cut-off"
	reasonBrokerSilent      = "broker-unresponsive"
)

// explainBroker turns the broker's refusals and a missing socket into what to do.
func explainBroker(err error, socket string) error {
	if refusal, ok := errors.AsType[*operator.Error](err); ok {
		return namedError{refusal.Code, fmt.Errorf("%w: %w", errRefused, refusal)}
	}
	if errors.Is(err, operator.ErrSilent) {
		return namedError{reasonBrokerSilent, fmt.Errorf("%s: %w: its process is stopped or hangs, or what it waits for (a disk, the database of rounds) does: see systemctl status anchorhold-broker and its journal; whether it does what was asked when it goes on, anchorhold audit show will tell", socket, err)}
	}
	if errors.Is(err, operator.ErrCut) {
		return namedError{reasonBrokerCut, fmt.Errorf("%s: %w: whether it did what was asked, anchorhold audit show tells once it runs again (systemctl status anchorhold-broker)", socket, err)}
	}
	if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" {
		return err // of a local file, or of a connection that stood
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return namedError{reasonBrokerUnreachable, fmt.Errorf("no operator socket at %s: is anchorhold-broker running? (--broker names another socket)", socket)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return namedError{reasonBrokerUnreachable, fmt.Errorf("nothing listens on %s: anchorhold-broker has ended; see its journal", socket)}
	case errors.Is(err, os.ErrPermission):
		return namedError{reasonBrokerUnreachable, fmt.Errorf("this user may not open %s: the broker's configuration names its operators", socket)}
	}
	return err
}

func newPolicy(inv *invocation) *cobra.Command {
	check := &cobra.Command{
		Use: "check FILE", Short: "Check a policy and explain it; changes nothing", Example: "  anchorhold policy check policy.yaml",
		Args: exactly(1, "one policy file"),
		RunE: func(c *cobra.Command, args []string) error {
			data, err := readBounded(args[0])
			if err != nil {
				return err
			}
			p, err := policy.Parse(data)
			if err != nil {
				return fmt.Errorf("%w: %s: %w", errRefused, args[0], err)
			}
			digest := p.Digest()
			return inv.print(c.OutOrStdout(), map[string]any{"id": p.ID(), "version": p.Version(), "digest": fmt.Sprintf("%x", digest), "waived": p.Waived()},
				func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(policy.Explain(p), "\n")) })
		},
	}
	imports := operate(inv, "import FILE", "Put a policy in force", "  anchorhold policy import policy.yaml", exactly(1, "one policy file"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			data, err := readBounded(args[0])
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
	show := operate(inv, "show", "Show the policy in force", "  anchorhold policy show", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			info, err := b.Policy(ctx)
			return info, func(w io.Writer) { fmt.Fprintln(w, strings.TrimRight(info.Explanation, "\n")) }, err
		})
	list := operate(inv, "list", "List every policy that was imported", "  anchorhold policy list", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.Policies(ctx)
			var bad []string
			for _, p := range all {
				if p.Unreadable != "" {
					bad = append(bad, p.File)
				}
			}
			if len(bad) > 0 {
				err = incomplete{fmt.Errorf("%d of %d policies cannot be read: %s in the broker's state directory; put them back from a copy, or import their source again under a higher version", len(bad), len(all), strings.Join(bad, ", "))}
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
			return inv.print(c.OutOrStdout(), policy.Checks(), func(w io.Writer) {
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
	c := subcommands("policy", "Check, import and show policies and reference values",
		"A policy says which guests get which keys. Everything that it does not allow in\nwriting is refused; every check is required or waived in writing.",
		check, checks, imports, show, list, newReferenceValues(inv))
	brokerFlag(inv, c)
	return c
}

func newReferenceValues(inv *invocation) *cobra.Command {
	var replace bool
	imports := operate(inv, "import FILE", "Add expected measurements", "  anchorhold policy values import image.values.yaml", exactly(1, "one file of reference values"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			data, err := readBounded(args[0])
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
	list := operate(inv, "list", "List expected measurements", "  anchorhold policy values list", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.ReferenceValues(ctx)
			return all, func(w io.Writer) {
				for _, v := range all {
					fmt.Fprintf(w, "%-24s %s %s\n", v.ID, v.Measurement, v.Description)
				}
			}, err
		})
	return subcommands("values", "Import, list and remove reference values (expected measurements)", "", imports, list, newRemoveValue(inv))
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

func newRemoveValue(inv *invocation) *cobra.Command {
	var force bool
	c := operate(inv, "remove ID", "Forget an expected measurement", "  anchorhold policy values remove images/6", exactly(1, "the id of one reference value"),
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

func newSecret(inv *invocation) *cobra.Command {
	list := operate(inv, "list [PREFIX]", "List secrets, without their values", "  anchorhold secret list models/", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			all, err := b.Secrets(ctx, strings.Join(args, ""))
			return all, func(w io.Writer) {
				for _, s := range all.Secrets {
					fmt.Fprintf(w, "%-40s version %-5d %-10s %s%s\n", s.Name, s.Version, s.State, s.Meta.Kind, subjectText(s.Meta))
				}
				if all.More {
					fmt.Fprintln(w, "... and more: give a PREFIX")
				}
			}, err
		})
	retire := changeSecret(inv, "retire", "Stop releasing one version", (*operator.Client).RetireSecret)
	destroy := changeSecret(inv, "destroy", "Remove one version for ever", (*operator.Client).DestroySecret)
	c := subcommands("secret", "Store, list, retire and destroy secrets",
		"Secrets are sealed at rest and never shown again; attested guests receive them.", newSecretPut(inv), list, retire, destroy)
	brokerFlag(inv, c)
	return c
}

func changeSecret(inv *invocation, verb, short string, change func(*operator.Client, context.Context, string, uint64) error) *cobra.Command {
	return operate(inv, verb+" NAME VERSION", short, "  anchorhold secret "+verb+" models/demo 1", exactly(2, "a name and a version"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if err := keystore.CheckName(args[0]); err != nil {
				return nil, nil, usageError{err}
			}
			version, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil || version == 0 {
				return nil, nil, usageError{fmt.Errorf("%q is no version", args[1])}
			}
			return operator.SecretVersion{Name: args[0], Version: version}, func(w io.Writer) {
				fmt.Fprintf(w, "%s version %d: %s done\n", args[0], version, verb)
			}, change(b, ctx, args[0], version)
		})
}
