// Package epoch has the commands that rotate the broker's signing key, with the root key at hand
// or offline.
//
// No number is signed twice: the last statement that a root signed is kept beside its key, and
// is written there before anyone gets it.
package epoch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/spf13/cobra"
)

// The words of "epoch".
const (
	epochShort = "Rotate the broker's signing key"
	epochLong  = `With the root key offline: 'epoch request' on the broker makes the next key and a
request, 'epoch sign' signs it where the root key is, and 'epoch import' on the broker
installs the statement. With the root key at hand, 'epoch rotate' does all three. Old
and new epochs overlap; retire the old one once every agent has seen the new one.`
)

// The words of "list".
const (
	listUse         = "list"
	listShort       = "List the broker's epochs"
	listExample     = "  anchorhold epoch list"
	listLine        = "epoch %-4d %-10s %-24s  %s\n"
	listValidity    = "%s to %s"
	listNone        = "no epochs"
	listUncertified = "not certified yet"
)

// The words of "retire".
const (
	retireUse       = "retire --epoch N"
	retireShort     = "Retire an epoch and remove its key"
	retireExample   = "  anchorhold epoch retire --epoch 1"
	retireNoEpoch   = "--epoch is required: the number of the epoch, from 1 (anchorhold epoch list)"
	retireResult    = "epoch %d is retired\n"
	retireFlagEpoch = "number of the epoch"
)

// The words of "rotate".
const (
	rotateUse           = "rotate --root FILE"
	rotateShort         = "Make and certify the next epoch"
	rotateExample       = "  anchorhold epoch rotate --root root.key --days 60"
	rotateNoRoot        = "--root is required: " + rotateFlagRoot
	rotateBadDays       = "--days must be from 1 to 3650, got %d"
	rotateResult        = "epoch %d is %s until %s\n"
	rotateFormerInvalid = "an earlier statement: %w"
	rotateFlagRoot      = "the root key file"
	rotateFlagDays      = "validity of the epoch in days"
	rotateFlagMinimum   = "retire epochs below this number for every agent that sees the statement; 0 keeps the minimum"
)

// New is the command "epoch".
func New(inv *cli.Invocation) *cobra.Command {
	c := cli.Subcommands("epoch", epochShort,
		epochLong,
		newEpochList(inv), newEpochRequest(inv), newEpochSign(inv), newEpochImport(inv), newEpochRotate(inv), newEpochRetire(inv))
	dial.BrokerFlag(inv, c)
	return c
}

func newEpochList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: listUse, Short: listShort, Example: listExample, Args: cobra.NoArgs, RunE: inv.RunE(runList)}
}

func runList(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.Epochs(ctx)
		return cli.List("epochs", all), func(w io.Writer) {
			if len(all) == 0 {
				fmt.Fprintln(w, listNone)
			}
			for _, e := range all {
				validity := listUncertified
				if !e.NotAfter.IsZero() {
					validity = fmt.Sprintf(listValidity, e.NotBefore.Format(time.DateOnly), e.NotAfter.Format(time.DateOnly))
				}
				fmt.Fprintf(w, listLine, e.Epoch, e.State, validity, e.Key)
			}
		}, err
	})
}

// retireOptions are the flags of "retire".
type retireOptions struct {
	retire uint64 // --epoch
}

func newEpochRetire(inv *cli.Invocation) *cobra.Command {
	var o retireOptions
	c := &cobra.Command{Use: retireUse, Short: retireShort, Example: retireExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run)}
	c.Flags().Uint64Var(&o.retire, "epoch", 0, retireFlagEpoch)
	return c
}

func (o *retireOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if o.retire == 0 {
			return nil, nil, cli.Usage(errors.New(retireNoEpoch))
		}
		return map[string]uint64{"retired": o.retire}, func(w io.Writer) { fmt.Fprintf(w, retireResult, o.retire) }, b.RetireEpoch(ctx, o.retire)
	})
}

// rotateOptions are the flags of "rotate".
type rotateOptions struct {
	unlock  keyfile.Unlock
	rootKey string // --root
	days    int    // --days
	minimum uint64 // --minimum
}

func newEpochRotate(inv *cli.Invocation) *cobra.Command {
	var o rotateOptions
	c := &cobra.Command{
		Use: rotateUse, Short: rotateShort, Args: cobra.NoArgs,
		Example: rotateExample,
		RunE:    inv.RunE(o.run),
	}
	c.Flags().StringVar(&o.rootKey, "root", "", rotateFlagRoot)
	c.Flags().IntVar(&o.days, "days", 60, rotateFlagDays)
	c.Flags().Uint64Var(&o.minimum, "minimum", 0, rotateFlagMinimum)
	o.unlock.Add(c)
	return c
}

func (o *rotateOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if o.rootKey == "" {
		return cli.Usage(errors.New(rotateNoRoot))
	}
	if o.days < 1 || o.days > 3650 {
		return cli.Usage(fmt.Errorf(rotateBadDays, o.days))
	}
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	root, err := idfile.Read(o.rootKey, u)
	if err != nil {
		return err
	}
	defer root.Wipe()
	b := dial.Broker(inv)
	request, err := b.PrepareEpoch(ctx)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	if o.minimum, err = keepsMinimum(ctx, b, root.Public(), o.rootKey+keyfile.LastEpoch, o.minimum); err != nil {
		return dial.Explain(err, inv.Broker)
	}
	now := time.Now()
	statement, err := statedir.CertifyEpoch(root, statedir.Certificate{Epoch: request.Epoch, MinEpoch: o.minimum, Key: request.Key,
		AuditKey: request.AuditKey, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(0, 0, o.days)})
	if err != nil {
		return err
	}
	if err := keepNext(o.rootKey+keyfile.LastEpoch, root.Public(), statement, request.Epoch); err != nil {
		return cli.RefusedFor(err)
	}
	info, err := b.ActivateEpoch(ctx, statement)
	if err != nil {
		return dial.Explain(err, inv.Broker)
	}
	return inv.Print(info, func(w io.Writer) {
		fmt.Fprintf(w, rotateResult, info.Epoch, info.State, info.NotAfter.Format(time.DateOnly))
	})
}

// keepsMinimum is the minimum that is asked for, or the highest that the root signed before: a
// guest that learns of the new epoch alone must not take one that was ended.
func keepsMinimum(ctx context.Context, b *operator.Client, root identity.Public, path string, minimum uint64) (uint64, error) {
	statements, err := dial.Statements(ctx, b)
	if err != nil {
		return 0, err
	}
	switch kept, err := cli.ReadFile(path); {
	case err == nil:
		statements = append(statements, string(kept))
	case !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	minimum = max(minimum, 1)
	for _, signed := range statements {
		st, err := protocol.VerifyEpoch([]byte(signed), []identity.Public{root})
		if err != nil {
			return 0, fmt.Errorf(rotateFormerInvalid, err)
		}
		minimum = max(minimum, st.MinEpoch)
	}
	return minimum, nil
}
