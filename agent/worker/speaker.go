package worker

import (
	"context"
	"sync"
	"time"
)

// progressPause is the least time between two messages of one phase.
const progressPause = 100 * time.Millisecond

// speaker is the worker's voice. Once it has said its last word it is silent,
// whatever a handler that still runs may report.
type speaker struct {
	c channel

	mu    sync.Mutex
	over  bool
	sent  int
	last  time.Time
	phase string
}

// say sends the last message and returns its ending. If it cannot be sent, the
// agent is gone or sees a connection that ends without one.
func (s *speaker) say(result []byte, f *Failure) Exit {
	s.mu.Lock()
	defer s.mu.Unlock()
	exit := Ok
	last := final{Result: result}
	if f != nil {
		exit = f.Exit
		last = final{Detail: printable(f.Detail)}
	}
	last.Exit = exit.String()
	s.over = true
	_ = s.c.sendReply(&reply{Final: &last}) // see above
	return exit
}

// progress returns what a handler calls, from any of its goroutines. The agent
// counts messages, so they are spaced here.
func (s *speaker) progress(ctx context.Context) func(phase string, done, total uint64) {
	return func(phase string, done, total uint64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		early := now.Sub(s.last) < progressPause && (phase == s.phase || s.sent > maxProgress/10)
		if s.over || early || s.sent >= maxProgress || !word(phase, maxPhase) || ctx.Err() != nil {
			return
		}
		s.last, s.phase = now, phase
		s.sent++
		_ = s.c.sendReply(&reply{Progress: &Progress{Phase: phase, Done: done, Total: total}}) // news that is lost is only late
	}
}
