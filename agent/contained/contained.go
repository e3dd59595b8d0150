// Package contained runs one piece of work so that a panic in it is that work's failure
// and not the end of the agent, which would take the lease, the models and every other
// round's secrets with it.
//
// No input is known to cause a panic. Call [Do] where a goroutine of the agent's own
// begins work for one round, one job or one request on bytes that others sent; what serves
// the whole agent must not go on after a panic, and is not called through it. Requests on
// the local socket need none: net/http does the same for them. What a goroutine that the
// work starts itself does is not contained.
package contained

import (
	"fmt"
	"path"
	"runtime"
	"strings"
)

// Do calls f. A panic becomes an error, which says where it was.
func Do(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %s%s", Text(p), place())
		}
	}()
	return f()
}

// Result is Do of work that has a result, which is the zero value after a panic.
func Result[T any](f func() (T, error)) (result T, err error) {
	err = Do(func() (err error) {
		result, err = f()
		return err
	})
	return result, err
}

// Text is what a panic may say where people read it: the runtime's own texts hold indexes
// and types, anybody else's could hold an input.
func Text(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("of type %T", p)
}

// maxFrames is how far place looks for the function that panicked: the runtime's and this
// package's are before it.
const maxFrames = 16

// place is the function that panicked and its line, for whoever mends it; called by the
// function that recovers.
func place() string {
	calls := make([]uintptr, maxFrames)
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
