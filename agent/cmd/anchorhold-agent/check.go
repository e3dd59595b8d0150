package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/hardware"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// check prints what is wrong with a file or missing on this machine, and what an admin
// should know. What run would refuse at the start, it refuses.
func check(ctx context.Context, path string, out io.Writer) int {
	cfg, findings, err := settings.Read(path)
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return 2
	}
	findings.Add(cfg.CheckMachine())
	if slices.Contains(settings.Providers(), cfg.Compute.TEE.Provider) {
		notice, err := checkCollector(ctx, cfg)
		if err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
		if notice != "" {
			findings.Notices = append(findings.Notices, notice)
		}
	}
	if cfg.LocalRestart.Seal != "" && !cfg.Compute.Software() {
		if _, err := hardware.Sealer(cfg); err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
	}
	if err := cfg.CheckWorker(); err != nil {
		fmt.Fprintf(out, "warning: %v\n", err)
	}
	return findings.Print(out, path)
}

// fileOf is the file that a command is given, alone or with --config as "run" and the other daemons
// take it; empty, with the exit code, if it is not.
func fileOf(command string, args []string, out io.Writer, complaint *journal.Output) (path string, code int) {
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Fprint(out, usage)
		return "", 0
	case len(args) == 2 && args[0] == "--config":
		args = args[1:]
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") || args[0] == "" {
		fmt.Fprintf(complaint, "anchorhold-agent %s needs one file: anchorhold-agent %[1]s FILE\n", command)
		return "", 2
	}
	return args[0], 0
}
