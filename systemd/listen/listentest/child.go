// Package listentest attacks listeners as strangers would, and measures from outside how that
// affects others: honest clients, and the server's memory, descriptors and log.
//
// The server is the calling test itself in a process of its own ([Start]), so its memory is shared
// with nobody; attackers and honest clients are goroutines of the test ([Server.Withstands]).
// Everything stays on the loopback interface, whose range 127.0.0.0/8 gives each party an address.
// On unix sockets the parties are different users, if the test runs as root.
package listentest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	childVariable = "ANCHORHOLD_LISTENTEST"
	// attacksVariable has attacks run at all: each takes most of a processor for a minute.
	attacksVariable = "ANCHORHOLD_ATTACKS"
)

// Server is a server in a process of its own.
type Server struct {
	pid   int
	ready json.RawMessage
	log   *os.File
	group string // control group that is to be removed; "" for none
}

// Start runs the calling test again in a child process, where serve starts a server, calls ready
// with the data that clients need, and stops the server when ready returns. In the child Start
// returns nil, and the test must return at once.
func Start(t *testing.T, serve func(t *testing.T, ready func(v any))) *Server {
	t.Helper()
	if underRaceDetector || os.Getenv(attacksVariable) == "" {
		t.Skip("SKIPPED: `make bench-exhaust` runs the attacks, as make test-all does at its end: without the race detector, whose memory and time are not the server's")
	}
	if os.Getenv(childVariable) == t.Name() {
		serve(t, tellParent)
		return nil
	}
	s := &Server{}
	var err error
	if s.log, err = os.Create(t.TempDir() + "/log"); err != nil {
		t.Fatal(err)
	}
	told, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), childVariable+"="+t.Name())
	cmd.ExtraFiles = []*os.File{tell}
	cmd.Stdout, cmd.Stderr = s.log, s.log
	stop, err := cmd.StdinPipe() // its end is the order to stop
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	tell.Close()
	t.Cleanup(func() {
		stop.Close()
		err := cmd.Wait()
		if s.group != "" {
			if !poll(recovers, func() bool { return os.Remove(s.group) == nil }) {
				t.Errorf("the control group %s is still there", s.group)
			}
		}
		if text, _ := os.ReadFile(s.log.Name()); err != nil {
			t.Errorf("the server ended with %v:\n%s", err, text[max(0, len(text)-4000):])
		}
		s.log.Close()
	})
	s.pid = cmd.Process.Pid
	if err := json.NewDecoder(told).Decode(&s.ready); err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	return s
}

// tellParent tells that the server is ready and waits for the order to stop.
func tellParent(v any) {
	pipe := os.NewFile(3, "parent")
	err := json.NewEncoder(pipe).Encode(v)
	if err = errors.Join(err, pipe.Close()); err != nil {
		panic(err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Decode reads the data that the child passed to ready.
func (s *Server) Decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(s.ready, v); err != nil {
		t.Fatal(err)
	}
}

// confine puts the server under a limit of memory, where this user may: as the service
// manager does with MemoryMax. Elsewhere its peak is only compared.
func (s *Server) confine(t *testing.T, bytes int64) {
	t.Helper()
	name := fmt.Sprintf("anchorhold-listentest-%d", s.pid)
	for _, group := range []struct{ dir, limit string }{
		{"/sys/fs/cgroup/memory/" + name, "memory.limit_in_bytes"}, // version 1
		{"/sys/fs/cgroup/" + name, "memory.max"},
	} {
		if _, err := os.Stat(group.dir); err == nil {
			return // confined already
		}
		if os.Mkdir(group.dir, 0o755) != nil {
			continue
		}
		err := os.WriteFile(group.dir+"/"+group.limit, strconv.AppendInt(nil, bytes, 10), 0o644)
		if err == nil {
			err = os.WriteFile(group.dir+"/cgroup.procs", strconv.AppendInt(nil, int64(s.pid), 10), 0o644)
		}
		if err != nil {
			_ = os.Remove(group.dir) // it is a plain directory, or a group without this controller
			continue
		}
		s.group = group.dir
		t.Logf("the server is in a control group with %d MiB", bytes>>20)
		return
	}
	t.Log("the server has no control group of its own: its memory is compared, not limited")
}

// resetPeak begins to measure the memory's peak anew, where that is allowed.
func (s *Server) resetPeak() {
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.pid), []byte("5"), 0)
}

// peak is the most memory that was resident since resetPeak, in bytes.
func (s *Server) peak(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// descriptors is how many are open; -1 where nobody may look.
func (s *Server) descriptors() int {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		return -1
	}
	return len(list)
}

// logBytes is how long the log is.
func (s *Server) logBytes(t *testing.T) int64 {
	t.Helper()
	info, err := s.log.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// limitDescriptors leaves the server so many more, until restore.
func (s *Server) limitDescriptors(t *testing.T, more int) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	held := s.descriptors()
	if held < 0 {
		t.Skip("SKIPPED: this user cannot see the server's descriptors")
	}
	if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Skip("SKIPPED: this user cannot change the server's limits: ", err)
	}
	low := unix.Rlimit{Cur: uint64(held + more), Max: old.Max}
	if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(s.pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			t.Error(err)
		}
	}
}

// UnitMemory reads MemoryMax of a unit file.
func UnitMemory(t *testing.T, path string) int64 {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "MemoryMax="); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(v, "M"), 10, 64)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			return n << 20
		}
	}
	t.Fatalf("%s has no MemoryMax", path)
	return 0
}

// poll waits for a condition.
func poll(limit time.Duration, is func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(limit)
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			return false
		}
	}
	return true
}
