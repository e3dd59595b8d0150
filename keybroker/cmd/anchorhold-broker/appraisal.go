package main

import (
	"log/slog"

	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/appraisal"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// hardwareAppraiser accepts the vendors' roots alone.
func hardwareAppraiser(c settings.Appraisal, log *slog.Logger) func() (daemon.Appraiser, error) {
	return func() (daemon.Appraiser, error) { return newAppraiser(c, appraisal.Roots{}, log) }
}

// newAppraiser makes the verifier of evidence.
func newAppraiser(c settings.Appraisal, roots appraisal.Roots, log *slog.Logger) (daemon.Appraiser, error) {
	a, err := appraisal.Open(c, roots, log)
	if err != nil {
		return nil, err // not a nil *Appraiser in an interface
	}
	return a, nil
}
