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
	was, err := restart.Forget(ctx, cfg.Guest.StateDir, sealer)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1
	}
	fmt.Fprintln(out, forgotten(was, sealer != nil && cfg.LocalRestart.UsesTPM(), cfg.LocalRestart.Seal))
	return 0
}

// forgotten says what was there, and what became of it and of its copies.
func forgotten(was restart.Sealed, counted bool, seal string) string {
	text := fmt.Sprintf("nothing was sealed for a restart: there is no %s", was.File)
	if !was.At.IsZero() {
		text = fmt.Sprintf("the keys that were sealed for a restart at %s are destroyed (%s); an agent that runs on them goes on until it is stopped, and seals anew with its next permit",
			was.At.UTC().Format(time.RFC3339), was.File)
	}
	switch {
	case counted:
		return text + "; no copy of such keys opens any more, by the TPM's count"
	case seal == "":
		return text + "; local_restart.seal is not set, so that no device was asked to end copies"
	}
	return text + "; nobody counts under " + seal + ": a copy would still open"
}
