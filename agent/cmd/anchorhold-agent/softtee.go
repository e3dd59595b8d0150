//go:build softtee

package main

import (
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/guest/teesim"
)

const buildKind = "DEVELOPMENT BUILD WITH THE SOFTWARE TEE: its evidence proves nothing"

// newCollector returns the hardware's collector, or the software TEE, loudly.
func newCollector(cfg settings.Config, log *slog.Logger) (attested.Collector, bool, error) {
	if cfg.Compute.TEE.Provider != "software" {
		col, err := hardware()
		return col, false, err
	}
	log.Warn("THE SOFTWARE TEE IS IN USE: this evidence proves nothing to anyone")
	options, err := softwareOptions(cfg)
	if err != nil {
		return nil, false, err
	}
	tee, err := teesim.New(options)
	return tee, true, err
}

// softwareOptions are those of the software TEE, as configured.
func softwareOptions(cfg settings.Config) (teesim.Options, error) {
	options := teesim.Options{Dir: chainDir(cfg.Guest.StateDir)}
	if m := cfg.Guest.SoftwareMeasurement; m != "" {
		measurement, err := hex.DecodeString(strings.TrimPrefix(m, "sha384:"))
		if err != nil || len(measurement) != len(options.Measurement) {
			return options, fmt.Errorf("guest.software_measurement: want %d hexadecimal digits", 2*len(options.Measurement))
		}
		copy(options.Measurement[:], measurement)
	}
	return options, nil
}

// checkCollector says what newCollector would refuse, and makes nothing that stays: not
// the software TEE's chain either.
func checkCollector(cfg settings.Config) error {
	if cfg.Compute.TEE.Provider != "software" {
		_, err := hardware()
		return err
	}
	_, err := softwareOptions(cfg)
	return err
}

func chainDir(state string) string { return filepath.Join(state, "software-tee") }

// developmentCommand makes the software TEE's chain and writes its roots, for a
// development broker's software_tee_root.
func developmentCommand(args []string, out, complaint io.Writer) (int, bool) {
	if args[0] != "software-tee" {
		return 0, false
	}
	flags := flag.NewFlagSet("software-tee", flag.ContinueOnError)
	flags.SetOutput(complaint)
	state := flags.String("state", "", "the agent's guest.state_dir")
	roots := flags.String("roots", "", "file for the root certificates (PEM)")
	if flags.Parse(args[1:]) != nil {
		return 2, true
	}
	if *state == "" || *roots == "" {
		fmt.Fprintln(complaint, "anchorhold-agent software-tee needs --state DIR, the agent's guest.state_dir, and --roots FILE, a file for the root certificates")
		return 2, true
	}
	dir := chainDir(*state)
	if _, err := os.Stat(dir); err == nil {
		fmt.Fprintf(out, "reading the software TEE's certificate chain in %s\n", dir)
	} else {
		fmt.Fprintf(out, "making the software TEE's certificate chain in %s: its RSA keys of 4,096 bits take seconds, or minutes on a busy machine\n", dir)
	}
	tee, err := teesim.New(teesim.Options{Dir: dir})
	if err == nil {
		err = os.WriteFile(*roots, tee.RootsPEM(), 0o644)
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1, true
	}
	fmt.Fprintf(out, "wrote its root certificates to %s, for the software_tee_root of a development broker\n", *roots)
	return 0, true
}
