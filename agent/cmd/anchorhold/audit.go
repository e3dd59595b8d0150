package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

func newAudit(inv *invocation) *cobra.Command {
	var filter audit.Filter
	var kind string
	show := inv.operate("show", "Show records of the audit log", "  anchorhold audit show --last 5\n  anchorhold audit show --resource models/ --reason measurement-not-allowed",
		cobra.NoArgs, func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if kind != "" {
				var err error
				if filter.Kind, err = audit.ParseKind(kind); err != nil {
					return nil, nil, usageError{err}
				}
			}
			entries, err := b.ShowAudit(ctx, filter)
			return entries, func(w io.Writer) { printEntries(w, entries) }, err
		})
	show.Flags().IntVar(&filter.Last, "last", 20, "only the last so many; 0 shows all")
	show.Flags().StringVar(&kind, "kind", "", "only this kind of record")
	show.Flags().StringVar(&filter.Resource, "resource", "", "only this resource, or a subtree that ends in /")
	show.Flags().StringVar(&filter.Reason, "reason", "", "only refusals with this reason code")
	explain := inv.operate("explain ID", "Tell why a guest was refused, by the id that it was given", "  anchorhold audit explain 3f2a...",
		exactly(1, "the opaque id of a refusal"), func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			entries, err := b.Explain(ctx, args[0])
			return entries, func(w io.Writer) { printEntries(w, entries) }, err
		})
	c := subcommands("audit", "Show, explain, verify and archive the broker's audit log",
		"Every decision is recorded durably before a key leaves. Records are chained and\nsigned; a copy of a checkpoint kept elsewhere shows a log that was cut or replaced later.",
		show, explain, newAuditVerify(inv), newAuditCheckpoint(inv), newAuditArchive(inv), newAuditVerifierKey(inv))
	inv.brokerFlag(c)
	return c
}

func newAuditVerify(inv *invocation) *cobra.Command {
	var dir, key string
	var archives, kept []string
	c := &cobra.Command{
		Use: "verify", Short: "Verify the whole log: chain, tree and every signature",
		Long: `Verifies the broker's log. Without --dir the broker verifies its own; with --dir
and --key this program verifies a copy, believing nothing but the audit key.

With --checkpoint the log must extend a checkpoint that was kept elsewhere: a log
that was restored from an older copy, cut, or replaced by another is refused.`,
		Example: "  anchorhold audit verify --checkpoint kept/checkpoint\n  anchorhold audit verify --dir /backup/audit --key audit.pub --archive /backup/segments",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			notes, err := readCheckpoints(kept)
			if err != nil {
				return err
			}
			var report audit.Report
			progress := verifyProgress(c.ErrOrStderr())
			switch {
			case dir == "" && len(archives) > 0:
				return usageError{errors.New("--archive needs --dir: the broker reads its own archive directory")}
			case dir == "":
				report, err = operator.NewClient(inv.broker).VerifyAudit(c.Context(), operator.AuditCheck{Kept: notes}, progress)
				err = explainBroker(err, inv.broker)
			case key == "":
				return usageError{errors.New("--dir needs --key, the audit key's public half")}
			default:
				report, err = verifyCopy(c.Context(), dir, key, archives, notes, progress)
			}
			if err != nil {
				return err
			}
			return inv.print(c.OutOrStdout(), report, func(w io.Writer) { printAuditReport(w, report) })
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "verify this copy of the log instead")
	c.Flags().StringVar(&key, "key", "", "the audit key's public half (ahpub1... or a file)")
	c.Flags().StringArrayVar(&archives, "archive", nil, "a directory with archived segments; may be repeated")
	c.Flags().StringArrayVar(&kept, "checkpoint", nil, "a file with a checkpoint that the log must extend; may be repeated")
	return c
}

func verifyCopy(ctx context.Context, dir, key string, archives, notes []string, progress func(done, total uint64)) (audit.Report, error) {
	pub, err := publicIdentity(key)
	if err != nil {
		return audit.Report{}, err
	}
	check := audit.Check{Keys: []identity.Public{pub}, Archives: archives, Progress: progress}
	for _, n := range notes {
		check.Kept = append(check.Kept, []byte(n))
	}
	report, err := check.Verify(ctx, dir)
	if err != nil {
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	return report, err
}

func readCheckpoints(paths []string) (notes []string, err error) {
	for _, path := range paths {
		b, err := readBounded(path)
		if err != nil {
			return nil, err
		}
		notes = append(notes, string(b))
	}
	return notes, nil
}

// verifyProgress tells on standard error how far a long verification is.
func verifyProgress(w io.Writer) func(done, total uint64) {
	last := time.Now()
	return func(done, total uint64) {
		if now := time.Now(); now.Sub(last) >= 2*time.Second {
			last = now
			fmt.Fprintf(w, "%d of about %d records verified\n", done, total)
		}
	}
}

func printAuditReport(w io.Writer, r audit.Report) {
	fmt.Fprintf(w, "the log is sound: %d records, %d signed checkpoints, %d records not signed yet\nMerkle root %s\n", r.Records, r.Checkpoints, r.Unsigned, r.Root)
	if r.Kept > 0 {
		fmt.Fprintf(w, "it extends %d checkpoints that were kept elsewhere\n", r.Kept)
	} else {
		fmt.Fprintln(w, "NOT checked: whether it was restored or replaced; that takes a checkpoint that was kept elsewhere (--checkpoint)")
	}
	if r.Archived > 0 {
		fmt.Fprintf(w, "NOT read: %d archived records; their hashes lead to the signed root (--archive reads them)\n", r.Archived)
	}
	if r.TornTail {
		fmt.Fprintln(w, "a crash cut a last write short; it was never acknowledged")
	}
}

func newAuditCheckpoint(inv *invocation) *cobra.Command {
	var out string
	c := inv.operate("checkpoint", "Sign the log as it stands, and print the checkpoint to be kept elsewhere",
		"  anchorhold audit checkpoint --out /mnt/elsewhere/checkpoint-2026-07-01", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			checkpoint, err := b.Checkpoint(ctx)
			if err == nil && out != "" {
				err = writeNew(out, []byte(checkpoint.Note), 0o644)
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

func newAuditArchive(inv *invocation) *cobra.Command {
	var keep int
	c := inv.operate("archive", "Move closed segments of the log aside, so that they can be taken away",
		"  anchorhold audit archive --keep 8", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if keep < 1 {
				return nil, nil, usageError{errors.New("--keep is at least 1")}
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

func newAuditVerifierKey(inv *invocation) *cobra.Command {
	return &cobra.Command{
		Use: "vkey KEY", Short: "Print the audit key's Ed25519 half as programs for signed notes take it",
		Long: `Prints the key by which other programs (witnesses, monitors; c2sp.org/signed-note)
verify the Ed25519 line of a checkpoint. It proves less than this program checks:
that takes the ML-DSA line as well.`,
		Example: "  anchorhold audit vkey audit.pub", Args: exactly(1, "the audit key's public half (ahpub1... or a file)"),
		RunE: func(c *cobra.Command, args []string) error {
			pub, err := publicIdentity(args[0])
			if err != nil {
				return err
			}
			vkey, err := audit.VerifierKey(pub)
			if err != nil {
				return err
			}
			return inv.print(c.OutOrStdout(), map[string]string{"vkey": vkey, "origin": audit.Origin(pub)}, func(w io.Writer) { fmt.Fprintln(w, vkey) })
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
			{"peer", r.Peer}, {"lease", r.Grant}, {"refusal", r.RefusalID}, {"measurement", r.Measurement}, {"evidence", digest(r.EvidenceDigest)},
			{"policy", policyName(r)}, {"waived", strings.Join(r.Waived, "; ")}, {"detail", r.Detail},
		} {
			if f.value != "" {
				fmt.Fprintf(w, "       %-12s %s\n", f.name, f.value)
			}
		}
		for _, reason := range r.Reasons {
			fmt.Fprintf(w, "       reason       %v\n", reason)
		}
	}
}

func digest(d audit.Digest) string {
	if d.IsZero() {
		return ""
	}
	return d.String()
}

func policyName(r audit.Record) string {
	if r.PolicyID == "" {
		return ""
	}
	return fmt.Sprintf("%s version %d", r.PolicyID, r.PolicyVersion)
}

func newEpoch(inv *invocation) *cobra.Command {
	list := inv.operate("list", "List the broker's epochs", "  anchorhold epoch list", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			all, err := b.Epochs(ctx)
			return all, func(w io.Writer) {
				for _, e := range all {
					validity := "not certified yet"
					if !e.NotAfter.IsZero() {
						validity = e.NotBefore.Format(time.DateOnly) + " to " + e.NotAfter.Format(time.DateOnly)
					}
					fmt.Fprintf(w, "epoch %-4d %-10s %-24s  %s\n", e.Epoch, e.State, validity, e.Key)
				}
			}, err
		})
	var retire uint64
	retireCommand := inv.operate("retire --epoch N", "Forget an epoch and its key", "  anchorhold epoch retire --epoch 1", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			return map[string]uint64{"retired": retire}, func(w io.Writer) { fmt.Fprintf(w, "epoch %d is retired\n", retire) }, b.RetireEpoch(ctx, retire)
		})
	retireCommand.Flags().Uint64Var(&retire, "epoch", 0, "number of the epoch")
	c := subcommands("epoch", "Rotate the broker's signing key",
		`Rotation: 'epoch rotate' has the broker make a key, signs its statement with the
root key, and hands the statement back. Old and new epochs overlap; retire the
old one when every agent has seen the new.`, list, newEpochRotate(inv), retireCommand)
	inv.brokerFlag(c)
	return c
}

func newEpochRotate(inv *invocation) *cobra.Command {
	var unlock unlockFlags
	var rootKey string
	var days int
	var minimum uint64
	c := &cobra.Command{
		Use: "rotate --root FILE", Short: "Make and certify the next epoch", Args: cobra.NoArgs,
		Example: "  anchorhold epoch rotate --root root.key --days 60",
		RunE: func(c *cobra.Command, _ []string) error {
			if rootKey == "" || days < 1 || days > 3650 {
				return usageError{errors.New("--root is needed, and --days from 1 to 3650")}
			}
			u, err := unlock.open(c)
			if err != nil {
				return err
			}
			defer wipeUnlock(u)
			root, err := identity.ReadKeyFile(rootKey, u)
			if err != nil {
				return err
			}
			defer root.Wipe()
			b := operator.NewClient(inv.broker)
			request, err := b.PrepareEpoch(c.Context())
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			now := time.Now()
			statement, err := daemon.CertifyEpoch(root, daemon.Certificate{Epoch: request.Epoch, MinEpoch: minimum, Key: request.Key,
				AuditKey: request.AuditKey, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(0, 0, days)})
			if err != nil {
				return err
			}
			info, err := b.ActivateEpoch(c.Context(), statement)
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			return inv.print(c.OutOrStdout(), info, func(w io.Writer) {
				fmt.Fprintf(w, "epoch %d is %s until %s\n", info.Epoch, info.State, info.NotAfter.Format(time.DateOnly))
			})
		},
	}
	c.Flags().StringVar(&rootKey, "root", "", "the root key file")
	c.Flags().IntVar(&days, "days", 60, "how long the epoch lasts")
	c.Flags().Uint64Var(&minimum, "minimum", 1, "retire epochs below this number for every agent that sees the statement")
	unlock.add(c)
	return c
}
