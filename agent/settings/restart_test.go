package settings

import (
	"strings"
	"testing"
)

// TestLocalRestartNeedsWhatItSealsWith: each row has one thing wrong, or nothing.
func TestLocalRestartNeedsWhatItSealsWith(t *testing.T) {
	for name, tc := range map[string]struct {
		provider string
		tpm      bool
		set      LocalRestart
		words    string // of the error; empty if there is none
	}{
		"off":                       {ProviderTDX, false, LocalRestart{}, ""},
		"a TPM alone":               {ProviderVTPM, false, LocalRestart{Seal: SealTPM}, ""},
		"Azure's":                   {ProviderAzure, false, LocalRestart{Seal: SealTPM, PCRs: []int{4, 7, 11, 12}, Counter: "0x01800001"}, ""},
		"the firmware":              {ProviderSNP, false, LocalRestart{Seal: SealSNP}, ""},
		"both":                      {ProviderSNP, true, LocalRestart{Seal: SealBoth}, ""},
		"a TPM beside TDX":          {ProviderTDX, true, LocalRestart{Seal: SealTPM}, ""},
		"an emulated processor":     {ProviderSoftware, false, LocalRestart{Seal: SealSNP}, ""},
		"an unknown way":            {ProviderSNP, true, LocalRestart{Seal: "disk"}, "disk"},
		"no way":                    {ProviderVTPM, false, LocalRestart{PCRs: []int{4, 7}}, "seal is missing"},
		"no way but a counter":      {ProviderVTPM, false, LocalRestart{Counter: "0x01800001"}, "seal is missing"},
		"TDX without a TPM":         {ProviderTDX, false, LocalRestart{Seal: SealTPM}, "needs the TPM"},
		"auto":                      {ProviderAuto, false, LocalRestart{Seal: SealTPM}, "needs the TPM"},
		"an emulated TPM":           {ProviderSoftwareVTPM, false, LocalRestart{Seal: SealTPM}, "needs the TPM"},
		"both without a TPM":        {ProviderSNP, false, LocalRestart{Seal: SealBoth}, "needs the TPM"},
		"TDX derives nothing":       {ProviderTDX, true, LocalRestart{Seal: SealBoth}, "amd_sev_snp"},
		"Azure derives nothing":     {ProviderAzure, false, LocalRestart{Seal: SealSNP}, "amd_sev_snp"},
		"PCRs of no TPM":            {ProviderSNP, false, LocalRestart{Seal: SealSNP, PCRs: []int{4, 7, 12}}, "leave them out"},
		"a counter of no TPM":       {ProviderSNP, false, LocalRestart{Seal: SealSNP, Counter: "0x01800001"}, "leave them out"},
		"the manufacturer's index":  {ProviderVTPM, false, LocalRestart{Seal: SealTPM, Counter: "0x01400001"}, "counter"},
		"a decimal index":           {ProviderVTPM, false, LocalRestart{Seal: SealTPM, Counter: "25165825"}, "counter"},
		"a PCR that there is not":   {ProviderVTPM, false, LocalRestart{Seal: SealTPM, PCRs: []int{4, 7, 12, 24}}, "no PCR 24"},
		"without the first program": {ProviderVTPM, false, LocalRestart{Seal: SealTPM, PCRs: []int{0, 7, 12}}, "4 is missing"},
		"without Secure Boot":       {ProviderVTPM, false, LocalRestart{Seal: SealTPM, PCRs: []int{0, 4, 12}}, "7 is missing"},
		"without what is added":     {ProviderVTPM, false, LocalRestart{Seal: SealTPM, PCRs: []int{4, 7}}, "12 is missing"},
	} {
		var c Config
		c.Compute.TEE.Provider, c.LocalRestart = tc.provider, tc.set
		if tc.tpm {
			c.Compute.TEE.TPM = &TPM{}
		}
		var f Findings
		c.checkLocalRestart(&f)
		if tc.words == "" && len(f.Errors) > 0 || tc.words != "" && (len(f.Errors) != 1 || !strings.Contains(f.Errors[0], tc.words)) {
			t.Errorf("%s: %q", name, f.Errors)
		}
		if on := tc.set.Seal != "" && tc.words == ""; on && len(f.Notices) == 0 || !on && tc.words == "" && len(f.Notices) > 0 {
			t.Errorf("%s: %q", name, f.Notices)
		}
	}
	var c Config
	c.Compute.TEE.Provider, c.LocalRestart = ProviderVTPM, LocalRestart{Seal: SealTPM}
	for n, says := range map[int]bool{0: false, 1: true} {
		c.Secrets = make([]Secret, n)
		var f Findings
		c.checkLocalRestart(&f)
		if got := strings.Contains(strings.Join(f.Notices, "\n"), "there are no secrets until a lease brings them"); got != says {
			t.Errorf("%d secrets: %q", n, f.Notices)
		}
	}
	if (LocalRestart{Counter: "0x01800001"}).Index() != 0x01800001 || (LocalRestart{}).Index() != 0 {
		t.Error("an index is read wrongly")
	}
}
