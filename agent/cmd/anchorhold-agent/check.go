package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/tdx"
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
	if slices.Contains(settings.Providers(), cfg.Compute.TEE.Provider) {
		if err := checkCollector(cfg); err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
	}
	if err := cfg.CheckWorker(); err != nil {
		fmt.Fprintf(out, "warning: %v\n", err)
	}
	return findings.Print(out, path)
}

// hardware is the collector of this machine's TEE: the configured one, or the one that the kernel has.
func hardware(provider string) (attested.Collector, error) {
	if provider == settings.ProviderAuto {
		return whichever()
	}
	var col attested.Collector
	var err error
	if provider == settings.ProviderTDX {
		col, err = tdx.New(tdx.Options{})
	} else {
		col, err = snp.New(snp.Options{})
	}
	if err != nil {
		return nil, fmt.Errorf("compute.tee.provider: %s: %w", provider, err)
	}
	return col, nil
}

// whichever asks the kernel for each TEE. A machine has one of them at most.
func whichever() (attested.Collector, error) {
	var absent []error
	for _, provider := range []string{settings.ProviderSNP, settings.ProviderTDX} {
		col, err := hardware(provider)
		if err == nil {
			return col, nil
		}
		if reason, _ := refusal.ReasonOf(err); reason != device.ReasonAbsent {
			return nil, err // it is there and does not work
		}
		absent = append(absent, err)
	}
	return nil, errors.Join(absent...)
}
