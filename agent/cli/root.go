// Package cli holds everything that the commands of anchorhold have in common: exit statuses
// and error objects, output as text or JSON, the rules about flags and arguments, and new
// files.
//
// A command is a package below this one. It never ends the process: its error says, through
// [StatusOf] and [Failure], with which status and reason the program ends. Text from elsewhere
// goes through [Printable], so that no name can control a terminal.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Program is a command line: its version and its commands.
type Program struct {
	Version string
	// Commands makes the commands, which share the flags of the invocation.
	Commands func(*Invocation) []*cobra.Command
	// Top makes the command above them, of another program than anchorhold; nil is anchorhold's.
	Top func(*Invocation) *cobra.Command
}

// anchorhold is the command above all others of that program.
func anchorhold(*Invocation) *cobra.Command {
	return &cobra.Command{
		Use:   "anchorhold",
		Short: "Seal models, operate a key broker, talk to an attested guest",
		Long: `anchorhold is the command line of Anchorhold. Its commands, by who uses them:

  publisher       keygen publisher, keygen model, seal, inspect
  broker operator keygen broker, policy, secret, volume, leases, epoch, audit, collateral, status
  client          chat, embed, score, evidence, receipt, proof, status
  guest           secret get, status
  federation      fed, jobs, params
  admin           doctor, release, version

Every command takes --json for scripts and then prints one object; a list is one of its
members. A command that fails without a result prints
{"error": {"reason": CODE, "message": TEXT}}.

Exit status: 0 done, 1 failed, 2 wrong command line, 3 refused or does not hold, 4 holds as
far as it was checked (audit verify).`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

// Root is the tree of commands.
func (p Program) Root() *cobra.Command {
	inv := &Invocation{}
	top := p.Top
	if top == nil {
		top = anchorhold
	}
	root := top(inv)
	root.Version, root.SilenceUsage, root.SilenceErrors, root.Args = p.Version, true, true, knownCommand
	root.PersistentFlags().BoolVar(&inv.AsJSON, "json", false, "print JSON")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return Usage(fmt.Errorf("%w\nSee '%s --help'", invalidValue(err), c.CommandPath()))
	})
	root.AddCommand(append(p.Commands(inv), newVersion(inv, root.Name(), p.Version))...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	complainOfArguments(root)
	return root
}

// newVersion prints what the flag --version prints, as agent and broker do.
func newVersion(inv *Invocation, program, version string) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: cobra.NoArgs,
		Example: fmt.Sprintf("  %[1]s version\n  %[1]s version --json | jq -r .version", program),
		RunE: inv.RunE(func(_ context.Context, inv *Invocation, _ []string) error {
			return inv.Print(map[string]string{"version": version}, func(w io.Writer) {
				fmt.Fprintln(w, program, "version", version)
			})
		}),
	}
}

// complainOfArguments makes wrong arguments of a command and of all below it errors of the
// command line, whoever's check finds them.
func complainOfArguments(c *cobra.Command) {
	check := c.Args
	if c.Name() == "help" {
		check = func(c *cobra.Command, args []string) error {
			if found, rest, err := c.Root().Find(args); err != nil || len(rest) > 0 {
				return errors.Join(err, knownCommand(found, rest))
			}
			return nil
		}
	}
	if !c.Runnable() {
		check = knownCommand // cobra checks only what runs
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			err := errors.Join(emptyFlags(c), noArguments(c, check(c, args), args))
			if _, done := errors.AsType[usageError](err); err == nil || done {
				return err
			}
			return Usage(fmt.Errorf("%w\nSee '%s --help'", err, c.CommandPath()))
		}
	}
	for _, child := range c.Commands() {
		complainOfArguments(child)
	}
}

// noArguments says in place of cobra, which takes a command's arguments for commands, that it
// takes none; other errors stay.
func noArguments(c *cobra.Command, err error, args []string) error {
	if none := cobra.NoArgs(c, args); err == nil || none == nil || c.HasSubCommands() || err.Error() != none.Error() {
		return err
	}
	return fmt.Errorf("%s takes no arguments, only flags: got %q", c.CommandPath(), args[0])
}

// knownCommand refuses a word that is none of a command's own.
func knownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	c.SuggestionsMinimumDistance = max(c.SuggestionsMinimumDistance, 2)
	hint := ""
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("%q is not a command of %s%s", args[0], c.CommandPath(), hint)
}

// Subcommands makes a command that only groups others.
func Subcommands(use, short, long string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Long: long, Args: knownCommand, RunE: func(c *cobra.Command, _ []string) error {
		return Usage(fmt.Errorf("%s needs a command; see '%s --help'", c.CommandPath(), c.CommandPath()))
	}}
	c.AddCommand(children...)
	return c
}
