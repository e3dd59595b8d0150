// Package databasetest runs a real PostgreSQL server for the tests of what brokers keep in one.
package databasetest

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

// Server is a real PostgreSQL server of this test alone: its own data directory, a
// unix socket, no network.
type Server struct {
	// Dir is the server's directory, with its socket.
	Dir   string
	as    *syscall.Credential
	cmd   *exec.Cmd
	ended chan struct{}
	next  atomic.Int32
}

// Binaries is where the server and its tools are.
const Binaries = "/usr/lib/postgresql/15/bin"

// New starts a server, which ends with the test. It skips the test, saying why, where there is no PostgreSQL.
func New(t *testing.T) *Server {
	t.Helper()
	if _, err := os.Stat(filepath.Join(Binaries, "initdb")); errors.Is(err, fs.ErrNotExist) {
		t.Skipf("PostgreSQL 15 is not installed under %s: its store is not tested here", Binaries)
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
	s := &Server{Dir: dir, as: ordinaryUser(t, dir)}
	init := exec.Command(filepath.Join(Binaries, "initdb"), "-D", s.Data(), "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	init.SysProcAttr, init.Dir = &syscall.SysProcAttr{Credential: s.as}, dir
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Start(t)
	t.Cleanup(func() { s.Stop(t, syscall.SIGINT) })
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

// Data is where the server keeps its files.
func (s *Server) Data() string { return filepath.Join(s.Dir, "data") }

// Start runs the server until it says that it is ready.
func (s *Server) Start(t *testing.T, options ...string) {
	t.Helper()
	s.cmd = exec.Command(filepath.Join(Binaries, "postgres"), append([]string{"-D", s.Data(), "-k", s.Dir, "-c", "listen_addresses=", "-c", "max_connections=60"}, options...)...)
	s.cmd.SysProcAttr, s.cmd.Dir = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGQUIT}, s.Dir
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

// Stop ends the server: SIGINT in order, SIGQUIT as a crash, without a checkpoint.
func (s *Server) Stop(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Error(err)
	}
	<-s.ended
	if err := s.cmd.Wait(); err != nil && sig == syscall.SIGINT {
		t.Error(err)
	}
}

// DSN names a schema of the server's database.
func (s *Server) DSN(schema string) string {
	return "postgres:///postgres?" + url.Values{"host": {s.Dir}, "user": {"test"}, "search_path": {schema}}.Encode()
}

// Connect is a connection of the test's own, beside the store.
func (s *Server) Connect(t testing.TB, schema string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), s.DSN(schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// Schema makes a new, empty place for a store.
func (s *Server) Schema(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.next.Add(1))
	if _, err := s.Connect(t, "public").Exec(t.Context(), "CREATE SCHEMA "+name); err != nil {
		t.Fatal(err)
	}
	return name
}

// Run runs one of PostgreSQL's programs, or cp, as the server's user.
func (s *Server) Run(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Credential: s.as}, s.Dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}
