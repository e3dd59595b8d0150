package score

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/clitest"
)

const childVariable = "ANCHORHOLD_SCORE_TEST_CHILD"

// TestScoreChild runs the command until it is killed.
func TestScoreChild(t *testing.T) {
	args := strings.Split(os.Getenv(childVariable), "|")
	if len(args) != 3 {
		t.Skip("runs only as a child of the test below")
	}
	o := defaults(args[1])
	if err := o.run(t.Context(), &cli.Invocation{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard, Agent: args[2]}, args[:1]); err != nil {
		t.Fatal(err)
	}
}

// TestKilledRunsLoseNothing: two thousand lines, and a process that is killed again and again.
func TestKilledRunsLoseNothing(t *testing.T) {
	agent := &fakeAgent{places: 20, delay: 2 * time.Millisecond}
	socket := clitest.ServeUnix(t, agent)
	in, out := questions(t, 2000), filepath.Join(t.TempDir(), "out.jsonl")
	random := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestScoreChild$")
		child.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{in, out, socket}, "|"))
		var told bytes.Buffer
		child.Stdout, child.Stderr = &told, &told
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		var enough <-chan struct{} // never, near the end
		if n := agent.count(); n < 1800 {
			enough = agent.after(n + 1 + random.IntN(150))
		}
		killed := make(chan error, 1)
		go func() {
			select {
			case <-enough:
				killed <- child.Process.Kill()
			case <-ended:
				killed <- nil
			}
		}()
		err := child.Wait()
		close(ended)
		if late := <-killed; late != nil && !errors.Is(late, os.ErrProcessDone) {
			t.Fatal(late)
		}
		if err == nil {
			break
		}
		exit, ok := errors.AsType[*exec.ExitError](err)
		if status, is := exit.Sys().(syscall.WaitStatus); !ok || !is || status.Signal() != syscall.SIGKILL {
			t.Fatalf("%v: %s", err, told.String())
		}
		if kills++; kills > 500 {
			t.Fatal("it never ends")
		}
	}
	if kills < 3 {
		t.Errorf("it was killed only %d times", kills)
	}
	records(t, out, 2000)
	again := 0
	for _, n := range agent.answered {
		again += n - 1
	}
	// A kill loses no more than one answer of each request under way: one that was not given, or had no record yet.
	if len(agent.answered) != 2000 || again > kills*defaults(out).parallel {
		t.Errorf("%d lines, %d answers that were lost with %d kills", len(agent.answered), again, kills)
	}
}

// TestAFullDiskEndsTheRun, and what was whole is taken up once there is room.
func TestAFullDiskEndsTheRun(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: mounting a small file system needs root")
	}
	dir := t.TempDir()
	mount := func(flags uintptr, size string) error {
		return syscall.Mount("tmpfs", dir, "tmpfs", flags, "size="+size)
	}
	if err := mount(0, "16k"); err != nil {
		t.Skipf("SKIPPED: mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	socket := clitest.ServeUnix(t, &fakeAgent{places: 8})
	in := questions(t, 300)
	o := defaults(filepath.Join(dir, "out.jsonl"))
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Status: cli.StatusFailed, Says: "no space left"}.Expect(t, "full disk")
	raw, err := os.ReadFile(o.out)
	if err != nil || len(raw) == 0 || raw[len(raw)-1] != '\n' {
		t.Errorf("half a record is left: %v", err)
	}
	if err := mount(syscall.MS_REMOUNT, "1m"); err != nil {
		t.Fatal(err)
	}
	clitest.Call{Run: o.run, Args: []string{in}, Agent: socket, Says: "300 of 300 lines done"}.Expect(t, "room again")
	records(t, o.out, 300)
}
