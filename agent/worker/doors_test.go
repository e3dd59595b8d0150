package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// strayDescriptor is open in the agent without the flag that closes it on exec.
const strayDescriptor = 60

// doors tries everything that a worker may not do and says how it failed.
func doors(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
	said := map[string]string{}
	for name, try := range attempts() {
		said[name] = "open"
		if err := try(); err != nil {
			said[name] = "other: " + err.Error()
			if errno, ok := errors.AsType[syscall.Errno](err); ok {
				said[name] = unix.ErrnoName(errno)
			}
		}
	}
	return json.Marshal(said)
}

func attempts() map[string]func() error {
	raw := func(nr uintptr, args ...uintptr) func() error {
		return func() error {
			var a [6]uintptr
			copy(a[:], args)
			if _, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); errno != 0 {
				return errno
			}
			return nil
		}
	}
	here := uintptr(unix.Getpid())
	raise := func(pid, resource int) func() error {
		return func() error { return unix.Prlimit(pid, resource, &unix.Rlimit{Cur: 1 << 40, Max: 1 << 40}, nil) }
	}
	return map[string]func() error{
		"read a file":           func() error { _, err := os.ReadFile("/etc/passwd"); return err },
		"write a file":          func() error { return os.WriteFile("/tmp/worker-was-here", nil, 0o600) },
		"list a directory":      func() error { _, err := os.ReadDir("/"); return err },
		"look for a file":       func() error { _, err := os.Stat("/etc/passwd"); return err },
		"remove a file":         func() error { return os.Remove("/tmp/worker-was-here") },
		"dial":                  func() error { _, err := net.Dial("tcp", "127.0.0.1:1"); return err },
		"unix socket":           raw(unix.SYS_SOCKET, unix.AF_UNIX, unix.SOCK_STREAM, 0),
		"inet socket":           raw(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM, 0),
		"packet socket":         raw(unix.SYS_SOCKET, unix.AF_PACKET, unix.SOCK_RAW, 0),
		"vsock":                 raw(unix.SYS_SOCKET, unix.AF_VSOCK, unix.SOCK_STREAM, 0),
		"socketpair":            func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); return err },
		"sendmsg":               raw(unix.SYS_SENDMSG, 3, 0, 0),
		"start a program":       func() error { return exec.Command("/bin/true").Run() },
		"fork":                  raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD)),
		"thread and namespace":  raw(unix.SYS_CLONE, unix.CLONE_THREAD|unix.CLONE_SIGHAND|unix.CLONE_VM|unix.CLONE_NEWNET),
		"signal a stranger":     raw(unix.SYS_KILL, 1, 0),
		"signal its group":      raw(unix.SYS_KILL, 0, 0),
		"signal everybody":      raw(unix.SYS_KILL, ^uintptr(0), 0),
		"thread of a stranger":  raw(unix.SYS_TGKILL, 1, 1, 0),
		"code at run time":      raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0),
		"code from data":        raw(unix.SYS_MPROTECT, 0, 4096, unix.PROT_EXEC),
		"uncounted memory":      raw(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS, ^uintptr(0), 0),
		"a file in memory":      func() error { _, err := unix.MemfdCreate("x", 0); return err },
		"raise a limit":         raise(0, unix.RLIMIT_DATA),
		"another limit":         raise(0, unix.RLIMIT_CORE),
		"a stranger's limit":    raise(1, unix.RLIMIT_DATA),
		"be dumpable":           raw(unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 1),
		"live on":               raw(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, 0),
		"leave the idle class":  func() error { return unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr}, 0) },
		"be nicer":              raw(unix.SYS_SETPRIORITY, 0, 0, 0),
		"take a descriptor":     raw(unix.SYS_DUP3, 3, 1),
		"ask for its owner":     raw(unix.SYS_FCNTL, 3, unix.F_SETOWN, here),
		"terminal tricks":       raw(unix.SYS_IOCTL, 2, unix.TIOCSTI),
		"change user":           raw(unix.SYS_SETUID, 0),
		"take capabilities":     raw(unix.SYS_CAPSET, 0, 0),
		"loosen the filter":     raw(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, 0),
		"stray descriptor":      raw(unix.SYS_FCNTL, strayDescriptor, unix.F_GETFD),
		"hidden flags of clone": raw(unix.SYS_CLONE3, 0, 0),
	}
}

// what each attempt must meet; the others meet EPERM.
var exceptions = map[string]string{
	"stray descriptor":      "EBADF",
	"hidden flags of clone": "ENOSYS",
}

func TestWorkerFindsEveryDoorClosed(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe(pipe[:]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(pipe[0], strayDescriptor, 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, fd := range append(pipe[:], strayDescriptor) {
			unix.Close(fd)
		}
	}()
	p := testPool(t, Exec{}, 1)
	result, err := p.Run(t.Context(), Task{Class: "doors", Limits: bounds()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var said map[string]string
	if err := json.Unmarshal(result, &said); err != nil || len(said) != len(attempts()) {
		t.Fatalf("%d answers to %d attempts: %v", len(said), len(attempts()), err)
	}
	for name, got := range said {
		want := exceptions[name]
		if want == "" {
			want = "EPERM"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := os.Stat("/tmp/worker-was-here"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the worker made a file")
	}
}

func TestExecveKillsTheWorker(t *testing.T) {
	p := testPool(t, Exec{}, 1)
	_, err := p.Run(t.Context(), Task{Class: "exec", Limits: bounds()}, nil)
	wantFailure(t, err, Crash, "forbidden system call")
	wantUnharmed(t, p)
}

func TestEnvironmentHoldsNothingOfTheAgents(t *testing.T) {
	t.Setenv("AGENT_SECRET", "canary")
	p := testPool(t, Exec{Processors: 2}, 1)
	result, err := p.Run(t.Context(), Task{Class: "environment", Limits: bounds()}, nil)
	if err != nil || string(result) != `["GOMAXPROCS=2"]` {
		t.Fatalf("environment %s, %v", result, err)
	}
}

// Every thread, not only the first, is filtered, without new privileges, and in
// the idle class; the process is the first victim and has no network.
func TestEveryThreadIsConfined(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	runner := watched{Exec{Path: self}, make(chan *child, 1)}
	p := testPool(t, Exec{}, 1)
	p.runner = runner
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	looked := false
	_, err = p.Run(t.Context(), Task{Class: "hold", In: []*os.File{r}, Limits: bounds()}, func(Progress) {
		c := <-runner.seen
		looked = true
		look(t, c)
		w.Close()
	})
	if err != nil || !looked {
		t.Fatalf("looked %v: %v", looked, err)
	}
}

func look(t *testing.T, c *child) {
	proc := filepath.Join("/proc", itoa(c.cmd.Process.Pid))
	threads, err := os.ReadDir(proc + "/task")
	if err != nil || len(threads) < 2 {
		t.Errorf("%d threads, %v", len(threads), err)
	}
	for _, th := range threads {
		text, err := os.ReadFile(filepath.Join(proc, "task", th.Name(), "status"))
		if err != nil || !strings.Contains(string(text), "NoNewPrivs:\t1\n") || !strings.Contains(string(text), "Seccomp:\t2\n") {
			t.Errorf("thread %s is not confined (%v):\n%s", th.Name(), err, text)
		}
		attr, err := unix.SchedGetAttr(atoi(th.Name()), 0)
		if err != nil || attr.Policy != unix.SCHED_IDLE || attr.Nice != 19 {
			t.Errorf("thread %s has the rank %+v, %v", th.Name(), attr, err)
		}
	}
	if text, err := os.ReadFile(proc + "/oom_score_adj"); err != nil || strings.TrimSpace(string(text)) != "1000" {
		t.Errorf("oom_score_adj %s, %v", text, err)
	}
	if probe := exec.Command("/bin/true"); !c.isolated() {
		probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET}
		if probe.Run() == nil {
			t.Error("the kernel gives network namespaces, and the worker has none")
		}
		t.Log("SKIPPED: this kernel gives no network namespace; the filter alone is tested")
		return
	}
	theirs, err := os.Readlink(proc + "/ns/net")
	if errors.Is(err, fs.ErrPermission) {
		t.Log("SKIPPED: only root may look at the worker's namespaces")
		return
	}
	if ours, oerr := os.Readlink("/proc/self/ns/net"); err != nil || oerr != nil || ours == theirs {
		t.Errorf("the worker's network %s, the agent's %s: %v %v", theirs, ours, err, oerr)
	}
}
