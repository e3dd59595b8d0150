// Command anchorhold-aggregator adds encrypted vectors of federated rounds and holds no
// secret. It parses its arguments; everything else is in keybroker/aggregator/daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/daemon"
	"github.com/anchorhold/anchorhold/systemd/commandline"
	"github.com/anchorhold/anchorhold/systemd/journal"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// version is set at link time.
var version = "development"

func main() {
	out := journal.Stderr("anchorhold-aggregator")
	err := run(out, os.Args[1:])
	if errors.Is(err, commandline.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(out, "anchorhold-aggregator: %v\n", err)
		os.Exit(commandline.ExitCode(err))
	}
}

// run does one command. What it cannot log it returns.
func run(out *journal.Output, args []string) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	command, path, err := commandline.Daemon{Name: "anchorhold-aggregator", Config: "/etc/anchorhold/aggregator.yaml", Configured: []string{"run", "check"}}.Parse(args)
	if err != nil {
		return err
	}
	if command == "version" {
		_, err := fmt.Println("anchorhold-aggregator", version)
		return err
	}
	if command == "reload" {
		return service.AskReload(context.Background(), "anchorhold-aggregator")
	}
	s, err := daemon.LoadSettings(path)
	if err != nil {
		return commandline.Misconfigured(err)
	}
	log, err := out.Logger(s.LogLevel, "")
	if err != nil {
		return commandline.Misconfigured(fmt.Errorf("log_level: %w", err))
	}
	if command == "check" {
		return daemon.Check(s, log)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	return daemon.Run(ctx, s, log, reload)
}
