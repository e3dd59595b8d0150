package listen

import (
	"context"
	"log"
	"log/slog"
	"sync"
	"time"
)

const (
	// lineBurst is how often a message is logged in one lineWindow.
	lineBurst  = 20
	lineWindow = time.Minute
	// maxMessages bounds the messages that are told apart.
	maxMessages = 128
)

// Sparse returns a logger for lines that strangers can cause: it writes at most twenty of each
// message per minute. The next line says how many were left out in between, and so does a line
// of its own when another message is logged after the minute.
func Sparse(l *slog.Logger) *slog.Logger {
	if s, ok := l.Handler().(*sparse); ok {
		return slog.New(s)
	}
	return slog.New(&sparse{next: l.Handler(), book: &book{seen: map[string]*entry{}, now: time.Now}})
}

// NewErrorLog returns a logger for http.Server, whose messages vary freely: they all count as
// one message.
func NewErrorLog(l *slog.Logger) *log.Logger { return log.New(errorLines{Sparse(l)}, "", 0) }

type errorLines struct{ l *slog.Logger }

// Write logs one line.
func (e errorLines) Write(p []byte) (int, error) {
	e.l.Info("http", "err", string(p[:min(len(p), 400)]))
	return len(p), nil
}

// sparse is a handler that leaves repetitions out.
type sparse struct {
	next slog.Handler
	book *book
}

// book counts lines; one for a handler and all that are derived from it.
type book struct {
	mu   sync.Mutex
	seen map[string]*entry // guarded by mu
	now  func() time.Time
}

type entry struct {
	began      time.Time
	count      int
	suppressed int
}

// Enabled asks the underlying handler.
func (s *sparse) Enabled(ctx context.Context, level slog.Level) bool {
	return s.next.Enabled(ctx, level)
}

// WithAttrs counts together with the original.
func (s *sparse) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sparse{s.next.WithAttrs(attrs), s.book}
}

// WithGroup counts together with the original.
func (s *sparse) WithGroup(name string) slog.Handler {
	return &sparse{s.next.WithGroup(name), s.book}
}

// Handle writes a record or counts it.
func (s *sparse) Handle(ctx context.Context, r slog.Record) error {
	suppressed, others, ok := s.book.take(r.Message)
	for message, n := range others {
		line := slog.NewRecord(r.Time, slog.LevelInfo, "lines left out", 0)
		line.AddAttrs(slog.String("message", message), slog.Int("suppressed", n))
		if err := s.next.Handle(ctx, line); err != nil {
			return err
		}
	}
	if !ok {
		return nil
	}
	if suppressed > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("suppressed", suppressed))
	}
	return s.next.Handle(ctx, r)
}

// take says whether one more line of a message may be written, how many of it were not
// in the window before, and the same of other messages whose window is over.
func (b *book) take(message string) (suppressed int, others map[string]int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for m, e := range b.seen {
		if m == message || now.Sub(e.began) < lineWindow {
			continue
		}
		if e.suppressed > 0 {
			if others == nil {
				others = map[string]int{}
			}
			others[m] = e.suppressed
		}
		delete(b.seen, m)
	}
	e := b.seen[message]
	if e == nil {
		if len(b.seen) >= maxMessages {
			return 0, others, false // more messages than the code has
		}
		e = &entry{began: now}
		b.seen[message] = e
	}
	if now.Sub(e.began) >= lineWindow {
		suppressed = e.suppressed
		*e = entry{began: now}
	}
	if e.count >= lineBurst {
		e.suppressed++
		return 0, others, false
	}
	e.count++
	return suppressed, others, true
}
