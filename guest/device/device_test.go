package device

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func wantReason(t *testing.T, err error, reason refusal.Reason) {
	t.Helper()
	if got, ok := refusal.ReasonOf(err); !ok || got != reason {
		t.Errorf("got %v, want %q", err, reason)
	}
}

func TestOneCallAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue()
		inside, most := 0, 0 // whoever has the turn
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				got, err := Call(t.Context(), q, func(ctx context.Context) (int, error) {
					inside++
					most = max(most, inside)
					err := Pause(ctx, time.Millisecond)
					inside--
					return i, err
				})
				if err != nil || got != i {
					t.Errorf("caller %d: %d, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		if most != 1 {
			t.Errorf("%d calls at once", most)
		}
	})
}

func TestCallThatDoesNotReturnIsGivenUpAndHoldsTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, release := NewQueue(), make(chan struct{})
		start := time.Now()
		_, err := Call(t.Context(), q, func(context.Context) (int, error) { <-release; return 1, nil })
		if wantReason(t, err, ReasonUnresponsive); time.Since(start) != Patience+lastWord {
			t.Errorf("given up after %v", time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = Call(ctx, q, func(context.Context) (int, error) { t.Error("a second call"); return 0, nil })
		wantReason(t, err, ReasonUnresponsive)
		_, err = Call(ctx, q, func(context.Context) (int, error) { t.Error("a call after the end"); return 0, nil })
		wantReason(t, err, ReasonFailed)
		close(release)
		if got, err := Call(t.Context(), q, func(context.Context) (int, error) { return 2, nil }); got != 2 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
	})
}

func TestOnlyABusyDeviceIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, busy := range []error{unix.EBUSY, unix.EINTR, unix.EAGAIN} {
			n := 0
			if err := Patiently(t.Context(), func() error {
				if n++; n < 4 {
					return busy
				}
				return nil
			}); err != nil || n != 4 {
				t.Errorf("%v: %v after %d tries", busy, err, n)
			}
		}
		n := 0
		if err := Patiently(t.Context(), func() error { n++; return unix.EIO }); n != 1 || !errors.Is(err, unix.EIO) {
			t.Errorf("%v after %d tries", err, n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := Patiently(ctx, func() error { return unix.EBUSY })
		if !errors.Is(err, unix.EBUSY) || !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
