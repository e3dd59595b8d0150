package journal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
)

// Priorities of syslog(3).
const (
	priorityError   = 3
	priorityWarning = 4
	priorityInfo    = 6
	priorityDebug   = 7
)

func priorityOf(level slog.Level) int {
	switch {
	case level >= slog.LevelError:
		return priorityError
	case level >= slog.LevelWarn:
		return priorityWarning
	case level >= slog.LevelInfo:
		return priorityInfo
	}
	return priorityDebug
}

// handler sends records to the journal. Time and level are the journal's own
// fields, so the line repeats neither.
type handler struct {
	level  slog.Level
	name   string
	socket *socket
	stderr io.Writer
	group  string  // of attributes to come, with a dot at its end
	fields []field // of WithAttrs
}

// Enabled reports whether the level is logged.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// WithAttrs resolves the values at once.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.fields = slices.Clip(c.fields)
	for _, a := range attrs {
		c.fields = appendAttr(c.fields, h.group, a, 0)
	}
	return &c
}

// WithGroup puts a name before those of all later attributes.
func (h *handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}

// Handle sends a record, or writes it to standard error if there is nobody to
// send it to.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	fields := slices.Clip(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.group, a, 0)
		return true
	})
	priority := priorityOf(r.Level)
	err := h.socket.send(func(lost int) []byte {
		if lost > 0 {
			fields = append(fields, field{"lines_lost", strconv.Itoa(lost)})
		}
		return encode(priority, h.name, line(r.Message, fields), fields)
	})
	if err != nil {
		_, err = fmt.Fprintf(h.stderr, "<%d>%s\n", priority, line(r.Message, fields)) // one write, so lines stay whole
	}
	return err
}
