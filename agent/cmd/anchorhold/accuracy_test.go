package main

import (
	"encoding/json"
	"math"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
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
		if _, status, err := run(t, append([]string{"params", "check", "sum-2048-27", "--contributions", "16"}, wrong...)...); status != exitUsage {
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
		expectRun(t, status, want, "params", "check", write(t, path, strings.Replace(section, old, new, 1)))
	}
	check(0, "ckks-16384 holds: ", "", "")
	check(exitRefused, "bits are left after 64 contributions, 130 are required", "threshold: 30", "threshold: 130")
	check(exitRefused, path+`: configuration: aggregation.scheme: "BFV" is refused`, "CKKS", "BFV")
	check(exitRefused, path+`: configuration: aggregation.scheme: "" is refused`, "scheme: CKKS, ", "")
	check(exitRefused, path+": configuration: aggregation: no parameter set has polynomial_modulus_degree 8192", "16384", "8192")
	check(exitRefused, path+" has no section aggregation", section, "log: {level: info}\n")
	check(exitFailure, path+": line 1", section, "no configuration\n")
	expectRun(t, exitRefused, `no file, and "sum-2048": unknown parameter set; there are sum-2048-27, ckks-16384, ckks-16384-threshold`, "params", "check", "sum-2048")
	expectRun(t, exitUsage, "--contributions is 1 or more", "params", "check", "sum-2048-27", "--contributions", "0")
}

// What a broker says of a round that it opened is printed, for people and for scripts; and the
// flags of accuracy arrive there.
func TestOpenedRoundsSayHowFarTheirMeanIsOff(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 1_000_000, func(r *federation.Round) {
		r.Minimum, r.Maximum, r.Rotation = 8, 16, &federation.Rotation{Seed: federation.Digest{1}}
		r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 4}, 1, 1e-5
	})
	off, err := r.Accuracy(8)
	if err != nil {
		t.Fatal(err)
	}
	var spec rounds.Spec
	socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		spec = rounds.Spec{}
		if err := json.NewDecoder(req.Body).Decode(&spec); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(rounds.Status{Round: r, State: rounds.Open, Signed: signed, ExpectedError: &off, Warning: "much noise", Adjacency: federation.Adjacency}); err != nil {
			t.Error(err)
		}
	}))
	open := func(extra ...string) string {
		t.Helper()
		out, status, err := run(t, append([]string{"fed", "round", "open", "--broker", socket, "--model", "m", "--length", "1000000", "--clip-l2", "1", "--contributors", "everyone", "--decryptor-tenant", "a"}, extra...)...)
		if status != 0 {
			t.Fatalf("%s, %v", out, err)
		}
		return out
	}
	out := open()
	for _, want := range []string{"error    ", " of the L2 bound expected in the mean of 8", "warning  much noise", "each rotated value", federation.AdjacencyText} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "if lighter") {
		t.Errorf("of weights, where there are none:\n%s", out)
	}
	r.MaxWeight = 250
	if heavy := open(); !strings.Contains(heavy, "of 8 contributions of weight 250; if lighter, 250 / their mean weight times as much\n") {
		t.Errorf("nothing of weights in\n%s", heavy)
	}
	r.MaxWeight = 1
	if spec.Rotate != nil || spec.MaxError != 0 || spec.Maximum != 0 {
		t.Errorf("defaults: %+v", spec)
	}
	var said struct {
		Round     federation.ID       `json:"round"`
		Expected  federation.Accuracy `json:"expected_error"`
		Adjacency string              `json:"adjacency"`
		Warning   string              `json:"warning"`
		Epsilon   float64             `json:"epsilon"`
	}
	if err := json.Unmarshal([]byte(open("--json", "--rotate=false", "--max-error", "0.5")), &said); err != nil || said.Round != r.ID || said.Expected != off || said.Adjacency != "add-remove" || said.Warning == "" || said.Epsilon != 1 {
		t.Errorf("%+v, %v", said, err)
	}
	if spec.Rotate == nil || *spec.Rotate || spec.MaxError != 0.5 {
		t.Errorf("%+v", spec)
	}
	if open("--rotate"); spec.Rotate == nil || !*spec.Rotate {
		t.Errorf("%+v", spec.Rotate)
	}
}
