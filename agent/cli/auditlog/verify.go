package auditlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/spf13/cobra"
)

// The words of "verify".
const (
	verifyUse   = "verify"
	verifyShort = "Verify the whole log: chain, tree and every signature"
	verifyLong  = `Verifies the broker's log. Without --dir the broker verifies its own, and compares its
disk with what it has in memory; with --dir and --key this program verifies a copy, and
trusts nothing but the audit key.

A log without a signed checkpoint is refused (checkpoint-missing), and so is an empty
directory. With --checkpoint the log must extend a checkpoint that was kept elsewhere.
It is called sound if it does and every record was read, and incomplete if archived
records were not read. Without --checkpoint it is called consistent: its own checkpoints
show that the audit key signed these records in this order, but not that they are all.
The log may have been restored to an older checkpoint, or the audit key may have signed
another log. Records after the last checkpoint are named: they are chained, but nobody
has signed them yet.

The signing key is compared with --key, and with the root's statement about an epoch if
--root is given: the broker's own statements, or --statement FILE (epochs/*.statement of
the state directory). Whatever was not checked is printed.

Exit status:
  0  sound; or consistent or incomplete, if a flag accepts that:
     --accept-own-checkpoints, --accept-unread-archives
  1  it could not be verified: a file cannot be read, the broker does not answer
  2  wrong command line
  3  it does not hold: changed, cut, forked, signed by another key, or not signed
  4  what was checked holds, but the log is only consistent or incomplete`
	verifyExample = `  anchorhold audit verify --checkpoint /mnt/elsewhere/checkpoint --root root.key.pub
  anchorhold audit verify --checkpoint monday --checkpoint tuesday --json
  anchorhold audit verify --dir /backup/audit --key audit.pub --archive /backup/segments --checkpoint kept
  anchorhold audit verify --dir /backup/audit --key audit.pub --root root.key.pub --statement /backup/epochs/00000001.statement`
	verifyFlagDir                  = "verify this copy of the log instead"
	verifyFlagKey                  = "the expected audit key, its public half (ahpub1... or a file)"
	verifyFlagRoot                 = "the broker's root identity (ahpub1... or a file), which must vouch for the audit key"
	verifyFlagStatement            = "file with the root's statement about an epoch, for --root (repeat for several)"
	verifyFlagArchive              = "directory with archived segments (repeat for several)"
	verifyFlagCheckpoint           = "file with a checkpoint that the log must extend (repeat for several)"
	verifyFlagAcceptOwnCheckpoints = "exit with 0 even without a checkpoint kept elsewhere: the log may be an older state of itself"
	verifyFlagAcceptUnreadArchives = "exit with 0 even if archived records were not read"
)

// The words of "verify", beside its help.
const (
	verifyArchiveAlone         = "--archive needs --dir: the broker reads its own archive directory"
	verifyDirWithoutKey        = "--dir needs --key, the audit key's public half"
	verifyStatementAlone       = "--statement needs --root, the root that made the statement"
	verifyRootWithoutStatement = "--root needs --statement with --dir: a copy of the log does not hold the root's statements"
	verifyNoCheckpoint         = "it was compared with no checkpoint kept elsewhere (--checkpoint, or --accept-own-checkpoints)"
	verifyUnread               = "%s not read (--archive, or --accept-unread-archives)"
	archivedOne                = "archived record was"
	archivedMany               = "archived records were"
	verifyKeyUnread            = "--key: %w"
	verifyRootUnread           = "--root: %w"
	verifyCheckpointInvalid    = "--checkpoint %s: %w"
	verifyStatementInvalid     = "--statement %s: %w"
	verifyOtherKey             = "the log is signed by %s, but --key is %s"
	verifyUnvouchedKey         = "none of the root's %d statements names %s, which signed the log"
	checkedKeyGiven            = "the key that was given"
	checkedStatement           = "the root's statement about epoch %d"
	verifyBrokerFailed         = "the broker did not verify its log: %w"
	verifyRefused              = "the log does NOT hold: %s\n"
	openRollback               = "whether the log was restored to an older checkpoint, or replaced: that takes a checkpoint kept elsewhere (--checkpoint)"
	openUnsigned               = "records %d to %d: no checkpoint covers them, so whoever writes the disk could have changed or cut them (anchorhold audit checkpoint)"
	openArchived               = "what %d archived records say: they were not read, but their hashes lead to the signed root (--archive reads them)"
	openKey                    = "whether %s is the key that you expect: the broker named it itself (--key or --root)"
	openRoot                   = "whether the root vouches for the audit key (--root)"
	recordOne                  = "record"
	recordMany                 = "records"
	checkpointOne              = "signed checkpoint"
	checkpointMany             = "signed checkpoints"
	soundText                  = "the log is sound: %s, %s, and it extends %d kept elsewhere\n"
	incompleteText             = "the log is incomplete here: of %s %d were read; %s, and it extends %d kept elsewhere\n"
	consistentText             = "the log is consistent: %s, %s of its own, compared with none kept elsewhere\n"
	verdictDetails             = "  covered      %s\n  Merkle root  %s\n  signed by    %s\n"
	verdictKey                 = "               which matches %s\n"
	verdictClock               = "  clock        set back %s by the broker's operator (audit show --kind service)\n"
	verdictInputs              = "  inputs       %d of %d decisions that name one have theirs (policy replay)\n"
	timeOne                    = "time"
	timeMany                   = "times"
	verdictNotChecked          = "  NOT CHECKED  %s\n"
	verdictTornTail            = "a crash cut the last write short; it was never acknowledged"
	soundFirst                 = "the first %d of %s, which are signed"
	verifyProgressLine         = "%d of about %d records verified\n"
)

// Verdicts on a log. Only a checkpoint from elsewhere shows that a log was not restored to an
// earlier state, so without one a log is never called sound.
const (
	verdictSound      = "sound"
	verdictConsistent = "consistent"
	verdictIncomplete = "incomplete"
	verdictRefused    = "refused"
)

// auditVerdict is what `audit verify --json` prints.
type auditVerdict struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// Report is missing if the log was refused.
	*audit.Report
	// NotCovered are the first and the last record that no checkpoint covers.
	NotCovered []uint64 `json:"not_covered,omitempty"`
	// KeyChecked says against what the key that signed was held; empty if against nothing.
	KeyChecked string `json:"key_checked,omitempty"`
	// NotChecked is everything that this verification leaves open.
	NotChecked []string `json:"not_checked,omitempty"`
}

// verifyOptions are the flags of "verify".
type verifyOptions struct {
	dir          string   // --dir
	key          string   // --key
	root         string   // --root
	archives     []string // --archive
	kept         []string // --checkpoint
	statements   []string // --statement
	acceptOwn    bool     // --accept-own-checkpoints
	acceptUnread bool     // --accept-unread-archives
}

func newAuditVerify(inv *cli.Invocation) *cobra.Command {
	var v verifyOptions
	c := &cobra.Command{
		Use: verifyUse, Short: verifyShort,
		Long:    verifyLong,
		Example: verifyExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(v.run),
	}
	c.Flags().StringVar(&v.dir, "dir", "", verifyFlagDir)
	c.Flags().StringVar(&v.key, "key", "", verifyFlagKey)
	c.Flags().StringVar(&v.root, "root", "", verifyFlagRoot)
	c.Flags().StringArrayVar(&v.statements, "statement", nil, verifyFlagStatement)
	c.Flags().StringArrayVar(&v.archives, "archive", nil, verifyFlagArchive)
	c.Flags().StringArrayVar(&v.kept, "checkpoint", nil, verifyFlagCheckpoint)
	c.Flags().BoolVar(&v.acceptOwn, "accept-own-checkpoints", false, verifyFlagAcceptOwnCheckpoints)
	c.Flags().BoolVar(&v.acceptUnread, "accept-unread-archives", false, verifyFlagAcceptUnreadArchives)
	return c
}

func (v *verifyOptions) check() error {
	switch {
	case v.dir == "" && len(v.archives) > 0:
		return cli.Usage(errors.New(verifyArchiveAlone))
	case v.dir != "" && v.key == "":
		return cli.Usage(errors.New(verifyDirWithoutKey))
	case len(v.statements) > 0 && v.root == "":
		return cli.Usage(errors.New(verifyStatementAlone))
	case v.dir != "" && v.root != "" && len(v.statements) == 0:
		return cli.Usage(errors.New(verifyRootWithoutStatement))
	}
	return nil
}

func (v *verifyOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if err := v.check(); err != nil {
		return err
	}
	key, root, err := v.expected()
	if err != nil {
		return err
	}
	notes, err := readAll(v.kept)
	if err != nil {
		return err
	}
	statements, err := readAll(v.statements)
	if err != nil {
		return err
	}
	if err := v.checkFiles(notes, statements, root); err != nil {
		return v.refused(inv, err)
	}
	broker, progress := dial.Broker(inv), verifyProgress(inv.Err)
	var report audit.Report
	if v.dir == "" {
		report, err = broker.VerifyAudit(ctx, operator.AuditCheck{Kept: notes, Names: v.kept}, progress)
	} else {
		report, err = v.verifyCopy(ctx, key, notes, progress)
	}
	if err == nil && v.root != "" && v.dir == "" && len(statements) == 0 {
		statements, err = dial.Statements(ctx, broker)
	}
	out := auditVerdict{Report: &report}
	if err == nil {
		out.KeyChecked, err = checkAuditKey(report.Last, key, root, statements)
	}
	if err != nil {
		return v.refused(inv, err)
	}
	out.conclude(root)
	return errors.Join(inv.Print(out, out.write), v.open(out))
}

// open is an error if the verdict needs what was not checked, unless the flags say that this
// is known: scripts go by the exit status alone.
func (v *verifyOptions) open(out auditVerdict) error {
	var why []error
	if out.Kept == 0 && !v.acceptOwn {
		why = append(why, errors.New(verifyNoCheckpoint))
	}
	if out.Archived > 0 && !v.acceptUnread {
		why = append(why, fmt.Errorf(verifyUnread, counted(out.Archived, archivedOne, archivedMany)))
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", cli.ErrOpen, errors.Join(why...))
}

func counted(n uint64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// expected reads the key and the root that were given; zero where none was.
func (v *verifyOptions) expected() (key, root identity.Public, err error) {
	if v.key != "" {
		if key, err = keyfile.Public(v.key); err != nil {
			return key, root, fmt.Errorf(verifyKeyUnread, err)
		}
	}
	if v.root != "" {
		if root, err = keyfile.Public(v.root); err != nil {
			return key, root, fmt.Errorf(verifyRootUnread, err)
		}
	}
	return key, root, nil
}

// checkFiles refuses files that are not what they are given as, by their names. Whether the
// checkpoints are of the log's key is found where the log is read.
func (v *verifyOptions) checkFiles(notes, statements []string, root identity.Public) error {
	for i, n := range notes {
		if _, err := audit.ParseCheckpoint([]byte(n)); err != nil {
			return fmt.Errorf(verifyCheckpointInvalid, v.kept[i], err)
		}
	}
	for i, s := range statements {
		if _, err := protocol.VerifyEpoch([]byte(s), []identity.Public{root}); err != nil {
			return fmt.Errorf(verifyStatementInvalid, v.statements[i], err)
		}
	}
	return nil
}

func (v *verifyOptions) verifyCopy(ctx context.Context, key identity.Public, notes []string, progress func(done, total uint64)) (audit.Report, error) {
	check := audit.Check{Keys: []identity.Public{key}, Archives: v.archives, Names: v.kept, Progress: progress}
	for _, n := range notes {
		check.Kept = append(check.Kept, []byte(n))
	}
	return check.Verify(ctx, v.dir)
}

func readAll(paths []string) (content []string, err error) {
	for _, path := range paths {
		b, err := cli.ReadFile(path)
		if err != nil {
			return nil, err
		}
		content = append(content, string(b))
	}
	return content, nil
}

// checkAuditKey holds the key that signed the last checkpoint against what is expected, and
// returns against what. Signatures are verified here too, whoever read the log.
func checkAuditKey(last audit.Checkpoint, key, root identity.Public, statements []string) (checked string, err error) {
	if !key.IsZero() {
		if last.Origin != audit.Origin(key) {
			return "", refusal.New(audit.ReasonOtherKey, verifyOtherKey, last.Origin, audit.Origin(key))
		}
		if err := last.Verify(key); err != nil {
			return "", err
		}
		checked = checkedKeyGiven
	}
	if root.IsZero() {
		return checked, nil
	}
	for _, signed := range statements {
		st, err := protocol.VerifyEpoch([]byte(signed), []identity.Public{root})
		if err != nil {
			return "", err
		}
		if audit.OriginOf(st.AuditKey) == last.Origin {
			return fmt.Sprintf(checkedStatement, st.Epoch), nil
		}
	}
	return "", refusal.New(audit.ReasonOtherKey, verifyUnvouchedKey, len(statements), last.Origin)
}

// refused tells a log that does not hold from one that could not be verified.
func (v *verifyOptions) refused(inv *cli.Invocation, err error) error {
	out := auditVerdict{Verdict: verdictRefused, Detail: err.Error()}
	reason, refused := refusal.ReasonOf(err)
	switch answer, isAnswer := errors.AsType[*operator.Error](err); {
	case isAnswer && answer.Status == http.StatusConflict && answer.Code != "failed":
		out.Reason = answer.Code
	case isAnswer:
		return cli.Named(answer.Code, fmt.Errorf(verifyBrokerFailed, answer))
	case refused:
		out.Reason = string(reason)
	case errors.Is(err, audit.ErrTampered):
		out.Reason = "audit-tampered"
	case v.dir != "":
		return err
	default:
		return dial.Explain(err, inv.Broker)
	}
	return errors.Join(inv.Print(out, func(w io.Writer) {
		fmt.Fprintf(w, verifyRefused, out.Reason)
	}), fmt.Errorf("%w: %w", cli.ErrRefused, err))
}

// conclude says what the report is worth.
func (v *auditVerdict) conclude(root identity.Public) {
	v.Verdict = verdictConsistent
	open := func(format string, args ...any) { v.NotChecked = append(v.NotChecked, fmt.Sprintf(format, args...)) }
	switch {
	case v.Kept > 0 && v.Archived == 0:
		v.Verdict = verdictSound
	case v.Kept > 0:
		v.Verdict = verdictIncomplete
	default:
		open(openRollback)
	}
	if v.Unsigned > 0 {
		v.NotCovered = []uint64{v.Records - v.Unsigned, v.Records - 1}
		open(openUnsigned, v.NotCovered[0], v.NotCovered[1])
	}
	if v.Archived > 0 {
		open(openArchived, v.Archived)
	}
	switch {
	case v.KeyChecked == "":
		open(openKey, v.Last.Origin)
	case root.IsZero():
		open(openRoot)
	}
}

func (v *auditVerdict) write(w io.Writer) {
	records := counted(v.Records, recordOne, recordMany)
	checkpoints := counted(v.Checkpoints, checkpointOne, checkpointMany)
	switch v.Verdict {
	case verdictSound:
		if v.Unsigned > 0 {
			records = fmt.Sprintf(soundFirst, v.Records-v.Unsigned, records)
		}
		fmt.Fprintf(w, soundText, records, checkpoints, v.Kept)
	case verdictIncomplete:
		fmt.Fprintf(w, incompleteText, records, v.Records-v.Archived, checkpoints, v.Kept)
	default:
		fmt.Fprintf(w, consistentText, records, checkpoints)
	}
	fmt.Fprintf(w, verdictDetails, counted(v.Records-v.Unsigned, recordOne, recordMany), v.Root, v.Last.Origin)
	if v.KeyChecked != "" {
		fmt.Fprintf(w, verdictKey, v.KeyChecked)
	}
	if v.SetBack > 0 {
		fmt.Fprintf(w, verdictClock, counted(v.SetBack, timeOne, timeMany))
	}
	if named := v.InputsKept + v.InputsMissing; named > 0 {
		fmt.Fprintf(w, verdictInputs, v.InputsKept, named)
	}
	for _, n := range v.NotChecked {
		fmt.Fprintf(w, verdictNotChecked, n)
	}
	if v.TornTail {
		fmt.Fprintln(w, verdictTornTail)
	}
}

// verifyProgress tells on standard error how far a long verification is.
func verifyProgress(w io.Writer) func(done, total uint64) {
	last := time.Now()
	return func(done, total uint64) {
		if now := time.Now(); now.Sub(last) >= 2*time.Second {
			last = now
			fmt.Fprintf(w, verifyProgressLine, done, total)
		}
	}
}
