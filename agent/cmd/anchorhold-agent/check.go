package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/agent/settings"
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
	if err := cfg.CheckWorker(); err != nil {
		fmt.Fprintf(out, "warning: %v\n", err)
	}
	return findings.Print(out, path)
}
