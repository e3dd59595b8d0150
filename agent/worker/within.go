//go:build !release

package worker

import (
	"context"
	"os"
	"time"
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
	h, stderr, in, out, err := c.receiveHeader(time.Now().Add(maxHandover))
	if err != nil {
		return s.say(nil, fail(Refused, "%w", err))
	}
	closeAll := func() {
		for _, f := range append(append([]*os.File{stderr}, in...), out...) {
			_ = f.Close() // what was not written the reader sees
		}
	}
	handler := w.Handlers[h.Class]
	if handler == nil {
		defer closeAll()
		return s.say(nil, fail(Refused, "no handler for %q", h.Class))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(h.TimeMaxMS)*time.Millisecond, errTimeUp)
	defer cancel()
	return s.do(ctx, func(ctx context.Context) ([]byte, error) {
		defer closeAll()
		return handler(ctx, h.Spec, in, out, s.progress(ctx))
	})
}
