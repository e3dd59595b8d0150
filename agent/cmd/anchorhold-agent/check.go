package main

import (
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/agent/settings"
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
			findings.Errors = append(findings.Errors, fmt.Sprintf("compute.tee.provider: %s: %v", p, err))
		}
	}
	return findings.Print(out, path)
}
