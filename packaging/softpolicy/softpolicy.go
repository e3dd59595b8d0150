// Package softpolicy has the parts of policy files that emulated guests need: what they can show is
// required, and every other check is waived in writing, as a policy must. The demos and the boot test
// write their policies with it; none of it is for a guest on hardware.
package softpolicy

// Head is all that the policy "demo" has before the requirements of a kind: it goes on under "require".
const Head = `format: 2
id: demo
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
rules:
  - resources: [models/*]
require:
  reference_values: [demo/*]
  image_ids: [demo-image]
  memory_limit: {min_mib: 32, max_mib: 128}
`

// Requirements, for "require".
const (
	// RequireSNP is what the software TEE's reports show.
	RequireSNP = `  sev_snp:
    products: [Genoa]
    vmpl: 0
    minimum_tcb:
      - {product: Genoa, all: {bootloader: 9, snp: 23, microcode: 72}}
`
	// RequireTDX is what the quotes of emulated trust domains show.
	RequireTDX = `  tdx:
    tcb_statuses: [UpToDate]
    minimum_evaluation_number: 18
`
)

// Waivers, for "waive".
const (
	// WaiveSNP waives the other checks of SEV-SNP.
	WaiveSNP = `  - {check: chip-ids, reason: the software TEE has a new chip for each run}
  - {check: platform-info, reason: the software TEE has no platform}
  - {check: guest-policy, reason: the software TEE launches nothing}
  - {check: id-key, reason: nobody signs an ID block}
  - {check: author-key, reason: nobody signs an ID block}
  - {check: firmware-version, reason: the software TEE has no firmware}
  - {check: report-version, reason: the software TEE chooses its version}
  - {check: mitigations, reason: the software TEE has no processor}
  - {check: guest-svn, reason: nobody signs an ID block}
  - {check: family-id, reason: nobody signs an ID block}
  - {check: id-block-image, reason: nobody signs an ID block}
  - {check: host-data, reason: the host puts nothing in}
`
	// WaiveTDX waives the other checks of TDX.
	WaiveTDX = `  - {check: tdx-advisories, reason: the emulated platform has none}
  - {check: tdx-attributes, reason: the emulator builds nothing}
  - {check: tdx-xfam, reason: the emulator has no processor}
  - {check: tdx-module, reason: the emulator has no TDX module}
  - {check: tdx-config-id, reason: the host puts nothing in}
  - {check: tdx-owner, reason: the host puts nothing in}
  - {check: tdx-owner-config, reason: the host puts nothing in}
  - {check: tdx-platform, reason: the emulator has one type of platform}
`
)
