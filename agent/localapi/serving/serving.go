// Package serving puts together what the agent's local API answers at once: completions of the
// language model, and classifiers, each under the lease that grants it.
//
// It guarantees that nothing is answered outside a lease, and that every receipt names the lease
// under which its answer ended. It trusts its [tenure.Tenure] to know what may be served.
//
// The agent makes one [API] and mounts long work on it.
package serving

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/localapi"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/agent/localapi/secretapi"
	"github.com/anchorhold/anchorhold/agent/localapi/volumeapi"
	"github.com/anchorhold/anchorhold/agent/secrets"
	"github.com/anchorhold/anchorhold/agent/secrets/credsock"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// Config is what the API needs of the agent.
type Config struct {
	// Settings are those of the start: the API takes nothing up with a reload.
	Settings settings.Config
	// Tenure is that of the first model and of all that is no model, TenureOf that of a model,
	// and Tenures are those of all models beside the first.
	Tenure   *tenure.Tenure
	TenureOf func(model string) *tenure.Tenure
	Tenures  func() []*tenure.Tenure
	Guest    *attested.Guest
	// InForce is the configuration in force, whose language models are served.
	InForce func() *settings.Config
	// Classifiers are those served; nil where none is configured. Proofs makes proofs of their
	// answers, or is why nothing does.
	Classifiers *classify.Service
	Proofs      func() (oip.Proofs, error)
	// Opened tells the broker what root says of a volume.
	Opened volumeapi.Tell
	// Status is the JSON of /v1/status.
	Status  func() any
	Version string
	Logger  *slog.Logger
}

// API is the local API, with completions and classifiers.
type API struct {
	*localapi.Server
	// Classifiers answer; nil where none is configured.
	Classifiers *oip.Service
	// Secrets are held for other services of this guest, and Credentials hands them to systemd.
	Secrets     *secrets.Store
	Credentials *credsock.Server
}

// New makes the API.
func New(cfg Config) (*API, error) {
	s, kept := cfg.Settings.Socket, cfg.Settings.Receipts
	uids, gids, err := s.Allowed()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	models := gate{tenure: cfg.Tenure, of: cfg.TenureOf, all: cfg.Tenures, inForce: cfg.InForce, guest: cfg.Guest}
	api := &API{}
	api.Server, err = localapi.New(localapi.Config{
		Gate:     models,
		Attester: cfg.Guest, Logger: cfg.Logger,
		AllowedUIDs: append(uids, 0, uint32(os.Geteuid())), AllowedGIDs: gids, Concurrent: cfg.Settings.Sequences(), Queue: s.Queue, Models: models.slots, Limits: cfg.Settings.ConnectionLimits(),
		Memory: cfg.Settings.RequestMemory(), RequestTime: time.Duration(s.RequestSeconds) * time.Second,
		Receipts: receipt.Limits{Kept: kept.Kept, PerUser: kept.KeptPerUID, Age: time.Duration(kept.KeptMinutes) * time.Minute},
		Status:   cfg.Status,
		OnPermit: func() bool { return cfg.Tenure.Permit() != nil },
		Gauges:   func() []localapi.Gauge { return append(gauges(cfg.Tenure, cfg.Classifiers), models.gauge()) },
	})
	if err != nil {
		return nil, err
	}
	if err := api.handOn(cfg); err != nil {
		return nil, err
	}
	completions := &openai.Service{Models: models, MaxBodyBytes: s.MaxBodyBytes, Version: cfg.Version}
	if err := completions.Mount(api.Server); err != nil {
		return nil, err
	}
	if cfg.Classifiers == nil {
		oip.MountNone(api.Server)
		return api, nil
	}
	api.Classifiers = &oip.Service{Version: cfg.Version, Classifiers: cfg.Classifiers, Clipped: cfg.Classifiers.CountClipped, Proofs: cfg.Proofs}
	api.Classifiers.Mount(api.Server, models.Classifying)
	return api, nil
}

// handOn makes what hands secrets on, and what root opens volumes by.
func (a *API) handOn(cfg Config) error {
	a.Secrets = secrets.New(func() error { _, err := cfg.Tenure.Held(); return err })
	if err := a.Secrets.Allow(cfg.Settings.Secrets); err != nil {
		return err
	}
	a.Credentials = credsock.New(a.Secrets, cfg.Settings.Credentials, cfg.Logger)
	secretapi.Mount(a.Server, a.Secrets, cfg.Logger)
	volumeapi.Mount(a.Server, cfg.Opened, cfg.Logger)
	return nil
}

// gauges are what the agent adds to /metrics.
func gauges(held *tenure.Tenure, classifiers *classify.Service) []localapi.Gauge {
	list := held.Gauges()
	if classifiers != nil {
		values, clipped := classifiers.Clipped()
		list = append(list, localapi.Gauge{Name: "anchorhold_classifier_values", Help: "Input values of classifiers since the start.", Value: float64(values)},
			localapi.Gauge{Name: "anchorhold_classifier_values_clipped", Help: "Those outside the ranges that their model was calibrated for.", Value: float64(clipped)})
	}
	return list
}
