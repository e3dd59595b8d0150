package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/daemon"
	"github.com/anchorhold/anchorhold/keybroker/daemon/settings"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// documented returns the commands of the first block behind a heading of docs/operations.md,
// word for word, without their comments.
func documented(t *testing.T, heading string) (lines []string) {
	t.Helper()
	raw, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(raw), heading)
	_, rest, opened := strings.Cut(rest, "\n```\n")
	block, _, closed := strings.Cut(rest, "\n```\n")
	if !found || !opened || !closed {
		t.Fatalf("docs/operations.md has no steps under %q", heading)
	}
	for line := range strings.Lines(strings.ReplaceAll(block, "\\\n", " ")) {
		line, _, _ = strings.Cut(line, "#")
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// follow runs a documented command of this program, with paths put in.
func follow(t *testing.T, line string, replace ...string) string {
	t.Helper()
	words := strings.Fields(strings.NewReplacer(replace...).Replace(line))
	if words[0] != "anchorhold" {
		t.Fatalf("%q is no command of anchorhold", line)
	}
	out, code, err := run(t, words[1:]...)
	if code != 0 {
		t.Fatalf("%s: %d, %s, %v", line, code, out, err)
	}
	return out
}

// running is a broker in this process.
type running struct {
	socket  string
	signals chan os.Signal
	cancel  context.CancelFunc
	done    chan error
}

// runBroker runs a broker on a state directory whose credential is in a file.
func runBroker(state, credential, socket string) *running {
	ctx, cancel := context.WithCancel(context.Background())
	b := &running{socket: socket, signals: make(chan os.Signal), cancel: cancel, done: make(chan error, 1)}
	go func() {
		b.done <- daemon.Run(ctx, daemon.Options{
			Config: settings.Config{StateDir: state, Listen: "127.0.0.1:0", Unlock: settings.Unlock{Credential: "broker.kek"}, Operator: settings.Operator{Socket: socket}},
			Logger: slog.New(slog.DiscardHandler), Version: "test", Build: "test",
			Reload:       b.signals,
			Credential:   func(string) ([]byte, error) { return os.ReadFile(credential) },
			NewAppraiser: func() (daemon.Appraiser, error) { return appraise.New(appraise.Options{}) },
		})
	}()
	return b
}

// answers waits until the broker does, or has ended.
func (b *running) answers() error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := operator.NewClient(b.socket).Status(context.Background()); err == nil {
			return nil
		}
		select {
		case err := <-b.done:
			b.done <- nil
			return fmt.Errorf("the broker ended: %w", err)
		case <-tick.C:
		}
	}
}

// reload has the broker read its files again.
func (b *running) reload() {
	b.signals <- os.Interrupt
	b.signals <- os.Interrupt // is taken when the one before is done
}

// stop ends the broker and waits for it.
func (b *running) stop() error {
	b.cancel()
	return <-b.done
}

// startBroker runs a broker until the test ends.
func startBroker(t *testing.T, state, credential string) (socket string, reload func()) {
	t.Helper()
	b := runBroker(state, credential, filepath.Join(t.TempDir(), "op.sock"))
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := b.answers(); err != nil {
		t.Fatal(err)
	}
	return b.socket, b.reload
}

// TestEpochKeyRotatesOfflineAsDocumented follows docs/operations.md: a broker is made, its root
// key protected apart; the next epoch is asked for, signed without the broker, and installed.
func TestEpochKeyRotatesOfflineAsDocumented(t *testing.T) {
	made, steps := documented(t, "## Make a broker"), documented(t, "**An epoch key, with the root key offline.**")
	dir := t.TempDir()
	t.Chdir(dir)
	state := filepath.Join(dir, "state")
	at := []string{"/var/lib/anchorhold/broker", state, "broker.example.org", "localhost"}
	for _, line := range made {
		if strings.HasPrefix(line, "systemd-creds") {
			continue
		}
		out := follow(t, line, at...)
		if strings.Contains(line, "keygen broker") && strings.Contains(out, "WARNING") {
			t.Errorf("the root key is protected apart: %s", out)
		}
	}
	brokers, err := keyfile.ReadSecret("broker.kek", false)
	if err != nil {
		t.Fatal(err)
	}
	defer brokers.Wipe()
	if _, err := idfile.Read("root.key", idfile.Unlock{Credential: brokers}); err == nil {
		t.Fatal("the broker's credential opens the root key")
	}
	socket, _ := startBroker(t, state, filepath.Join(dir, "broker.kek"))
	t.Setenv("ANCHORHOLD_BROKER", socket)
	for _, line := range steps[:3] {
		follow(t, line)
	}

	// What may go wrong between signing and import.
	statement, err := os.ReadFile("epoch.statement")
	if err != nil {
		t.Fatal(err)
	}
	expectRun(t, cli.StatusFailed, "epoch.statement exists", "epoch", "sign", "--root", "root.key", "--request", "epoch.request", "--out", "epoch.statement", "--credential-file", "root.kek")
	if out, code, err := run(t, "epoch", "sign", "--root", "root.key", "--request", "epoch.request", "--out", "again", "--json"); code != 0 || !strings.Contains(out, `"signed_before": true`) {
		t.Errorf("signing again: %d, %s, %v", code, out, err)
	}
	if again, err := os.ReadFile("again"); err != nil || !bytes.Equal(again, statement) {
		t.Errorf("a request that was signed got another statement: %v", err)
	}
	forged := clitest.Write(t, "forged", string(statement[:len(statement)-1])+"x")
	expectRun(t, cli.StatusRefused, "epoch-signature-invalid", "epoch", "import", forged)
	expectRun(t, cli.StatusRefused, "malformed-message", "epoch", "import", "epoch.request")
	expectRun(t, cli.StatusFailed, "no such file", "epoch", "import", "absent")
	for _, line := range steps[3:] {
		if out := follow(t, line); strings.HasSuffix(line, "list") && strings.Count(out, "active") != 2 {
			t.Errorf("both epochs should serve: %s", out)
		}
	}
	expectRun(t, cli.StatusRefused, "epoch-number-not-next", "epoch", "import", "epoch.statement")

	// The next one: the root's side refuses what does not follow.
	expectRun(t, 0, "RETIRES every other epoch", "epoch", "request", "--out", "next.request", "--minimum", "3", "--days", "90")
	other := []string{"keygen", "broker", "--state", "other", "--root", "other.key", "--host", "localhost", "--credential-file", "broker.kek"}
	expectRun(t, 0, "WARNING: the secret that opens the broker's keys opens the root key too", other...)
	sign := func(root, request, out string, more ...string) []string {
		return append([]string{"epoch", "sign", "--root", root, "--request", request, "--out", out}, more...)
	}
	expectRun(t, cli.StatusRefused, "broker-unknown", sign("other.key", "next.request", "x", "--credential-file", "broker.kek")...)
	expectRun(t, cli.StatusFailed, "does not open", sign("root.key", "next.request", "x", "--credential-file", "broker.kek")...)
	expectRun(t, cli.StatusRefused, "malformed-message", sign("root.key", "epoch.statement", "x", "--credential-file", "root.kek")...)
	expectRun(t, cli.StatusUsage, "--out is required", "epoch", "sign", "--root", "root.key", "--request", "next.request")
	expectRun(t, 0, "NOT CHECKED  whether the root signed a later statement", "epoch", "sign", "--root", "root.key", "--request", "next.request", "--show", "--last", "absent")
	expectRun(t, cli.StatusRefused, "epoch-number-not-next", "epoch", "sign", "--root", "root.key", "--request", "next.request", "--show", "--last", filepath.Join(state, "epoch.floor"))
	if _, err := os.Stat("x"); err == nil {
		t.Error("a refused request left a statement")
	}
	expectRun(t, 0, "bring it to the broker", sign("root.key", "next.request", "next.statement", "--credential-file", "root.kek")...)
	if kept, err := os.ReadFile("root.key.epoch"); err != nil {
		t.Error(err)
	} else if st, err := protocol.VerifyEpoch(kept, []identity.Public{publicOf(t, "root.key.pub")}); err != nil || st.Epoch != 3 {
		t.Errorf("the last statement is of epoch %d: %v", st.Epoch, err)
	}
	out := follow(t, "anchorhold epoch import next.statement --json")
	var info operator.EpochInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil || info.Epoch != 3 || info.State != "active" {
		t.Errorf("%s, %v", out, err)
	}
	if out := follow(t, "anchorhold epoch list"); strings.Count(out, "active") != 1 || !strings.Contains(out, "retired") {
		t.Errorf("the minimum retired nothing: %s", out)
	}
	// With the root key at hand, in one step; its record goes along.
	follow(t, "anchorhold epoch rotate --root root.key --credential-file root.kek --days 120")
	if kept, err := os.ReadFile("root.key.epoch"); err != nil {
		t.Error(err)
	} else if st, err := protocol.VerifyEpoch(kept, []identity.Public{publicOf(t, "root.key.pub")}); err != nil || st.Epoch != 4 || st.MinEpoch != 3 {
		t.Errorf("epoch %d has minimum %d, where 3 was signed before: %v", st.Epoch, st.MinEpoch, err)
	}
	// The running broker's log, and whose word its key is.
	expectRun(t, 0, "which matches the root's statement", "audit", "verify", "--accept-own-checkpoints", "--root", "root.key.pub", "--key", filepath.Join(state, "audit.pub"))
	expectRun(t, 0, "the broker named it itself", "audit", "verify", "--accept-own-checkpoints")
	expectRun(t, cli.StatusRefused, "audit-key-mismatch", "audit", "verify", "--key", filepath.Join("other", "audit.pub"))
	expectRun(t, cli.StatusRefused, "broker-unknown", "audit", "verify", "--root", "other.key.pub")
	expectRun(t, cli.StatusRefused, "checkpoint-invalid", "audit", "verify", "--checkpoint", "root.key.pub")
	follow(t, "anchorhold epoch request --out after.request --days 150")
	expectRun(t, 0, "it may be signed", "epoch", "sign", "--root", "root.key", "--request", "after.request", "--show")

	// The newest epoch is taken back: its number is not asked for again, for the root signs none twice.
	expectRun(t, cli.StatusUsage, "--epoch is required", "epoch", "retire")
	follow(t, "anchorhold epoch retire --epoch 5")
	follow(t, "anchorhold epoch retire --epoch 4")
	follow(t, "anchorhold epoch rotate --root root.key --credential-file root.kek --days 160")
	if out := follow(t, "anchorhold epoch list"); !strings.Contains(out, "epoch 5    active") {
		t.Errorf("after epoch 4 was retired: %s", out)
	}
	// A request that asks for something else under a number that was signed gets what was signed, and is told so.
	follow(t, "anchorhold epoch request --out six.request --days 170")
	expectRun(t, 0, "bring it to the broker", sign("root.key", "six.request", "six.statement", "--credential-file", "root.kek")...)
	follow(t, "anchorhold epoch request --out six-again.request --days 180 --minimum 6")
	expectRun(t, 0, "NOT AS ASKED  minimum 6 was asked for, 3 was signed", sign("root.key", "six-again.request", "six-again.statement")...)
}

func publicOf(t *testing.T, path string) identity.Public {
	t.Helper()
	pub, err := identity.ReadPublicFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return pub
}

// TestRootKeyIsNotProtectedByTheBrokersSecretTwice: naming the same secret is no protection.
func TestRootKeyIsNotProtectedByTheBrokersSecretTwice(t *testing.T) {
	dir := t.TempDir()
	secret := clitest.Write(t, filepath.Join(dir, "kek"), strings.Repeat("k", 32))
	short := clitest.Write(t, filepath.Join(dir, "short"), "hunter2")
	args := []string{"keygen", "broker", "--state", filepath.Join(dir, "state"), "--root", filepath.Join(dir, "root.key"), "--host", "localhost", "--credential-file", secret}
	expectRun(t, cli.StatusUsage, "is the same as the broker's", append(args, "--root-credential-file", secret)...)
	expectRun(t, cli.StatusUsage, "too easy to guess", append(args, "--root-passphrase-file", short)...)
	expectRun(t, cli.StatusUsage, "not both", append(args, "--root-passphrase-file", short, "--root-passphrase")...)
	expectRun(t, cli.StatusUsage, "no terminal", append(args, "--root-passphrase")...)
	expectRun(t, cli.StatusUsage, "1 to 3650 days", append(args, "--tls-days", "0")...)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("a wrong command line left %v, %v", left, err)
	}
}
