//go:build softtee

package main

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/anchorhold/anchorhold/agent"
	"github.com/anchorhold/anchorhold/guest/snp"
	"github.com/anchorhold/anchorhold/guest/teesim"
)

const buildKind = "DEVELOPMENT BUILD WITH THE SOFTWARE TEE: its evidence proves nothing"

// newCollector returns the hardware's collector, or the software TEE, loudly.
func newCollector(cfg agent.Config, log *slog.Logger) (agent.Collector, bool, error) {
	if cfg.Compute.TEE.Provider != "software" {
		col, err := snp.New(snp.Options{})
		return col, false, err
	}
	log.Warn("THE SOFTWARE TEE IS IN USE: this evidence proves nothing to anyone")
	options := teesim.Options{Dir: filepath.Join(cfg.Guest.StateDir, "software-tee")}
	if m := cfg.Guest.SoftwareMeasurement; m != "" {
		measurement, err := hex.DecodeString(m)
		if err != nil || len(measurement) != len(options.Measurement) {
			return nil, false, fmt.Errorf("guest.software_measurement: %d hexadecimal digits are needed", 2*len(options.Measurement))
		}
		copy(options.Measurement[:], measurement)
	}
	tee, err := teesim.New(options)
	return tee, true, err
}
