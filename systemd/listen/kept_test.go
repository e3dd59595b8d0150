package listen

import (
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
)

// keeping is a listener that keeps connections, of keptSize bytes each.
func keeping(t *testing.T, kept int, limits Limits) *bench {
	t.Helper()
	q := newQueue()
	l, err := New(q, Config{Limits: limits, Kept: kept, KeptBytes: keptSize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &bench{Listener: l, t: t, q: q}
}

const keptSize = 64 << 10

// guest makes a connection that has proven who it is, and rest one that is kept besides.
func (b *bench) guest(who string) *Conn {
	b.t.Helper()
	c := b.connect("shared")
	c.Promote(who)
	return c
}

func (b *bench) rest(who, group string) *Conn {
	b.t.Helper()
	c := b.guest(who)
	if !c.Keep(group) {
		b.t.Fatalf("the connection of %s is not kept", who)
	}
	return c
}

func TestKeptConnectionsGoFirst(t *testing.T) {
	limits := Limits{Connections: 6, Unproven: 3, PerSource: 3, BodyMiB: 1}
	t.Run("when a newcomer needs a place", func(t *testing.T) {
		b := keeping(t, 4, limits)
		guest := b.guest("working")
		for i := range 4 {
			b.rest("guest "+strconv.Itoa(i), strconv.Itoa(i))
		}
		for i := range 3 {
			b.connect("shared")
			if s := b.Stats(); s.Evicted != 0 || s.Kept != min(4, 6-1-1-i) || s.Unproven != i+1 {
				t.Errorf("after %d newcomers: %+v", i+1, s)
			}
		}
		b.guest("second")
		b.guest("third")
		if s := b.Stats(); s.Kept != 1 || s.Proven != 3 || s.Unproven != 2 || s.KeptEvicted != 3 || ended(guest) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("when others need memory", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := keeping(t, 64, Limits{Connections: 64, BodyMiB: 1})
			for i := range 2 * half / keptSize {
				b.rest("guest "+strconv.Itoa(i), strconv.Itoa(i))
			}
			sender := b.connect("shared")
			hold(t, sender, 3*keptSize)
			synctest.Wait()
			if s := b.Stats(); s.Kept != 2*half/keptSize-3 || s.BodyBytes != 3*keptSize || s.Evicted != 0 {
				t.Errorf("%+v", s)
			}
			for _, c := range append(append([]*Conn{sender}, b.kept.conns...), b.proven.conns...) {
				defer c.Close()
			}
		})
	})
	t.Run("when descriptors are gone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := keeping(t, 4, limits)
			stranger, kept := b.connect("one"), b.rest("guest", "guest")
			b.q.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
			b.connect("two")
			if !ended(kept) || ended(stranger) {
				t.Error("want the kept connection's descriptor given to the newcomer")
			}
		})
	})
}

// A flood of strangers takes what is theirs, and not all that the kept ones have.
func TestStrangersAloneDoNotTakeEveryKeptConnection(t *testing.T) {
	b := keeping(t, 2, Limits{Connections: 8, Unproven: 4, PerSource: 4})
	first, second := b.rest("a", "a"), b.rest("b", "b")
	for range 100 {
		b.connect("shared")
	}
	if ended(first) || ended(second) {
		t.Error("a kept connection gave way to a flood that has no use for its place")
	}
}

// Kept connections of a fleet behind one address cost it nothing.
func TestKeptConnectionsCountNowhereElse(t *testing.T) {
	b := keeping(t, 8, Limits{Connections: 12, Unproven: 4, PerSource: 2})
	kept := b.rest("guest", "guest")
	one, two := b.guest("guest"), b.guest("guest") // as many as one identity may have
	three, four := b.connect("shared"), b.connect("shared")
	for _, c := range []*Conn{kept, one, two, three, four} {
		if ended(c) {
			t.Error("a connection was ended, although all are within their bounds")
		}
	}
}

func TestOneConnectionIsKeptOfAnIdentity(t *testing.T) {
	b := keeping(t, 8, Limits{Connections: 12})
	first := b.rest("guest", "group")
	second := b.rest("guest", "group")
	if s := b.Stats(); !ended(first) || ended(second) || s.Kept != 1 || s.KeptEvicted != 0 {
		t.Errorf("%+v", s)
	}
}

// One guest with many keys pushes nobody out but itself, and newcomers nobody.
func TestTheNewestOfTheLargestGroupGoes(t *testing.T) {
	b := keeping(t, 4, Limits{Connections: 32})
	honest := b.rest("honest", "honest")
	greedy := []*Conn{b.rest("g1", "greedy"), b.rest("g2", "greedy"), b.rest("g3", "greedy")}
	if c := b.guest("g4"); c.Keep("greedy") {
		t.Error("a group that has the most is kept even more of")
	}
	late := b.rest("late", "late")
	if ended(honest) || ended(late) || ended(greedy[0]) || ended(greedy[1]) || !ended(greedy[2]) {
		t.Error("want the newest of the largest group ended")
	}
	b.rest("later", "later")
	if c := b.guest("latest"); c.Keep("latest") {
		t.Error("a newcomer took the place of one that was kept before")
	}
	if s := b.Stats(); s.Kept != 4 || ended(honest) || ended(late) {
		t.Errorf("%+v", s)
	}
}

func TestResumedConnectionHasAProvenPlace(t *testing.T) {
	b := keeping(t, 4, Limits{Connections: 6, Unproven: 2, PerSource: 2})
	c := b.rest("guest", "guest")
	if !c.Resume() || c.Resume() {
		t.Error("want it resumed, once")
	}
	if s := b.Stats(); s.Kept != 0 || s.Proven != 1 || s.Reused != 1 {
		t.Errorf("%+v", s)
	}
	for range 50 {
		b.connect("shared")
	}
	if ended(c) {
		t.Error("it lost its place to peers that have proven nothing")
	}
	if !c.Keep("guest") {
		t.Error("it is not kept again")
	}
	b.DropKept()
	if c.Resume() || !ended(c) {
		t.Error("a connection that lost its place goes on")
	}
}

func TestNothingIsKeptThatMayNotBe(t *testing.T) {
	limits := Limits{Connections: 8}
	none := keeping(t, 0, limits)
	if none.guest("guest").Keep("guest") {
		t.Error("kept by a listener that keeps none")
	}
	b := keeping(t, 4, limits)
	if b.connect("one").Keep("one") {
		t.Error("kept, and has proven nothing")
	}
	busy := b.guest("busy")
	if _, err := busy.Reserve(t.Context(), 1); err != nil || busy.Keep("busy") {
		t.Error("kept with a body", err)
	}
	before := b.guest("before")
	kept := b.rest("kept", "kept")
	b.DropKept()
	if !ended(kept) || ended(before) || before.Keep("before") {
		t.Error("want kept ones ended, and none kept that is older than that")
	}
	b.rest("after", "after")
	if (*Conn)(nil).Keep("") || (*Conn)(nil).Resume() {
		t.Error("a connection of no listener is kept")
	}
}

func TestKeptConnectionsEndWithTheListener(t *testing.T) {
	l, err := New(newQueue(), Config{Limits: Limits{Connections: 8}, Kept: 4})
	if err != nil {
		t.Fatal(err)
	}
	guest := func() *Conn {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { theirs.Close() })
		c := l.admit(conn{ours, "one"})
		c.release = func() {} // Accept did not count it
		t.Cleanup(func() { c.Close() })
		c.Promote("guest")
		return c
	}
	kept := guest()
	if !kept.Keep("guest") {
		t.Fatal("it is not kept")
	}
	l.Close()
	if late := guest(); !ended(kept) || late.Keep("guest") { // accepted at the last moment
		t.Error("a closed listener keeps connections")
	}
}
