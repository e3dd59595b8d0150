package worker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/agent/worker/confine"
)

// Mode is the one argument with which a worker's binary is started.
const Mode = "serve"

// overflowID is what a worker is called in its own user namespace: nobody.
const overflowID = 65534

// Exec starts the binary at Path as a child of the agent. The child shares the
// agent's user and control group, so a service manager's limits on the agent
// cover it; where one is at hand, Socket keeps the two further apart.
type Exec struct {
	// Path is the worker's binary.
	Path string
	// Processors is the most processors at once; zero means one.
	Processors int
	// Cgroup, if not empty, is a writable directory of the memory controller,
	// of either version, under which each worker gets a group of its own. The
	// resource limit on private memory holds without it as well.
	Cgroup string
}

// child is a worker that this process started.
type child struct {
	ch     channel
	cmd    *exec.Cmd
	group  *memoryGroup // nil without a control group
	apart  bool
	exited chan struct{} // closed when the child was waited for
}

func (c *child) channel() channel { return c.ch }
func (c *child) isolated() bool   { return c.apart }

// kill goes through the process's own pidfd, so it never hits a successor of
// its number. The worker has no children: its filter forbids them.
func (c *child) kill() { _ = c.cmd.Process.Kill() }

func (e Exec) start(ctx context.Context, limits Limits) (process, error) {
	theirs, ours, err := socketpair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	ch, err := newChannel(ours)
	if err != nil {
		return nil, err
	}
	c, err := e.spawn(ctx, ch, theirs)
	if err != nil {
		return nil, errors.Join(err, ch.conn.Close())
	}
	if err := c.limit(e.Cgroup, limits); err != nil {
		c.kill()
		c.wait()
		return nil, errors.Join(err, ch.conn.Close())
	}
	return c, nil
}

// spawn starts the child in a user and a network namespace of its own; a kernel
// or a service manager that forbids them costs the worker nothing but that.
func (e Exec) spawn(ctx context.Context, ch channel, conn *os.File) (*child, error) {
	// The agent opens nothing without this flag; what it inherited may lack it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("keep the agent's descriptors from a worker: %w", err)
	}
	c, err := e.run(ctx, ch, conn, unix.CLONE_NEWUSER|unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ENOSYS) {
		return e.run(ctx, ch, conn, 0)
	}
	return c, err
}

func (e Exec) run(ctx context.Context, ch channel, conn *os.File, namespaces uintptr) (*child, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cmd := exec.Command(e.Path, Mode)
	cmd.Dir = "/"
	cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(max(1, e.Processors))}
	cmd.ExtraFiles = []*os.File{conn} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Cloneflags: namespaces}
	if namespaces&unix.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: overflowID, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: overflowID, HostID: os.Getegid(), Size: 1}}
	}
	c := &child{ch: ch, cmd: cmd, apart: namespaces&unix.CLONE_NEWNET != 0, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The death signal is sent when the thread that started the child ends,
		// so the thread is kept until the child is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.exited)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // its outcome is in ProcessState
		}
	}()
	return c, <-started
}

// limit bounds the child from outside, before it is sent anything.
func (c *child) limit(cgroup string, limits Limits) error {
	pid := c.cmd.Process.Pid
	for resource, most := range map[int]uint64{unix.RLIMIT_DATA: confine.PrivateLimit(limits.Memory), unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxOpen, unix.RLIMIT_FSIZE: uint64(limits.Output)} {
		err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: most}, nil)
		if err != nil && !errors.Is(err, unix.ESRCH) { // gone already: the supervisor will say why
			return fmt.Errorf("bound resource %d of a worker: %w", resource, err)
		}
	}
	if cgroup == "" {
		return nil
	}
	group, err := newMemoryGroup(cgroup, pid, limits.Memory)
	if err != nil {
		return err
	}
	c.group = group
	return nil
}

func (c *child) wait() status {
	<-c.exited
	s := status{known: true}
	if ws, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		s.signal = ws.Signal()
	} else {
		s.code = c.cmd.ProcessState.ExitCode()
	}
	if c.group != nil {
		s.memoryUp = c.group.killed()
		c.group.remove()
	}
	return s
}

// socketpair returns both ends of a connection that keeps records apart.
func socketpair() (theirs, ours *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "agent"), nil
}
