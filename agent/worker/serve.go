package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/agent/worker/confine"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// errAgentGone is the cause when the agent closes the connection.
var errAgentGone = errors.New("the agent withdrew the task")

// Handler does the work of one class. It may return before ctx ends and should
// soon after. progress may be called often; most calls cost nothing. The error
// decides the ending: a *Failure is taken as it is, a refusal is BadInput, a
// context's end is Cancelled or TimeOut, and any other is Crash, which may be
// tried again. The files are closed by the process's end.
type Handler func(ctx context.Context, spec []byte, in, out []*os.File, progress func(phase string, done, total uint64)) ([]byte, error)

// Inherited is descriptor 3, the connection with which both runners start a
// worker. A process that was started by hand has none.
func Inherited() (*os.File, error) {
	const inherited = 3
	kind, err := unix.GetsockoptInt(inherited, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return nil, refusal.New(ReasonPeer, "descriptor %d is not a connection to an agent; only the agent and the service manager start workers", inherited)
	}
	return os.NewFile(inherited, "agent"), nil
}

// Serve does the one task that comes over conn and returns its ending, with
// whose Code the process must end at once: a handler that does not heed its
// context may still be running. It closes the process's doors for good before
// it reads, so it is called by a worker's main and nothing else.
func Serve(ctx context.Context, conn *os.File, handlers map[string]Handler) Exit {
	c, err := newChannel(conn)
	if err != nil {
		return Refused
	}
	defer c.conn.Close()
	s := &speaker{c: c}
	if err := confine.Process(maxOpen); err != nil {
		return s.say(nil, fail(Refused, "confine the worker: %w", err))
	}
	t, err := c.take(handlers)
	if err != nil {
		return s.say(nil, fail(Refused, "%w", err))
	}
	if err := replaceStderr(t.stderr); err != nil {
		return s.say(nil, fail(Refused, "%w", err))
	}
	if err := confine.Files(t.OutputMax); err != nil {
		return s.say(nil, fail(Refused, "%w", err))
	}
	if err := confine.Memory(t.MemoryMax); err != nil {
		return s.say(nil, fail(Refused, "%w", err))
	}
	return s.run(ctx, t)
}

// taken is a task that was handed over.
type taken struct {
	*header
	handler Handler
	stderr  *os.File
	in, out []*os.File
}

// take receives a task and finds its handler. The files are there if the task is refused for its class, too.
func (c channel) take(handlers map[string]Handler) (t taken, err error) {
	if t.header, t.stderr, t.in, t.out, err = c.receiveHeader(time.Now().Add(maxHandover)); err != nil {
		return t, err
	}
	if t.handler = handlers[t.Class]; t.handler == nil {
		return t, refusal.New(ReasonClass, "no handler for %q", t.Class)
	}
	return t, nil
}

// run does the task within its time bound and returns its ending.
func (s *speaker) run(ctx context.Context, t taken) Exit {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(t.TimeMaxMS)*time.Millisecond, errTimeUp)
	defer cancel()
	return s.do(ctx, func(ctx context.Context) ([]byte, error) {
		return t.handler(ctx, t.Spec, t.in, t.out, s.progress(ctx))
	})
}

// do runs the task beside a watch over the connection, whose end is the only
// order that the agent gives.
func (s *speaker) do(ctx context.Context, task func(context.Context) ([]byte, error)) Exit {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		_, err := s.c.conn.Read(make([]byte, 1)) // ends with the connection
		if err == nil {
			err = refusal.New(ReasonHeader, "the agent sent a second message")
		} else if errors.Is(err, io.EOF) {
			err = errAgentGone
		}
		cancel(err)
	}()
	type outcome struct {
		result []byte
		err    error
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() { done <- o }()
		defer func() {
			if p := recover(); p != nil {
				o = outcome{err: fail(Crash, "panic: %s", PanicText(p))}
			}
		}()
		o.result, o.err = task(ctx)
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return s.say(nil, failureOf(o.err))
		}
		if len(o.result) > maxResult {
			return s.say(nil, fail(Crash, "the result has %d bytes, at most %d are allowed; write large results to an output", len(o.result), maxResult))
		}
		return s.say(o.result, nil)
	case <-ctx.Done():
		return s.say(nil, ended(ctx, nil))
	}
}

// replaceStderr makes the agent's pipe the standard error: the Go runtime says
// there what it died of.
func replaceStderr(f *os.File) error {
	if err := control(f, func(fd uintptr) error { return unix.Dup3(int(fd), 2, 0) }); err != nil {
		return fmt.Errorf("replace the standard error: %w", err)
	}
	return f.Close()
}
