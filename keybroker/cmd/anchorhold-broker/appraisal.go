package main

import (
	"log/slog"

	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/appraisal"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// newAppraiser makes the verifier of evidence.
func newAppraiser(c settings.Appraisal, roots appraisal.Roots, log *slog.Logger) (daemon.Appraiser, error) {
	a, err := appraisal.Open(c, roots, log)
	if err != nil {
		return nil, err // not a nil *Appraiser in an interface
	}
	return a, nil
}
