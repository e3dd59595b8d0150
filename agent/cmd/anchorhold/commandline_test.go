package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/spf13/cobra"
)

// expectRun runs a command line and wants a status and a word of what it says.
func expectRun(t *testing.T, status int, says string, args ...string) {
	t.Helper()
	out, got, err := run(t, args...)
	if text := out + clitest.ErrorText(err); got != status || !strings.Contains(text, says) {
		t.Errorf("%v: status %d with %q, want %d with %q", args, got, text, status, says)
	}
}

// everyCommand calls f for each command that does something.
func everyCommand(c *cobra.Command, f func(*cobra.Command)) {
	for _, child := range c.Commands() {
		everyCommand(child, f)
	}
	if c.Runnable() {
		f(c)
	}
}

// TestWrongArgumentsAreWrongCommandLines: unknown words and stray arguments of every
// command, and of those that cobra adds, have the exit status that the help names.
func TestWrongArgumentsAreWrongCommandLines(t *testing.T) {
	stray := slices.Repeat([]string{"stray"}, 9)
	everyCommand(command.Root(), func(c *cobra.Command) {
		if slices.Contains([]string{"verify", "show", "__complete"}, c.Name()) && strings.Contains(c.Use, "FILE...") || c.Hidden {
			return // takes any number
		}
		args := strings.Fields(c.CommandPath())[1:]
		if _, code, err := run(t, append(args, stray...)...); code != cli.StatusUsage {
			t.Errorf("%v with stray words: status %d, %v", args, code, err)
		}
	})
	expectRun(t, cli.StatusUsage, `"bogus" is not a command of anchorhold`, "bogus")
	expectRun(t, cli.StatusUsage, "did you mean seal?", "saal")
	expectRun(t, cli.StatusUsage, `"bogus" is not a command of anchorhold fed round`, "fed", "round", "bogus")
	expectRun(t, cli.StatusUsage, `"bogus" is not a command`, "help", "bogus")
	expectRun(t, cli.StatusUsage, `"bogus" is not a command`, "completion", "bogus")
	expectRun(t, cli.StatusUsage, "anchorhold proof verify needs at least one file", "proof", "verify")
	expectRun(t, cli.StatusUsage, `anchorhold keygen model takes no arguments, only flags: got "model.key"`, "keygen", "model", "model.key")
	expectRun(t, cli.StatusUsage, "got 2 arguments, want at most one question: put it in quotes", "chat", "Who", "asks?")
	expectRun(t, cli.StatusUsage, `"5c1e" is not a receipt's id: want 32 lower-case hexadecimal digits`, "receipt", "get", "5c1e")
	expectRun(t, cli.StatusUsage, "--help", "seal")
	expectRun(t, 0, "Available Commands")
	expectRun(t, 0, "Usage", "help", "fed", "round")
}

// TestWhatIsMissingIsNamed and nothing else.
func TestWhatIsMissingIsNamed(t *testing.T) {
	expectRun(t, cli.StatusUsage, "--out, --key, --publisher, --name and --model-version are required", "seal", "m.gguf")
	expectRun(t, cli.StatusUsage, "--out and --name are required", "seal", "m.gguf", "--key", "k", "--publisher", "p", "--model-version", "1")
	expectRun(t, cli.StatusUsage, `--model-version cannot be "0": version of the model, from 1`, "seal", "m.gguf", "--out", "o", "--key", "k", "--publisher", "p", "--name", "n", "--model-version", "0")
	expectRun(t, cli.StatusUsage, "--host is required", "keygen", "broker", "--state", "s", "--root", "r")
	expectRun(t, cli.StatusUsage, "--keys is required", "proof", "verify", "f", "--root", "r")
	expectRun(t, cli.StatusUsage, "--clip-l2 is required", "fed", "round", "open", "--model", "m", "--length", "3")
}

// TestSecretsThatAreNoneAreNamed: the file and what it should have held.
func TestSecretsThatAreNoneAreNamed(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	short, letter, good := clitest.Write(t, path("short"), "abcd"), clitest.Write(t, path("letter"), "x\n"), clitest.Write(t, path("good"), strings.Repeat("c", 32))
	expectRun(t, cli.StatusFailed, short+" holds 4 bytes; a credential has at least 32", "keygen", "publisher", "--out", path("p"), "--credential-file", short)
	expectRun(t, cli.StatusUsage, "too easy to guess: length 1, want at least 15", "keygen", "publisher", "--out", path("p"), "--passphrase-file", letter)
	expectRun(t, cli.StatusUsage, "length 1, want at least 15", "keygen", "broker", "--state", path("s"), "--root", path("r"), "--host", "h", "--passphrase-file", letter)
	for _, name := range []string{"p", "r", "s"} {
		if there(path(name)) {
			t.Errorf("%s was made", name)
		}
	}
	expectRun(t, 0, "publisher", "keygen", "publisher", "--out", path("p"), "--credential-file", good)
	expectRun(t, 0, "publisher", "keygen", "publisher", "--out", path("q"), "--passphrase-file", clitest.Write(t, path("long"), strings.Repeat("é", keyfile.MinPassphrase)))
	expectRun(t, cli.StatusFailed, path("p")+" holds ", "seal", path("m.gguf"), "--out", path("o"), "--key", path("p"), "--publisher", path("p"), "--name", "n", "--model-version", "1", "--credential-file", good)
	sealed, _ := clitest.SealedModel(t, []byte(strings.Repeat("c", 32)))
	expectRun(t, cli.StatusFailed, short+" holds 4 bytes and is not a model key", "inspect", sealed, "--key", short)
	expectRun(t, cli.StatusFailed, short+" holds 4 bytes and is not a model key", "secret", "put", "models/x", "--file", short, "--model", sealed)
}

// TestNothingIsReplacedAndNoDirectoryMade by any command that writes a file.
func TestNothingIsReplacedAndNoDirectoryMade(t *testing.T) {
	dir := t.TempDir()
	credential := clitest.Write(t, filepath.Join(dir, "credential"), strings.Repeat("c", 32))
	publisher := filepath.Join(dir, "publisher")
	expectRun(t, 0, "", "keygen", "publisher", "--out", publisher, "--credential-file", credential)
	onnx, rows := clitest.SmallClassifier(t)
	model := clitest.Write(t, filepath.Join(dir, "model.key"), strings.Repeat("k", 32))
	agent := clitest.ServeUnix(t, http.HandlerFunc(fakeAgent))
	broker := clitest.ServeUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(audit.Checkpoint{Note: "note"}) // the client sees what is missing
	}))
	round := strings.Repeat("0", 32)
	for name, args := range map[string][]string{
		"model":      {"keygen", "model", "--out"},
		"credential": {"keygen", "credential", "--out"},
		"queue":      {"keygen", "queue", "--out"},
		"publisher":  {"keygen", "publisher", "--credential-file", credential, "--out"},
		"broker":     {"keygen", "broker", "--state", filepath.Join(dir, "state"), "--host", "h", "--credential-file", credential, "--root"},
		"dataset":    {"fed", "dataset", credential, "--name", "d", "--key", publisher, "--credential-file", credential, "--out"},
		"seal":       {"seal", onnx, "--calibration", rows, "--key", model, "--publisher", publisher, "--name", "n", "--model-version", "1", "--credential-file", credential, "--out"},
		"chat":       {"chat", "hello", "--agent", agent, "--receipt"},
		"result":     {"fed", "result", round, "--agent", agent, "--out"},
		"checkpoint": {"audit", "checkpoint", "--broker", broker, "--out"},
	} {
		taken, missing := filepath.Join(dir, "taken-"+name), filepath.Join(dir, "missing", name)
		clitest.Write(t, taken, "old")
		_, code, err := run(t, append(args, taken)...)
		if code != cli.StatusFailed || !strings.Contains(clitest.ErrorText(err), taken) || strings.Contains(clitest.ErrorText(err), ".new-") {
			t.Errorf("%s over a file: status %d, %v", name, code, err)
		}
		if b, err := os.ReadFile(taken); err != nil || string(b) != "old" {
			t.Errorf("%s replaced a file: %q, %v", name, b, err)
		}
		_, code, err = run(t, append(args, missing)...)
		if code != cli.StatusFailed || !strings.Contains(clitest.ErrorText(err), filepath.Dir(missing)) || strings.Contains(clitest.ErrorText(err), ".new-") || there(filepath.Dir(missing)) {
			t.Errorf("%s into a missing directory: status %d, %v", name, code, err)
		}
		if name == "broker" || name == "publisher" {
			continue // slow to make, and made above
		}
		if out, code, err := run(t, append(args, filepath.Join(dir, "new-"+name))...); code != 0 {
			t.Errorf("%s to a new file: %s, %v", name, out, err)
		}
	}
	root := filepath.Join(dir, "root")
	for _, state := range []string{dir, filepath.Join(dir, "missing", "state")} {
		expectRun(t, cli.StatusFailed, "create broker state", "keygen", "broker", "--state", state, "--root", root, "--host", "h", "--credential-file", credential)
		if there(root) || there(root+".pub") || there(filepath.Join(dir, "missing")) {
			t.Errorf("a broker that was not made in %s left something", state)
		}
	}
	if there(filepath.Join(dir, "state")) {
		t.Error("keygen broker made a state directory for a root key that it could not write")
	}
	// A result of another length than it says leaves no file.
	short := filepath.Join(dir, "short")
	expectRun(t, cli.StatusFailed, "another length", "fed", "result", strings.Repeat("1", 32), "--agent", agent, "--out", short)
	if there(short) {
		t.Error("a part of a result was left")
	}
}

// fakeAgent answers a chat, and results of rounds of three values. Round 1... sends less.
func fakeAgent(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v1/models":
		_, _ = io.WriteString(w, `{"data":[{"id":"demo"}]}`)
	case r.URL.Path == "/v1/chat/completions":
		_, _ = fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Paris\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\".\"},\"finish_reason\":\"stop\"}]}\n\n"+
			"data: {\"receipt\":\"r1\",\"issued_receipt\":{}}\n\ndata: [DONE]\n\n")
	case strings.HasSuffix(r.URL.Path, "/values"):
		n := 12
		if strings.Contains(r.URL.Path, "/1111") {
			n = 8
		}
		_, _ = w.Write(make([]byte, n))
	default:
		_, _ = io.WriteString(w, `{"length":3}`)
	}
}

// TestAnswersLeaveAsTheReceiptHasThem: what a file gets of an answer is what its receipt
// commits to, to the byte.
func TestAnswersLeaveAsTheReceiptHasThem(t *testing.T) {
	agent := clitest.ServeUnix(t, http.HandlerFunc(fakeAgent))
	taken := clitest.Write(t, filepath.Join(t.TempDir(), "receipt"), "of another answer")
	if out, code, err := run(t, "chat", "Capital of France?", "--agent", agent, "--receipt", taken); code != cli.StatusFailed || out != "" {
		t.Fatalf("an answer whose receipt has no place: status %d, %q, %v", code, out, err)
	}
	out, code, err := run(t, "chat", "Capital of France?", "--agent", agent)
	if code != 0 || out != "Paris." {
		t.Fatalf("status %d, %q, %v", code, out, err)
	}
}

// TestAMissingFileIsNoMissingBroker: commands that read local files on the way to the
// broker name them; the broker's socket is named where it is what is missing.
func TestAMissingFileIsNoMissingBroker(t *testing.T) {
	dir := t.TempDir()
	none, socket := filepath.Join(dir, "none"), filepath.Join(dir, "operator.sock")
	for _, args := range [][]string{
		{"policy", "import", none}, {"policy", "values", "import", none}, {"secret", "put", "models/x", "--file", none},
		{"fed", "ledger", "--sealed", none}, {"proof", "audit", strings.Repeat("0", 32), "--salts", none},
	} {
		out, code, err := run(t, append(args, "--broker", socket)...)
		if code == 0 || !strings.Contains(clitest.ErrorText(err), none) || strings.Contains(clitest.ErrorText(err), "socket") {
			t.Errorf("%v: status %d, %s%v", args, code, out, err)
		}
	}
	expectRun(t, cli.StatusFailed, "no operator socket at "+socket, "policy", "show", "--broker", socket)
	expectRun(t, cli.StatusUsage, "32 hexadecimal digits", "audit", "explain", "3f2a", "--broker", socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	expectRun(t, cli.StatusFailed, "nothing listens on "+socket, "policy", "show", "--broker", socket)
}

// TestAnotherFileIsNoModelKey: a root key that was named by mistake does not leave the machine.
func TestAnotherFileIsNoModelKey(t *testing.T) {
	dir := t.TempDir()
	other := clitest.Write(t, filepath.Join(dir, "root.key"), strings.Repeat("r", 313))
	expectRun(t, cli.StatusFailed, "holds 313 bytes and is not a model key", "secret", "put", "models/demo", "--file", other, "--broker", filepath.Join(dir, "none"))
	expectRun(t, cli.StatusFailed, "no operator socket", "secret", "put", "datasets/demo", "--file", other, "--kind", "dataset", "--broker", filepath.Join(dir, "none"))
}

// TestALastStatementIsInNobodysWay before anything is made: half a broker helps nobody.
func TestALastStatementIsInNobodysWay(t *testing.T) {
	dir := t.TempDir()
	kek := clitest.Write(t, filepath.Join(dir, "kek"), strings.Repeat("k", 32))
	clitest.Write(t, filepath.Join(dir, "root.key.epoch"), "of a former root")
	expectRun(t, cli.StatusFailed, "root.key.epoch exists", "keygen", "broker", "--state", filepath.Join(dir, "state"), "--root", filepath.Join(dir, "root.key"), "--host", "localhost", "--credential-file", kek)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// there says whether there is something at a path.
func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
