// Package journal is where a daemon's messages go: to systemd's journal, with priority and fields,
// where the service manager connected standard error to it, and to standard error as text or JSON
// everywhere else.
//
//	out := journal.Stderr("anchorhold-broker")
//	log, err := out.Logger(cfg.Log.Level, cfg.Log.Format)
//
// A record is one datagram of bounded size and one readable line, and no attribute can pass for
// another field. A journal that accepts nothing blocks its callers for a second once, and hardly at
// all after that; records that it does not accept are counted and reported later. A missing journal
// ends no daemon. The package trusts JOURNAL_STREAM only if standard error is the file that it
// names. Values that redact themselves (slog.LogValuer) are asked first. The main packages of the
// daemons call it.
package journal

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// socketPath is the journal's, fixed by systemd-journald.service(8).
const socketPath = "/run/systemd/journal/socket"

// Output is a daemon's standard error. It is safe for concurrent use.
type Output struct {
	name   string
	stderr io.Writer
	lines  io.Writer // stderr, with priorities where it is the journal
	socket *socket   // nil where stderr is not the journal
}

// Stderr returns this process's standard error. name is the program's, for the
// field SYSLOG_IDENTIFIER.
func Stderr(name string) *Output {
	return output(os.Stderr, os.Getenv("JOURNAL_STREAM"), socketPath, name)
}

// Plain returns an Output over w, which is not the journal.
func Plain(w io.Writer) *Output { return &Output{stderr: w, lines: w} }

func output(f *os.File, stream, path, name string) *Output {
	if !isStream(f, stream) {
		return Plain(f)
	}
	// A journal that is gone breaks the stream, and Go ends a process that writes to a broken
	// standard error, whatever the service manager said of the signal.
	signal.Ignore(syscall.SIGPIPE)
	return &Output{name: name, stderr: f, lines: prioritized{f, priorityError}, socket: &socket{path: path, wait: patience}}
}

// Stdout returns this process's standard output. Its lines carry a priority if it is the
// journal, as for a unit's ExecStartPre=.
func Stdout() io.Writer {
	if !isStream(os.Stdout, os.Getenv("JOURNAL_STREAM")) {
		return os.Stdout
	}
	return prioritized{os.Stdout, priorityInfo}
}

// Write writes whole lines when there is no logger yet, or no longer. They are errors, except
// those that begin with "warning:".
func (o *Output) Write(p []byte) (int, error) { return o.lines.Write(p) }

// Logger returns the logger of a configuration. level is "debug", "info", "warn", "error" or
// empty, which means info. format is "text" or "json", which are written to standard error
// wherever that leads, or empty, which means the journal's own form if there is a journal, and
// otherwise text.
func (o *Output) Logger(level, format string) (*slog.Logger, error) {
	var least slog.Level
	if level != "" {
		if err := least.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("unknown log level %q; use debug, info, warn or error", level)
		}
	}
	options := &slog.HandlerOptions{Level: least}
	switch {
	case format == "json":
		return slog.New(slog.NewJSONHandler(o.stderr, options)), nil
	case format == "" && o.socket != nil:
		return slog.New(&handler{level: least, name: o.name, socket: o.socket, stderr: o.stderr}), nil
	case format == "" || format == "text":
		return slog.New(slog.NewTextHandler(o.stderr, options)), nil
	}
	return nil, fmt.Errorf("unknown log format %q; use text or json", format)
}

// isStream says whether a file is the stream that $JOURNAL_STREAM names by
// device and inode (systemd.exec(5)). The variable alone says nothing: it is
// inherited by processes whose standard error leads elsewhere.
func isStream(f *os.File, stream string) bool {
	device, inode, _ := strings.Cut(stream, ":")
	dev, err := strconv.ParseUint(device, 10, 64)
	if err != nil {
		return false
	}
	ino, err := strconv.ParseUint(inode, 10, 64)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && uint64(stat.Dev) == dev && stat.Ino == ino
}

// prioritized puts the prefix of sd-daemon(3) before each line.
type prioritized struct {
	w         io.Writer
	otherwise int
}

// Write writes whole lines, in one piece.
func (l prioritized) Write(p []byte) (int, error) {
	var b bytes.Buffer
	for line := range bytes.Lines(p) {
		priority := l.otherwise
		switch {
		case bytes.HasPrefix(line, []byte("error:")):
			priority = priorityError
		case bytes.HasPrefix(line, []byte("warning:")):
			priority = priorityWarning
		}
		fmt.Fprintf(&b, "<%d>%s", priority, line)
	}
	if _, err := l.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(p), nil
}
