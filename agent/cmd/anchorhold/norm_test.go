package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/rounds"
)

// run runs the command line, and returns what it printed and its exit status.
func run(t *testing.T, args ...string) (string, int, error) {
	t.Helper()
	return runTelling(t, &bytes.Buffer{}, args...)
}

// runTelling runs a command line whose standard error is kept.
func runTelling(t *testing.T, told io.Writer, args ...string) (string, int, error) {
	t.Helper()
	var out bytes.Buffer
	c := command.root()
	c.SetArgs(append([]string{}, args...)) // of nil, cobra would take the test binary's own
	c.SetOut(&out)
	c.SetErr(told)
	err := c.ExecuteContext(t.Context())
	status := 0
	if err != nil {
		status = exitCode(err)
	}
	return out.String(), status, err
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
	if err != nil || n.Bits != 8 || n.Circuit != federation.Digest(r.Circuit) || n.VerifyingKey != federation.Digest(r.VerifyingKey) {
		t.Errorf("%+v, %v", n, err)
	}
	// Which of two is meant is not guessed.
	if _, status, err := run(t, "proof", "setup", "--gradient", "3", "--bits", "16", "--out", dir); status != 0 {
		t.Fatal(err)
	}
	if _, err := normCircuit(dir, 3); err == nil || exitCode(err) != exitRefused || !strings.Contains(err.Error(), "8 and of 16") {
		t.Errorf("two sets: %v", err)
	}
	// Before the broker is asked for anything.
	for name, keys := range map[string]string{"of another length": dir, "none": t.TempDir()} {
		_, status, err := run(t, "fed", "round", "open", "--model", "m", "--length", "4", "--clip-l2", "1", "--norm-keys", keys, "--contributors", "everyone", "--decryptors", "everyone", "--broker", filepath.Join(dir, "no-broker"))
		if status != exitRefused || !strings.Contains(err.Error(), "--gradient 4") {
			t.Errorf("%s: status %d, %v", name, status, err)
		}
	}
}

func TestACeremonyForUpdatesBegins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ceremony")
	if out, status, err := run(t, "proof", "ceremony", "begin", "--gradient", "3", "--bits", "16", "--out", dir, "--json"); status != 0 || !strings.Contains(out, "circuit") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestCommandLinesOfSetUpsThatAreWrong(t *testing.T) {
	out := filepath.Join(t.TempDir(), "keys")
	for _, command := range [][]string{{"proof", "setup"}, {"proof", "ceremony", "begin"}} {
		for name, args := range map[string][]string{
			"nothing":            {"--out", out},
			"nowhere":            {"--gradient", "3"},
			"both":               {"model.ahm", "--gradient", "3", "--out", out},
			"a model, no key":    {"model.ahm", "--out", out},
			"nine bits":          {"--gradient", "3", "--bits", "9", "--out", out},
			"fewer than none":    {"--gradient", "-1", "--out", out},
			"more than a proof":  {"--gradient", "65537", "--out", out},
			"two models":         {"a.ahm", "b.ahm", "--out", out},
			"a length in words":  {"--gradient", "three", "--out", out},
			"a flag of nobody's": {"--gradients", "3", "--out", out},
		} {
			_, status, err := run(t, append(command, args...)...)
			if err == nil || status != exitUsage {
				t.Errorf("%v, %s: status %d, %v", command, name, status, err)
			}
		}
	}
}

// An operator sees what the proofs of a round say.
func TestARoundShowsTheBoundThatIsProven(t *testing.T) {
	r := federation.Round{Length: 650, ClipL2: 1, ClipLinf: 1, NormProof: true, NormCircuit: &federation.NormCircuit{VerifyingKey: federation.Digest{0xab}, Bits: 8}}
	var out bytes.Buffer
	printRound(&out, rounds.Status{Round: r})
	if !strings.Contains(out.String(), "norm up to 1.201, rounding in 8 bits included, key ab00") {
		t.Errorf("%s", out.String())
	}
}
