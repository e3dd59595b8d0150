package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Error says why an exchange ended without keys.
type Error struct {
	// Reason is a stable code (docs/protocol.md 9).
	Reason refusal.Reason
	// ID is the opaque ID of a refusal by the broker, else "". The operator
	// finds the details under it.
	ID string
	// Err is what happened here; nil for a refusal by the broker.
	Err error
}

// Error describes the failure in one line.
func (e *Error) Error() string {
	if e.ID != "" {
		return fmt.Sprintf("broker refused: %s (ask its operator about %s)", e.Reason, e.ID)
	}
	if e.Err == nil {
		return string(e.Reason)
	}
	if reason, ok := refusal.ReasonOf(e.Err); ok && reason == e.Reason {
		return e.Err.Error()
	}
	return fmt.Sprintf("%s: %v", e.Reason, e.Err)
}

// Unwrap returns what happened here.
func (e *Error) Unwrap() error { return e.Err }

// ByBroker says whether the broker refused, rather than this end or the network.
func (e *Error) ByBroker() bool { return e.ID != "" }

// wrap gives err a reason code, keeping one that it already has.
func wrap(reason refusal.Reason, err error) *Error {
	var already *Error
	if errors.As(err, &already) {
		return already
	}
	if r, ok := refusal.ReasonOf(err); ok {
		return &Error{Reason: r, Err: err}
	}
	return &Error{Reason: reason, Err: err}
}

// connectionError names what ended a connection: our deadline, a refused
// handshake, or the network.
func connectionError(ctx context.Context, doing string, err error) *Error {
	err = fmt.Errorf("%s: %w", doing, err)
	if reason, refused := refusal.ReasonOf(err); refused {
		return &Error{Reason: reason, Err: err}
	}
	var netErr net.Error
	if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout() {
		return &Error{Reason: protocol.ReasonDeadline, Err: err}
	}
	return &Error{Reason: protocol.ReasonConnectionFailed, Err: err}
}
