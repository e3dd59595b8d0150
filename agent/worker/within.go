//go:build !release

package worker

import (
	"context"
	"os"
)

// Within does tasks in the calling process. It is for tests of the agent's services, which then need
// no worker built and started for each task: nothing is confined, limits on memory are not kept, and
// a panic that a handler does not return from ends the test. Builds for release have no such runner.
type Within struct {
	// Handlers are the classes that it serves.
	Handlers map[string]Handler
}

// guest is a task inside this process.
type guest struct {
	ch   channel
	stop context.CancelFunc
	done chan struct{} // closed when the task's exit is set
	exit Exit
}

func (g *guest) channel() channel { return g.ch }
func (g *guest) isolated() bool   { return true } // says nothing about a test
func (g *guest) kill()            { g.stop() }

func (g *guest) wait() status {
	<-g.done
	return status{known: true, code: g.exit.Code()}
}

func (w Within) start(context.Context, Limits) (process, error) {
	theirs, ours, err := socketpair()
	if err != nil {
		return nil, err
	}
	near, err := newChannel(ours)
	if err != nil {
		return nil, err
	}
	far, err := newChannel(theirs)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	g := &guest{ch: near, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		defer stop()
		g.exit = w.serve(ctx, far)
	}()
	return g, nil
}

// serve is [Serve] without its doors.
func (w Within) serve(ctx context.Context, c channel) Exit {
	s := &speaker{c: c}
	defer c.conn.Close()
	t, err := c.take(w.Handlers)
	if err != nil {
		t.close()
		return s.say(nil, fail(Refused, "%w", err))
	}
	handler := t.handler
	t.handler = func(ctx context.Context, spec []byte, in, out []*os.File, progress func(string, uint64, uint64)) ([]byte, error) {
		defer t.close()
		return handler(ctx, spec, in, out, progress)
	}
	return s.run(ctx, t)
}

// close closes the files of a task, as the end of a process does. What was not written the reader sees.
func (t taken) close() {
	for _, f := range append(append([]*os.File{t.stderr}, t.in...), t.out...) {
		_ = f.Close() // of none, if the task was refused before it had any
	}
}
