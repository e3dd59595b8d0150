package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/runtime/gguf/gguftest"
	"github.com/anchorhold/anchorhold/runtime/servable"
)

// sealable writes a language model, with one part changed, and says how to seal it.
func (b *sealBench) sealable(name string, edit func(*gguftest.Model)) []string {
	b.t.Helper()
	file, err := gguftest.Variant{Edit: edit}.File(1)
	if err != nil {
		b.t.Fatal(err)
	}
	return []string{"seal", clitest.Write(b.t, b.path(name), string(file)), "--out", b.path(name + ".ahm"), "--key", b.path("key"), "--publisher", b.path("publisher"),
		"--name", "m", "--model-version", "1", "--credential-file", b.path("credential")}
}

// TestSealRefusesFlagsThatItWouldPassOver: rows for a language model, and answers to no rows.
func TestSealRefusesFlagsThatItWouldPassOver(t *testing.T) {
	b := newSealBench(t)
	rows, answers := b.rowsOf("rows", 1, 1)
	language := b.sealable("m.gguf", func(*gguftest.Model) {})
	for _, stray := range [][]string{{"--calibration", rows}, {"--test", rows}, {"--answers", answers}, {"--allow-clipping"}} {
		expectRun(t, cli.StatusUsage, stray[0]+": for ONNX files only, and the name of "+b.path("m.gguf")+" does not end in .onnx", append(language, stray...)...)
	}
	expectRun(t, cli.StatusUsage, "--calibration, --test: for ONNX files only", append(language, "--test", rows, "--calibration", rows)...)
	if _, status, err := b.seal(logistic(), "--calibration", rows, "--answers", answers); status != cli.StatusUsage || !strings.Contains(err.Error(), "--answers needs --test") {
		t.Errorf("status %d: %v", status, err)
	}
	expectRun(t, 0, "m.gguf.ahm", language...)
}

// TestRowsAndAnswersThatDoNotFitAreToldApart: which file it is, and what the model takes.
func TestRowsAndAnswersThatDoNotFitAreToldApart(t *testing.T) {
	b := newSealBench(t)
	rows, answers := b.rowsOf("rows", 1, 1)
	narrow := clitest.Write(t, b.path("narrow.csv"), "1,2\n3,4\n")
	few := clitest.Write(t, b.path("few.labels"), "benign\nmalignant\n")
	other := clitest.Write(t, b.path("other.labels"), "benign\nbenigm\n")
	for want, args := range map[string][]string{
		"calibration rows have 2 values, the model takes 3":            {"--calibration", narrow},
		"test rows have 2 values, the model takes 3":                   {"--calibration", rows, "--test", narrow, "--answers", answers},
		"2 answers for 400 test rows; want one for each":               {"--calibration", rows, "--test", rows, "--answers", few},
		`other.labels: answer 2: "benigm" is not a class of the model`: {"--calibration", rows, "--test", rows, "--answers", other},
	} {
		if _, status, err := b.seal(logistic(), args...); status != cli.StatusFailed || !strings.Contains(err.Error(), want) {
			t.Errorf("status %d: %v, want %s", status, err, want)
		}
	}
}

// TestTheCredentialIsNoModelKey: guests are given the model key, and would open the
// publisher's with it. A copy of the file is refused as the file is.
func TestTheCredentialIsNoModelKey(t *testing.T) {
	b := newSealBench(t)
	secret, err := os.ReadFile(b.path("key"))
	if err != nil {
		t.Fatal(err)
	}
	expectRun(t, 0, "", "keygen", "publisher", "--out", b.path("other"), "--credential-file", b.path("key"))
	args := append(b.sealable("m.gguf", func(*gguftest.Model) {}), "--publisher", b.path("other"), "--credential-file")
	for _, credential := range []string{b.path("key"), clitest.Write(t, b.path("copy"), string(secret))} {
		expectRun(t, cli.StatusUsage, "--key is the credential that protects the publisher's key", append(args, credential)...)
	}
	if _, err := os.Stat(b.path("m.gguf.ahm")); err == nil {
		t.Error("sealed")
	}
}

// TestAModelThatIsNotServedHasItsReasonInJSON: from seal as from seal --check.
func TestAModelThatIsNotServedHasItsReasonInJSON(t *testing.T) {
	b := newSealBench(t)
	var out strings.Builder
	err := command.Run(t.Context(), append(b.sealable("m.gguf", func(m *gguftest.Model) { m.Set("llama.logit_scale", float32(2)) }), "--json"), &out)
	var said struct {
		Error cli.Failure `json:"error"`
	}
	if json.Unmarshal([]byte(out.String()), &said) != nil || cli.StatusOf(err) != cli.StatusRefused || said.Error.Reason != servable.Reason || !strings.Contains(said.Error.Message, "llama.logit_scale: is 2") {
		t.Errorf("%v: %s", err, out.String())
	}
}

// TestAnUnknownParameterSetIsRefusedFirst: before the model, which is not there, is read.
func TestAnUnknownParameterSetIsRefusedFirst(t *testing.T) {
	seal := []string{"seal", "none.gguf", "--out", "o", "--key", "none.key", "--publisher", "p", "--name", "n", "--model-version", "1", "--parameter-set"}
	expectRun(t, cli.StatusUsage, `--parameter-set: "nosuch": unknown parameter set`, append(seal, "sum-2048-27,nosuch")...)
	expectRun(t, cli.StatusFailed, "none.key", append(seal, "sum-2048-27")...)
}
