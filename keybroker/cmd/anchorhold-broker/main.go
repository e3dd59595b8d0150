// Command anchorhold-broker serves model keys to attested guests. It parses its
// arguments and calls keybroker/daemon; everything else is there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// version is set at link time.
var version = "development"

const usage = `usage: anchorhold-broker run --config FILE     serve
       anchorhold-broker check --config FILE   open and check everything, serve nothing
       anchorhold-broker begin-log --config FILE   put an audit log of version 1 away, begin another
       anchorhold-broker version
A state directory is made by: anchorhold keygen broker
`

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold-broker: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	if len(args) == 0 {
		return fmt.Errorf("a command is needed\n%s", usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() {}
	path := flags.String("config", "/etc/anchorhold/broker.yaml", "configuration file")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "version" {
		fmt.Println("anchorhold-broker", version, build)
		return nil
	}
	cfg, err := daemon.LoadConfig(*path)
	if err != nil {
		return err
	}
	log := daemon.NewLogger(os.Stderr, cfg.Log)
	o := daemon.Options{Config: cfg, Logger: log, Version: version, Build: build, Credential: service.Credential,
		NewAppraiser:         func() (daemon.Appraiser, error) { return newAppraiser(cfg.Appraisal, log) },
		NewSoftwareAppraiser: softwareAppraiser}
	switch args[0] {
	case "check":
		return daemon.Check(o)
	case "begin-log":
		return daemon.BeginLog(context.Background(), o)
	case "run":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, syscall.SIGHUP)
		o.Reload = reload
		return daemon.Run(ctx, o)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}
