// Package auditlog is the commands about the broker's audit log. Verifying a copy of it needs
// no broker and believes the audit key alone.
package auditlog

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// New is the command "audit".
func New(inv *cli.Invocation) *cobra.Command {
	var filter audit.Filter
	var kind string
	show := dial.Operate(inv, "show", "Show records of the audit log", "  anchorhold audit show --last 5\n  anchorhold audit show --resource models/ --reason measurement-not-allowed",
		cobra.NoArgs, func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if kind != "" {
				var err error
				if filter.Kind, err = audit.ParseKind(kind); err != nil {
					return nil, nil, cli.Usage(err)
				}
			}
			if filter.Last < 0 {
				return nil, nil, cli.Usage(fmt.Errorf("--last %d: it is a number of records; 0 shows all", filter.Last))
			}
			entries, err := b.ShowAudit(ctx, filter)
			return entries, func(w io.Writer) { printEntries(w, entries) }, err
		})
	show.Flags().IntVar(&filter.Last, "last", 20, "only the last so many; 0 shows all")
	show.Flags().StringVar(&kind, "kind", "", "only this kind of record: "+strings.Join(audit.Kinds(), ", "))
	show.Flags().StringVar(&filter.Resource, "resource", "", "only this resource, or a subtree that ends in /")
	show.Flags().StringVar(&filter.Reason, "reason", "", "only refusals with this reason code")
	explain := dial.Operate(inv, "explain ID", "Tell why a guest was refused, by the id that it was given", "  anchorhold audit explain 3f2a...",
		cli.Exactly(1, "the opaque id of a refusal"), func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if id, err := hex.DecodeString(args[0]); err != nil || len(id) != 16 {
				return nil, nil, cli.Usage(fmt.Errorf("%q is no refusal's id: 32 hexadecimal digits, whole, as the guest's journal shows them", args[0]))
			}
			entries, err := b.Explain(ctx, args[0])
			return entries, func(w io.Writer) { printEntries(w, entries) }, err
		})
	c := cli.Subcommands("audit", "Show, explain, verify and archive the broker's audit log",
		"Every decision is recorded durably before a key leaves. Records are chained and\nsigned; a copy of a checkpoint kept elsewhere shows a log that was cut or replaced later.",
		show, explain, newAuditVerify(inv), newAuditCheckpoint(inv), newAuditArchive(inv), newAuditVerifierKey(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func newAuditCheckpoint(inv *cli.Invocation) *cobra.Command {
	var out string
	c := dial.Operate(inv, "checkpoint", "Sign the log as it stands, and print the checkpoint to be kept elsewhere",
		"  anchorhold audit checkpoint --out /mnt/elsewhere/checkpoint-2026-07-01", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			checkpoint, err := b.Checkpoint(ctx)
			if err == nil && out != "" {
				err = cli.WriteNew(out, []byte(checkpoint.Note), 0o644)
			}
			return checkpoint, func(w io.Writer) {
				if out == "" {
					fmt.Fprint(w, checkpoint.Note)
					return
				}
				fmt.Fprintf(w, "%s: %d records, root %s\n", out, checkpoint.Size, checkpoint.Root)
			}, err
		})
	c.Flags().StringVar(&out, "out", "", "write it to this new file instead")
	return c
}

func newAuditArchive(inv *cli.Invocation) *cobra.Command {
	var keep int
	c := dial.Operate(inv, "archive", "Move closed segments of the log aside, so that they can be taken away",
		"  anchorhold audit archive --keep 8", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if keep < 1 {
				return nil, nil, cli.Usage(errors.New("--keep is at least 1"))
			}
			a, err := b.ArchiveAudit(ctx, operator.AuditArchive{Keep: keep})
			return a, func(w io.Writer) {
				fmt.Fprintf(w, "%d segments, %d bytes, are in %s; the log's first %d records are archived\n", len(a.Segments), a.Bytes, a.Directory, a.Records)
				fmt.Fprintln(w, "The broker needs none of them: take them anywhere, and verify with --archive. What they say can only be read there.")
			}, err
		})
	c.Long = `Moves all but the newest closed segments into the log's archive directory. Their
hashes and indexes stay, so that proofs and checks go on as before.`
	c.Flags().IntVar(&keep, "keep", 8, "how many closed segments stay")
	return c
}

func newAuditVerifierKey(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{
		Use: "vkey KEY", Short: "Print the audit key's Ed25519 half as programs for signed notes take it",
		Long: `Prints the key by which other programs (witnesses, monitors; c2sp.org/signed-note)
verify the Ed25519 line of a checkpoint. It proves less than this program checks:
that takes the ML-DSA line as well.`,
		Example: "  anchorhold audit vkey audit.pub", Args: cli.Exactly(1, "the audit key's public half (ahpub1... or a file)"),
		RunE: func(c *cobra.Command, args []string) error {
			pub, err := keyfile.Public(args[0])
			if err != nil {
				return err
			}
			vkey, err := audit.VerifierKey(pub)
			if err != nil {
				return err
			}
			return inv.Print(c.OutOrStdout(), map[string]string{"vkey": vkey, "origin": audit.Origin(pub)}, func(w io.Writer) { fmt.Fprintln(w, vkey) })
		},
	}
}

// printEntries writes a record in a few readable lines.
func printEntries(w io.Writer, entries []audit.Entry) {
	for _, e := range entries {
		r := e.Record
		fmt.Fprintf(w, "#%-5d %s  %s", e.Index, r.Time.Format(time.RFC3339), r.Kind)
		for _, part := range []string{r.Decision, r.Action, r.Actor, r.Resource} {
			if part != "" {
				fmt.Fprintf(w, "  %s", part)
			}
		}
		fmt.Fprintln(w)
		for _, f := range []struct{ name, value string }{
			{"peer", r.Peer}, {"lease", r.Grant}, {"version", keyVersion(r)}, {"refusal", r.RefusalID}, {"measurement", r.Measurement}, {"evidence", digest(r.EvidenceDigest)},
			{"policy", policyName(r)}, {"waived", strings.Join(r.Waived, "; ")}, {"detail", r.Detail},
		} {
			if f.value != "" {
				fmt.Fprintf(w, "       %-12s %s\n", f.name, f.value)
			}
		}
		for _, reason := range r.Reasons {
			text := reason.Code
			if reason.Detail != "" {
				text += ": " + reason.Detail
			}
			fmt.Fprintf(w, "       reason       %s\n", text)
		}
	}
}

func digest(d audit.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

// keyVersion is which version of its resource a record is about.
func keyVersion(r audit.Record) string {
	if r.ResourceVersion == 0 {
		return ""
	}
	return strconv.FormatUint(r.ResourceVersion, 10)
}

func policyName(r audit.Record) string {
	if r.PolicyID == "" {
		return ""
	}
	return fmt.Sprintf("%s version %d", r.PolicyID, r.PolicyVersion)
}
