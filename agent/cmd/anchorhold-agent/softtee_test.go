//go:build softtee

package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestAnEmulatedTrustDomainHasItsMeasurement, in quotes of both versions and under the keys that the
// command made for the broker.
func TestAnEmulatedTrustDomainHasItsMeasurement(t *testing.T) {
	state, collateral, roots := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "roots.pem")
	var out, complaint bytes.Buffer
	if code, known := developmentCommand(t.Context(), []string{"software-tee", "--provider", settings.ProviderSoftwareTDX, "--state", state, "--roots", roots, "--tdx-collateral", collateral}, &out, &complaint); code != 0 || !known {
		t.Fatal(code, known, complaint.String())
	}
	if left, err := os.ReadDir(collateral); err != nil || len(left) == 0 {
		t.Error(left, err)
	}
	for provider, version := range map[string]byte{settings.ProviderSoftwareTDX: 4, settings.ProviderSoftwareTDXv5: 5} {
		var cfg settings.Config
		cfg.Compute.TEE.Provider, cfg.Guest.StateDir, cfg.Guest.SoftwareMeasurement = provider, state, strings.Repeat("a5", 48)
		if _, err := checkCollector(t.Context(), cfg); err != nil {
			t.Error(err)
		}
		col, software, err := newCollector(t.Context(), cfg, slog.New(slog.DiscardHandler))
		if err != nil || !software {
			t.Fatal(software, err)
		}
		env, err := col.Collect(t.Context(), [64]byte{1})
		if err != nil || env.Kind != evidence.KindTDX || env.Primary()[0] != version || !bytes.Contains(env.Primary(), bytes.Repeat([]byte{0xa5}, 48)) || env.Part(evidence.PartCCLog) == nil {
			t.Errorf("%s: %v", provider, err)
		}
		cfg.Guest.SoftwareMeasurement = "a5"
		if _, err := checkCollector(t.Context(), cfg); err == nil {
			t.Error("a short measurement was accepted")
		}
	}
}
