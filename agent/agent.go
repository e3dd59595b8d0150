package agent

import (
	"log/slog"
	"os"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
)

// Options are what the main package hands in: what the build offers and what
// the configuration says.
type Options struct {
	// ConfigPath is the configuration file; reload reads it again.
	ConfigPath string
	// Config is its content, already checked.
	Config settings.Config
	// Collector makes this guest's evidence.
	Collector attested.Collector
	// Restarts keeps keys for a restart without the broker; nil where none is configured.
	Restarts func(attested.Boot) attested.Restarts
	// SoftwareTEE tells that the evidence proves nothing.
	SoftwareTEE bool
	// Version is the agent's build, part of the claims.
	Version string
	// Logger receives state changes.
	Logger *slog.Logger
	// Reload delivers a value for each SIGHUP.
	Reload <-chan os.Signal
}
