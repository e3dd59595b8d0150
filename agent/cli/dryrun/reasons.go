package dryrun

import "slices"

// knownReason reports whether a policy, or the verification of evidence before it, can refuse for a reason. A
// table that expects another one has a slip of the pen in it, and its case could never pass.
func knownReason(code string) bool {
	return slices.ContainsFunc(reasons(), func(of []string) bool { return slices.Contains(of, code) })
}

// reasons are the codes by the folder that has them; a test compares them with the sources.
func reasons() [][]string {
	return [][]string{
		{ // guest/evidence
			"guest-claims-version", "malformed-claims", "malformed-evidence",
		},
		{ // keybroker/policy
			"agent-build-not-allowed", "author-key-not-allowed", "azure-configuration-not-allowed",
			"check-not-configured", "chip-id-masked", "chip-not-enrolled", "claims-missing", "clock-source-not-allowed",
			"committed-tcb-below-minimum", "current-tcb-below-minimum", "debug-enabled", "event-log-not-allowed",
			"evidence-kind-not-allowed", "family-id-not-allowed", "firmware-below-minimum", "gpu-not-allowed",
			"guest-policy-bits-unknown", "guest-policy-not-allowed", "guest-svn-below-minimum", "host-data-not-allowed",
			"id-block-image-not-allowed", "id-key-not-allowed", "image-not-allowed", "launch-tcb-below-minimum",
			"measurement-not-allowed", "memory-limit-not-allowed", "migration-agent-allowed", "milan-not-allowed",
			"mitigation-missing", "platform-info-bits-unknown", "platform-info-not-allowed", "policy-empty",
			"policy-expired", "policy-not-yet-valid", "product-not-allowed", "report-version-below-minimum",
			"reported-tcb-below-minimum", "resource-not-in-policy", "software-tee-not-allowed",
			"tdx-advisory-not-accepted", "tdx-attribute-bits-unknown", "tdx-attributes-not-allowed",
			"tdx-config-id-not-allowed", "tdx-evaluation-number-below-minimum", "tdx-module-not-allowed",
			"tdx-module-signer-not-allowed", "tdx-owner-config-not-allowed", "tdx-owner-not-allowed",
			"tdx-partition-not-allowed", "tdx-platform-not-allowed", "tdx-sept-ve-enabled", "tdx-service-td-not-allowed",
			"tdx-tcb-revoked", "tdx-tcb-status-not-allowed", "tdx-tcb-unmatched", "tdx-xfam-not-allowed",
			"tenant-not-allowed", "tpm-instance-not-allowed", "tpm-key-trust-not-allowed", "tpm-not-bound",
			"tpm-pcr-missing", "vlek-provider-not-allowed", "vmpl-not-allowed",
		},
		{ // keybroker/collateral
			"collateral-bundle", "collateral-bundle-signer", "collateral-busy", "collateral-conflict", "collateral-full",
			"collateral-key", "collateral-malformed", "collateral-mismatch", "collateral-missing", "collateral-rollback",
			"collateral-signature", "collateral-source", "collateral-stale", "collateral-too-large",
			"collateral-unavailable", "collateral-unknown", "collateral-unverifiable",
		},
		{ // keybroker/appraise
			"authority-not-pinned", "certificate-chain", "certificate-expired", "certificate-malformed",
			"certificate-missing", "certificate-revoked", "chip-mismatch", "evidence-kind-unsupported",
			"product-unknown", "report-data-mismatch", "report-reserved", "report-signature",
			"report-signature-algorithm", "report-signing-key", "report-size", "report-version", "revocation-unknown",
			"root-not-trusted", "tcb-mismatch",
		},
		{ // keybroker/appraise/eventlog
			"event-after-separator", "event-digest-mismatch", "event-log-bank", "event-log-limit", "event-log-malformed",
			"event-log-register-mismatch", "event-log-unverified", "event-secure-boot", "event-type-unknown",
		},
		{ // keybroker/appraise/gpu
			"gpu-certificate", "gpu-chain", "gpu-device", "gpu-expired", "gpu-firmware-mismatch", "gpu-measurement",
			"gpu-nonce-mismatch", "gpu-opaque-data", "gpu-report-format", "gpu-report-size", "gpu-revocation-unknown",
			"gpu-revoked", "gpu-root", "gpu-same-device", "gpu-signature",
		},
		{ // keybroker/appraise/hcl
			"hcl-binding", "hcl-hardware", "hcl-header", "hcl-key", "hcl-privilege", "hcl-reserved", "hcl-runtime-data",
			"hcl-size", "hcl-tdreport", "hcl-unconfirmed",
		},
		{ // keybroker/appraise/kinds
			"event-log-without-quote", "evidence-kind-not-configured", "gpu-chain-missing",
		},
		{ // keybroker/appraise/tdx
			"tdx-attestation-key", "tdx-attestation-key-type", "tdx-body-type", "tdx-certificate-chain",
			"tdx-certificate-expired", "tdx-certificate-malformed", "tdx-certificate-revoked", "tdx-certification-data",
			"tdx-collateral-expired", "tdx-collateral-malformed", "tdx-collateral-mismatch", "tdx-collateral-missing",
			"tdx-collateral-not-yet-valid", "tdx-collateral-signature", "tdx-evaluation-number", "tdx-module-identity",
			"tdx-qe-identity", "tdx-qe-report-signature", "tdx-qe-vendor", "tdx-quote-malformed", "tdx-quote-signature",
			"tdx-quote-size", "tdx-quote-trailing", "tdx-quote-version", "tdx-report-data", "tdx-reserved",
			"tdx-root-not-trusted", "tdx-tee-type", "tdx-verifier-unconfigured",
		},
		{ // keybroker/appraise/tpmquote
			"tpm-algorithm", "tpm-certificate", "tpm-certificate-chain", "tpm-certificate-revoked", "tpm-key-attributes",
			"tpm-key-untrusted", "tpm-malformed", "tpm-nonce-mismatch", "tpm-pcr-digest", "tpm-pcr-selection",
			"tpm-revocation-unknown", "tpm-signature",
		},
		{ // agent/cli/evidencefile
			"evidence-ambiguous", "evidence-file-malformed", "evidence-file-too-large", "evidence-form-unknown",
			"evidence-missing",
		},
		{ // agent/cli/evidencejudge
			"evidence-incomplete", "evidence-nonce-mismatch",
		},
	}
}
