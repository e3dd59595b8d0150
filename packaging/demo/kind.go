package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// kind is a kind of guest that the demo's programs emulate.
type kind struct {
	provider string // compute.tee.provider of the agents
	register string // that a receipt's measurement is of
	values   string // reference values, of the good measurement
	policy   string
}

func kindOf(name string) (kind, error) {
	switch name {
	case "", "sev-snp":
		return kind{"software", "launch", snpValues, demoPolicy}, nil
	case "tdx":
		return kind{"software_tdx", "mrtd", tdxValues, tdxPolicy}, nil
	case "tdx-v5":
		return kind{"software_tdx_v5", "mrtd", tdxValues, tdxPolicy}, nil
	}
	return kind{}, fmt.Errorf("-kind: %q is unknown; use sev-snp, tdx or tdx-v5", name)
}

// makeTEE makes the keys of the emulated hardware, and returns what the broker's configuration needs to
// judge it beside its root.
func (d *demo) makeTEE(ctx context.Context) (brokerExtra string, err error) {
	args := []string{"software-tee", "--state", d.path("tee"), "--roots", d.path("software-tee.pem")}
	if d.opt.kind == "tdx" || d.opt.kind == "tdx-v5" {
		dir := d.path("collateral")
		if err := os.Mkdir(dir, 0o700); err != nil {
			return "", err
		}
		args = append(args, "--tdx-collateral", dir)
		brokerExtra = fmt.Sprintf("appraisal: {collateral: {directory: %s, offline: true}, tdx: {minimum_evaluation_number: 18}}\n", dir)
	}
	_, err = command(ctx, filepath.Join(d.opt.bin, "anchorhold-agent"), args...)
	return brokerExtra, err
}

const snpValues = `format: 1
reference_values:
  - {id: demo/image, measurement: %q, software: true, description: the demo's image}
`

const tdxValues = `format: 2
reference_values:
  - {id: demo/image, kind: tdx, registers: {mrtd: %q}, covers: firmware, software: true, description: the demo's firmware}
`

// demoPolicy requires what the software TEE can show and waives the rest in
// writing, as a policy must.
const demoPolicy = `format: 2
id: demo
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require:
  kinds: [sev-snp]
  reference_values: [demo/*]
  sev_snp:
    products: [Genoa]
    vmpl: 0
    minimum_tcb:
      - {product: Genoa, all: {bootloader: 9, snp: 23, microcode: 72}}
  image_ids: [demo-image]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [models/*]
waive:
  - {check: chip-ids, reason: the software TEE has a new chip for each run}
  - {check: platform-info, reason: the software TEE has no platform}
  - {check: guest-policy, reason: the software TEE launches nothing}
  - {check: id-key, reason: the demo signs no ID block}
  - {check: author-key, reason: the demo signs no ID block}
  - {check: firmware-version, reason: the software TEE has no firmware}
  - {check: report-version, reason: the software TEE chooses its version}
  - {check: mitigations, reason: the software TEE has no processor}
  - {check: guest-svn, reason: the demo signs no ID block}
  - {check: family-id, reason: the demo signs no ID block}
  - {check: id-block-image, reason: the demo signs no ID block}
  - {check: host-data, reason: the demo's host puts nothing in}
  - {check: agent-build, reason: the demo runs whatever was just built}
  - {check: tenant, reason: the demo has no tenants}
`

// tdxPolicy does the same for an emulated trust domain.
const tdxPolicy = `format: 2
id: demo
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require:
  kinds: [tdx]
  reference_values: [demo/*]
  tdx:
    tcb_statuses: [UpToDate]
    minimum_evaluation_number: 18
  event_log: {registers: [rtmr0, rtmr1, rtmr2], secure_boot: true}
  image_ids: [demo-image]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [models/*]
waive:
  - {check: tdx-advisories, reason: the emulated platform has none}
  - {check: tdx-attributes, reason: the emulator builds nothing}
  - {check: tdx-xfam, reason: the emulator has no processor}
  - {check: tdx-module, reason: the emulator has no TDX module}
  - {check: tdx-config-id, reason: the demo's host puts nothing in}
  - {check: tdx-owner, reason: the demo's host puts nothing in}
  - {check: tdx-owner-config, reason: the demo's host puts nothing in}
  - {check: tdx-platform, reason: the emulator has one type of platform}
  - {check: agent-build, reason: the demo runs whatever was just built}
  - {check: tenant, reason: the demo has no tenants}
`
