package cli

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// RefusedFor marks an error that has a reason code as a refusal.
func RefusedFor(err error) error {
	if _, ok := refusal.ReasonOf(err); ok {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}

// namedError is an error with a stable reason, whose text does not begin with it.
type namedError struct {
	reason string
	error
}

func (e namedError) Unwrap() error { return e.error }

// Exit codes, stable for scripts.
const (
	StatusFailed  = 1 // the command failed
	StatusUsage   = 2 // the command line is wrong
	StatusRefused = 3 // what was asked was refused, or what was checked does not hold
	StatusOpen    = 4 // what was checked holds, and not all that the answer takes was checked
)

// ErrRefused marks an error as a refusal: the check ran, and its answer is no.
var ErrRefused = errors.New("refused")

// ErrOpen marks the error of a check that found nothing wrong but did not check everything.
var ErrOpen = errors.New("not known to be sound")

// usageError marks an error of the command line itself.
type usageError struct{ error }

// StatusOf is the exit status of a command that ended with an error.
func StatusOf(err error) int {
	if errors.Is(err, ErrRefused) {
		return StatusRefused
	}
	if errors.Is(err, ErrOpen) {
		return StatusOpen
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return StatusUsage
	}
	return StatusFailed
}

// Usage marks an error as one of the command line itself.
func Usage(err error) error { return usageError{err} }

// Named gives an error a stable reason that is not part of its text.
func Named(reason string, err error) error { return namedError{reason, err} }
