package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/packaging/softpolicy"
)

// kind is a kind of guest that the demo's programs emulate.
type kind struct {
	provider string // compute.tee.provider of the agents
	recorded string // the register that the audit log names the guest by: its first
	register string // that tells the demo's image from another
	policy   string
	tdx, tpm bool // the broker needs its platform's documents, or the enrolment of its TPM
}

func kindOf(name string) (kind, error) {
	switch name {
	case "", "sev-snp":
		return kind{"software", "launch", "launch", demoPolicy, false, false}, nil
	case "tdx":
		return kind{"software_tdx", "mrtd", "mrtd", tdxPolicy, true, false}, nil
	case "tdx-v5":
		return kind{"software_tdx_v5", "mrtd", "mrtd", tdxPolicy, true, false}, nil
	case "vtpm":
		return kind{"software_vtpm", "pcr0", "pcr4", vtpmPolicy, false, true}, nil
	case "azure":
		return kind{"software_azure_snp", "launch", "launch", azurePolicy, false, false}, nil
	case "azure-tdx":
		return kind{"software_azure_tdx", "mrtd", "mrtd", azureTDXPolicy, true, false}, nil
	}
	return kind{}, fmt.Errorf("-kind: %q is unknown; use sev-snp, tdx, tdx-v5, vtpm, azure or azure-tdx", name)
}

// makeTEE makes the keys of the emulated hardware and the reference value of the demo's image, and
// returns what the broker's configuration needs to judge them.
func (d *demo) makeTEE(ctx context.Context) (brokerExtra string, err error) {
	kind, err := kindOf(d.opt.kind)
	if err != nil {
		return "", err
	}
	args := []string{"software-tee", "--provider", kind.provider, "--state", d.path("tee"), "--measurement", goodMeasurement, "--values", d.path("values.json")}
	if kind.tpm {
		args = append(args, "--key-name", d.path("key-name"))
	} else {
		args = append(args, "--roots", d.path("software-tee.pem"))
		brokerExtra = fmt.Sprintf("software_tee_root: %s\n", d.path("software-tee.pem"))
	}
	if kind.tdx {
		dir := d.path("collateral")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
		args = append(args, "--tdx-collateral", dir)
		brokerExtra += fmt.Sprintf("appraisal: {collateral: {directory: %s, offline: true}, tdx: {minimum_evaluation_number: 18}}\n", dir)
	}
	if _, err = command(ctx, filepath.Join(d.opt.bin, "anchorhold-agent"), args...); err != nil {
		return "", err
	}
	if kind.tpm {
		name, err := os.ReadFile(d.path("key-name"))
		if err != nil {
			return "", err
		}
		brokerExtra = fmt.Sprintf("appraisal: {tpm: {enrolled: [%s]}}\n", strings.TrimSpace(string(name)))
	}
	return brokerExtra, d.readMeasurements()
}

// readMeasurements reads the registers of the demo's image.
func (d *demo) readMeasurements() error {
	text, err := os.ReadFile(d.path("values.json"))
	if err != nil {
		return err
	}
	var file struct {
		Values []struct {
			Registers map[string]string `json:"registers"`
		} `json:"reference_values"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return err
	}
	if len(file.Values) != 1 {
		return fmt.Errorf("got %d reference values, want 1", len(file.Values))
	}
	d.measured = file.Values[0].Registers
	return nil
}

// Parts of the policies, which require what an emulated guest can show and waive the rest in writing,
// as a policy must.
const (
	requireBoot = `  event_log: {registers: [pcr0, pcr4, pcr7], secure_boot: true}
`
	requireAzure = `  tpm: {ak_trust: [report], pcrs: [0, 4, 7]}
  azure: {secure_boot: true}
`
	waiveAll = `waive:
  - {check: agent-build, reason: the demo runs whatever was just built}
  - {check: tenant, reason: the demo has no tenants}
`
)

// The policies of each kind.
const (
	demoPolicy = softpolicy.Head + "  kinds: [sev-snp]\n" + softpolicy.RequireSNP + waiveAll + softpolicy.WaiveSNP

	tdxPolicy = softpolicy.Head + "  kinds: [tdx]\n" + softpolicy.RequireTDX +
		"  event_log: {registers: [rtmr0, rtmr1, rtmr2], secure_boot: true}\n" + waiveAll + softpolicy.WaiveTDX

	// allow_software_tee is no part of this: nothing in a quote tells an emulated TPM from a real one.
	vtpmPolicy = softpolicy.Head + "  kinds: [vtpm]\n  tpm: {ak_trust: [enrolled], pcrs: [0, 4, 7]}\n" + requireBoot + waiveAll

	azurePolicy = softpolicy.Head + "  kinds: [azure-sev-snp]\n" + softpolicy.RequireSNP + requireAzure + requireBoot + waiveAll + softpolicy.WaiveSNP

	azureTDXPolicy = softpolicy.Head + "  kinds: [azure-tdx]\n" + softpolicy.RequireTDX + requireAzure + requireBoot + waiveAll + softpolicy.WaiveTDX
)
