package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
)

// appraisal reads the files that the configuration names. Revocation is checked
// unless someone wrote down why not, and then every start says so.
func appraisal(cfg settings.Appraisal, log *slog.Logger) (o appraise.Options, err error) {
	o.WithoutRevocation = cfg.WithoutRevocation != ""
	o.RevocationGrace = time.Duration(cfg.RevocationGraceHours) * time.Hour
	if o.WithoutRevocation {
		log.Warn("revoked vendor keys may go unnoticed: appraisal.without_revocation is set", "reason", cfg.WithoutRevocation)
	}
	if o.Certificates, err = daemon.ReadDER(cfg.Certificates); err != nil {
		return o, err
	}
	o.RevocationLists, err = daemon.ReadDER(cfg.RevocationLists)
	return o, err
}

// newAppraiser makes the verifier of hardware evidence.
func newAppraiser(cfg settings.Appraisal, log *slog.Logger) (*appraise.Verifier, error) {
	o, err := appraisal(cfg, log)
	if err != nil {
		return nil, fmt.Errorf("appraisal: %w", err)
	}
	return appraise.New(o)
}
