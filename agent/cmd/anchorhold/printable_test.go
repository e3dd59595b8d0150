package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
)

// What is not written is not done: `audit checkpoint > FILE` on a full disk keeps nothing.
func TestWhatCannotBePrintedFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	for _, args := range [][]string{{"policy", "checks"}, {"policy", "checks", "--json"}, {"params", "list"}} {
		c := command.Root()
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
	expectRun(t, cli.StatusUsage, "--dir has no value", "audit", "verify", "--dir", "", "--key", "k")
	expectRun(t, cli.StatusUsage, "--root has no value", "audit", "verify", "--root", "")
	expectRun(t, cli.StatusUsage, "--key has no value", "audit", "verify", "--key=")
	expectRun(t, cli.StatusUsage, "--output has no value", "receipt", "verify", "r", "--root", "r", "--output", "")
	expectRun(t, cli.StatusUsage, "--measurement has no value", "receipt", "verify", "r", "--root", "r", "--measurement", "")
	expectRun(t, cli.StatusUsage, "--broker has no value", "epoch", "list", "--broker", "")
	for _, none := range []string{"NaN", "inf", "-inf"} {
		expectRun(t, cli.StatusUsage, "is not a finite number", "fed", "round", "open", "--model", "m", "--length", "1", "--contributors", "everyone", "--decryptors", "everyone", "--clip-l2", none)
	}
	expectRun(t, 0, "32 random bytes", "keygen", "model", "--out", filepath.Join(dir, "k"))
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
