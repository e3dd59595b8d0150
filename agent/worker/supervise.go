package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// errTimeUp is the cause of a context that reached a task's time bound.
var errTimeUp = errors.New("the time bound was reached")

// errUnread means that the worker ended before it read its header: as a rule, before
// it was a worker at all.
var errUnread = errors.New("ended before it read its task")

// seeJournal is where the reason is: the unit's instance and its standard error are gone.
const seeJournal = "`journalctl -u 'anchorhold-worker*'` says why: 203/EXEC is a program that is missing or not linked statically (`anchorhold doctor` looks), " +
	"too many connections a MaxConnections= of the socket below the agent's workers"

// Times that a worker has beside its task.
const (
	maxHandover = 10 * time.Second // until the header is in its socket, or was read
	maxFarewell = 5 * time.Second  // from its last word to its end
)

// maxCrashText bounds what is kept of a dying worker's standard error. It may
// quote memory: it is searched and dropped, never logged.
const maxCrashText = 4 << 10

// status is how a process ended, as far as its runner can know.
type status struct {
	known    bool // false: only that it ended
	code     int
	signal   unix.Signal // 0: it ended by itself
	memoryUp bool        // the kernel killed it at its memory bound
}

// conversation is the supervision of one worker.
type conversation struct {
	proc  process
	final *final
	// unread is true if it ended without having read its header.
	unread bool
	// stderr is the worker's standard error, and text what was read of it: one
	// value, then closed when the last descriptor ended with the worker.
	stderr *os.File
	text   chan []byte
}

// supervise hands the task over, listens, and returns when the worker is gone.
func supervise(ctx context.Context, proc process, head []byte, task Task, report func(Progress)) ([]byte, *Failure) {
	c := &conversation{proc: proc, text: make(chan []byte, 1)}
	stop := context.AfterFunc(ctx, proc.kill)
	defer stop()
	err := c.handOver(head, task)
	if err == nil {
		err = c.listen(report)
	}
	state, text := c.end(err != nil)
	return c.verdict(ctx, err, state, text)
}

// handOver sends the header with the descriptors. The worker's standard error
// is a pipe of ours: the Go runtime says there why it died, and its end of file
// is the proof that the process is gone, whoever started it.
func (c *conversation) handOver(head []byte, task Task) error {
	r, w, err := os.Pipe()
	if err != nil {
		close(c.text)
		return fmt.Errorf("make the worker's standard error: %w", err)
	}
	c.stderr = r
	go func() {
		defer close(c.text)
		defer r.Close()
		text, _ := io.ReadAll(io.LimitReader(r, maxCrashText)) // what came before a failure is enough
		c.text <- text
		_, _ = io.Copy(io.Discard, r) // the worker must not block on a full pipe
	}()
	files := append(append([]*os.File{w}, task.In...), task.Out...)
	err = c.proc.channel().sendHeader(head, files, time.Now().Add(maxHandover))
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		c.unread = true
		return nil // it ended already; listen finds out what it said
	}
	if err != nil {
		return fmt.Errorf("send the header: %w", err)
	}
	return nil
}

// listen reads replies to the end of the connection. It must end with a Final,
// and nothing may follow.
func (c *conversation) listen(report func(Progress)) error {
	buffer := make([]byte, maxMessage+1)
	for seen := 0; ; seen++ {
		r, err := c.proc.channel().receiveReply(buffer)
		switch {
		case errors.Is(err, errUnread):
			c.unread = true // what it said before is still to come, and then the end
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		case c.final != nil:
			return refusal.New(ReasonReply, "the worker sent a message after its last one")
		case r.Final != nil:
			c.final = r.Final
		case seen >= maxProgress:
			return refusal.New(ReasonReply, "the worker sent more than %d progress messages", maxProgress)
		case report != nil:
			report(*r.Progress)
		}
	}
}

// end returns when the worker is gone: at once if it misbehaved, otherwise
// after the time that a farewell or a crash takes.
func (c *conversation) end(misbehaved bool) (status, []byte) {
	if misbehaved {
		c.proc.kill()
	}
	farewell := time.AfterFunc(maxFarewell, c.proc.kill)
	defer farewell.Stop()
	late := time.AfterFunc(2*maxFarewell, func() {
		if c.stderr != nil {
			_ = c.stderr.SetReadDeadline(time.Now()) // only the service manager can end it now; see Socket
		}
	})
	defer late.Stop()
	text := <-c.text
	<-c.text
	state := c.proc.wait()
	_ = c.proc.channel().conn.Close() // everything was read
	return state, text
}

// verdict weighs what the worker said against how it ended.
func (c *conversation) verdict(ctx context.Context, err error, state status, text []byte) ([]byte, *Failure) {
	if err != nil {
		return nil, ended(ctx, fail(Crash, "%w", err))
	}
	if c.final == nil {
		return nil, ended(ctx, crash(state, text, c.unread))
	}
	exit, _ := ParseExit(c.final.Exit)
	switch {
	case state.known && (state.signal != 0 || state.code != exit.Code()):
		return nil, ended(ctx, fail(Crash, "reported %s but ended with code %d, signal %d", exit, state.code, state.signal))
	case exit == Cancelled, exit == TimeOut: // the agent knows which came first
		return nil, ended(ctx, &Failure{Exit: exit, Detail: c.final.Detail})
	case exit != Ok:
		return nil, &Failure{Exit: exit, Detail: c.final.Detail}
	}
	return c.final.Result, nil
}

// ended prefers the reason for which the agent itself ended the worker.
func ended(ctx context.Context, otherwise *Failure) *Failure {
	switch cause := context.Cause(ctx); {
	case cause == nil:
		return otherwise
	case errors.Is(cause, errTimeUp), errors.Is(cause, context.DeadlineExceeded):
		return fail(TimeOut, "%w", cause)
	default:
		return fail(Cancelled, "%w", cause)
	}
}

// outOfMemory reports whether the Go runtime ended because the kernel refused it
// memory. Its last words are the only sign: it says so, or its own code (not a
// handler's, which would panic) faults on what it did not get.
func outOfMemory(text []byte) bool {
	says := func(words string) bool { return bytes.Contains(text, []byte(words)) }
	return says("out of memory") || says("cannot allocate memory") ||
		says("SIGSEGV:") && (says("\nPC=0x") || says("unexpected signal during runtime execution"))
}

// crash names the end of a worker that did not answer.
func crash(state status, text []byte, unread bool) *Failure {
	switch {
	case outOfMemory(text):
		return fail(OutOfMemory, "the memory bound was reached")
	case state.memoryUp:
		return fail(OutOfMemory, "killed by the kernel at the memory bound")
	case state.signal == unix.SIGSYS:
		return fail(Crash, "killed for a forbidden system call")
	case state.signal != 0:
		return fail(Crash, "killed by %s", unix.SignalName(state.signal))
	case state.known:
		return fail(Crash, "ended with code %d without an answer", state.code)
	case unread: // of a service manager's: it alone knows more
		return fail(Crash, "%w; %s", errUnread, seeJournal)
	}
	return fail(Crash, "ended without an answer")
}
