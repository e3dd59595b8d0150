// Package device makes calls into a kernel device that may never answer: one at a time, each
// ended by its caller's deadline.
//
// A system call cannot be interrupted. At the deadline the goroutine that makes it is abandoned,
// and keeps the turn until the kernel answers. A device that hangs therefore holds one goroutine,
// however often it is asked. The collectors of SEV-SNP and TDX call it.
package device

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Patience is how long one call may take, whatever its caller's deadline.
const Patience = 30 * time.Second

const (
	retryPause = 50 * time.Millisecond
	lastWord   = 50 * time.Millisecond // for the device's own error to arrive once the time is over
)

// Queue lets one caller at a time talk to a device. [NewQueue] makes one.
type Queue struct {
	turn chan struct{} // holds one token: whoever has it may talk to the device
	hung atomic.Bool   // the one who has it was given up by its caller
}

// NewQueue returns the queue of one device.
func NewQueue() *Queue {
	q := &Queue{turn: make(chan struct{}, 1)}
	q.turn <- struct{}{}
	return q
}

// Call waits for its turn until the context ends, then makes the call and waits for it until the
// context or [Patience] ends. A call that was given up still ends before the next one begins.
func Call[T any](ctx context.Context, q *Queue, call func(context.Context) (T, error)) (T, error) {
	value := new(T) // a call that was given up may still write there
	err := q.call(ctx, func(ctx context.Context) (err error) {
		*value, err = call(ctx)
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return *value, nil
}

// call is Call for all types: a program has it once.
func (q *Queue) call(ctx context.Context, call func(context.Context) error) error {
	if ctx.Err() != nil {
		return refusal.New(ReasonFailed, "before the request started: %w", context.Cause(ctx))
	}
	select {
	case <-q.turn:
	case <-ctx.Done():
		if q.hung.Load() {
			return refusal.New(ReasonUnresponsive, "an earlier request has not returned: %w", context.Cause(ctx))
		}
		return refusal.New(ReasonFailed, "waiting for earlier requests: %w", context.Cause(ctx))
	}
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	done := make(chan error, 1) // room for an answer that nobody waits for any more
	go func() {
		err := call(ctx)
		q.hung.Store(false)
		done <- err
		q.turn <- struct{}{}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(lastWord):
	}
	q.hung.Store(true)
	return refusal.New(ReasonUnresponsive, "the device has not answered: %w", context.Cause(ctx))
}

// Patiently repeats a step while the device is busy (EBUSY, EINTR, EAGAIN), until the context ends.
func Patiently(ctx context.Context, step func() error) error {
	for {
		err := step()
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		if waiting := Pause(ctx, retryPause); waiting != nil {
			return errors.Join(err, waiting)
		}
	}
}

// Pause waits, at most until the context ends; then it returns the cause.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
