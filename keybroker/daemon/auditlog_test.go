package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/systemd/service"
)

// TestOnlyALogThatExtendsKeptCheckpointsIsServed restores an older copy of the
// audit log under a broker whose configuration names a newer checkpoint.
func TestOnlyALogThatExtendsKeptCheckpointsIsServed(t *testing.T) {
	s := newState(t, false)
	dir, kept := s.result.Layout.Audit(), filepath.Join(t.TempDir(), "checkpoint")
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.log.Event(t.Context(), "later", ""); err != nil {
		t.Fatal(err)
	}
	c, err := d.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte(c.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	s.options.Config.Audit.Checkpoints = []string{kept}
	if err := Check(s.options); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(Check(s.options)); reason != audit.ReasonRolledBack {
		t.Errorf("a restored log was opened: %q", reason)
	}
	if err := os.WriteFile(kept, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(Check(s.options)); reason != audit.ReasonCheckpointInvalid {
		t.Errorf("no checkpoint at all: %q", reason)
	}
	s.options.Config.Audit.Checkpoints = []string{kept + ".absent"}
	if Check(s.options) == nil {
		t.Error("a checkpoint that is not there was passed over")
	}
}

// TestALogOfTheFirstVersionIsPutAway: the broker refuses it and says how to go on, and goes
// on with the log that is begun so.
func TestALogOfTheFirstVersionIsPutAway(t *testing.T) {
	s := newState(t, false)
	dir := s.result.Layout.Audit()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "audit", "testdata", "v1"))); err != nil {
		t.Fatal(err)
	}
	err := Check(s.options)
	if reason, _ := refusal.ReasonOf(err); reason != audit.ReasonCheckpointVersion || !strings.Contains(err.Error(), "anchorhold-broker begin-log") {
		t.Fatalf("a log of the first version: %v", err)
	}
	if err := BeginLog(t.Context(), s.options); err != nil {
		t.Fatal(err)
	}
	_, _, stop := s.run(t)
	if err := BeginLog(t.Context(), s.options); !errors.Is(err, audit.ErrInUse) {
		t.Errorf("while the broker runs: %v", err)
	}
	stop()
	if reason, _ := refusal.ReasonOf(BeginLog(t.Context(), s.options)); reason != audit.ReasonCurrent {
		t.Errorf("a log of this version: %q", reason)
	}
}

// TestEveryStepOfAStartAsksForTime: the unit's own time is one for all steps together, and
// ended a first start on a starved machine.
func TestEveryStepOfAStartAsksForTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	s := newState(t, false)
	t.Setenv("NOTIFY_SOCKET", path)
	ended := make(chan []string, 1)
	go func() { // the socket's queue is short
		var heard []string
		for b := make([]byte, 4096); ; {
			n, err := manager.Read(b)
			if err != nil || string(b[:n]) == "STOPPING=1" {
				ended <- heard
				return
			}
			heard = append(heard, string(b[:n]))
		}
	}()
	if err := errors.Join(Check(s.options), service.Stopping()); err != nil {
		t.Fatal(err)
	}
	heard, steps := <-ended, 0
	for i, line := range heard {
		if !strings.HasPrefix(line, "STATUS=starting: ") {
			continue
		}
		if steps++; i == 0 || heard[i-1] != fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", stepExtension.Microseconds()) {
			t.Errorf("%q does not ask for time", line)
		}
	}
	for _, want := range []string{"unlocking the audit key", "unlocking the epoch keys", "opening the audit log", "unlocking the key store", "holding the key store against the audit log", "opening the store of rounds"} {
		if !slices.Contains(heard, "STATUS=starting: "+want) {
			t.Errorf("nothing is said of %s: %q", want, heard)
		}
	}
	if steps < 12 {
		t.Errorf("%d steps: %q", steps, heard)
	}
}

// TestReadingTheLogAsksForTime: a start that is long because the log's hashes are
// made anew is not ended by the service manager.
func TestReadingTheLogAsksForTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	s := newState(t, false)
	d := &daemon{opts: s.options}
	progress := d.progress()
	for done := range uint64(1000) { // more would be one line at most
		progress(done, 1000)
	}
	if err := service.Stopping(); err != nil {
		t.Fatal(err)
	}
	var heard []string
	for len(heard) == 0 || heard[len(heard)-1] != "STOPPING=1" {
		b := make([]byte, 4096)
		if err := manager.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := manager.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		heard = append(heard, string(b[:n]))
	}
	if len(heard) < 3 || len(heard) > 5 || heard[0] != fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", startExtension.Microseconds()) || heard[1] != "STATUS=reading the audit log: 0 of about 1000 records" {
		t.Errorf("%q", heard)
	}
}
