package round

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/agent/cli/sealed"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of "ledger".
const (
	ledgerUse             = "ledger [ACCOUNT | --sealed FILE]"
	ledgerShort           = "Show how much of its privacy an account's rounds have spent"
	ledgerTakes           = "one account"
	ledgerExample         = "  anchorhold fed ledger\n  anchorhold fed ledger dataset:5f2c...\n  anchorhold fed ledger --sealed digits.ahm"
	ledgerAccountOrSealed = "give an account or --sealed, not both"
	ledgerResult          = "account %s: epsilon %.4f of %g at delta %g (%.4f against an observer who does not see who takes part), %d rounds\n  (%s)\n"
	ledgerCharge          = "  %s  %s  multiplier %.4f  rate %g\n"
	ledgerFlagSealed      = "the account of this sealed model"
)

// ledgerOptions are the flags of "ledger".
type ledgerOptions struct {
	model string // --sealed
}

// NewLedger is the command "fed ledger".
func NewLedger(inv *cli.Invocation) *cobra.Command {
	var o ledgerOptions
	c := &cobra.Command{Use: ledgerUse, Short: ledgerShort, Example: ledgerExample, Args: cli.AtMostOne(ledgerTakes), RunE: inv.RunE(o.run)}
	c.Flags().StringVar(&o.model, "sealed", "", ledgerFlagSealed)
	dial.BrokerFlag(inv, c)
	return c
}

func (o *ledgerOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		account := federation.BrokerAccount
		var err error
		switch {
		case len(args) == 1 && o.model != "":
			return nil, nil, cli.Usage(errors.New(ledgerAccountOrSealed))
		case o.model != "":
			if _, account, err = sealed.Part(o.model); err != nil {
				return nil, nil, err
			}
		case len(args) == 1:
			if account, err = federation.ParseAccount(args[0]); err != nil {
				return nil, nil, cli.Usage(err)
			}
		}
		l, err := b.Ledger(ctx, account)
		return l, func(w io.Writer) {
			fmt.Fprintf(w, ledgerResult,
				l.Account, l.Epsilon, l.MaxEpsilon, l.Delta, l.EpsilonWithSampling, len(l.Charges), federation.AdjacencyText)
			for _, ch := range l.Charges {
				fmt.Fprintf(w, ledgerCharge, ch.Round, ch.Mechanism, ch.Multiplier, ch.Rate)
			}
		}, err
	})
}
