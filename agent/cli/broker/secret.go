package broker

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/dial"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// NewSecret is the command "secret".
func NewSecret(inv *cli.Invocation) *cobra.Command {
	list := dial.Operate(inv, "list [PREFIX]", "List secrets, without their values", "  anchorhold secret list models/", cobra.MaximumNArgs(1),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			all, err := b.Secrets(ctx, strings.Join(args, ""))
			return all, func(w io.Writer) {
				for _, s := range all.Secrets {
					fmt.Fprintf(w, "%-40s version %-5d %-10s %s%s\n", s.Name, s.Version, s.State, s.Meta.Kind, subjectText(s.Meta))
				}
				if all.More {
					fmt.Fprintln(w, "... and more: give a PREFIX")
				}
			}, err
		})
	retire := changeSecret(inv, "retire", "Stop releasing one version", (*operator.Client).RetireSecret)
	destroy := changeSecret(inv, "destroy", "Remove one version for ever", (*operator.Client).DestroySecret)
	c := cli.Subcommands("secret", "Store, list, retire and destroy secrets",
		"Secrets are sealed at rest and never shown again; attested guests receive them.", newSecretPut(inv), list, retire, destroy)
	dial.BrokerFlag(inv, c)
	return c
}

func changeSecret(inv *cli.Invocation, verb, short string, change func(*operator.Client, context.Context, string, uint64) error) *cobra.Command {
	return dial.Operate(inv, verb+" NAME VERSION", short, "  anchorhold secret "+verb+" models/demo 1", cli.Exactly(2, "a name and a version"),
		func(ctx context.Context, b *operator.Client, args []string) (any, func(io.Writer), error) {
			if err := keystore.CheckName(args[0]); err != nil {
				return nil, nil, cli.Usage(err)
			}
			version, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil || version == 0 {
				return nil, nil, cli.Usage(fmt.Errorf("%q is no version", args[1]))
			}
			return operator.SecretVersion{Name: args[0], Version: version}, func(w io.Writer) {
				fmt.Fprintf(w, "%s version %d: %s done\n", args[0], version, verb)
			}, change(b, ctx, args[0], version)
		})
}
