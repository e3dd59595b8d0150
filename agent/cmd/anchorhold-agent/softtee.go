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
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
	"github.com/anchorhold/anchorhold/guest/teesim"
	"github.com/anchorhold/anchorhold/guest/tpmsim"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

const buildKind = "DEVELOPMENT BUILD WITH THE SOFTWARE TEE: its evidence proves nothing"

// newCollector returns the hardware's collector, or a software TEE, loudly.
func newCollector(cfg settings.Config, log *slog.Logger) (attested.Collector, bool, error) {
	if !cfg.Compute.Software() {
		col, err := hardware(cfg.Compute.TEE.Provider)
		return col, false, err
	}
	log.Warn("THE SOFTWARE TEE IS IN USE: this evidence proves nothing to anyone")
	measurement, err := softwareMeasurement(cfg)
	if err != nil {
		return nil, false, err
	}
	dir := chainDir(cfg.Guest.StateDir)
	if cfg.Compute.TEE.Provider == settings.ProviderSoftware {
		tee, err := teesim.New(teesim.Options{Dir: dir, Measurement: measurement})
		return tee, true, err
	}
	version := uint16(4)
	if cfg.Compute.TEE.Provider == settings.ProviderSoftwareTDXv5 {
		version = 5
	}
	domain, err := trustDomain(dir, version, measurement)
	return domain, true, err
}

// softwareMeasurement is the launch measurement of a software TEE, or its MRTD.
func softwareMeasurement(cfg settings.Config) (measurement [48]byte, err error) {
	m := cfg.Guest.SoftwareMeasurement
	if m == "" {
		return measurement, nil
	}
	value, err := hex.DecodeString(strings.TrimPrefix(m, "sha384:"))
	if err != nil || len(value) != len(measurement) {
		return measurement, fmt.Errorf("guest.software_measurement: want %d hexadecimal digits", 2*len(measurement))
	}
	return [48]byte(value), nil
}

// trustDomain is an emulated guest of TDX that booted with the log it shows.
func trustDomain(dir string, version uint16, mrtd [48]byte) (tdxsim.Collector, error) {
	log := tpmsim.NewLog(tpmsim.CCLog)
	boot := tpmsim.Boot{SecureBoot: true, Loader: []byte("loader"), Kernel: []byte("kernel"), Initrd: []byte("initrd"), CommandLine: "quiet"}
	if err := boot.Write(log); err != nil {
		return tdxsim.Collector{}, err
	}
	guest := tdxsim.Guest{Version: version, MRTD: mrtd}
	for i := range guest.RTMR {
		guest.RTMR[i] = log.RTMR(i)
	}
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Dir: dir, Guest: guest})
	return tdxsim.Collector{TDX: td, Log: log.Bytes()}, err
}

// checkCollector says what newCollector would refuse, and makes nothing that stays: not
// the software TEE's chain either.
func checkCollector(cfg settings.Config) error {
	if !cfg.Compute.Software() {
		_, err := hardware(cfg.Compute.TEE.Provider)
		return err
	}
	_, err := softwareMeasurement(cfg)
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
	documents := flags.String("tdx-collateral", "", "emulate TDX, and put its platform's documents into this directory of collateral")
	if flags.Parse(args[1:]) != nil {
		return 2, true
	}
	if *state == "" || *roots == "" {
		fmt.Fprintln(complaint, "anchorhold-agent software-tee needs --state DIR, the agent's guest.state_dir, and --roots FILE, a file for the root certificates")
		return 2, true
	}
	dir := chainDir(*state)
	if *documents != "" {
		if err := writeTrustDomain(dir, *roots, *documents); err != nil {
			fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
			return 1, true
		}
		fmt.Fprintf(out, "wrote the root certificate of emulated TDX to %s, for the software_tee_root of a development broker, and its documents into %s\n", *roots, *documents)
		return 0, true
	}
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

// writeTrustDomain writes the root of emulated TDX, and what Intel would publish about its platform.
func writeTrustDomain(dir, roots, into string) error {
	td, err := tdxsim.New(tdxsim.Options{Now: time.Now(), Dir: dir})
	if err != nil {
		return err
	}
	docs, err := td.Collateral()
	if err != nil {
		return err
	}
	key, err := collateral.Platform{FMSPC: td.FMSPC(), CA: collateral.CAPlatform, Update: collateral.UpdateStandard}.Key()
	if err != nil {
		return err
	}
	s, err := store.Open(into)
	if err != nil {
		return err
	}
	if _, err := s.Put(collateral.Item{Key: key, Fetched: time.Now(), Documents: collateral.TDXDocuments(docs).Documents()}); err != nil {
		return err
	}
	return os.WriteFile(roots, td.RootsPEM(), 0o644)
}
