package epoch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestEpochsAreListedRetiredAndAskedFor: what the broker is asked, and what is refused before.
func TestEpochsAreListedRetiredAndAskedFor(t *testing.T) {
	dir := t.TempDir()
	file := clitest.Write(t, filepath.Join(dir, "statement"), "signed")
	server := clitest.Serve(t, map[string]any{
		"GET /v1/epochs": `[{"epoch":1,"state":"active","not_before":"2026-03-04T00:00:00Z","not_after":"2026-05-04T00:00:00Z"},{"epoch":2,"state":"requested"}]`,
	})
	request := func(o requestOptions) cli.Run {
		o.out = filepath.Join(dir, "request")
		return o.run
	}
	clitest.Calls(t, map[string]clitest.Call{
		"list":             {Run: runList, Broker: server.Socket, Says: "epoch 1    active     2026-03-04 to 2026-05-04  "},
		"one that is not":  {Run: runList, Broker: server.Socket, Says: "epoch 2    requested  not certified yet "},
		"list, stopped":    {Run: runList, Broker: server.Socket, Cancelled: true, Status: cli.StatusFailed, Reason: "interrupted"},
		"list, full":       {Run: runList, Broker: server.Socket, Out: clitest.Full{}, Status: cli.StatusFailed},
		"retire none":      {Run: (&retireOptions{}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "--epoch is required: the number of the epoch, from 1"},
		"no root":          {Run: (&rotateOptions{days: 60}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "--root is required"},
		"no days":          {Run: (&rotateOptions{rootKey: "root.key"}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "--days must be from 1 to 3650"},
		"too many days":    {Run: (&rotateOptions{rootKey: "root.key", days: 3651}).run, Broker: server.Socket, Status: cli.StatusUsage},
		"no terminal":      {Run: (&rotateOptions{rootKey: "root.key", days: 60}).run, Broker: server.Socket, Status: cli.StatusUsage, Says: "there is no terminal to prompt for a passphrase"},
		"days of request":  {Run: request(requestOptions{days: 0}), Broker: server.Socket, Status: cli.StatusUsage, Says: "--days 0: an epoch lasts 1 to 3650 days"},
		"half a pin":       {Run: request(requestOptions{days: 60, pin: "ab"}), Broker: server.Socket, Status: cli.StatusUsage, Says: `--pin-policy "ab" is not a policy's digest: want 64 hexadecimal digits`},
		"refused":          {Run: request(requestOptions{days: 60, pin: "sha256:" + strings.Repeat("ab", 32)}), Broker: server.Socket, Status: cli.StatusRefused, Reason: "not-now"},
		"no broker":        {Run: request(requestOptions{days: 60}), Broker: filepath.Join(dir, "away"), Status: cli.StatusFailed, Reason: "broker-unreachable"},
		"import no file":   {Run: runImport, Args: []string{file + "x"}, Broker: server.Socket, Status: cli.StatusFailed, Says: "no such file"},
		"no public half":   {Run: (&signOptions{root: filepath.Join(dir, "root.key")}).run, Status: cli.StatusFailed, Says: "root.key.pub"},
		"import elsewhere": {Run: runImport, Args: []string{file}, Broker: filepath.Join(dir, "away"), Status: cli.StatusFailed, Reason: "broker-unreachable"},
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("what was refused left %v, %v", left, err)
	}
}

// TestWhatDiffersFromASignedStatementIsNamed: each difference once.
func TestWhatDiffersFromASignedStatementIsNamed(t *testing.T) {
	day := func(n int) protocol.Time { return protocol.TimeOf(time.Date(2026, 3, n, 0, 0, 0, 0, time.UTC)) }
	signed := protocol.EpochStatement{MinEpoch: 3, NotAfter: day(1), AnyPolicy: true}
	for want, change := range map[string]func(*protocol.EpochStatement){
		"":                                      func(*protocol.EpochStatement) {},
		"minimum 5 was asked for, 3 was signed": func(st *protocol.EpochStatement) { st.MinEpoch = 5 },
		"an end on 2026-03-09 was asked for, 2026-03-01 was signed": func(st *protocol.EpochStatement) { st.NotAfter = day(9) },
		"another pinned policy was asked for":                       func(st *protocol.EpochStatement) { st.AnyPolicy, st.PolicyDigest = false, [32]byte{1} },
	} {
		asked := signed
		change(&asked)
		if got := strings.Join(differs(asked, signed), "; "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var out strings.Builder
	st := signed
	st.AnyPolicy, st.PolicyDigest, st.Epoch = false, [32]byte{0xab}, 3
	printStatement(&out, st)
	for _, want := range []string{"policy       ab00", " alone\n", "minimum      3 (RETIRES every other epoch at once, permanently)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// TestARotationKeepsItsStatementFirst: the next number is kept beside the root key, one that was
// signed is refused with the way out, and a file that is no statement stops it.
func TestARotationKeepsItsStatementFirst(t *testing.T) {
	root, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Wipe()
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	now := time.Now()
	sign := func(number uint64) []byte {
		raw, err := protocol.SignEpoch(root, protocol.EpochStatement{Broker: root.Public().ID(), Epoch: number, MinEpoch: 1, Key: key.Public(), AuditKey: key.Public().ID(), AnyPolicy: true,
			NotBefore: protocol.TimeOf(now), NotAfter: protocol.TimeOf(now.Add(time.Hour))})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	path := filepath.Join(t.TempDir(), "root.key.epoch")
	if err := keepNext(path, root.Public(), sign(2), 2); err != nil {
		t.Errorf("where nothing is kept: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a record was begun beside a root key that has none")
	}
	clitest.Write(t, path, string(sign(1)))
	clitest.Write(t, path+".new", "of an interrupted run")
	if err := keepNext(path, root.Public(), sign(2), 2); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(path); err != nil {
		t.Error(err)
	} else if st, err := protocol.VerifyEpoch(kept, []identity.Public{root.Public()}); err != nil || st.Epoch != 2 {
		t.Errorf("epoch %d is kept, %v", st.Epoch, err)
	}
	err = keepNext(path, root.Public(), sign(2), 2)
	if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonEpochNumber || !strings.Contains(err.Error(), "use 'anchorhold epoch request --number 3'") {
		t.Errorf("a number that was signed: %v", err)
	}
	clitest.Write(t, path, "no statement")
	if err := keepNext(path, root.Public(), sign(3), 3); err == nil || !strings.Contains(err.Error(), "root.key.epoch, the last statement: ") {
		t.Errorf("a damaged record: %v", err)
	}
}
