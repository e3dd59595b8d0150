package main

import (
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/guest/snp"
)

// check prints what is wrong with a file or missing on this machine, and what an admin
// should know. What run would refuse at the start, it refuses.
func check(path string, out io.Writer) int {
	cfg, findings, err := settings.Read(path)
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return 2
	}
	findings.Add(cfg.CheckMachine())
	if p := cfg.Compute.TEE.Provider; p == "amd_sev_snp" || p == "software" {
		if err := checkCollector(cfg); err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
	}
	if err := cfg.CheckWorker(); err != nil {
		fmt.Fprintf(out, "warning: %v\n", err)
	}
	return findings.Print(out, path)
}

// hardware is the collector of this machine's TEE.
func hardware() (attested.Collector, error) {
	col, err := snp.New(snp.Options{})
	if err != nil {
		return nil, fmt.Errorf("compute.tee.provider: amd_sev_snp: %w", err)
	}
	return col, nil
}
