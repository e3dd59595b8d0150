package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/spf13/cobra"
)

func newEpoch(inv *invocation) *cobra.Command {
	list := operate(inv, "list", "List the broker's epochs", "  anchorhold epoch list", cobra.NoArgs,
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
	retireCommand := operate(inv, "retire --epoch N", "Forget an epoch and its key", "  anchorhold epoch retire --epoch 1", cobra.NoArgs,
		func(ctx context.Context, b *operator.Client, _ []string) (any, func(io.Writer), error) {
			if retire == 0 {
				return nil, nil, usageError{errors.New("--epoch is needed: the number of the epoch, from 1 (anchorhold epoch list)")}
			}
			return map[string]uint64{"retired": retire}, func(w io.Writer) { fmt.Fprintf(w, "epoch %d is retired\n", retire) }, b.RetireEpoch(ctx, retire)
		})
	retireCommand.Flags().Uint64Var(&retire, "epoch", 0, "number of the epoch")
	c := subcommands("epoch", "Rotate the broker's signing key",
		`With the root key offline: 'epoch request' on the broker makes the next key and a
request, 'epoch sign' where the root key is signs it, 'epoch import' on the broker
installs the statement. With the root key at hand, 'epoch rotate' does all three.
Old and new epochs overlap; retire the old one when every agent has seen the new.`,
		list, newEpochRequest(inv), newEpochSign(inv), newEpochImport(inv), newEpochRotate(inv), retireCommand)
	brokerFlag(inv, c)
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
			b := brokerClient(inv, c)
			request, err := b.PrepareEpoch(c.Context())
			if err != nil {
				return explainBroker(err, inv.broker)
			}
			if minimum, err = keepsMinimum(c.Context(), b, root.Public(), rootKey+lastEpochSuffix, minimum); err != nil {
				return explainBroker(err, inv.broker)
			}
			now := time.Now()
			statement, err := statedir.CertifyEpoch(root, statedir.Certificate{Epoch: request.Epoch, MinEpoch: minimum, Key: request.Key,
				AuditKey: request.AuditKey, NotBefore: now.Add(-time.Minute), NotAfter: now.AddDate(0, 0, days)})
			if err != nil {
				return err
			}
			if err := keepNext(rootKey+lastEpochSuffix, root.Public(), statement, request.Epoch); err != nil {
				return refusedFor(err)
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
	c.Flags().Uint64Var(&minimum, "minimum", 0, "retire epochs below this number for every agent that sees the statement; 0 keeps the minimum")
	unlock.add(c)
	return c
}

// keepsMinimum is the minimum that is asked for, or the highest that the root signed before: a
// guest that learns of the new epoch alone must not take one that was ended.
func keepsMinimum(ctx context.Context, b *operator.Client, root identity.Public, path string, minimum uint64) (uint64, error) {
	statements, err := brokersStatements(ctx, b)
	if err != nil {
		return 0, err
	}
	switch kept, err := readBounded(path); {
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
