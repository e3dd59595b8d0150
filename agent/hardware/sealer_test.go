//go:build !release

package hardware

import (
	"bytes"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/device"
	"github.com/anchorhold/anchorhold/guest/vtpm/vtpmtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestSealerIsOfTheConfiguredDevices: of a TPM, in either bank, and of none where nothing is configured.
func TestSealerIsOfTheConfiguredDevices(t *testing.T) {
	var cfg settings.Config
	if s, err := Sealer(cfg); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
	cfg.LocalRestart.Seal, cfg.Compute.TEE.Provider = settings.SealTPM, settings.ProviderVTPM
	for _, bank := range []string{"", "sha384"} {
		cfg.Compute.TEE.TPM = &settings.TPM{Device: vtpmtest.Start(t), Bank: bank}
		s, err := Sealer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		key, kept, err := s.New(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if again, _, _, err := s.Open(t.Context(), kept); err != nil || !bytes.Equal(again, key) {
			t.Errorf("bank %q: %v", bank, err)
		}
	}
	cfg.LocalRestart.Seal = settings.SealBoth // no machine that runs tests derives keys
	_, err := Sealer(cfg)
	wantReason(t, err, device.ReasonAbsent, "local_restart.seal")
	for _, name := range []string{settings.SealTPM, settings.SealSNP, settings.SealBoth} {
		if protocol.ParseSealing(name) == 0 {
			t.Errorf("no permit can name %q", name)
		}
	}
}
