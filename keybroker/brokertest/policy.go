//go:build !release

package brokertest

import "fmt"

// WaiveSNP waives the checks of SEV-SNP that the default TEE cannot pass.
const WaiveSNP = `  - {check: chip-ids, reason: test}
  - {check: platform-info, reason: test}
  - {check: guest-policy, reason: test}
  - {check: id-key, reason: test}
  - {check: author-key, reason: test}
  - {check: firmware-version, reason: test}
  - {check: report-version, reason: test}
  - {check: mitigations, reason: test}
  - {check: guest-svn, reason: test}
  - {check: family-id, reason: test}
  - {check: id-block-image, reason: test}
  - {check: host-data, reason: test}
`

// DefaultPolicy is a policy file that opens models/* to the default TEE.
func DefaultPolicy() string {
	return `format: 2
id: test
version: 1
description: what the tests allow
not_before: 2020-01-01T00:00:00Z
not_after: 2099-01-01T00:00:00Z
attestation_ttl_seconds: 600
allow_software_tee: true
require:
  kinds: [sev-snp]
  reference_values: [test]
  sev_snp:
    products: [Genoa]
    vmpl: 0
    minimum_tcb:
      - {product: Genoa, all: {}}
waive:
` + WaiveSNP + `  - {check: agent-build, reason: test}
  - {check: image, reason: test}
  - {check: tenant, reason: test}
  - {check: memory-limit, reason: test}
rules:
  - {resources: ["models/*"]}
`
}

// Show prints a value in every way that a log or an error could, for tests that
// look for a secret in it.
func Show(v any) string { return fmt.Sprintf("%v %+v %#v %s %x", v, v, v, v, v) }
