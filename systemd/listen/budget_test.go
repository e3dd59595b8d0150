package listen

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

const half = 1 << 20 / 2 // of a budget of 1 MiB

// hold reserves, and lets go when the connection ends, as a handler does.
func hold(t *testing.T, c *Conn, n int64) {
	t.Helper()
	release, err := c.Reserve(t.Context(), n)
	if err != nil {
		t.Error(err)
		return
	}
	go func() {
		<-c.gone
		release()
	}()
}

func TestBytesAreReservedAndGivenBack(t *testing.T) {
	b := newBench(t, Limits{BodyMiB: 1})
	c := b.connect("one")
	release, err := c.Reserve(t.Context(), half)
	if err != nil || b.Stats().BodyBytes != half {
		t.Fatal(err, b.Stats())
	}
	release()
	release() // once counts
	if b.Stats().BodyBytes != 0 {
		t.Errorf("%+v", b.Stats())
	}
	if _, err := c.Reserve(t.Context(), half+1); !errors.Is(err, ErrNoMemory) {
		t.Errorf("more than there is: %v", err)
	}
	c.Close()
	if _, err := c.Reserve(t.Context(), 1); !errors.Is(err, ErrEnded) {
		t.Errorf("after the end: %v", err)
	}
}

// Stalled bodies of one source make room for a newcomer's, wherever it comes from.
func TestSpentBudgetIsTakenFromTheSourceThatHoldsTheMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{BodyMiB: 1, Connections: 64, Unproven: 32, PerSource: 32})
		quiet := b.connect("quiet")
		hold(t, quiet, half/4)
		first, second, third := b.connect("flood"), b.connect("flood"), b.connect("flood")
		hold(t, first, half/4)
		hold(t, second, half/4)
		hold(t, third, half/4)
		for _, from := range []string{"honest", "flood"} {
			hold(t, b.connect(from), half/4)
		}
		synctest.Wait()
		if ended(quiet) || !ended(first) || !ended(second) || ended(third) {
			t.Error("another holder than the flood's oldest was ended")
		}
		if s := b.Stats(); s.BodyBytes != half {
			t.Errorf("%+v", s)
		}
		for _, c := range []*Conn{quiet, third} {
			c.Close()
		}
		synctest.Wait()
		if s := b.Stats(); s.BodyBytes != half/2 {
			t.Errorf("after two ended: %+v", s)
		}
		for _, c := range b.unproven.conns {
			defer c.Close()
		}
	})
}

func TestBytesOfTheEndedCountUntilTheyLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{BodyMiB: 1})
		slow := b.connect("flood")
		release, err := slow.Reserve(t.Context(), half)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			if _, err := b.connect("honest").Reserve(t.Context(), half); err != nil {
				t.Error(err)
			}
			close(served)
		}()
		synctest.Wait()
		select {
		case <-served:
			t.Error("bytes were given twice")
		default:
		}
		if !ended(slow) {
			t.Error("the holder was not ended")
		}
		release()
		<-served
	})
}

func TestUnprovenBytesAreApartFromProvenOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{BodyMiB: 1})
		guest := b.connect("one")
		hold(t, guest, half/2)
		guest.Promote("guest")
		hold(t, guest, half/2)
		hold(t, b.connect("one"), half)
		synctest.Wait()
		if ended(guest) || b.Stats().BodyBytes != 2*half {
			t.Errorf("%v %+v", ended(guest), b.Stats())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := guest.Reserve(ctx, 1); !errors.Is(err, ErrNoMemory) { // it holds everything itself
			t.Error(err)
		}
		for _, c := range append(b.unproven.conns, guest) {
			defer c.Close()
		}
	})
}
