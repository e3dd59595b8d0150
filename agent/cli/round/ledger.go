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

// NewLedger is the command "fed ledger".
func NewLedger(inv *cli.Invocation) *cobra.Command {
	var model string
	c := dial.Operate(inv, "ledger [ACCOUNT | --sealed FILE]", "Show what an account's rounds spent of its privacy", "  anchorhold fed ledger\n  anchorhold fed ledger dataset:5f2c...\n  anchorhold fed ledger --sealed digits.ahm", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			account := federation.BrokerAccount
			var err error
			switch {
			case len(args) == 1 && model != "":
				return nil, nil, cli.Usage(errors.New("an account or --sealed, not both"))
			case model != "":
				if _, account, err = sealed.Part(model); err != nil {
					return nil, nil, err
				}
			case len(args) == 1:
				if account, err = federation.ParseAccount(args[0]); err != nil {
					return nil, nil, cli.Usage(err)
				}
			}
			l, err := b.Ledger(ctx, account)
			return l, func(w io.Writer) {
				fmt.Fprintf(w, "account %s: epsilon %.4f of %g at delta %g (%.4f against who does not see who takes part), %d rounds\n  (%s)\n",
					l.Account, l.Epsilon, l.MaxEpsilon, l.Delta, l.EpsilonWithSampling, len(l.Charges), federation.AdjacencyText)
				for _, ch := range l.Charges {
					fmt.Fprintf(w, "  %s  %s  multiplier %.4f  rate %g\n", ch.Round, ch.Mechanism, ch.Multiplier, ch.Rate)
				}
			}, err
		})
	c.Flags().StringVar(&model, "sealed", "", "the account of this sealed model")
	dial.BrokerFlag(inv, c)
	return c
}
