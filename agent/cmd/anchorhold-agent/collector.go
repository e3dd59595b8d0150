//go:build !softtee

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/anchorhold/anchorhold/agent/hardware"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
)

const buildKind = "production build: evidence comes from hardware"

// newCollector returns the collector of the configured hardware. This build has
// no other.
func newCollector(ctx context.Context, cfg settings.Config, log *slog.Logger) (attested.Collector, bool, error) {
	if cfg.Compute.Software() {
		return nil, false, fmt.Errorf("compute.tee.provider: %s is refused: this build cannot use a software TEE (only builds with the tag softtee can, and they prove nothing)", cfg.Compute.TEE.Provider)
	}
	opened, err := openHardware(ctx, cfg, log)
	return opened, false, err
}

// checkCollector says what newCollector would refuse, and makes nothing that stays.
func checkCollector(ctx context.Context, cfg settings.Config) (notice string, err error) {
	if cfg.Compute.Software() {
		_, _, err := newCollector(ctx, cfg, slog.New(slog.DiscardHandler))
		return "", err
	}
	return checkHardware(ctx, cfg)
}

// sealerOf is what the configuration has keys sealed with; nil for nothing.
func sealerOf(_ context.Context, cfg settings.Config) (restart.Sealer, error) {
	return hardware.Sealer(cfg)
}

// developmentCommand: this build has none.
func developmentCommand(context.Context, []string, io.Writer, io.Writer) (int, bool) { return 0, false }
