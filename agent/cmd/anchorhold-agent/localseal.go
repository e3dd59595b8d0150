package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

const forgetTime = time.Minute

// localseal destroys what an agent sealed for a restart without its broker.
func localseal(ctx context.Context, args []string, out io.Writer, complaint *journal.Output) int {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprint(out, usage)
		return 0
	}
	if len(args) < 1 || args[0] != "forget" {
		fmt.Fprintln(complaint, "anchorhold-agent localseal has one command: anchorhold-agent localseal forget FILE")
		return 2
	}
	path, code := fileOf("localseal forget", args[1:], out, complaint)
	if path == "" {
		return code
	}
	cfg, findings, err := settings.Read(path)
	if err == nil {
		err = findings.Runnable()
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %s: %v\n  hint: anchorhold-agent check %s\n", path, err, path)
		return 2
	}
	sealer, err := sealerOf(ctx, cfg)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1
	}
	ctx, cancel := context.WithTimeout(ctx, forgetTime)
	defer cancel()
	if err := restart.Forget(ctx, cfg.Guest.StateDir, sealer); err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1
	}
	fmt.Fprintln(out, "the keys that were sealed for a restart are destroyed; an agent that runs on them goes on until it is stopped, and seals anew with its next permit")
	return 0
}
