// Command anchorhold-broker serves model keys to attested guests. It parses its
// arguments and calls keybroker/daemon; everything else is there.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/systemd/commandline"
	"github.com/anchorhold/anchorhold/systemd/journal"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// version is set at link time.
var version = "development"

func main() {
	out := journal.Stderr("anchorhold-broker")
	err := run(out, os.Args[1:])
	if errors.Is(err, commandline.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(out, "anchorhold-broker: %v\n", err)
		os.Exit(commandline.ExitCode(err))
	}
}

// run does one command. What it cannot log it returns.
func run(out *journal.Output, args []string) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	command, path, err := commandline.Daemon{Name: "anchorhold-broker", Config: "/etc/anchorhold/broker.yaml", Configured: []string{"run", "check", "begin-log"}}.Parse(args)
	if err != nil {
		return err
	}
	if command == "version" {
		fmt.Printf("anchorhold-broker %s, %s\n", version, build)
		return nil
	}
	if command == "reload" {
		return service.AskReload(context.Background(), "anchorhold-broker")
	}
	cfg, err := settings.Load(path)
	if err != nil {
		return commandline.Misconfigured(err)
	}
	log, err := out.Logger(cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		return commandline.Misconfigured(err)
	}
	o := daemon.Options{Config: cfg, ConfigPath: path, Logger: log, Version: version, Build: build, Credential: service.Credential,
		NewAppraiser: hardwareAppraiser(cfg.Appraisal, log), NewSoftwareAppraiser: softwareAppraiser(cfg.Appraisal, log)}
	switch command {
	case "check":
		if err := daemon.Check(o); err != nil {
			return err
		}
		fmt.Printf("%s is valid\n", path)
		return nil
	case "begin-log":
		return daemon.BeginLog(context.Background(), o)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	o.Reload = reload
	return daemon.Run(ctx, o)
}
