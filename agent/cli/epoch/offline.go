package epoch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/spf13/cobra"
)

// The words of "request".
const (
	requestUse     = "request --out FILE"
	requestShort   = "Make the next epoch's key and a request for the offline root to sign"
	requestExample = "  anchorhold epoch request --out epoch.request --days 60\n  anchorhold epoch request --out epoch.request --minimum 3   # ends epochs 1 and 2 as soon as it is imported"
	requestLong    = `Has the broker make the next epoch's key, which never leaves its state directory, and
writes what the root is asked to sign: the key's public half, its number, the audit key,
the validity, and optionally the only policy that may decide. The current epoch's key
signs the request. Carry the file to where the root key is, sign it there (epoch sign),
and bring the statement back (epoch import). Asking again before that asks for the same
key, with the validity given now.`
	requestDaysOutOfRange = "--days %d: an epoch lasts 1 to %d days"
	requestPinInvalid     = "--pin-policy %q is not a policy's digest: want 64 hexadecimal digits, as 'anchorhold policy show' prints them"
	requestUnread         = "the broker's request: %w"
	requestResult         = "%s: sign it where the root key is (anchorhold epoch sign)\n"
	requestFlagOut        = "new file for the request"
	requestFlagDays       = "validity of the epoch in days, from now"
	requestFlagMinimum    = "retire epochs below this number; 0 keeps the minimum"
	requestFlagNumber     = "lowest number to ask for, if the broker lost epochs that the root has signed"
	requestFlagPinPolicy  = "digest of the only policy that may decide in this epoch"
)

// The words of "sign".
const (
	signUse   = "sign --root FILE --request FILE --out FILE"
	signShort = "Sign a broker's request where the root key is"
	signLong  = `Needs no broker and no network. It verifies, by the epoch that the root signed before,
that the request comes from this root's broker; shows what it would sign; and compares
it with the last known statement: the number must be the next, the minimum no lower, the
end later, and no time may be left without an epoch. Only then does it open the root
key, with the key's own passphrase or credential.

The last statement is kept beside the root key (FILE.epoch) and prevents any number from
being signed twice: keep the two together. A request that was already signed gets the
same statement again. Without that file, the statement in the request is used instead,
and the output says so.

Exit status: 0 signed (with --show: may be signed), 1 failed, 2 wrong command line,
3 refused, with the reason.`
	signExample     = "  anchorhold epoch sign --root root.key --request epoch.request --show\n  anchorhold epoch sign --root root.key --request epoch.request --out epoch.statement --credential-file root.kek"
	signFlagRoot    = "the root key file, with its public half in FILE.pub"
	signFlagRequest = "the request that 'epoch request' wrote"
	signFlagLast    = "file with the last statement that the root signed (default: the root key's name with .epoch)"
	signFlagOut     = "new file for the statement"
	signFlagShow    = "show and check the request; sign nothing and open no key"
)

// The words of "import".
const (
	importUse     = "import FILE"
	importShort   = "Install the statement that the root signed"
	importExample = "  anchorhold epoch import epoch.statement"
	importNeeds   = "the file that 'epoch sign' wrote"
	importResult  = "epoch %d is %s until %s\n"
	importLong    = `Refuses, with the reason, a statement of another root (broker-unknown), one that this
root did not sign (epoch-signature-invalid), one about a key that this broker did not
request (epoch-request-unknown), one with a number that it did not request or already
has (epoch-number-not-next), and one for an epoch that is over (epoch-validity).`
)

// The words of "sign", beside its help, and of a statement as it is shown.
const (
	signLastUnknown      = "NOT CHECKED  whether the root signed a later statement: there is no %s; the request carries the statement about epoch %d\n"
	signSignedBefore     = "SIGNED BEFORE  the last statement is about this epoch and key; it is given again unchanged"
	signNotAsAsked       = "NOT AS ASKED  %s; a change takes another epoch: import this statement, then request the next\n"
	signShown            = "it may be signed; nothing was signed"
	signUnwritten        = "the statement is kept in %s, but could not be written: %w"
	signResult           = "%s: bring it to the broker (anchorhold epoch import)\n"
	signOtherMinimum     = "minimum %d was asked for, %d was signed"
	signOtherEnd         = "an end on %s was asked for, %s was signed"
	signOtherPolicy      = "another pinned policy was asked for"
	lastStatementInvalid = "%s, the last statement: %w"
	signRetiredEpoch     = "the request is signed by epoch %d, and %s retired epochs below %d: request from a broker whose epoch is still valid"
	signOtherKey         = "%s.pub is not the public half of %s"
	rotateSignedBefore   = "the root has already signed epoch %d (%s), but the broker asks for %d: use 'anchorhold epoch request --number %d', then 'epoch sign' and 'epoch import'"
	statementText        = "  broker       %x\n  epoch        %d\n  minimum      %d (%s)\n  valid        %s to %s\n  policy       %s\n  epoch key    %x\n  audit key    %x\n"
	statementAnyPolicy   = "any that the operator imports"
	statementOnePolicy   = "%x alone"
	statementRetiresNone = "retires no more than before"
	statementRetiresAll  = "RETIRES every other epoch at once, permanently"
)

// maxEpochDays bounds how long an epoch may be asked for.
const maxEpochDays = 3650

// requestOptions are the flags of "request".
type requestOptions struct {
	out  string // --out
	pin  string // --pin-policy
	days int    // --days
	ask  operator.EpochAsk
}

func newEpochRequest(inv *cli.Invocation) *cobra.Command {
	var o requestOptions
	c := &cobra.Command{Use: requestUse, Short: requestShort, Long: requestLong, Example: requestExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run, "out")}
	c.Flags().StringVar(&o.out, "out", "", requestFlagOut)
	c.Flags().IntVar(&o.days, "days", 60, requestFlagDays)
	c.Flags().Uint64Var(&o.ask.MinEpoch, "minimum", 0, requestFlagMinimum)
	c.Flags().Uint64Var(&o.ask.Number, "number", 0, requestFlagNumber)
	c.Flags().StringVar(&o.pin, "pin-policy", "", requestFlagPinPolicy)
	return c
}

func (o *requestOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if o.days < 1 || o.days > maxEpochDays {
		return cli.Usage(fmt.Errorf(requestDaysOutOfRange, o.days, maxEpochDays))
	}
	if o.pin != "" {
		raw, err := hex.DecodeString(strings.TrimPrefix(o.pin, "sha256:"))
		if err != nil || len(raw) != len(o.ask.PolicyPin) {
			return cli.Usage(fmt.Errorf(requestPinInvalid, o.pin))
		}
		copy(o.ask.PolicyPin[:], raw)
	}
	now := time.Now()
	o.ask.NotBefore, o.ask.NotAfter = now.Add(-time.Minute), now.AddDate(0, 0, o.days)
	signed, err := dial.Broker(inv).RequestEpoch(ctx, o.ask)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	if err := cli.WriteNew(o.out, signed.Request, 0o644); err != nil {
		return err
	}
	request, err := protocol.ParseEpochRequest(signed.Request) // the broker's own; verified where it is signed
	if err != nil {
		return fmt.Errorf(requestUnread, err)
	}
	return inv.Print(describeStatement(request.Asked, map[string]any{"request": o.out}), func(w io.Writer) {
		printStatement(w, request.Asked)
		fmt.Fprintf(w, requestResult, o.out)
	})
}

// signOptions are the flags of "sign".
type signOptions struct {
	unlock  keyfile.Unlock
	root    string // --root
	request string // --request
	last    string // --last
	out     string // --out
	show    bool   // --show
}

func newEpochSign(inv *cli.Invocation) *cobra.Command {
	var s signOptions
	c := &cobra.Command{
		Use: signUse, Short: signShort, Args: cobra.NoArgs,
		Long:    signLong,
		Example: signExample,
		RunE: func(c *cobra.Command, args []string) error {
			needed := []string{"root", "request", "out"}
			if s.show {
				needed = needed[:2]
			}
			return inv.RunE(s.run, needed...)(c, args)
		},
	}
	c.Flags().StringVar(&s.root, "root", "", signFlagRoot)
	c.Flags().StringVar(&s.request, "request", "", signFlagRequest)
	c.Flags().StringVar(&s.last, "last", "", signFlagLast)
	c.Flags().StringVar(&s.out, "out", "", signFlagOut)
	c.Flags().BoolVar(&s.show, "show", false, signFlagShow)
	s.unlock.Add(c)
	return c
}

func (s *signOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if s.last == "" {
		s.last = s.root + keyfile.LastEpoch
	}
	rootPublic, err := identity.ReadPublicFile(s.root + ".pub")
	if err != nil {
		return err
	}
	raw, err := cli.ReadFile(s.request)
	if err != nil {
		return err
	}
	asked, former, known, err := s.judge(raw, rootPublic, protocol.TimeOf(time.Now()))
	if err != nil {
		return cli.RefusedFor(err)
	}
	request, err := protocol.ParseEpochRequest(raw)
	if err != nil {
		return err
	}
	text := inv.Out
	if inv.AsJSON {
		text = inv.Err // standard output has the result alone
	}
	printStatement(text, asked)
	if !known {
		fmt.Fprintf(text, signLastUnknown, s.last, asked.Epoch-1)
	}
	result := describeStatement(asked, map[string]any{"last_known": known, "signed": !s.show, "signed_before": former != nil})
	if former != nil {
		fmt.Fprintln(text, signSignedBefore)
		for _, d := range differs(request.Asked, asked) {
			fmt.Fprintf(text, signNotAsAsked, d)
		}
	}
	if s.show {
		return inv.Print(result, func(w io.Writer) { fmt.Fprintln(w, signShown) })
	}
	signed := former
	if signed == nil {
		if signed, err = s.sign(ctx, inv, asked, rootPublic); err != nil {
			return err
		}
	}
	if err := cli.WriteNew(s.out, signed, 0o644); err != nil {
		return fmt.Errorf(signUnwritten, s.last, err)
	}
	result["statement"] = s.out
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, signResult, s.out)
	})
}

// differs says in what a request asks for something else than what was signed before.
func differs(asked, signed protocol.EpochStatement) (out []string) {
	if asked.MinEpoch != signed.MinEpoch {
		out = append(out, fmt.Sprintf(signOtherMinimum, asked.MinEpoch, signed.MinEpoch))
	}
	if asked.NotAfter != signed.NotAfter {
		out = append(out, fmt.Sprintf(signOtherEnd, asked.NotAfter.Time().Format(time.DateOnly), signed.NotAfter.Time().Format(time.DateOnly)))
	}
	if asked.AnyPolicy != signed.AnyPolicy || asked.PolicyDigest != signed.PolicyDigest {
		out = append(out, signOtherPolicy)
	}
	return out
}

// judge verifies the request and holds it against the last statement. former is that
// statement if it is what is asked for: signing was done already.
func (s *signOptions) judge(raw []byte, root identity.Public, now protocol.Time) (asked protocol.EpochStatement, former []byte, known bool, err error) {
	roots := []identity.Public{root}
	request, asking, err := protocol.VerifyEpochRequest(raw, roots)
	if err != nil {
		return asked, nil, false, err
	}
	kept, err := cli.ReadFile(s.last)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return request.Asked, nil, false, request.Asked.Follows(asking, now)
	case err != nil:
		return asked, nil, false, err
	}
	last, err := protocol.VerifyEpoch(kept, roots)
	if err != nil {
		return asked, nil, false, fmt.Errorf(lastStatementInvalid, s.last, err)
	}
	// The root ended that epoch, perhaps because its key was stolen: whoever has the key
	// would be the broker for every guest.
	if asking.Epoch < last.MinEpoch {
		return asked, nil, false, refusal.New(protocol.ReasonEpochRetired, signRetiredEpoch, asking.Epoch, s.last, last.MinEpoch)
	}
	if last.Epoch == request.Asked.Epoch && last.Key.Equal(request.Asked.Key) {
		return last, kept, true, nil
	}
	return request.Asked, nil, true, request.Asked.Follows(last, now)
}

// sign opens the root key and signs. The statement is kept before anybody has it, so that no
// number is signed twice.
func (s *signOptions) sign(ctx context.Context, inv *cli.Invocation, asked protocol.EpochStatement, public identity.Public) ([]byte, error) {
	if _, err := os.Lstat(s.out); err == nil {
		return nil, cli.ExplainNew(s.out, fs.ErrExist)
	}
	u, err := s.unlock.Open(ctx, inv.Err)
	if err != nil {
		return nil, err
	}
	defer keyfile.Wipe(u)
	root, err := idfile.Read(s.root, u)
	if err != nil {
		return nil, err
	}
	defer root.Wipe()
	if !root.Public().Equal(public) {
		return nil, fmt.Errorf(signOtherKey, s.root, s.root)
	}
	signed, err := protocol.SignEpoch(root, asked)
	if err != nil {
		return nil, err
	}
	return signed, keepLast(s.last, signed)
}

// keepNext keeps a statement that 'epoch rotate' had signed, where the file is kept at all.
func keepNext(path string, root identity.Public, signed []byte, epoch uint64) error {
	kept, err := cli.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	last, err := protocol.VerifyEpoch(kept, []identity.Public{root})
	if err != nil {
		return fmt.Errorf(lastStatementInvalid, path, err)
	}
	if last.Epoch >= epoch {
		return refusal.New(protocol.ReasonEpochNumber, rotateSignedBefore, last.Epoch, path, epoch, last.Epoch+1)
	}
	return keepLast(path, signed)
}

// keepLast puts a statement in the place of the last one, durably.
func keepLast(path string, signed []byte) error {
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := cli.WriteNew(next, signed, 0o600); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func newEpochImport(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{Use: importUse, Short: importShort, Example: importExample, Args: cli.Exactly(1, importNeeds), RunE: inv.RunE(runImport)}
	c.Long = importLong
	return c
}

func runImport(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		signed, err := cli.ReadFile(args[0])
		if err != nil {
			return nil, nil, err
		}
		info, err := b.ActivateEpoch(ctx, signed)
		return info, func(w io.Writer) {
			fmt.Fprintf(w, importResult, info.Epoch, info.State, info.NotAfter.Format(time.DateOnly))
		}, err
	})
}

// describeStatement is a statement in JSON, with more beside it.
func describeStatement(st protocol.EpochStatement, more map[string]any) map[string]any {
	more["broker"], more["epoch"], more["min_epoch"] = hex.EncodeToString(st.Broker[:]), st.Epoch, st.MinEpoch
	more["not_before"], more["not_after"] = st.NotBefore.Time(), st.NotAfter.Time()
	more["key"], more["audit_key"] = st.Key, hex.EncodeToString(st.AuditKey[:])
	if !st.AnyPolicy {
		more["policy"] = hex.EncodeToString(st.PolicyDigest[:])
	}
	return more
}

func printStatement(w io.Writer, st protocol.EpochStatement) {
	decides := statementAnyPolicy
	if !st.AnyPolicy {
		decides = fmt.Sprintf(statementOnePolicy, st.PolicyDigest)
	}
	retires := statementRetiresNone
	if st.MinEpoch == st.Epoch {
		retires = statementRetiresAll
	}
	key := st.Key.ID()
	fmt.Fprintf(w, statementText,
		st.Broker, st.Epoch, st.MinEpoch, retires, st.NotBefore.Time().Format(time.RFC3339), st.NotAfter.Time().Format(time.RFC3339), decides, key, st.AuditKey)
}
