//go:build !softtee

package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
)

const buildKind = "production build: evidence comes from hardware"

// newCollector returns the collector of the configured hardware. This build has
// no other.
func newCollector(cfg settings.Config, _ *slog.Logger) (attested.Collector, bool, error) {
	if cfg.Compute.Software() {
		return nil, false, fmt.Errorf("compute.tee.provider: %s is refused: this build cannot use a software TEE (only builds with the tag softtee can, and they prove nothing)", cfg.Compute.TEE.Provider)
	}
	col, err := hardware(cfg.Compute.TEE.Provider)
	return col, false, err
}

// checkCollector says what newCollector would refuse, and makes nothing that stays.
func checkCollector(cfg settings.Config) error {
	_, _, err := newCollector(cfg, slog.New(slog.DiscardHandler))
	return err
}

// developmentCommand: this build has none.
func developmentCommand([]string, io.Writer, io.Writer) (int, bool) { return 0, false }
