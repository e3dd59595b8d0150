// Package refusal is the one error type for everything that is refused: a stable code for
// programs, a detail for people, and the underlying failure.
//
// Each package that refuses something declares its own reasons and returns [New]; callers
// branch on [ReasonOf], never on text. Every reason is documented: most in docs/protocol.md, those
// of a file format in the page that describes it. The package imports only the standard library,
// so any package can use it.
package refusal

import (
	"errors"
	"fmt"
)

// Reason is the stable code of a refusal: lower-case words joined by '-'.
type Reason string

// Error is an error with a stable code. Detail is for the operator of the side that refused; a
// remote peer gets only the code.
type Error struct {
	// Reason is the stable code.
	Reason Reason
	// Detail says what was found, for people.
	Detail string
	// Err is the failure underneath, if any.
	Err error
}

// Error is code and detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

// Unwrap returns the failure underneath.
func (e *Error) Unwrap() error { return e.Err }

// New makes a refusal; an argument for %w in the format becomes its Err, and several become one Err
// that wraps them all.
func New(reason Reason, format string, args ...any) error {
	wrapped := fmt.Errorf(format, args...)
	e := &Error{Reason: reason, Detail: wrapped.Error(), Err: errors.Unwrap(wrapped)}
	if _, several := wrapped.(interface{ Unwrap() []error }); several { // errors.Unwrap sees none of them
		e.Err = wrapped
	}
	return e
}

// ReasonOf returns the code of the first refusal in err's chain.
func ReasonOf(err error) (Reason, bool) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason, true
	}
	return "", false
}
