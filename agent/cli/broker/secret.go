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

// The words of "secret".
const (
	secretShort = "Store, list, retire and destroy secrets; in a guest, fetch one"
	secretLong  = "Secrets are sealed at rest and never shown again; only attested guests receive them. In a guest,\n\"secret get\" fetches one that its agent received, for a user whom the agent's configuration names."
)

// The words of "retire" and "destroy".
const (
	changeSecretUse            = " NAME VERSION" // behind the verb
	changeSecretNeeds          = "a name and a version"
	changeSecretVersionInvalid = "%q is not a version: want a number from 1"
	retireShort                = "Stop releasing one version"
	retireExample              = "  anchorhold secret retire models/demo 1"
	retireResult               = "%s version %d is retired\n"
	destroyShort               = "Remove one version permanently"
	destroyExample             = "  anchorhold secret destroy models/demo 1"
	destroyResult              = "%s version %d is destroyed\n"
)

// The words of "list".
const (
	secretListUse     = "list [PREFIX]"
	secretListShort   = "List secrets, without their values"
	secretListExample = "  anchorhold secret list models/"
	secretListTakes   = "one prefix"
	secretListLine    = "%-40s version %-5d %-10s %s%s\n"
	secretListNone    = "no secrets"
	secretListMore    = "... and more: give a PREFIX"
)

// newSecret is the command "secret".
func newSecret(inv *cli.Invocation, more ...*cobra.Command) *cobra.Command {
	retire := changeSecret(inv, "retire", retireShort, retireExample, changeSecretOptions{retireResult, (*operator.Client).RetireSecret})
	destroy := changeSecret(inv, "destroy", destroyShort, destroyExample, changeSecretOptions{destroyResult, (*operator.Client).DestroySecret})
	c := cli.Subcommands("secret", secretShort,
		secretLong, append([]*cobra.Command{newSecretPut(inv), newSecretList(inv), retire, destroy}, more...)...)
	dial.BrokerFlag(inv, c)
	return c
}

// changeSecretOptions are what "retire" and "destroy" differ in; they have no flags.
type changeSecretOptions struct {
	done   string // said when it is done
	change func(*operator.Client, context.Context, string, uint64) error
}

// changeSecret makes a command that changes one version of a secret.
func changeSecret(inv *cli.Invocation, verb, short, example string, o changeSecretOptions) *cobra.Command {
	return &cobra.Command{Use: verb + changeSecretUse, Short: short, Example: example, Args: cli.Exactly(2, changeSecretNeeds), RunE: inv.RunE(o.run)}
}

func (o *changeSecretOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		if err := keystore.CheckName(args[0]); err != nil {
			return nil, nil, cli.Usage(err)
		}
		version, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil || version == 0 {
			return nil, nil, cli.Usage(fmt.Errorf(changeSecretVersionInvalid, args[1]))
		}
		return operator.SecretVersion{Name: args[0], Version: version}, func(w io.Writer) {
			fmt.Fprintf(w, o.done, args[0], version)
		}, o.change(b, ctx, args[0], version)
	})
}

func newSecretList(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{Use: secretListUse, Short: secretListShort, Example: secretListExample, Args: cli.AtMostOne(secretListTakes), RunE: inv.RunE(runSecretList)}
}

func runSecretList(ctx context.Context, inv *cli.Invocation, args []string) error {
	return dial.Ask(inv, func(b *operator.Client) (any, func(io.Writer), error) {
		all, err := b.Secrets(ctx, strings.Join(args, ""))
		all.Secrets = append([]keystore.Info{}, all.Secrets...) // in JSON an empty list is []
		return all, func(w io.Writer) {
			if len(all.Secrets) == 0 {
				fmt.Fprintln(w, secretListNone)
			}
			for _, s := range all.Secrets {
				fmt.Fprintf(w, secretListLine, s.Name, s.Version, s.State, s.Meta.Kind, subjectText(s.Meta))
			}
			if all.More {
				fmt.Fprintln(w, secretListMore)
			}
		}, err
	})
}
