package fed

import (
	"encoding/json"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

func TestParamsCheckSaysHowFarMeansAreOff(t *testing.T) {
	out, status, err := run(t, "params", "check", "sum-2048-27", "--contributions", "16", "--minimum", "8", "--length", "1000000")
	if status != 0 || !strings.Contains(out, "off by 0.0058 of the L2 bound (0.12 without rotation)") || !strings.Contains(out, "added noise included") {
		t.Errorf("%s, %v", out, err)
	}
	var said struct {
		Added       float64             `json:"added_standard_deviation"`
		Encryption  float64             `json:"noise_standard_deviation"`
		ErrorOfMean float64             `json:"error_of_mean"`
		Largest     float64             `json:"largest_value"`
		Rotated     federation.Accuracy `json:"expected_error"`
		Plain       federation.Accuracy `json:"expected_error_without_rotation"`
	}
	for _, set := range []string{"sum-2048-27", "ckks-16384", "ckks-16384-threshold"} {
		out, status, err := run(t, "params", "check", set, "--contributions", "16", "--json")
		if err := json.Unmarshal([]byte(out), &said); status != 0 || err != nil {
			t.Fatalf("%s, %v", out, err)
		}
		// The added noise is eight times the encryption's, but parties that open a sum together add none.
		added := said.Added >= 8*said.Encryption*0.999
		if added == (set == "ckks-16384-threshold") || said.ErrorOfMean < said.Added/16/said.Largest || said.Rotated.Cohort != 8 || !(said.Rotated.Relative < said.Plain.Relative) {
			t.Errorf("%s: %+v, %v", set, said, err)
		}
		// The error of a value is the same that a round says, of as many contributions as it may have.
		out, _, err = run(t, "params", "check", set, "--contributions", "16", "--minimum", "16", "--json")
		if bad := json.Unmarshal([]byte(out), &said); bad != nil || math.Abs(said.ErrorOfMean/said.Plain.PerValue-1) > 1e-6 {
			t.Errorf("%s: a value is off by %g and by %g, %v", set, said.ErrorOfMean, said.Plain.PerValue, err)
		}
	}
	for _, wrong := range [][]string{{"--minimum", "17"}, {"--minimum", "-1"}, {"--length", "0"}, {"--length", "2000000000000"}} {
		if _, status, err := run(t, append([]string{"params", "check", "sum-2048-27", "--contributions", "16"}, wrong...)...); status != cli.StatusUsage {
			t.Errorf("%q: status %d, %v", wrong, status, err)
		}
	}
}

// TestParamsCheckOfAConfiguration refuses what the agent refuses, and says which file it was.
func TestParamsCheckOfAConfiguration(t *testing.T) {
	const section = "aggregation: {scheme: CKKS, library: OpenFHE, polynomial_modulus_degree: 16384, coefficient_modulus: [60, 40, 40, 60], scale: 2^40, noise_budget_threshold: 30}\n"
	path := filepath.Join(t.TempDir(), "agent.yaml")
	check := func(status int, want, old, new string) {
		t.Helper()
		expectRun(t, status, want, "params", "check", clitest.Write(t, path, strings.Replace(section, old, new, 1)))
	}
	check(0, "ckks-16384 holds: ", "", "")
	check(cli.StatusRefused, "bits are left after 64 contributions, want at least 130", "threshold: 30", "threshold: 130")
	check(cli.StatusRefused, path+`: configuration: aggregation.scheme: "BFV" is refused`, "CKKS", "BFV")
	check(cli.StatusRefused, path+`: configuration: aggregation.scheme: "" is refused`, "scheme: CKKS, ", "")
	check(cli.StatusRefused, path+": configuration: aggregation: no parameter set has polynomial_modulus_degree 8192", "16384", "8192")
	check(cli.StatusRefused, path+" has no aggregation section", section, "log: {level: info}\n")
	check(cli.StatusFailed, path+": line 1", section, "no configuration\n")
	expectRun(t, cli.StatusRefused, `"sum-2048": unknown parameter set; known sets are sum-2048-27, ckks-16384, ckks-16384-threshold, and there is no such file`, "params", "check", "sum-2048")
	expectRun(t, cli.StatusUsage, "--contributions must be 1 or more", "params", "check", "sum-2048-27", "--contributions", "0")
}
