package round

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// What a broker says of a round that it opened is printed, for people and for scripts; and the
// flags of accuracy arrive there.
func TestOpenedRoundsSayHowFarTheirMeanIsOff(t *testing.T) {
	r, signed, _ := federationtest.New(t).Round(t, 1_000_000, func(r *federation.Round) {
		r.Minimum, r.Maximum, r.Rotation = 8, 16, &federation.Rotation{Seed: digest.Digest{1}}
		r.Noise, r.Epsilon, r.Delta = federation.Noise{Mechanism: federation.DiscreteGaussian, Multiplier: 4}, 1, 1e-5
	})
	off, err := r.Accuracy(8)
	if err != nil {
		t.Fatal(err)
	}
	var spec rounds.Spec
	socket := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
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
	if strings.Contains(out, "lighter") {
		t.Errorf("of weights, where there are none:\n%s", out)
	}
	r.MaxWeight = 250
	if heavy := open(); !strings.Contains(heavy, "of 8 contributions of weight 250; lighter ones multiply it by 250 / their mean weight\n") {
		t.Errorf("nothing of weights in\n%s", heavy)
	}
	r.MaxWeight = 1
	if spec.Rotate != nil || spec.MaxError != 0 || spec.Maximum != 0 {
		t.Errorf("defaults: %+v", spec)
	}
	var said struct {
		Round     digest.RoundID      `json:"round"`
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

func TestKeysForUpdates(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	out, status, err := run(t, "proof", "setup", "--gradient", "3", "--out", dir, "--json")
	if status != 0 || !strings.Contains(out, "constraints") {
		t.Fatalf("%s, %v", out, err)
	}
	sets, err := keyset.Load(dir)
	if err != nil || len(sets) != 1 {
		t.Fatalf("%d sets, %v", len(sets), err)
	}
	r := sets[0].Record
	if r.Gradient == nil || r.Gradient.Coordinates != 3 || r.Gradient.Bits != 8 || !r.Development || r.Inference != nil {
		t.Errorf("%+v", r)
	}
	n, err := normCircuit(dir, 3)
	if err != nil || n.Bits != 8 || n.Circuit != r.Circuit || n.VerifyingKey != r.VerifyingKey {
		t.Errorf("%+v, %v", n, err)
	}
	// Which of two is meant is not guessed.
	if _, status, err := run(t, "proof", "setup", "--gradient", "3", "--bits", "16", "--out", dir); status != 0 {
		t.Fatal(err)
	}
	if _, err := normCircuit(dir, 3); err == nil || cli.StatusOf(err) != cli.StatusRefused || !strings.Contains(err.Error(), "8 and of 16") {
		t.Errorf("two sets: %v", err)
	}
	// Before the broker is asked for anything.
	for name, keys := range map[string]string{"of another length": dir, "none": t.TempDir()} {
		_, status, err := run(t, "fed", "round", "open", "--model", "m", "--length", "4", "--clip-l2", "1", "--norm-keys", keys, "--contributors", "everyone", "--decryptors", "everyone", "--broker", filepath.Join(dir, "no-broker"))
		if status != cli.StatusRefused || !strings.Contains(err.Error(), "--gradient 4") {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
	}
}

// An operator sees what the proofs of a round say.
func TestARoundShowsTheBoundThatIsProven(t *testing.T) {
	r := federation.Round{Length: 650, ClipL2: 1, ClipLinf: 1, NormProof: true, NormCircuit: &federation.NormCircuit{VerifyingKey: digest.Digest{0xab}, Bits: 8}}
	var out bytes.Buffer
	printRound(&out, rounds.Status{Round: r})
	if !strings.Contains(out.String(), "norm up to 1.201, rounding in 8 bits included, key ab00") {
		t.Errorf("%s", out.String())
	}
}
