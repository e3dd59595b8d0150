// Command anchorhold-verify verifies proofs of inference and of gradient bounds. It needs
// no agent, no broker and no network, and contains no prover.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// version is set at link time.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code.
func run(ctx context.Context, args []string, out, complaint io.Writer) int {
	c, showVersion, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return ExitVerified
	case err == nil && showVersion:
		fmt.Fprintln(out, "anchorhold-verify", version)
		return ExitVerified
	}
	code := ExitUsage
	if err == nil {
		code, err = c.Run(ctx, out)
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-verify: %v\nSee 'anchorhold-verify --help'\n", err)
	}
	return code
}

func parse(args []string) (c Command, showVersion bool, err error) {
	f := flag.NewFlagSet("anchorhold-verify", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Func("vk", "", func(v string) error { c.Keys = append(c.Keys, v); return nil })
	f.Func("record", "", func(v string) error { c.Records = append(c.Records, v); return nil })
	f.Func("model", "", func(v string) error {
		d, err := digest.Parse(v)
		c.Model = &d
		return err
	})
	f.DurationVar(&c.Timeout, "timeout", 10*time.Second, "")
	f.BoolVar(&c.Development, "allow-development", false, "")
	f.BoolVar(&c.Unregistered, "allow-unregistered", false, "")
	f.BoolVar(&c.JSON, "json", false, "")
	f.BoolVar(&showVersion, "version", false, "")
	for rest := args; ; rest = rest[1:] { // flags may stand behind files
		if err := f.Parse(rest); err != nil {
			return c, false, err
		}
		if rest = f.Args(); len(rest) == 0 {
			return c, showVersion, nil
		}
		c.Files = append(c.Files, rest[0])
	}
}
