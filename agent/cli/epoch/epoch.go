// Package epoch is the commands that rotate the broker's signing key, with the root key at hand
// or offline.
//
// No number is signed twice: the last statement that a root signed is kept beside its key, and
// before anybody has it.
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
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/spf13/cobra"
)

// New is the command "epoch".
func New(inv *cli.Invocation) *cobra.Command {
	list := dial.Operate(inv, "list", "List the broker's epochs", "  anchorhold epoch list", cobra.NoArgs,
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
	retireCommand := dial.Operate(inv, "retire --epoch N", "Forget an epoch and its key", "  anchorhold epoch retire --epoch 1", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if retire == 0 {
				return nil, nil, cli.Usage(errors.New("--epoch is needed: the number of the epoch, from 1 (anchorhold epoch list)"))
			}
			return map[string]uint64{"retired": retire}, func(w io.Writer) { fmt.Fprintf(w, "epoch %d is retired\n", retire) }, b.RetireEpoch(ctx, retire)
		})
	retireCommand.Flags().Uint64Var(&retire, "epoch", 0, "number of the epoch")
	c := cli.Subcommands("epoch", "Rotate the broker's signing key",
		`With the root key offline: 'epoch request' on the broker makes the next key and a
request, 'epoch sign' where the root key is signs it, 'epoch import' on the broker
installs the statement. With the root key at hand, 'epoch rotate' does all three.
Old and new epochs overlap; retire the old one when every agent has seen the new.`,
		list, newEpochRequest(inv), newEpochSign(inv), newEpochImport(inv), newEpochRotate(inv), retireCommand)
	dial.BrokerFlag(inv, c)
	return c
}

func newEpochRotate(inv *cli.Invocation) *cobra.Command {
	var unlock keyfile.Unlock
	var rootKey string
	var days int
	var minimum uint64
	c := &cobra.Command{
		Use: "rotate --root FILE", Short: "Make and certify the next epoch", Args: cobra.NoArgs,
		Example: "  anchorhold epoch rotate --root root.key --days 60",
		RunE: func(c *cobra.Command, _ []string) error {
			if rootKey == "" || days < 1 || days > 3650 {
				return cli.Usage(errors.New("--root is needed, and --days from 1 to 3650"))
			}
			u, err := unlock.Open(c)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(u)
			root, err := identity.ReadKeyFile(rootKey, u)
			if err != nil {
				return err
			}
			defer root.Wipe()
			b := dial.Broker(inv, c)
			request, err := b.PrepareEpoch(c.Context())
			if err != nil {
				return dial.Explain(err, inv.Broker)
			}
			if minimum, err = keepsMinimum(c.Context(), b, root.Public(), rootKey+keyfile.LastEpoch, minimum); err != nil {
				return dial.Explain(err, inv.Broker)
			}
			now := time.Now()
			statement, err := statedir.CertifyEpoch(root, statedir.Certificate{Epoch: request.Epoch, MinEpoch: minimum, Key: request.Key,
				AuditKey: request.AuditKey, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(0, 0, days)})
			if err != nil {
				return err
			}
			if err := keepNext(rootKey+keyfile.LastEpoch, root.Public(), statement, request.Epoch); err != nil {
				return cli.RefusedFor(err)
			}
			info, err := b.ActivateEpoch(c.Context(), statement)
			if err != nil {
				return dial.Explain(err, inv.Broker)
			}
			return inv.Print(c.OutOrStdout(), info, func(w io.Writer) {
				fmt.Fprintf(w, "epoch %d is %s until %s\n", info.Epoch, info.State, info.NotAfter.Format(time.DateOnly))
			})
		},
	}
	c.Flags().StringVar(&rootKey, "root", "", "the root key file")
	c.Flags().IntVar(&days, "days", 60, "how long the epoch lasts")
	c.Flags().Uint64Var(&minimum, "minimum", 0, "retire epochs below this number for every agent that sees the statement; 0 keeps the minimum")
	unlock.Add(c)
	return c
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
			return 0, fmt.Errorf("a statement that was signed before: %w", err)
		}
		minimum = max(minimum, st.MinEpoch)
	}
	return minimum, nil
}
