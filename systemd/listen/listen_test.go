package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// conn is one end of a pipe with an address of its own.
type conn struct {
	net.Conn
	from string
}

func (c conn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: c.from, Net: "test"} }

// queue is a listener that is fed by hand.
type queue struct {
	conns chan net.Conn
	errs  chan error
	done  chan struct{}
}

func newQueue() *queue {
	return &queue{conns: make(chan net.Conn, 64), errs: make(chan error, 8), done: make(chan struct{})}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case err := <-q.errs:
		return nil, err
	default:
	}
	select {
	case c := <-q.conns:
		return c, nil
	case err := <-q.errs:
		return nil, err
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { close(q.done); return nil }
func (q *queue) Addr() net.Addr { return &net.UnixAddr{Name: "queue", Net: "test"} }

// bench is a listener with connections that a test makes.
type bench struct {
	*Listener
	t    *testing.T
	q    *queue
	lazy bool // what was ended is not closed
}

func newBench(t *testing.T, limits Limits) *bench {
	t.Helper()
	q := newQueue()
	l, err := New(q, Config{Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &bench{Listener: l, t: t, q: q}
}

// connect makes a connection from a source, accepted.
func (b *bench) connect(from string) *Conn {
	b.t.Helper()
	ours, theirs := net.Pipe()
	b.t.Cleanup(func() { theirs.Close(); ours.Close() })
	b.q.conns <- conn{ours, from}
	c, err := b.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	if accepted := c.(*Conn); !b.lazy {
		go func() { // as servers do, whose next read fails
			<-accepted.gone
			accepted.Close()
		}()
	}
	return c.(*Conn)
}

func ended(c *Conn) bool {
	select {
	case <-c.gone:
		return true
	default:
		return false
	}
}

func TestNewcomerGetsInAndTheOldestOfTheLargestSourceGoes(t *testing.T) {
	b := newBench(t, Limits{Connections: 8, Unproven: 4, PerSource: 4})
	honest := b.connect("honest")
	first, second := b.connect("flood"), b.connect("flood")
	third := b.connect("flood")
	newcomer := b.connect("other")
	if ended(honest) || ended(newcomer) || !ended(first) || ended(second) || ended(third) {
		t.Error("another connection than the flood's oldest was ended")
	}
	if _, err := first.Write([]byte{0}); err == nil {
		t.Error("the connection that lost its place is open")
	}
	if s := b.Stats(); s.Unproven != 4 || s.Evicted != 1 || s.Accepted != 5 {
		t.Errorf("%+v", s)
	}
}

func TestOneSourceHoldsNoMoreThanItsShare(t *testing.T) {
	b := newBench(t, Limits{Connections: 8, Unproven: 4, PerSource: 2})
	first, second := b.connect("flood"), b.connect("flood")
	third := b.connect("flood")
	if !ended(first) || ended(second) || ended(third) || b.Stats().Unproven != 2 {
		t.Error("the source's oldest should have gone, although there is room")
	}
}

// An honest peer at the flood's own address outlives it by going on.
func TestConnectionThatMovesOnOutlivesAFloodFromItsAddress(t *testing.T) {
	b := newBench(t, Limits{Connections: 64, Unproven: 16, PerSource: 8})
	honest := b.connect("shared")
	honest.Advance(Begun)
	for range 100 {
		b.connect("shared")
	}
	honest.Advance(Ready)
	for range 100 {
		b.connect("shared").Advance(Begun)
	}
	honest.Advance(Heard)
	for range 100 {
		b.connect("shared").Advance(Ready)
	}
	if ended(honest) {
		t.Error("it was ended")
	}
	for range 100 {
		b.connect("shared").Advance(Heard)
	}
	if !ended(honest) {
		t.Error("one that stands still for ever is kept for ever")
	}
}

// Nor does a flood from many addresses, each with one connection, cost it its place.
func TestConnectionThatMovesOnOutlivesAFloodFromEverywhere(t *testing.T) {
	b := newBench(t, Limits{Connections: 64, Unproven: 16, PerSource: 8})
	honest := b.connect("honest")
	honest.Advance(Begun)
	for i := range 500 {
		b.connect(strconv.Itoa(i))
	}
	if ended(honest) {
		t.Error("it was ended")
	}
}

// Several listeners share the process's descriptors, and its files need some as well.
func TestConnectionsAreBoundedByDescriptors(t *testing.T) {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil {
		t.Fatal(err)
	}
	b := newBench(t, Limits{Connections: 1 << 20, Unproven: 1 << 19})
	if n := uint64(b.cfg.Connections); n > max(r.Cur/4, 2) || b.unproven.most+b.proven.most > b.cfg.Connections+1 {
		t.Errorf("%d connections, %d unproven and %d proven, with %d descriptors", n, b.unproven.most, b.proven.most, r.Cur)
	}
}

func TestProvenConnectionsHaveAClassOfTheirOwn(t *testing.T) {
	b := newBench(t, Limits{Connections: 6, Unproven: 2, PerSource: 2})
	var fleet []*Conn
	for _, who := range []string{"a", "b", "c", "d"} { // all behind one address
		c := b.connect("shared")
		c.Promote(who)
		fleet = append(fleet, c)
	}
	for range 50 {
		b.connect("shared")
	}
	for i, c := range fleet {
		if ended(c) {
			t.Errorf("guest %d lost its place to peers that have proven nothing", i)
		}
	}
	if s := b.Stats(); s.Proven != 4 || s.Unproven != 2 {
		t.Errorf("%+v", s)
	}
	again := b.connect("shared")
	again.Promote("a") // the identity that then holds the most
	if !ended(fleet[0]) && !ended(fleet[1]) {
		t.Error("nobody made room in a full class")
	}
	greedy := []*Conn{b.connect("x"), b.connect("y"), b.connect("z")}
	for _, c := range greedy {
		c.Promote("b")
	}
	if b.Stats().Proven != 4 || ended(greedy[2]) || !ended(greedy[0]) {
		t.Error("one identity holds more than its share")
	}
}

func TestConnectionAtRestGoesBeforeThoseAtWork(t *testing.T) {
	b := newBench(t, Limits{Connections: 8, Unproven: 3, PerSource: 3})
	a, idle := b.connect("one"), b.connect("one")
	a.Advance(Heard)
	idle.Advance(Heard)
	idle.Rest()
	b.connect("one")
	b.connect("one")
	if !ended(idle) || ended(a) {
		t.Error("want the one at rest ended")
	}
}

func TestClosingGivesThePlaceBack(t *testing.T) {
	b := newBench(t, Limits{Connections: 4, Unproven: 2, PerSource: 2})
	for range 100 {
		c := b.connect("one")
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		_ = c.Close() // a second time, as servers do
		c.Promote("late")
	}
	if s := b.Stats(); s.Unproven != 0 || s.Proven != 0 || s.Evicted != 0 || len(b.live) != 0 {
		t.Errorf("%+v, %d alive", s, len(b.live))
	}
}

// Owners that never close what was taken from them bound the memory all the same.
func TestConnectionsThatNobodyClosesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Connections: 2, Unproven: 1, PerSource: 1})
		b.lazy = true
		var held []*Conn
		for range 2*2 + maxStrangers {
			held = append(held, b.connect("one"))
		}
		ours, theirs := net.Pipe()
		defer theirs.Close()
		b.q.conns <- conn{ours, "one"}
		accepted := make(chan net.Conn, 1)
		go func() { c, _ := b.Accept(); accepted <- c }()
		synctest.Wait()
		if len(accepted) != 0 {
			t.Error("accepted beyond the bound")
		}
		held[0].Close()
		(<-accepted).Close()
	})
}

func TestAcceptOutlivesALackOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{Connections: 8, Unproven: 4, PerSource: 4})
		old := b.connect("one")
		proven := b.connect("one")
		proven.Promote("guest")
		for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS} {
			b.q.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", errno)}
		}
		b.connect("two")
		if !ended(old) || ended(proven) {
			t.Error("want the unproven connection's descriptor given to the newcomer, and that one alone")
		}
		if s := b.Stats(); s.Exhausted != 3 {
			t.Errorf("%+v", s)
		}
		b.q.errs <- errors.New("broken")
		if _, err := b.Accept(); err == nil || err.Error() != "broken" {
			t.Errorf("an error for good: %v", err)
		}
	})
}

func TestCloseEndsAcceptAtOnce(t *testing.T) {
	for _, full := range []bool{false, true} {
		q := newQueue()
		l, err := New(q, Config{Limits: Limits{Connections: 2}})
		if err != nil {
			t.Fatal(err)
		}
		if full {
			for range cap(l.live) {
				l.live <- struct{}{}
			}
		}
		done := make(chan error, 1)
		go func() { _, err := l.Accept(); done <- err }()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

func unixListener(t *testing.T, cfg Config) *Listener {
	t.Helper()
	raw, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(raw, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func accept(t *testing.T, l net.Listener) *Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*Conn)
}

func TestPeersOfAUnixSocketAreJudgedAtAccept(t *testing.T) {
	asked := 0
	l := unixListener(t, Config{Limits: Limits{Connections: 4, Unproven: 2}, Allowed: func(p Peer) bool {
		asked++
		return p.UID != uint32(os.Getuid())
	}})
	var strangers []*Conn
	for range maxStrangers + 3 {
		dial(t, l)
		c := accept(t, l)
		c.Promote("root") // proves nothing
		strangers = append(strangers, c)
	}
	if want := fmt.Sprintf("uid %d", os.Getuid()); strangers[0].Source() != want || (*Conn)(nil).Source() != "" {
		t.Errorf("source %q, want %q", strangers[0].Source(), want)
	}
	p, known := strangers[0].Peer()
	if !known || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || asked != len(strangers) {
		t.Errorf("%+v %v, asked %d times", p, known, asked)
	}
	if s := l.Stats(); s.Unproven != 0 || s.Proven != 0 {
		t.Errorf("strangers hold places: %+v", s)
	}
	if !ended(strangers[2]) || ended(strangers[3]) {
		t.Errorf("want %d strangers at a time", maxStrangers)
	}
}

func TestHalfOfAConnectionCanBeClosed(t *testing.T) {
	l := unixListener(t, Config{})
	peer := dial(t, l)
	c := accept(t, l)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := peer.Write([]byte{1}); err != nil {
		t.Error(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
}

func TestStrangersAreCutOffWhateverTheyDo(t *testing.T) {
	l := unixListener(t, Config{Allowed: func(Peer) bool { return false }})
	dial(t, l)
	began := time.Now()
	c := accept(t, l)
	if _, err := c.Read(make([]byte, 1)); err == nil || time.Since(began) < strangerTime/2 {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

func TestSourcesAreConfigurablePrefixes(t *testing.T) {
	for _, tc := range []struct {
		v4, v6 int
		a, b   string
		same   bool
	}{
		{0, 0, "192.0.2.1", "192.0.2.2", false},
		{24, 0, "192.0.2.1", "192.0.2.2", true},
		{24, 0, "192.0.2.1", "192.0.3.1", false},
		{0, 0, "::ffff:192.0.2.1", "192.0.2.1", true},
		{0, 0, "2001:db8::1", "2001:db8::ffff:1", true},
		{0, 0, "2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{0, 48, "2001:db8:0:1::1", "2001:db8:0:2::1", true},
	} {
		b := newBench(t, Limits{IPv4Prefix: tc.v4, IPv6Prefix: tc.v6})
		if got := b.source(addr(t, tc.a)) == b.source(addr(t, tc.b)); got != tc.same {
			t.Errorf("%s and %s under /%d and /%d: same %v", tc.a, tc.b, tc.v4, tc.v6, got)
		}
	}
}

func TestLimitsAreChecked(t *testing.T) {
	for what, l := range map[string]Limits{
		"negative":         {Connections: -1},
		"huge":             {BodyMiB: 1 << 21},
		"IPv4 prefix":      {IPv4Prefix: 33},
		"IPv6 prefix":      {IPv6Prefix: 129},
		"more than in all": {Connections: 5, Unproven: 6},
		"balancer":         {Balancers: []string{"example.org"}},
	} {
		if l.Check() == nil {
			t.Errorf("%s: accepted", what)
		}
		if _, err := New(newQueue(), Config{Limits: l}); err == nil {
			t.Errorf("%s: served", what)
		}
	}
	l := Limits{PerSource: 7, Balancers: []string{"192.0.2.0/24", "2001:db8::1"}}
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	if got := l.Or(Limits{Connections: 64}); got.Connections != 64 || got.Unproven != 32 || got.PerSource != 7 || got.IPv4Prefix != 32 || got.IPv6Prefix != 64 {
		t.Errorf("%+v", got)
	}
}

func TestConnectionIsFoundBelowWrappers(t *testing.T) {
	b := newBench(t, Limits{})
	c := b.connect("one")
	if Of(wrapper{wrapper{c}}) != c || Of(c.Conn) != nil || Of(nil) != nil {
		t.Error("not found, or found elsewhere")
	}
	if From(WithConn(context.Background(), c)) != c || From(context.Background()) != nil {
		t.Error("the context has another")
	}
	var none *Conn
	none.Advance(Heard)
	none.Rest()
	none.Promote("x")
	if _, ok := none.Peer(); ok {
		t.Error("nobody's peer is known")
	}
}

type wrapper struct{ net.Conn }

func (w wrapper) NetConn() net.Conn { return w.Conn }
