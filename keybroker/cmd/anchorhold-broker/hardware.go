//go:build !softtee

package main

import (
	"log/slog"

	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

const build = "hardware evidence only"

// softwareAppraiser is absent: this build cannot accept a software TEE.
func softwareAppraiser(settings.Appraisal, *slog.Logger) func(rootPEM []byte) (daemon.Appraiser, error) {
	return nil
}
