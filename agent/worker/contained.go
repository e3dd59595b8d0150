package worker

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Contain calls f, and turns a panic in it into an error that says where it was: the failure
// of one piece of work, and not the end of the agent, which would take the lease, the models
// and every other round's secrets with it.
//
// No input is known to cause a panic. Call it where a goroutine of the agent's own begins work
// for one round, one job or one request on bytes that others sent. Code that serves the whole
// agent must not go on after a panic and is not called through it. Requests on the local socket
// need none: net/http does the same for them. Goroutines that f itself starts are not contained.
func Contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %s%s", PanicText(p), panicPlace())
		}
	}()
	return f()
}

// ContainResult is Contain of work that has a result, which is the zero value after a panic.
func ContainResult[T any](f func() (T, error)) (result T, err error) {
	err = Contain(func() (err error) {
		result, err = f()
		return err
	})
	return result, err
}

// PanicText is what a panic may say where people read it: the runtime's own texts hold indexes
// and types, anybody else's could hold an input.
func PanicText(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("of type %T", p)
}

// maxPanicFrames is how far panicPlace looks for the function that panicked: the runtime's and this
// package's are before it.
const maxPanicFrames = 16

// panicPlace is the function that panicked and its line, for whoever mends it; called by the
// function that recovers.
func panicPlace() string {
	calls := make([]uintptr, maxPanicFrames)
	frames := runtime.CallersFrames(calls[:runtime.Callers(3, calls)])
	for {
		f, more := frames.Next()
		if f.Function != "" && !strings.HasPrefix(f.Function, "runtime.") {
			return fmt.Sprintf(" in %s (%s:%d)", path.Base(f.Function), path.Base(f.File), f.Line)
		}
		if !more {
			return ""
		}
	}
}
