package rounds

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// server is a real PostgreSQL server of this test alone: its own data directory, a
// unix socket, no network.
type server struct {
	dir   string
	as    *syscall.Credential
	cmd   *exec.Cmd
	ended chan struct{}
	next  atomic.Int32
}

const binaries = "/usr/lib/postgresql/15/bin"

// startServer skips the test, saying why, where there is no PostgreSQL.
func startServer(t *testing.T) *server {
	t.Helper()
	if _, err := os.Stat(filepath.Join(binaries, "initdb")); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("PostgreSQL 15 is not installed under %s: its store is not tested here", binaries)
	}
	dir, err := os.MkdirTemp("", "pg") // short, for the socket's name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &server{dir: dir, as: ordinaryUser(t, dir)}
	init := exec.Command(filepath.Join(binaries, "initdb"), "-D", s.data(), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	init.SysProcAttr, init.Dir = &syscall.SysProcAttr{Credential: s.as}, dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.start(t)
	t.Cleanup(func() { s.stop(t, syscall.SIGINT) })
	return s
}

// ordinaryUser is who the server runs as: it refuses to be root.
func ordinaryUser(t *testing.T, dir string) *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Skipf("the server cannot run as root and there is no user postgres: %v", err)
	}
	uid, errU := strconv.Atoi(u.Uid)
	gid, errG := strconv.Atoi(u.Gid)
	if err := errors.Join(errU, errG, os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

// start runs the server until it says that it is ready.
func (s *server) start(t *testing.T, options ...string) {
	t.Helper()
	s.cmd = exec.Command(filepath.Join(binaries, "postgres"), append([]string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=60"}, options...)...)
	s.cmd.SysProcAttr, s.cmd.Dir = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGQUIT}, s.dir
	out, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready, ended := make(chan bool, 1), make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "ready to accept connections") {
				ready <- true
			}
		}
		select {
		case ready <- false:
		default:
		}
	}()
	if !<-ready {
		t.Fatal("the server ended while it started")
	}
}

// stop ends the server: SIGINT in order, SIGQUIT as a crash, without a checkpoint.
func (s *server) stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	<-s.ended
	if err := s.cmd.Wait(); err != nil && sig == syscall.SIGINT {
		t.Error(err)
	}
}

// dsn names a schema of the server's database.
func (s *server) dsn(schema string) string {
	return "postgres:///postgres?" + url.Values{"host": {s.dir}, "user": {"test"}, "search_path": {schema}}.Encode()
}

// connect is a connection of the test's own, beside the store.
func (s *server) connect(t testing.TB, schema string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.dsn(schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// schema makes a new, empty place for a store.
func (s *server) schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.next.Add(1))
	if _, err := s.connect(t, "public").Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return name
}

func (s *server) open(t testing.TB, schema string) Store {
	t.Helper()
	p, err := OpenPostgres(t.Context(), s.dsn(schema)+"&pool_max_conns=4")
	if err != nil {
		t.Fatal(err)
	}
	return p
}
