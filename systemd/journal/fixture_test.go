package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// journald stands for the journal: its socket, and a strict reader of its protocol.
type journald struct {
	*net.UnixConn
	path string
}

func listen(t testing.TB, path string) journald {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return journald{c, path}
}

func newJournald(t testing.TB) journald { return listen(t, filepath.Join(t.TempDir(), "socket")) }

// end closes the socket and removes it.
func (j journald) end(t testing.TB) {
	t.Helper()
	if err := errors.Join(j.Close(), os.Remove(j.path)); err != nil {
		t.Fatal(err)
	}
}

// logger logs to the journal j, with standard error in a file.
func (j journald) logger(t testing.TB, level string) (log *slog.Logger, stderr *os.File) {
	t.Helper()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	log, err = output(stderr, streamOf(t, stderr), j.path, "anchorhold-test").Logger(level, "")
	if err != nil {
		t.Fatal(err)
	}
	return log, stderr
}

func streamOf(t testing.TB, f *os.File) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// receive reads one record.
func (j journald) receive(t testing.TB) map[string][]string {
	t.Helper()
	if err := j.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 1<<20)
	n, err := j.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := parse(buffer[:n])
	if err != nil {
		t.Fatalf("%v in %q", err, buffer[:n])
	}
	return fields
}

var fieldNames = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,63}$`)

// parse reads a datagram as journald does (JOURNAL_NATIVE_PROTOCOL), and refuses
// what it would ignore.
func parse(b []byte) (map[string][]string, error) {
	fields := map[string][]string{}
	for len(b) > 0 {
		head, rest, ok := bytes.Cut(b, []byte("\n"))
		if !ok {
			return nil, fmt.Errorf("no line break after %q", b)
		}
		name, value, simple := strings.Cut(string(head), "=")
		if !simple {
			if len(rest) < 8 {
				return nil, fmt.Errorf("no length after %q", name)
			}
			size := binary.LittleEndian.Uint64(rest)
			if rest = rest[8:]; uint64(len(rest)) <= size || rest[size] != '\n' {
				return nil, fmt.Errorf("%q has not %d bytes and a line break", name, size)
			}
			value, rest = string(rest[:size]), rest[size+1:]
		}
		if !fieldNames.MatchString(name) {
			return nil, fmt.Errorf("field name %q", name)
		}
		fields[name] = append(fields[name], value)
		b = rest
	}
	return fields, nil
}

func one(t testing.TB, fields map[string][]string, name, want string) {
	t.Helper()
	if got := fields[name]; len(got) != 1 || got[0] != want {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func content(t testing.TB, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
