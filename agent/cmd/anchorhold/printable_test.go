package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestTerminalsObeyNoName(t *testing.T) {
	for text, want := range map[string]string{
		"models/demo\tversion 1\n": "models/demo\tversion 1\n",
		"ünïcode 模型":               "ünïcode 模型",
		"\x1b[31mred\x07\r":        `\x1b[31mred\x07\x0d`,
		"a\u202eb\u009b":           `a\u202eb\u009b`,
		"\xff\U000e0041\ufffd":     `\xff\U000e0041` + "\ufffd",
	} {
		if got := printable(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
	inv := &invocation{}
	var out strings.Builder
	if err := inv.print(&out, nil, func(w io.Writer) { io.WriteString(w, "\x1b]0;title\x07\n") }); err != nil || out.String() != `\x1b]0;title\x07`+"\n" {
		t.Errorf("a command prints %q, %v", out.String(), err)
	}
}

// What is not written is not done: `audit checkpoint > FILE` on a full disk keeps nothing.
func TestWhatCannotBePrintedFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"policy", "checks"}, {"policy", "checks", "--json"}, {"params", "list"}} {
		c := command.root()
		c.SetArgs(args)
		c.SetOut(full)
		if err := c.ExecuteContext(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%v on a full disk: %v", args, err)
		}
	}
}

// An unset variable in a script must not make a command check less, or something else.
func TestAFlagWithoutAValueIsRefused(t *testing.T) {
	dir := t.TempDir()
	expectRun(t, exitUsage, "--dir has no value", "audit", "verify", "--dir", "", "--key", "k")
	expectRun(t, exitUsage, "--root has no value", "audit", "verify", "--root", "")
	expectRun(t, exitUsage, "--key has no value", "audit", "verify", "--key=")
	expectRun(t, exitUsage, "--output has no value", "receipt", "verify", "r", "--root", "r", "--output", "")
	expectRun(t, exitUsage, "--measurement has no value", "receipt", "verify", "r", "--root", "r", "--measurement", "")
	expectRun(t, exitUsage, "--broker has no value", "epoch", "list", "--broker", "")
	for _, none := range []string{"NaN", "inf", "-inf"} {
		expectRun(t, exitUsage, "is no finite number", "fed", "round", "open", "--model", "m", "--length", "1", "--contributors", "everyone", "--decryptors", "everyone", "--clip-l2", none)
	}
	expectRun(t, 0, "32 random bytes", "keygen", "model", "--out", filepath.Join(dir, "k"))
}

func TestAPassphraseIsNotWaitedForLonger(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	asked, end := make(chan bool), make(chan bool)
	defer close(end)
	gone := errors.New("interrupted")
	go func() { <-asked; cancel(gone) }()
	if _, err := unlessCancelled(ctx, func() ([]byte, error) { asked <- true; <-end; return nil, nil }); !errors.Is(err, gone) {
		t.Error(err)
	}
	if got, err := unlessCancelled(t.Context(), func() ([]byte, error) { return []byte("typed"), nil }); string(got) != "typed" || err != nil {
		t.Error(string(got), err)
	}
}

// The second interrupt ends a command that waits where the first does not reach.
func TestASecondInterruptEndsACommand(t *testing.T) {
	if fifo := os.Getenv("ANCHORHOLD_TEST_FIFO"); fifo != "" {
		os.Args = []string{"anchorhold", "policy", "check", fifo}
		main()
		return
	}
	// What was started with interrupts ignored, as by a shell's &, hands that on unless it asks for them.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	fifo := filepath.Join(t.TempDir(), "policy.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestASecondInterruptEndsACommand$")
	command.Env = append(os.Environ(), "ANCHORHOLD_TEST_FIFO="+fifo)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(fifo, os.O_WRONLY, 0) // when the command has opened it to read
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for range 200 {
		if err := command.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
				t.Errorf("it ended by itself: %v", err)
			}
			return
		case <-again.C:
		}
	}
	t.Error("200 interrupts did not end it")
	if err := command.Process.Kill(); err != nil {
		t.Error(err)
	}
	<-ended
}
