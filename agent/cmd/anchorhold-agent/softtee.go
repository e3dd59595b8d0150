//go:build softtee

package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/hardware"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/guest/emulated"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/store"
)

const buildKind = "DEVELOPMENT BUILD WITH THE SOFTWARE TEE: its evidence proves nothing"

// newCollector returns the hardware's collector, or a software TEE, loudly.
func newCollector(ctx context.Context, cfg settings.Config, log *slog.Logger) (attested.Collector, bool, error) {
	if !cfg.Compute.Software() {
		col, err := openHardware(ctx, cfg, log)
		return col, false, err
	}
	log.Warn("THE SOFTWARE TEE IS IN USE: this evidence proves nothing to anyone")
	o, err := emulation(cfg)
	if err != nil {
		return nil, false, err
	}
	guest, err := emulated.New(ctx, o)
	return guest, true, err
}

// emulation is the emulated guest that a configuration describes.
func emulation(cfg settings.Config) (emulated.Options, error) {
	o := emulated.Options{Dir: chainDir(cfg.Guest.StateDir), Kind: map[string]evidence.Kind{
		settings.ProviderSoftware: evidence.KindSNP, settings.ProviderSoftwareTDX: evidence.KindTDX, settings.ProviderSoftwareTDXv5: evidence.KindTDX,
		settings.ProviderSoftwareVTPM: evidence.KindVTPM, settings.ProviderSoftwareAzureSNP: evidence.KindAzureSNP, settings.ProviderSoftwareAzureTDX: evidence.KindAzureTDX,
	}[cfg.Compute.TEE.Provider]}
	if cfg.Compute.TEE.Provider == settings.ProviderSoftwareTDXv5 {
		o.QuoteVersion = 5
	}
	if tpm := cfg.Compute.TEE.TPM; tpm != nil {
		o.Bank, o.PCRs = tpm.Bank, tpm.PCRs
	}
	if m := cfg.Guest.SoftwareMeasurement; m != "" {
		value, err := hex.DecodeString(strings.TrimPrefix(m, "sha384:"))
		if err != nil || len(value) != len(o.Measurement) {
			return o, fmt.Errorf("guest.software_measurement: want %d hexadecimal digits", 2*len(o.Measurement))
		}
		o.Measurement = [48]byte(value)
	}
	return o, nil
}

// checkCollector says what newCollector would refuse, and makes nothing that stays: not
// the software TEE's chain either.
func checkCollector(ctx context.Context, cfg settings.Config) (notice string, err error) {
	if !cfg.Compute.Software() {
		return checkHardware(ctx, cfg)
	}
	_, err = emulation(cfg)
	return "", err
}

// sealerOf is what the configuration has keys sealed with; nil for nothing. A software TEE derives keys that prove nothing.
func sealerOf(ctx context.Context, cfg settings.Config) (restart.Sealer, error) {
	if !cfg.Compute.Software() || cfg.LocalRestart.Seal == "" {
		return hardware.Sealer(cfg)
	}
	o, err := emulation(cfg)
	if err != nil {
		return nil, err
	}
	guest, err := emulated.New(ctx, o)
	if err != nil {
		return nil, err
	}
	return guest.Sealer()
}

func chainDir(state string) string { return filepath.Join(state, "software-tee") }

// emulationFlags are what the command software-tee was asked for.
type emulationFlags struct {
	state, provider, measurement      string
	roots, documents, keyName, values string
}

const developmentUsage = `anchorhold-agent software-tee makes the keys of an emulated guest, and writes what a development broker has to know of it:

  --state DIR           the agent's guest.state_dir
  --provider NAME       its compute.tee.provider; "software" if omitted
  --roots FILE          file for the root certificates (PEM), for software_tee_root
  --tdx-collateral DIR  directory of collateral for the documents of the emulated platform
  --key-name FILE       file for the name of the TPM's key, for appraisal.tpm.enrolled
  --measurement HEX     its guest.software_measurement, for --values
  --values FILE         file for its reference value, demo/image
`

// developmentCommand makes the keys of an emulated guest, and writes what a development broker needs.
func developmentCommand(ctx context.Context, args []string, out, complaint io.Writer) (int, bool) {
	if args[0] != "software-tee" {
		return 0, false
	}
	var f emulationFlags
	flags := flag.NewFlagSet("software-tee", flag.ContinueOnError)
	flags.SetOutput(complaint)
	flags.Usage = func() { fmt.Fprint(complaint, developmentUsage) }
	flags.StringVar(&f.state, "state", "", "")
	flags.StringVar(&f.provider, "provider", settings.ProviderSoftware, "")
	flags.StringVar(&f.roots, "roots", "", "")
	flags.StringVar(&f.documents, "tdx-collateral", "", "")
	flags.StringVar(&f.keyName, "key-name", "", "")
	flags.StringVar(&f.measurement, "measurement", "", "")
	flags.StringVar(&f.values, "values", "", "")
	if flags.Parse(args[1:]) != nil {
		return 2, true
	}
	if f.state == "" || f.roots+f.keyName == "" || !slices.Contains(settings.SoftwareProviders(), f.provider) {
		fmt.Fprint(complaint, "anchorhold-agent software-tee needs --state, a known --provider, and --roots or --key-name\n\n", developmentUsage)
		return 2, true
	}
	if err := f.write(ctx, out); err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
		return 1, true
	}
	return 0, true
}

func (f emulationFlags) write(ctx context.Context, out io.Writer) error {
	var cfg settings.Config
	cfg.Compute.TEE.Provider, cfg.Guest.StateDir, cfg.Guest.SoftwareMeasurement = f.provider, f.state, f.measurement
	o, err := emulation(cfg)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.Dir); err == nil {
		fmt.Fprintf(out, "reading the emulated guest's keys in %s\n", o.Dir)
	} else {
		fmt.Fprintf(out, "making the emulated guest's keys in %s: RSA keys of 4,096 bits, for SEV-SNP, take seconds, or minutes on a busy machine\n", o.Dir)
	}
	guest, err := emulated.New(ctx, o)
	if err != nil {
		return err
	}
	if f.documents != "" {
		if err := writeDocuments(guest, f.documents); err != nil {
			return err
		}
	}
	value := map[string]any{"id": "demo/image", "kind": o.Kind, "registers": guest.Registers(), "covers": evidence.CoversImage,
		"software": o.Kind != evidence.KindVTPM, "description": "an emulated guest"}
	values, err := json.MarshalIndent(map[string]any{"format": 2, "reference_values": []any{value}}, "", "  ")
	if err != nil {
		return err
	}
	for _, file := range []struct {
		path, holds string
		content     []byte
	}{
		{f.roots, "the root certificates, for the software_tee_root of a development broker,", guest.RootsPEM()},
		{f.keyName, "the name of the TPM's key, for the broker's appraisal.tpm.enrolled,", []byte(hex.EncodeToString(guest.KeyName()))},
		{f.values, "the reference value", values},
	} {
		if file.path == "" {
			continue
		}
		if len(file.content) == 0 {
			return fmt.Errorf("a guest of the provider %s has no file %s", f.provider, file.path)
		}
		if err := os.WriteFile(file.path, append(file.content, '\n'), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(out, "wrote %s to %s\n", file.holds, file.path)
	}
	return nil
}

// writeDocuments writes what Intel would publish about the platform of emulated TDX.
func writeDocuments(guest *emulated.Guest, into string) error {
	td := guest.Domain()
	if td == nil {
		return fmt.Errorf("--tdx-collateral: the guest is not one of TDX")
	}
	docs, err := td.Collateral()
	if err != nil {
		return err
	}
	key, err := collateral.Platform{FMSPC: td.FMSPC(), CA: collateral.CAPlatform, Update: collateral.UpdateStandard}.Key()
	if err != nil {
		return err
	}
	s, err := store.Open(into)
	if err != nil {
		return err
	}
	_, err = s.Put(collateral.Item{Key: key, Fetched: time.Now(), Documents: collateral.TDXDocuments(docs).Documents()})
	return err
}
