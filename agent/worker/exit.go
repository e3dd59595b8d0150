package worker

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Exit says how a task ended. The zero value is no ending at all.
type Exit uint8

// The endings. A worker's process exit code follows from its ending, so that
// both can be compared.
const (
	// Ok: the result is complete. Process code 0.
	Ok Exit = iota + 1
	// BadInput: the task can never succeed as it is. Process code 65.
	BadInput
	// Crash: the worker ended without a valid answer. Process code 70.
	Crash
	// OutOfMemory: the worker reached its memory bound. Process code 71.
	OutOfMemory
	// Refused: the worker, or the agent's half, declined to begin. Process code 77.
	Refused
	// TimeOut: the worker reached its time bound. Process code 124.
	TimeOut
	// Cancelled: the agent withdrew the task. Process code 130.
	Cancelled
)

// entry is the table of stable names and process codes.
func (e Exit) entry() (name string, code int) {
	switch e {
	case Ok:
		return "ok", 0
	case BadInput:
		return "bad-input", 65
	case Crash:
		return "crash", 70
	case OutOfMemory:
		return "out-of-memory", 71
	case Refused:
		return "refused", 77
	case TimeOut:
		return "time-out", 124
	case Cancelled:
		return "cancelled", 130
	}
	return "unknown", 70
}

// String is the ending's stable name.
func (e Exit) String() string { name, _ := e.entry(); return name }

// Code is the exit code of a worker process that ended so.
func (e Exit) Code() int { _, code := e.entry(); return code }

// ParseExit returns the ending with that name; false if there is none.
func ParseExit(name string) (Exit, bool) {
	for e := Ok; e <= Cancelled; e++ {
		if e.String() == name {
			return e, true
		}
	}
	return 0, false
}

// Failure is the error of a task that did not end Ok.
type Failure struct {
	// Exit says how the task ended.
	Exit Exit
	// Detail says what was found, for the operator; at most maxDetail bytes of
	// printable text.
	Detail string
	// Err is the failure underneath, if any.
	Err error
}

// Error is the ending's name and the detail.
func (f *Failure) Error() string {
	if f.Detail == "" {
		return "worker: " + f.Exit.String()
	}
	return "worker: " + f.Exit.String() + ": " + f.Detail
}

// Unwrap returns the failure underneath.
func (f *Failure) Unwrap() error { return f.Err }

// fail makes a Failure; an argument for %w in the format becomes its Err.
func fail(exit Exit, format string, args ...any) *Failure {
	wrapped := fmt.Errorf(format, args...)
	return &Failure{Exit: exit, Detail: printable(wrapped.Error()), Err: errors.Unwrap(wrapped)}
}

// failureOf maps a handler's error to an ending: a *Failure stays what it is, a
// refusal is the input's fault, a context's end is a cancellation or a time
// bound, and all else may succeed when it is tried again.
func failureOf(err error) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok && f.Exit > Ok && f.Exit <= Cancelled {
		return f
	}
	if _, refused := refusal.ReasonOf(err); refused {
		return fail(BadInput, "%w", err)
	}
	switch {
	case errors.Is(err, unix.EFBIG): // no try could write less
		return fail(BadInput, "%w", refusal.New(ReasonOutput, "the worker tried to write more than its task allows: %w", err))
	case errors.Is(err, context.DeadlineExceeded):
		return fail(TimeOut, "%w", err)
	case errors.Is(err, context.Canceled):
		return fail(Cancelled, "%w", err)
	}
	return fail(Crash, "%w", err)
}

// printable bounds a text for people and takes everything out of it that could
// forge a line or move a cursor.
func printable(text string) string {
	out := make([]byte, 0, min(len(text), maxDetail))
	for i := 0; i < len(text) && len(out) < maxDetail; i++ {
		if c := text[i]; c >= ' ' && c <= '~' {
			out = append(out, c)
		} else {
			out = append(out, '?')
		}
	}
	return string(out)
}
