package openmodel

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

func TestModelThatDoesNotFitIsRefusedWithTheFigure(t *testing.T) {
	g := tenuretest.New(t)
	g.Config.Compute.TEE.MemoryLimitMB = ProcessReserve >> 20
	_, err := Open(t.Context(), g.Config, g.Config.Models[0], &Custody{Key: tenuretest.Key(t, tenuretest.ModelKey)}, 1, 0, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "does not fit") || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("%v", err)
	}
	other := tenuretest.Key(t, strings.Repeat("x", 32))
	if _, err := Open(t.Context(), tenuretest.New(t).Config, g.Config.Models[0], &Custody{Key: other}, 1, 0, slog.New(slog.DiscardHandler)); err == nil || other.Len() != 0 {
		t.Errorf("another key: %v, %d bytes left of it", err, other.Len())
	}
}

// TestStreamedModelKeepsWhatFits, unless its configuration wants all of it streamed.
func TestStreamedModelKeepsWhatFits(t *testing.T) {
	for configured, want := range map[string]weights.Mode{"": weights.Auto, "auto": weights.Auto, "streamed": weights.Streamed, "resident": weights.Resident} {
		list := attempts(settings.Model{Mode: configured})
		if got := list[len(list)-1].mode; got != want {
			t.Errorf("mode %q ends in %s, want %s", configured, got, want)
		}
	}
}
