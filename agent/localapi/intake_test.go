package localapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func refused(t *testing.T, what string, err error, status int, reason refusal.Reason) {
	t.Helper()
	p, ok := errors.AsType[*Error](err)
	if !ok || p.Status != status || p.Code != string(reason) || p.Message == "" {
		t.Errorf("%s: %v, want %d %s", what, err, status, reason)
	}
	if ok && (p.RetryAfter > 0) != (status == http.StatusTooManyRequests) {
		t.Errorf("%s: Retry-After %d", what, p.RetryAfter)
	}
}

func reserve(t *testing.T, b *Budget, uid uint32, n int64) *Held {
	t.Helper()
	h, err := b.Reserve(t.Context(), uid, n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestABudgetIsNeverExceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 1000
		b := NewBudget(limit, 400, 64, Grace)
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				h, err := b.Reserve(t.Context(), uint32(i%4), int64(50+i*5))
				if err != nil {
					t.Error(err)
					return
				}
				if b.Used() > limit {
					t.Errorf("%d bytes are held", b.Used())
				}
				<-time.After(time.Duration(i) * time.Millisecond)
				h.Shrink(10)
				h.Release()
				h.Release()
			})
		}
		all.Wait()
		if len(b.held) != 0 || len(b.line) != 0 {
			t.Errorf("%d bytes are left", b.Used())
		}
	})
}

func TestWhatOneRequestMayNotHoldIsRefused(t *testing.T) {
	b := NewBudget(1000, 400, 4, Grace)
	_, err := b.Reserve(t.Context(), 1, 501)
	refused(t, "more than one user's share", err, http.StatusRequestEntityTooLarge, ReasonTooLarge)
}

func TestOneUserNeverHasAllOfTheBudgetOrAllPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(1000, 100, 4, Grace)
		for range 5 {
			reserve(t, b, 1, 100)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() {
				if _, err := b.Reserve(ctx, 1, 100); !errors.Is(err, context.Canceled) {
					t.Error("a user got more than his share:", err)
				}
			})
		}
		synctest.Wait()
		_, err := b.Reserve(t.Context(), 1, 100)
		refused(t, "the fourth that waits of one user", err, http.StatusTooManyRequests, ReasonQueue)
		for range 5 { // another user is not kept waiting by the first one's
			reserve(t, b, 2, 100)
		}
		waiting.Go(func() {
			if _, err := b.Reserve(ctx, 2, 100); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		_, err = b.Reserve(t.Context(), 3, 1)
		refused(t, "beyond all places", err, http.StatusTooManyRequests, ReasonQueue)
		cancel()
		waiting.Wait()
	})
}

// A large request at the head of the line is not overtaken for ever by small ones.
func TestALargeRequestGetsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(100, 100, 8, Grace)
		first := reserve(t, b, 1, 50)
		order := make(chan string, 2)
		go func() { h := reserve(t, b, 2, 90); order <- "large"; h.Release() }()
		synctest.Wait()
		go func() { h := reserve(t, b, 3, 20); order <- "small"; h.Release() }()
		synctest.Wait()
		if len(order) != 0 {
			t.Error("overtaken by", <-order)
		}
		first.Release()
		if a, b := <-order, <-order; a != "large" || b != "small" {
			t.Error(a, b)
		}
	})
}

// atOnce is a body that nobody has to wait for.
type atOnce struct{ io.Reader }

func (atOnce) SetDeadline(time.Time) error { return nil }

// stalled is a body that stands still until its deadline, as a connection's.
type stalled struct{ net.Conn }

func stall(t *testing.T) Body {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return Body{R: stalled{a}, Length: 80, Max: 100, Cost: func(n int64) int64 { return n }}
}

func TestABodyThatStandsStillGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &Intake{Budget: NewBudget(100, 100, 4, Grace), Line: NewLine(1, 4)}
		var reading sync.WaitGroup
		reading.Go(func() {
			_, _, err := in.Read(t.Context(), 1, stall(t))
			refused(t, "stalled", err, http.StatusRequestTimeout, ReasonSlow)
		})
		synctest.Wait()
		begun := time.Now()
		body, held, err := in.Read(t.Context(), 1, Body{R: atOnce{strings.NewReader(strings.Repeat("x", 60))}, Length: 60, Max: 100, Cost: func(n int64) int64 { return n }})
		if err != nil || len(body) != 60 {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("an honest request waited %s for a body that stood still", took)
		}
		held.Release()
		reading.Wait()
		if in.Budget.Used() != 0 {
			t.Error(in.Budget.Used())
		}
	})
}

func TestABodyThatNeverComesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &Intake{Budget: NewBudget(100, 100, 4, Grace), Line: NewLine(1, 4)}
		begun := time.Now()
		_, _, err := in.Read(t.Context(), 1, stall(t))
		refused(t, "never", err, http.StatusRequestTimeout, ReasonSlow)
		if took := time.Since(begun); took != bodyTime || in.Budget.Used() != 0 {
			t.Errorf("after %s, %d bytes held", took, in.Budget.Used())
		}
	})
}

func TestBodiesAreReadWholeAndNoFurther(t *testing.T) {
	in := &Intake{Budget: NewBudget(1<<20, 1<<20, 4, Grace), Line: NewLine(1, 4)}
	read := func(r io.Reader, length, limit int64) ([]byte, error) {
		body, held, err := in.Read(t.Context(), 1, Body{R: atOnce{r}, Length: length, Max: limit})
		if err == nil && in.Budget.Used() != int64(len(body))+Overhead {
			t.Errorf("%d bytes are held for a body of %d", in.Budget.Used(), len(body))
		}
		held.Release()
		if in.Budget.Used() != 0 {
			t.Error("something is held after the end")
		}
		return body, err
	}
	const text = "0123456789"
	long := strings.Repeat(text, 20_000)
	for _, c := range []struct {
		text   string
		length int64
	}{{text, 10}, {text, -1}, {"", 0}, {"", -1}, {long, -1}, {long, 200_000}} {
		for _, r := range []io.Reader{strings.NewReader(c.text), iotest.OneByteReader(strings.NewReader(c.text)), iotest.DataErrReader(strings.NewReader(c.text))} {
			if got, err := read(r, c.length, 200_000); err != nil || !bytes.Equal(got, []byte(c.text)) {
				t.Errorf("%d bytes of %d, %v", len(got), len(c.text), err)
			}
		}
	}
	_, err := read(strings.NewReader(text), 10, 9)
	refused(t, "declared too long", err, http.StatusRequestEntityTooLarge, ReasonTooLarge)
	_, err = read(strings.NewReader(text), -1, 9)
	refused(t, "too long", err, http.StatusRequestEntityTooLarge, ReasonTooLarge)
	_, err = read(strings.NewReader(text), 11, 20)
	refused(t, "cut short", err, http.StatusBadRequest, ReasonIncomplete)
	_, err = read(io.MultiReader(strings.NewReader(text), iotest.ErrReader(errors.New("gone"))), -1, 20)
	refused(t, "broken", err, http.StatusBadRequest, ReasonIncomplete)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	if _, _, err := in.Read(ctx, 1, Body{R: atOnce{iotest.ErrReader(errors.New("gone"))}, Length: 4, Max: 9}); !errors.Is(err, why) {
		t.Error(err)
	}
}

func TestUsersTakeTurnsInALine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(1, 8)
		leave, err := l.Enter(t.Context(), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		order := make(chan uint32, 8)
		for _, uid := range []uint32{1, 1, 1, 2, 2, 3} {
			go func() {
				leave, err := l.Enter(t.Context(), uid, nil)
				if err != nil {
					t.Error(err)
					return
				}
				order <- uid
				leave()
			}()
			synctest.Wait()
		}
		leave()
		leave() // twice is once
		var got []uint32
		for range 6 {
			got = append(got, <-order)
		}
		if want := []uint32{2, 3, 1, 2, 1, 1}; !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
		synctest.Wait()
		if running, waiting := l.Load(); running != 0 || waiting != 0 || len(l.served) != 0 {
			t.Error(running, waiting, l.served)
		}
	})
}

func TestALineIsBoundedAndFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(1, 4)
		leave, err := l.Enter(t.Context(), 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		wait := func(uid uint32) {
			go func() {
				if _, err := l.Enter(ctx, uid, nil); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		for range 3 {
			wait(1)
		}
		_, err = l.Enter(t.Context(), 1, nil)
		refused(t, "three of four places are one user's", err, http.StatusTooManyRequests, ReasonQueue)
		wait(2)
		_, err = l.Enter(t.Context(), 3, nil)
		refused(t, "all places", err, http.StatusTooManyRequests, ReasonQueue)
		cancel()
		synctest.Wait()
		if running, waiting := l.Load(); running != 1 || waiting != 0 {
			t.Error(running, waiting)
		}
		leave()
		if _, err := NewLine(1, 0).Enter(t.Context(), 1, nil); err != nil {
			t.Error("a line without places has its slots:", err)
		}
	})
}
