// Package commandline parses the command lines of daemons: one command, and --config for
// those commands that read a configuration.
//
// Every word is checked before anything is read or opened: with a misspelt command, or a file
// named without --config, a daemon never runs with the default configuration instead.
package commandline

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Exit statuses of daemons, which their help texts name.
const (
	ExitFailure = 1 // it failed
	ExitUsage   = 2 // the command line is wrong, or the configuration that it names
)

// ErrHelp means that the command line asks for help.
var ErrHelp = errors.New("help requested")

// usageError is an error of the command line itself.
type usageError struct{ error }

// Misconfigured marks the error of a configuration that cannot be read or is wrong.
func Misconfigured(err error) error { return usageError{err} }

// Unwrap returns the error that is marked.
func (e usageError) Unwrap() error { return e.error }

// ExitCode is the exit status for an error of a daemon; 0 for none.
func ExitCode(err error) int {
	if _, ok := errors.AsType[usageError](err); ok {
		return ExitUsage
	}
	if err != nil {
		return ExitFailure
	}
	return 0
}

// Daemon says which commands a daemon has.
type Daemon struct {
	// Name is the program's.
	Name string
	// Config is the configuration file without --config.
	Config string
	// Configured are the commands that take --config. Besides there are "reload" and "version".
	Configured []string
}

// Parse returns the command and its configuration file. Asked for help it returns
// [ErrHelp].
func (d Daemon) Parse(args []string) (command, config string, err error) {
	commands := append(slices.Clone(d.Configured), "reload", "version")
	if len(args) == 0 {
		return "", "", d.wrong("a command is required: %s", strings.Join(commands, ", "))
	}
	command = args[0]
	if command == "--version" && len(args) == 1 {
		return "version", "", nil
	}
	if isHelp(command) || command == "help" && len(args) == 1 {
		return "", "", ErrHelp
	}
	if !slices.Contains(commands, command) {
		return "", "", d.wrong("unknown command %q; the commands are %s", command, strings.Join(commands, ", "))
	}
	if slices.ContainsFunc(args[1:], isHelp) {
		return "", "", ErrHelp
	}
	if !slices.Contains(d.Configured, command) {
		if len(args) > 1 {
			return "", "", d.wrong("%s takes no arguments", command)
		}
		return command, "", nil
	}
	config = d.Config
	for rest := args[1:]; len(rest) > 0; rest = rest[1:] {
		name, value, given := strings.Cut(rest[0], "=")
		if name != "--config" && name != "-config" {
			return "", "", d.wrong("%s: unexpected argument %q; name the configuration with --config FILE", command, rest[0])
		}
		if !given && len(rest) > 1 {
			rest = rest[1:]
			value = rest[0]
		}
		if value == "" {
			return "", "", d.wrong("--config needs a file")
		}
		config = value
	}
	return command, config, nil
}

func isHelp(arg string) bool { return slices.Contains([]string{"-h", "-help", "--help"}, arg) }

func (d Daemon) wrong(format string, args ...any) error {
	return usageError{fmt.Errorf(format+"\nSee '"+d.Name+" --help'", args...)}
}
