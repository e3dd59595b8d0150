//go:build softtee

package main

import (
	"log/slog"

	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/appraisal"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

const build = "DEVELOPMENT: accepts a software TEE"

// softwareAppraiser accepts software TEEs. appraisal.SoftwareTEE does not exist in
// release builds, so the tags release and softtee together do not compile.
func softwareAppraiser(c settings.Appraisal, log *slog.Logger) func(rootPEM []byte) (daemon.Appraiser, error) {
	return func(rootPEM []byte) (daemon.Appraiser, error) {
		roots, err := appraisal.SoftwareTEE(rootPEM)
		if err != nil {
			return nil, err
		}
		return newAppraiser(c, roots, log)
	}
}
