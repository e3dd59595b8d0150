// Command anchorhold-aggregator adds encrypted vectors of federated rounds and holds no
// secret. It parses its arguments; everything else is in keybroker/aggregator/daemon.
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
	"github.com/anchorhold/anchorhold/keybroker/aggregator/daemon"
)

// version is set at link time.
var version = "development"

const usage = `usage: anchorhold-aggregator run --config FILE     serve
       anchorhold-aggregator check --config FILE   open and check everything, serve nothing
       anchorhold-aggregator version

A certificate of its own is made by: anchorhold keygen tls --out aggregator --host NAME
Rounds are handed to it by:          anchorhold fed round open
Uploads are added by:                anchorhold fed aggregate
A configuration:
` + daemon.Example

func main() {
	err := run(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		fmt.Print(usage)
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "anchorhold-aggregator: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if err := keybuf.ForbidDumps(); err != nil {
		return err
	}
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("a command is needed")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.Usage = func() {}
	path := flags.String("config", "/etc/anchorhold/aggregator.yaml", "configuration file")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if args[0] == "version" {
		_, err := fmt.Println("anchorhold-aggregator", version)
		return err
	}
	s, err := daemon.LoadSettings(*path)
	if err != nil {
		return err
	}
	log, err := s.Log(os.Stderr)
	if err != nil {
		return err
	}
	switch args[0] {
	case "check":
		return daemon.Check(s, log)
	case "run":
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		reload := make(chan os.Signal, 1)
		signal.Notify(reload, syscall.SIGHUP)
		return daemon.Run(ctx, s, log, reload)
	}
	return fmt.Errorf("unknown command %q\n%s", args[0], usage)
}
