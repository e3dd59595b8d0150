package listen

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const dialVariable = "ANCHORHOLD_TEST_DIAL"

// TestGroupsOfAPeer: a user who was added to a group is in it, whatever its primary group,
// also when it is in more groups than the first question has room for.
func TestGroupsOfAPeer(t *testing.T) {
	if path := os.Getenv(dialVariable); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1)) // until the other end has looked
		return
	}
	if os.Getuid() != 0 {
		t.Skip("SKIPPED: only root can start a process with other groups")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	var many []uint32
	for i := range uint32(100) {
		many = append(many, 5000+i)
	}
	for _, groups := range [][]uint32{{}, {4242}, {4242, 4243}, many} {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestGroupsOfAPeer$")
		cmd.Env = append(os.Environ(), dialVariable+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61007, Gid: 61008, Groups: groups}}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		p, ok := credentials(c.(*net.UnixConn))
		if !ok || p.UID != 61007 || !p.In(61008) || p.In(4241) {
			t.Errorf("%+v, %t", p, ok)
		}
		for _, g := range groups {
			if !p.In(g) {
				t.Errorf("of %d groups, not in %d: %v", len(groups), g, p.Groups)
			}
		}
		c.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}
