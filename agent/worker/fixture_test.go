package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The test binary is its own worker, and, to be killed, its own agent.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 {
		switch os.Args[1] {
		case Mode:
			conn, err := Inherited()
			if err != nil {
				os.Exit(1)
			}
			os.Exit(Serve(context.Background(), conn, handlers()).Code())
		case agentMode:
			os.Exit(agentToKill())
		}
	}
	m.Run()
}

// handlers are what the workers of these tests do.
func handlers() map[string]Handler {
	return map[string]Handler{
		"empty": func(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
			return nil, nil
		},
		"digest":      digest,
		"doors":       doors,
		"environment": environment,
		"hold":        hold,
		"hold-deaf": func(_ context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
			return hold(context.Background(), spec, in, out, progress)
		},
		"eat":   eat,
		"waste": waste,
		"spin": func(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
			for {
				spun.Add(1)
			}
		},
		"refuse": func(_ context.Context, spec []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			return nil, refusal.New("bad-spec", "%s", spec)
		},
		"fail": func(_ context.Context, spec []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			exit, _ := ParseExit(string(spec))
			return nil, &Failure{Exit: exit, Detail: "as told"}
		},
		"err": func(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
			return nil, errors.New("disk on fire")
		},
		"panic": func(_ context.Context, spec []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			panic("secret " + string(spec))
		},
		"index": func(_ context.Context, spec []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			return spec[len(spec)+2:], nil
		},
		"die": func(ctx context.Context, _ []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			go func() { panic("secret in a goroutine") }()
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"exec": func(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
			return nil, syscall.Exec("/bin/true", []string{"true"}, nil)
		},
		"garbage": func(_ context.Context, spec []byte, _, _ []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			for fd := 3; fd < 32; fd++ {
				_, _ = unix.Write(fd, spec) // one of them is the connection
			}
			return nil, nil
		},
		"long": func(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
			return make([]byte, maxResult+1), nil
		},
		"fill": func(_ context.Context, _ []byte, _, out []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			return nil, fill(out[0], 256<<20)
		},
		// Every way that the filter leaves to make a file longer.
		"grow": func(_ context.Context, _ []byte, _, out []*os.File, _ func(string, uint64, uint64)) ([]byte, error) {
			fd := int(out[0].Fd())
			said := map[string]string{}
			for way, err := range map[string]error{"truncate": unix.Ftruncate(fd, 1<<30), "allocate": unix.Fallocate(fd, 0, 0, 1<<30), "write far": func() error { _, err := unix.Pwrite(fd, []byte{1}, 1<<30); return err }()} {
				said[way] = fmt.Sprint(err)
			}
			return json.Marshal(said)
		},
	}
}

var spun atomic.Uint64

// digest copies its input to its output and returns the digest.
func digest(_ context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	progress("copy", 0, 1)
	sum := sha256.New()
	sum.Write(spec)
	if _, err := io.Copy(io.MultiWriter(sum, out[0]), in[0]); err != nil {
		return nil, err
	}
	progress("done", 1, 1)
	return sum.Sum(nil), nil
}

// hold reports that it is there and waits for its input to end.
func hold(ctx context.Context, _ []byte, in, _ []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
	progress("here", 0, 0)
	if len(in) == 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	_, err := io.Copy(io.Discard, in[0])
	return nil, err
}

func eat(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
	var kept [][]byte
	for {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
		runtime.KeepAlive(kept)
	}
}

// waste keeps 190 MiB and drops twenty times as much.
func waste(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
	kept := make([][]byte, 190)
	for i := range 21 * len(kept) {
		kept[i%len(kept)] = bytes.Repeat([]byte{1}, 1<<20)
	}
	runtime.KeepAlive(kept)
	return nil, nil
}

func fill(out *os.File, most int) error {
	block := make([]byte, 1<<20)
	for range most >> 20 {
		if _, err := out.Write(block); err != nil {
			return err
		}
	}
	return nil
}

func environment(context.Context, []byte, []*os.File, []*os.File, func(string, uint64, uint64)) ([]byte, error) {
	return json.Marshal(os.Environ())
}

func testPool(tb testing.TB, e Exec, most int) *Pool {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	e.Path = self
	p, err := NewPool(e, most, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// bounds are generous: a test that means to reach one lowers it.
func bounds() Limits { return Limits{Memory: 1 << 30, Time: time.Minute, Output: 1 << 30} }

func sealed(tb testing.TB, data string) *os.File {
	tb.Helper()
	f, err := Sealed("input", []byte(data))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { f.Close() })
	return f
}

// wantFailure checks the ending and a part of what is said about it.
func wantFailure(tb testing.TB, err error, exit Exit, part string) *Failure {
	tb.Helper()
	f, ok := errors.AsType[*Failure](err)
	if !ok {
		tb.Fatalf("got %v, want a *Failure %s", err, exit)
	}
	if f.Exit != exit || !strings.Contains(f.Detail, part) {
		tb.Fatalf("got %v, want %s with %q", f, exit, part)
	}
	return f
}

// wantUnharmed runs one more task: whatever happened before it left the pool
// whole.
func wantUnharmed(tb testing.TB, p *Pool) {
	tb.Helper()
	if _, err := p.Run(tb.Context(), Task{Class: "empty", Limits: bounds()}, nil); err != nil {
		tb.Fatalf("the next task: %v", err)
	}
	if n := len(p.slots); n != 0 || p.used != 0 {
		tb.Fatalf("%d slots and %d bytes are still taken", n, p.used)
	}
}

const agentMode = "agent-to-kill"

// agentToKill starts a worker on the connection that it was handed, so that the
// connection does not end with it, writes the worker's number and waits.
func agentToKill() int {
	conn, err := Inherited()
	if err != nil {
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		return 1
	}
	c, err := Exec{Path: self}.run(context.Background(), channel{}, conn, 0)
	if err != nil {
		return 1
	}
	fmt.Println(c.cmd.Process.Pid)
	c.wait()
	return 1
}

// watched keeps each child for a test to look at.
type watched struct {
	Exec
	seen chan *child
}

func (w watched) start(ctx context.Context, limits Limits) (process, error) {
	p, err := w.Exec.start(ctx, limits)
	if err == nil {
		w.seen <- p.(*child)
	}
	return p, err
}

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// noDeadline waits as long as the test binary may run.
var noDeadline time.Time

func asNobody() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: overflowID, Gid: overflowID}}
}
