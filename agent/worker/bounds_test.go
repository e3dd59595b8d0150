package worker

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/agent/worker/confine"
)

func TestTaskReadsItsInputAndAnswers(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	data := strings.Repeat("gradient ", 100_000)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var heard []string
	result, err := p.Run(t.Context(), Task{Class: "digest", Spec: []byte("spec"), In: []*os.File{sealed(t, data)},
		Out: []*os.File{out}, Limits: bounds()}, func(g Progress) { heard = append(heard, g.Phase) })
	if err != nil {
		t.Fatal(err)
	}
	if want := sha256.Sum256([]byte("spec" + data)); string(result) != string(want[:]) {
		t.Errorf("result %x, want %x", result, want)
	}
	if got, err := os.ReadFile(out.Name()); err != nil || string(got) != data {
		t.Errorf("%d bytes in the output, want %d: %v", len(got), len(data), err)
	}
	if fmt.Sprint(heard) != "[copy done]" {
		t.Errorf("progress %v", heard)
	}
	wantUnharmed(t, p)
}

func TestTaskMayHaveEveryDescriptor(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	task := Task{Class: "empty", Spec: make([]byte, maxSpec), Limits: bounds()}
	for range maxDescriptors {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		task.In, task.Out = append(task.In, r), append(task.Out, w)
	}
	if _, err := p.Run(t.Context(), task, nil); err != nil {
		t.Error(err)
	}
}

// A handler's error becomes the ending, in the worker's exit code as well.
func TestHandlersErrorsBecomeEndings(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	for class, want := range map[string]struct {
		exit Exit
		part string
	}{
		"refuse":  {BadInput, "bad-spec: out-of-memory"},
		"fail":    {OutOfMemory, "as told"},
		"err":     {Crash, "disk on fire"},
		"panic":   {Crash, "panic: of type string"},
		"index":   {Crash, "slice bounds out of range"},
		"die":     {Crash, "ended with code 2 without an answer"},
		"long":    {Crash, "65537 bytes"},
		"unknown": {Refused, string(ReasonClass)},
	} {
		_, err := p.Run(t.Context(), Task{Class: class, Spec: []byte("out-of-memory"), Limits: bounds()}, nil)
		if f := wantFailure(t, err, want.exit, want.part); strings.Contains(f.Detail, "secret") {
			t.Errorf("%s: the detail %q quotes what the worker held", class, f.Detail)
		}
	}
	wantUnharmed(t, p)
}

func TestWorkerEndsAtItsMemoryBound(t *testing.T) {
	if foreignRuntime {
		t.Skip("SKIPPED: a C library and the race detector map more than the bound before Go can say so")
	}
	p := testPool(t, Exec{}, 1)
	for _, memory := range []int64{minMemory, 64 << 20, 256 << 20} {
		_, err := p.Run(t.Context(), Task{Class: "eat", Limits: Limits{Memory: memory, Time: time.Minute}}, nil)
		wantFailure(t, err, OutOfMemory, "memory bound")
	}
	wantUnharmed(t, p)
}

// A worker collects its garbage before it reaches its bound: live data that fits is
// enough, whatever was dropped.
func TestWorkerDoesNotDieOfGarbage(t *testing.T) {
	if foreignRuntime {
		t.Skip("SKIPPED: a C library and the race detector map more than the bound before Go can say so")
	}
	p := testPool(t, Exec{}, 1)
	if _, err := p.Run(t.Context(), Task{Class: "waste", Limits: Limits{Memory: 256 << 20, Time: time.Minute}}, nil); err != nil {
		t.Error(err)
	}
	wantUnharmed(t, p)
}

// The bounds hold from outside, before the worker has heard of its task.
func TestBoundsHoldBeforeTheHeader(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Exec{Path: self}.start(t.Context(), Limits{Memory: 1 << 30, Time: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c := p.(*child)
	for resource, want := range map[int]uint64{unix.RLIMIT_DATA: confine.PrivateLimit(1 << 30), unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxOpen} {
		var got unix.Rlimit
		if err := unix.Prlimit(c.cmd.Process.Pid, resource, nil, &got); err != nil || got.Max != want {
			t.Errorf("resource %d: %+v, want %d: %v", resource, got, want, err)
		}
	}
	c.kill()
	if s := c.wait(); s.signal != unix.SIGKILL {
		t.Errorf("killed: %+v", s)
	}
	c.channel().conn.Close()
}

// The kernel's own bound in a control group catches what is not private memory.
func TestWorkerEndsAtItsGroupsBound(t *testing.T) {
	if foreignRuntime {
		t.Skip("SKIPPED: a C library and the race detector map more than the bound before Go can say so")
	}
	group := ownMemoryGroup(t)
	p := testPool(t, Exec{Cgroup: group}, 1)
	out, err := unix.MemfdCreate("out", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(out), "out")
	defer f.Close()
	_, err = p.Run(t.Context(), Task{Class: "fill", Out: []*os.File{f}, Limits: Limits{Memory: 64 << 20, Time: time.Minute, Output: 1 << 30}}, nil)
	wantFailure(t, err, OutOfMemory, "killed by the kernel")
	wantUnharmed(t, p)
	if left, err := filepath.Glob(filepath.Join(group, "worker-*")); err != nil || len(left) != 0 {
		t.Errorf("groups left behind: %v, %v", left, err)
	}
}

// TestAWorkerCannotFillTheDisk: what a task writes was bounded by nothing.
func TestAWorkerCannotFillTheDisk(t *testing.T) {
	const most = 3<<20 + 5
	p := testPool(t, Exec{}, 1)
	run := func(class string, limit int64) (*os.File, []byte, error) {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { out.Close() })
		l := bounds()
		l.Output = limit
		result, err := p.Run(t.Context(), Task{Class: class, Out: []*os.File{out}, Limits: l}, nil)
		return out, result, err
	}
	size := func(f *os.File) int64 {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	out, _, err := run("fill", most)
	wantFailure(t, err, BadInput, string(ReasonOutput))
	if n := size(out); n > most {
		t.Errorf("%d bytes were written, %d may be", n, most)
	}
	out, _, err = run("fill", 0) // none allowed
	wantFailure(t, err, BadInput, string(ReasonOutput))
	if n := size(out); n != 0 {
		t.Errorf("%d bytes were written, none may be", n)
	}
	out, result, err := run("grow", most)
	var said map[string]string
	if uerr := json.Unmarshal(result, &said); err != nil || uerr != nil {
		t.Fatal(err, uerr)
	}
	for way, answer := range said {
		if answer != unix.EFBIG.Error() {
			t.Errorf("%s: %s", way, answer)
		}
	}
	if n := size(out); n > most || len(said) != 3 {
		t.Errorf("the file has %d bytes; %v", n, said)
	}
	wantUnharmed(t, p)
}

// ownMemoryGroup is a group of version 1 that this process may make groups in.
func ownMemoryGroup(t *testing.T) string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || parts[1] != "memory" {
			continue
		}
		dir, err := os.MkdirTemp(filepath.Join("/sys/fs/cgroup/memory", parts[2]), "test-")
		if err == nil {
			t.Cleanup(func() { _ = os.Remove(dir) })
			return dir
		}
	}
	t.Skip("SKIPPED: no memory controller of version 1 is writable here")
	return ""
}

// Both versions' files, as far as a directory can stand for a group.
func TestGroupIsBoundInBothVersions(t *testing.T) {
	for version, files := range map[string]map[string]string{
		"1":         {"memory.limit_in_bytes": "4096", "memory.memsw.limit_in_bytes": "4096", "cgroup.procs": "7"},
		"1 no swap": {"memory.limit_in_bytes": "4096", "cgroup.procs": "7"},
		"2":         {"memory.max": "4096", "memory.swap.max": "0", "cgroup.procs": "7"},
	} {
		g := &memoryGroup{dir: t.TempDir()}
		for name := range files {
			if err := os.WriteFile(filepath.Join(g.dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.bound(7, 4096); err != nil {
			t.Errorf("version %s: %v", version, err)
		}
		for name, want := range files {
			if got, err := os.ReadFile(filepath.Join(g.dir, name)); err != nil || string(got) != want {
				t.Errorf("version %s: %s holds %q, want %q: %v", version, name, got, want, err)
			}
		}
		for text, want := range map[string]bool{"oom_kill 0\n": false, "oom 3\noom_kill 1\n": true, "": false} {
			if err := os.WriteFile(filepath.Join(g.dir, g.events), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if g.killed() != want {
				t.Errorf("version %s: killed is %v after %q", version, !want, text)
			}
		}
	}
	if err := (&memoryGroup{dir: t.TempDir()}).bound(7, 4096); err == nil {
		t.Error("a directory without a memory controller was accepted")
	}
}

// A handler that ignores its context is no obstacle.
func TestWorkerEndsAtItsTimeBound(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	for _, class := range []string{"hold", "hold-deaf", "spin"} {
		_, err := p.Run(t.Context(), Task{Class: class, Limits: Limits{Memory: 1 << 30, Time: 200 * time.Millisecond}}, nil)
		wantFailure(t, err, TimeOut, "time bound")
	}
	wantUnharmed(t, p)
}

func TestCancelKillsAndWaits(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []string{"hold", "hold-deaf"} {
		runner := watched{Exec{Path: self}, make(chan *child, 1)}
		p.runner = runner
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := p.Run(ctx, Task{Class: class, Limits: bounds()}, func(Progress) { cancel(errors.New("no longer wanted")) })
		wantFailure(t, err, Cancelled, "no longer wanted")
		c := <-runner.seen
		if err := unix.Kill(c.cmd.Process.Pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("%s: the worker is still there after Run: %v", class, err)
		}
	}
	wantUnharmed(t, p)
}

func TestCancelWhileWaitingForAWorker(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	p.slots <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Run(ctx, Task{Class: "empty", Limits: bounds()}, nil)
	wantFailure(t, err, Cancelled, "before a worker was free")
	<-p.slots
	wantUnharmed(t, p)
}

func TestPoolBoundsItsWorkers(t *testing.T) {
	const most, tasks = 2, 6
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runner := watched{Exec{Path: self}, make(chan *child, tasks+1)}
	p := testPool(t, Exec{}, most)
	p.runner = runner
	var all sync.WaitGroup
	here := make(chan *os.File, tasks)
	for range tasks {
		all.Go(func() {
			r, w, err := os.Pipe()
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if _, err := p.Run(t.Context(), Task{Class: "hold", In: []*os.File{r}, Limits: bounds()}, func(Progress) { here <- w }); err != nil {
				t.Error(err)
			}
		})
	}
	for done := 0; done < tasks; done += most {
		first, second := <-here, <-here // both slots are taken and neither task can end
		if n := len(runner.seen); n > done+most {
			t.Errorf("%d workers were started when %d could be done", n, done)
		}
		first.Close()
		second.Close()
	}
	all.Wait()
	wantUnharmed(t, p)
}

// The agent is killed with a signal that it cannot answer. Its worker waits on a
// connection that this test holds, so only the kernel can tell it.
func TestWorkerEndsWithItsAgent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours, err := socketpair()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	agent := exec.Command(self, agentMode)
	agent.ExtraFiles = []*os.File{theirs}
	said, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	err = agent.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	worker, err := unix.PidfdOpen(atoi(strings.TrimSpace(line)), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(worker)
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Sooner than a worker gives up waiting for its header.
	n, err := 0, error(unix.EINTR) // the runtime's own signals interrupt the wait
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(worker), Events: unix.POLLIN}}, int(maxHandover.Milliseconds()/2))
	}
	if err != nil || n != 1 {
		t.Errorf("the worker outlives its agent: %d, %v", n, err)
	}
	_, _ = io.Copy(io.Discard, said)
	_ = agent.Wait() // killed
}

func TestMissingBinaryIsAFailure(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	p.runner = Exec{Path: "/nonexistent/worker"}
	_, err := p.Run(t.Context(), Task{Class: "empty", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, "start a worker")
	p.runner = Exec{Path: "/bin/true"}
	_, err = p.Run(t.Context(), Task{Class: "empty", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, "ended with code 0 without an answer")
}

func TestPoolNeedsARunnerAndABound(t *testing.T) {
	log := testPool(t, Exec{}, 1).log
	for _, bad := range []func() (*Pool, error){
		func() (*Pool, error) { return NewPool(nil, 1, log) },
		func() (*Pool, error) { return NewPool(Exec{}, 0, log) },
		func() (*Pool, error) { return NewPool(Exec{}, maxWorkers+1, log) },
		func() (*Pool, error) { return NewPool(Exec{}, 1, nil) },
	} {
		if _, err := bad(); err == nil {
			t.Error("a pool without a bound was made")
		}
	}
}
