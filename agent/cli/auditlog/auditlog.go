// Package auditlog has the commands for the broker's audit log. Verifying a copy of the log needs
// no broker and trusts the audit key alone.
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
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of "audit".
const (
	auditShort = "Show, explain, verify and archive the broker's audit log"
	auditLong  = "Every decision is recorded durably before a key leaves. Records are chained and\nsigned; a checkpoint kept elsewhere reveals a log that was cut or replaced later."
)

// The words of "show".
const (
	showUse          = "show"
	showShort        = "Show records of the audit log"
	showExample      = "  anchorhold audit show --last 5\n  anchorhold audit show --resource models/ --reason measurement-not-allowed"
	showLastInvalid  = "--last %d: want a number of records; 0 shows all"
	showFlagLast     = "show this many of the latest records; 0 shows all"
	showFlagResource = "only this resource, or a subtree that ends in /"
	showFlagReason   = "only refusals with this reason code"
	showFlagKind     = "only this kind of record: "
	showNone         = "no such records"
)

// The words of "explain".
const (
	explainUse       = "explain ID"
	explainShort     = "Explain why a guest was refused, by the id that it was given"
	explainExample   = "  anchorhold audit explain 3f2a..."
	explainNeeds     = "the id of a refusal"
	explainIDInvalid = "%q is not a refusal's id: want all 32 hexadecimal digits, as in the guest's journal"
)

// The words of "checkpoint".
const (
	checkpointUse     = "checkpoint"
	checkpointShort   = "Sign the log as it stands, and print the checkpoint to keep elsewhere"
	checkpointExample = "  anchorhold audit checkpoint --out /mnt/elsewhere/checkpoint-2026-07-01"
	checkpointResult  = "%s: %d records, root %s\n"
	checkpointFlagOut = "write it to this new file instead"
)

// The words of "archive".
const (
	archiveUse        = "archive"
	archiveShort      = "Move closed segments of the log aside, to be stored elsewhere"
	archiveExample    = "  anchorhold audit archive --keep 8"
	archiveKeepTooLow = "--keep must be at least 1"
	archiveResult     = "%d segments, %d bytes, are in %s; the log's first %d records are archived\n"
	archiveAdvice     = "The broker needs none of them: store them anywhere, and verify with --archive. Their contents can only be read there."
	archiveLong       = `Moves all but the newest closed segments into the log's archive directory. Their hashes
and indexes stay, so that proofs and checks still work.`
	archiveFlagKeep = "number of closed segments that stay"
)

// The words of "vkey".
const (
	vkeyUse   = "vkey KEY"
	vkeyShort = "Print the audit key's Ed25519 half for signed-note programs"
	vkeyLong  = `Prints the key with which other programs (witnesses, monitors; c2sp.org/signed-note)
verify the Ed25519 line of a checkpoint. That proves less than this program checks,
which is the ML-DSA line as well.`
	vkeyExample = "  anchorhold audit vkey audit.pub"
	vkeyNeeds   = "the audit key's public half (ahpub1... or a file)"
)

// The words of a record as it is shown.
const (
	entryReason = "       reason       %s\n"
	entryPolicy = "%s version %d"
)

// New is the command "audit".
func New(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("audit", auditShort,
		auditLong,
		newAuditShow(inv), newAuditExplain(inv), newAuditVerify(inv), newAuditCheckpoint(inv), newAuditArchive(inv), newAuditVerifierKey(inv))
	dial.BrokerFlag(inv, c)
	return c
}

// showOptions are the flags of "show".
type showOptions struct {
	filter audit.Filter
	kind   string // --kind
}

func newAuditShow(inv *cli.Invocation) *cobra.Command {
	var o showOptions
	c := &cobra.Command{Use: showUse, Short: showShort, Example: showExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Flags().IntVar(&o.filter.Last, "last", 20, showFlagLast)
	c.Flags().StringVar(&o.kind, "kind", "", showFlagKind+strings.Join(audit.Kinds(), ", "))
	c.Flags().StringVar(&o.filter.Resource, "resource", "", showFlagResource)
	c.Flags().StringVar(&o.filter.Reason, "reason", "", showFlagReason)
	return c
}

func (o *showOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if o.kind != "" {
			var err error
			if o.filter.Kind, err = audit.ParseKind(o.kind); err != nil {
				return nil, nil, cli.Usage(err)
			}
		}
		if o.filter.Last < 0 {
			return nil, nil, cli.Usage(fmt.Errorf(showLastInvalid, o.filter.Last))
		}
		entries, err := b.ShowAudit(ctx, o.filter)
		return cli.List("records", entries), func(w io.Writer) { printEntries(w, entries) }, err
	})
}

func newAuditExplain(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: explainUse, Short: explainShort, Example: explainExample, Args: cli.Exactly(1, explainNeeds), RunE: inv.RunE(runExplain)}
}

func runExplain(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if id, err := hex.DecodeString(args[0]); err != nil || len(id) != 16 {
			return nil, nil, cli.Usage(fmt.Errorf(explainIDInvalid, args[0]))
		}
		entries, err := b.Explain(ctx, args[0])
		return cli.List("records", entries), func(w io.Writer) { printEntries(w, entries) }, err
	})
}

// checkpointOptions are the flags of "checkpoint".
type checkpointOptions struct {
	out string // --out
}

func newAuditCheckpoint(inv *cli.Invocation) *cobra.Command {
	var o checkpointOptions
	c := &cobra.Command{Use: checkpointUse, Short: checkpointShort, Example: checkpointExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.out, "out", "", checkpointFlagOut)
	return c
}

func (o *checkpointOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		checkpoint, err := b.Checkpoint(ctx)
		if err == nil && o.out != "" {
			err = cli.WriteNew(o.out, []byte(checkpoint.Note), 0o644)
		}
		return checkpoint, func(w io.Writer) {
			if o.out == "" {
				fmt.Fprint(w, checkpoint.Note)
				return
			}
			fmt.Fprintf(w, checkpointResult, o.out, checkpoint.Size, checkpoint.Root)
		}, err
	})
}

// archiveOptions are the flags of "archive".
type archiveOptions struct {
	keep int // --keep
}

func newAuditArchive(inv *cli.Invocation) *cobra.Command {
	var o archiveOptions
	c := &cobra.Command{Use: archiveUse, Short: archiveShort, Example: archiveExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Long = archiveLong
	c.Flags().IntVar(&o.keep, "keep", 8, archiveFlagKeep)
	return c
}

func (o *archiveOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if o.keep < 1 {
			return nil, nil, cli.Usage(errors.New(archiveKeepTooLow))
		}
		a, err := b.ArchiveAudit(ctx, operator.AuditArchive{Keep: o.keep})
		return a, func(w io.Writer) {
			fmt.Fprintf(w, archiveResult, len(a.Segments), a.Bytes, a.Directory, a.Records)
			fmt.Fprintln(w, archiveAdvice)
		}, err
	})
}

func newAuditVerifierKey(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{
		Use: vkeyUse, Short: vkeyShort,
		Long:    vkeyLong,
		Example: vkeyExample, Args: cli.Exactly(1, vkeyNeeds),
		RunE: inv.RunE(runVerifierKey),
	}
}

func runVerifierKey(ctx context.Context, inv *cli.Invocation, args []string) error {
	pub, err := keyfile.Public(args[0])
	if err != nil {
		return err
	}
	vkey, err := audit.VerifierKey(pub)
	if err != nil {
		return err
	}
	return inv.Print(map[string]string{"vkey": vkey, "origin": audit.Origin(pub)}, func(w io.Writer) { fmt.Fprintln(w, vkey) })
}

// printEntries writes a record in a few readable lines.
func printEntries(w io.Writer, entries []audit.Entry) {
	if len(entries) == 0 {
		fmt.Fprintln(w, showNone)
	}
	for _, e := range entries {
		r := readable(e.Record)
		fmt.Fprintf(w, "#%-5d %s  %s", e.Index, r.Time.Format(time.RFC3339), r.Kind)
		for _, part := range []string{r.Decision, r.Action, r.Actor, r.Resource} {
			if part != "" {
				fmt.Fprintf(w, "  %s", part)
			}
		}
		fmt.Fprintln(w)
		for _, f := range []struct{ name, value string }{
			{"peer", r.Peer}, {"lease", r.Grant}, {"version", keyVersion(r)}, {"refusal", r.RefusalID}, {"measurement", r.Measurement}, {"evidence", orEmpty(r.EvidenceDigest)},
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
			fmt.Fprintf(w, entryReason, text)
		}
	}
}

// readable has the name of a secret where the log's index has only the group of its record, such as secrets/3. In JSON
// records are as they are signed.
func readable(r audit.Record) audit.Record {
	if secret, err := operator.ParseSecretRecord(r); err == nil {
		r.Resource, r.Detail = secret.Name, secret.State.String()
	}
	return r
}

// orEmpty is a digest in hexadecimal, or nothing if it is absent.
func orEmpty(d digest.Digest) string {
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
	return fmt.Sprintf(entryPolicy, r.PolicyID, r.PolicyVersion)
}
