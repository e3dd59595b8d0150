package main

import (
	"context"
	"log/slog"

	"github.com/anchorhold/anchorhold/agent/hardware"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
)

// openHardware is the collector of this machine's devices. What the broker's operator has to know
// about it is logged.
func openHardware(ctx context.Context, cfg settings.Config, log *slog.Logger) (attested.Collector, error) {
	opened, err := hardware.Open(ctx, cfg.Compute)
	if err != nil {
		return nil, err
	}
	if notice := opened.Notice(); notice != "" {
		log.Info("notice", "text", notice)
	}
	return opened.Collector, nil
}

// checkHardware is the same, for a check.
func checkHardware(ctx context.Context, cfg settings.Config) (notice string, err error) {
	opened, err := hardware.Open(ctx, cfg.Compute)
	return opened.Notice(), err
}
