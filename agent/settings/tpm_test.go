package settings

import (
	"slices"
	"strings"
	"testing"
)

// withTEE is the whole configuration with another line compute.tee.
func withTEE(line string) []byte {
	return []byte(strings.Replace(whole, "tee: {provider: amd_sev_snp, attestation_ttl_seconds: 600, memory_limit_mb: 128, measurement_whitelist: []}",
		"tee: {attestation_ttl_seconds: 600, memory_limit_mb: 128, "+line+"}", 1))
}

// TestATPMGoesWithItsProviders, and each has one key at most.
func TestATPMGoesWithItsProviders(t *testing.T) {
	for line, says := range map[string]string{
		"provider: vtpm":                 "",
		"provider: azure":                "",
		"provider: amd_sev_snp, tpm: {}": "",
		"provider: intel_tdx, tpm: {device: /dev/tpmrm1, key: google_ecc, bank: sha384, pcrs: [0, 4, 7, 23], event_log: /log}": "",
		"provider: vtpm, tpm: {key: own, event_log: none}":                                                                     "",
		"provider: vtpm, tpm: {key: owner}":                                                                                    "",
		"provider: vtpm, tpm: {key: google}":                                                                                   "",
		"provider: vtpm, tpm: {key: \"0x81010001\"}":                                                                           "",
		"provider: azure, tpm: {pcrs: [0, 4, 7], bank: sha256}":                                                                "",
		"provider: software_vtpm, tpm: {bank: sha384}":                                                                         "",
		"provider: auto, tpm: {}":                                                                                              "compute.tee.tpm: it goes with",
		"provider: software, tpm: {}":                                                                                          "compute.tee.tpm: it goes with",
		"provider: software_tdx, tpm: {}":                                                                                      "compute.tee.tpm: it goes with",
		"provider: azure, tpm: {key: own}":                                                                                     "compute.tee.tpm.key: under Azure",
		"provider: software_azure_snp, tpm: {event_log: none}":                                                                 "an emulated TPM has",
		"provider: software_vtpm, tpm: {device: /dev/tpmrm0}":                                                                  "an emulated TPM has",
		"provider: software_vtpm, tpm: {event_log: none}":                                                                      "an emulated TPM has",
		"provider: vtpm, tpm: {device: tpmrm0}":                                                                                "compute.tee.tpm.device: ",
		"provider: vtpm, tpm: {event_log: log}":                                                                                "compute.tee.tpm.event_log: ",
		"provider: vtpm, tpm: {key: amazon}":                                                                                   "compute.tee.tpm.key: \"amazon\" is unknown",
		"provider: vtpm, tpm: {key: \"0x80ffffff\"}":                                                                           "compute.tee.tpm.key: ",
		"provider: vtpm, tpm: {key: \"0x82000000\"}":                                                                           "compute.tee.tpm.key: ",
		"provider: vtpm, tpm: {key: \"2164326401\"}":                                                                           "compute.tee.tpm.key: ",
		"provider: vtpm, tpm: {bank: sha1}":                                                                                    "compute.tee.tpm.bank: ",
		"provider: vtpm, tpm: {pcrs: [0, 4, 7, 24]}":                                                                           "there is no PCR 24",
		"provider: vtpm, tpm: {pcrs: [0, 4, 7, -1]}":                                                                           "there is no PCR -1",
		"provider: vtpm, tpm: {pcrs: [0, 7]}":                                                                                  "compute.tee.tpm.pcrs: 4 is missing",
		"provider: vtpm, measurement_whitelist: [\"sha256:" + strings.Repeat("5a", 32) + "\"]":                                 "compute.tee.measurement_whitelist: a TPM measures no launch",
	} {
		_, findings, err := Parse(withTEE(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if says == "" && len(findings.Errors) > 0 || says != "" && (len(findings.Errors) != 1 || !strings.Contains(findings.Errors[0], says)) {
			t.Errorf("%s: %q, want %q", line, findings.Errors, says)
		}
	}
	if _, _, err := Parse(withTEE("provider: vtpm, tpm: {pcr: [0]}")); err == nil {
		t.Error("an unknown key was accepted")
	}
}

// TestWhatIsQuotedByDefaultIsWhatBrokersWant of everybody.
func TestWhatIsQuotedByDefaultIsWhatBrokersWant(t *testing.T) {
	for _, n := range alwaysQuoted() {
		if !slices.Contains(DefaultPCRs(), n) {
			t.Errorf("PCR %d is not quoted", n)
		}
	}
}

// TestALevelGoesWithSEVSNP, and there are four.
func TestALevelGoesWithSEVSNP(t *testing.T) {
	for line, says := range map[string]string{
		"provider: amd_sev_snp, vmpl: 0": "", "provider: amd_sev_snp, vmpl: 3": "", "provider: auto, vmpl: 2": "",
		"provider: amd_sev_snp, vmpl: 4":  "compute.tee.vmpl: 4 is outside 0 to 3",
		"provider: amd_sev_snp, vmpl: -1": "compute.tee.vmpl: -1 is outside 0 to 3",
		"provider: auto, vmpl: 256":       "compute.tee.vmpl: 256 is outside 0 to 3",
		"provider: intel_tdx, vmpl: 0":    "compute.tee.vmpl: it goes with",
		"provider: azure, vmpl: 0":        "compute.tee.vmpl: it goes with",
		"provider: vtpm, vmpl: 0":         "compute.tee.vmpl: it goes with",
		"provider: software, vmpl: 0":     "compute.tee.vmpl: it goes with",
	} {
		c, findings, err := Parse(withTEE(line))
		switch {
		case err != nil:
			t.Errorf("%s: %v", line, err)
		case says == "" && (len(findings.Errors) > 0 || c.Compute.TEE.VMPL == nil):
			t.Errorf("%s: %v, %q", line, c.Compute.TEE.VMPL, findings.Errors)
		case says != "" && (len(findings.Errors) != 1 || !strings.Contains(findings.Errors[0], says)):
			t.Errorf("%s: %q, want %q", line, findings.Errors, says)
		}
	}
	if c, _, err := Parse(withTEE("provider: amd_sev_snp")); err != nil || c.Compute.TEE.VMPL != nil {
		t.Errorf("without one: %v, %v", c.Compute.TEE.VMPL, err)
	}
}

// TestSoftwareProvidersAreNamedSo: the word is what an admin sees.
func TestSoftwareProvidersAreNamedSo(t *testing.T) {
	for _, p := range Providers() {
		var c Compute
		c.TEE.Provider = p
		if c.Software() != strings.HasPrefix(p, "software") {
			t.Errorf("%s: software %t", p, c.Software())
		}
	}
}
