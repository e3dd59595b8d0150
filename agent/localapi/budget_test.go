package localapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queued asks for bytes, which are given back when they have come and release is called.
// The request ends with the test.
func queued(t *testing.T, b *Budget, uid uint32, n int64) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	release = func() { cancel(); synctest.Wait() }
	var ended sync.WaitGroup
	ended.Go(func() {
		if h, err := b.Reserve(ctx, uid, n); err == nil {
			<-ctx.Done()
			h.Release()
		}
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	synctest.Wait()
	return release
}

func used(t *testing.T, b *Budget, want int64) {
	t.Helper()
	if got := b.Used(); got != want {
		t.Errorf("%d bytes are held, want %d", got, want)
	}
}

// One waiting request of a user who held nothing kept out everybody, with an eighth used.
func TestAWaitingRequestKeepsOutNobodyWhoFitsBesideIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(800, 700, 8, Grace)
		long := queued(t, b, 1, 101)
		large := queued(t, b, 2, 700)
		beside := queued(t, b, 3, 60)
		used(t, b, 161)
		queued(t, b, 4, 41) // with it there would be no room for the large one
		used(t, b, 161)
		queued(t, b, 4, 40)
		used(t, b, 201)
		long()
		used(t, b, 800) // though those who passed are still there
		beside()
		used(t, b, 781)
		large()
		used(t, b, 81)
	})
}

// TestMoreThanARequestGetsIsToldSo: two parts that fit alone are too much together, however often the
// client comes again.
func TestMoreThanARequestGetsIsToldSo(t *testing.T) {
	b := NewBudget(800, 700, 8, Grace)
	h, err := b.Reserve(t.Context(), 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	format, err := h.More(300)
	if err != nil {
		t.Fatal(err)
	}
	defer format.Release()
	var told *Error
	if _, err := h.More(301); !errors.As(err, &told) || told.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("301 beside 400 of 700: %v", err)
	}
	answers, err := h.More(300)
	if err != nil {
		t.Error(err)
	}
	answers.Release()
}

// A user's requests in the line would be his turn again and again.
func TestUsersTakeTurnsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(800, 700, 8, Grace)
		long := queued(t, b, 1, 200)
		first, second := queued(t, b, 2, 650), queued(t, b, 2, 660)
		other := queued(t, b, 3, 670)
		used(t, b, 200)
		first() // it gives up; the second would be next by the order of arrival
		long()
		used(t, b, 670)
		other()
		used(t, b, 660)
		second()
		used(t, b, 0)
	})
}

// Whoever comes in may be out of another's way by that, who then does not wait on.
func TestWhoPutsItselfBeyondItsShareIsOutOfTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBudget(800, 700, 8, Grace)
		queued(t, b, 1, 200)
		queued(t, b, 2, 650)
		queued(t, b, 3, 200) // not beside it
		used(t, b, 200)
		queued(t, b, 2, 100)
		used(t, b, 500)
	})
}

// A body that stood still beside a large request that waits for others kept out small ones.
func TestASlowBodyGivesWayBesideOneThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &Intake{Budget: NewBudget(800, 700, 8, Grace)}
		queued(t, in.Budget, 1, 200)
		queued(t, in.Budget, 2, 700)
		end := body(t, in, 3, 10*time.Second)
		queued(t, in.Budget, 4, 90)
		used(t, in.Budget, 280)
		refused(t, "the slow body", <-end, http.StatusRequestTimeout, ReasonSlow)
		synctest.Wait()
		used(t, in.Budget, 290)
	})
}

// body is one of 80 bytes that comes evenly in so long a time; its end tells how it went.
func body(t *testing.T, in *Intake, uid uint32, long time.Duration) (ended chan error) {
	t.Helper()
	near, far := net.Pipe()
	var sent, read sync.WaitGroup
	sent.Go(func() {
		for range 80 {
			time.Sleep(long / 80)
			if _, err := far.Write([]byte("x")); err != nil {
				return
			}
		}
		_ = far.Close()
	})
	ended = make(chan error, 1)
	read.Go(func() {
		_, h, err := in.Read(t.Context(), uid, Body{R: near, Length: 80, Max: 100, Cost: func(n int64) int64 { return n }})
		h.Release()
		_ = near.Close()
		ended <- err
	})
	t.Cleanup(func() { read.Wait(); sent.Wait() })
	synctest.Wait()
	return ended
}

// A user whose own share was full had everybody's bodies cut off, for nothing.
func TestNoBodyIsCutUnlessARequestComesInByIt(t *testing.T) {
	for name, c := range map[string]struct {
		holder, asker uint32
		held, asked   int64
		cut           int // of three bodies of user 3, of 80 bytes each
	}{
		"his own share is full":     {2, 2, 500, 300, 0},
		"others hold too much":      {1, 2, 500, 400, 0},
		"one is enough":             {1, 2, 500, 120, 1},
		"two are enough":            {1, 2, 500, 200, 2},
		"all are needed":            {1, 2, 500, 300, 3},
		"the slow ones are his own": {1, 3, 500, 180, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := &Intake{Budget: NewBudget(800, 700, 8, Grace)}
				queued(t, in.Budget, c.holder, c.held)
				var ends []chan error
				for range 3 {
					ends = append(ends, body(t, in, 3, 3*time.Second))
					time.Sleep(10 * time.Millisecond)
				}
				asked := time.Now()
				came := queued(t, in.Budget, c.asker, c.asked)
				for i, end := range ends {
					err := <-end
					took := time.Since(asked)
					if i < c.cut { // the oldest
						refused(t, "a slow body", err, http.StatusRequestTimeout, ReasonSlow)
						if took > 2*time.Second {
							t.Errorf("cut after %s", took)
						}
					} else if err != nil {
						t.Errorf("body %d of 3 was ended after %s: %v", i+1, took, err)
					}
				}
				came()
			})
		})
	}
}

// TestEachThatWaitsGetsRoomFromSlowBodiesAtOnce: what is cut for one is not counted as room
// for the next, who need not wait another while for his.
func TestEachThatWaitsGetsRoomFromSlowBodiesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &Intake{Budget: NewBudget(800, 700, 8, Grace)}
		queued(t, in.Budget, 1, 400)
		for range 5 {
			body(t, in, 3, 10*time.Second)
		}
		for uid := range uint32(5) {
			queued(t, in.Budget, 10+uid, 80)
		}
		time.Sleep(Grace)
		synctest.Wait()
		used(t, in.Budget, 800)
		in.Budget.mu.Lock()
		defer in.Budget.mu.Unlock()
		if len(in.Budget.line) != 0 {
			t.Errorf("%d still wait", len(in.Budget.line))
		}
	})
}

func sum(list []*Held, counts func(*Held) bool) (bytes int64) {
	for _, h := range list {
		if counts(h) {
			bytes += h.bytes
		}
	}
	return bytes
}

// beyond says whether a user's share has no room for h, because of what he holds or waits
// for ahead of it.
func beyond(b *Budget, held, ahead []*Held, h *Held) bool {
	own := func(o *Held) bool { return o.uid == h.uid }
	return sum(held, own)+sum(ahead, own)+h.bytes > b.share
}

// room is the rule as [Budget] words it.
func room(b *Budget, held, ahead []*Held, h *Held) bool {
	if beyond(b, held, nil, h) || sum(held, func(*Held) bool { return true })+h.bytes > b.limit {
		return false
	}
	for i, o := range ahead {
		passed := sum(held, func(p *Held) bool { return p.number > o.number })
		if passed+h.bytes+o.bytes > b.limit && !beyond(b, held, ahead[:i], o) {
			return false
		}
	}
	return true
}

// crowded is a budget with so many that hold and that wait, drawn from r.
func crowded(r *rand.Rand, held, line int) *Budget {
	b := NewBudget(1000, 400, line, Grace)
	one := func() *Held {
		return &Held{budget: b, uid: uint32(r.IntN(4)), bytes: 1 + r.Int64N(1200/int64(held+1)), number: b.next(), in: make(chan struct{})}
	}
	for len(b.held) < held || len(b.line) < line {
		if len(b.line) == line || len(b.held) < held && r.IntN(2) == 0 {
			b.held = append(b.held, one())
		} else {
			b.line = append(b.line, one())
		}
	}
	r.Shuffle(len(b.held), func(i, j int) { b.held[i], b.held[j] = b.held[j], b.held[i] })
	return b
}

// TestWhoFitsIsWhomTheRuleLetsIn compares one pass over the line with the rule for each.
func TestWhoFitsIsWhomTheRuleLetsIn(t *testing.T) {
	both := map[bool]int{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := crowded(r, r.IntN(8), 1+r.IntN(8))
		for i, got := range b.fits(b.held, b.line) {
			if want := room(b, b.held, b.line[:i], b.line[i]); got != want {
				t.Errorf("seed %d: %v of the one at %d, the rule says %v", seed, got, i, want)
			}
			both[got]++
		}
	}
	if len(both) != 2 || min(both[true], both[false]) < 100 {
		t.Errorf("the cases are one-sided: %v", both)
	}
}

// BenchmarkSettle is what a change costs under the lock of all, while 64 requests wait.
func BenchmarkSettle(b *testing.B) {
	crowd := crowded(rand.New(rand.NewPCG(1, 1)), 200, 64)
	for _, h := range slices.Concat(crowd.held, crowd.line) {
		h.bytes = 5 // the budget is full
	}
	for b.Loop() {
		crowd.settle()
	}
}

// TestABudgetKeepsItsRules checks, after each of many changes, that nothing is exceeded, that
// nobody waits who may come in, and that in the end everybody has.
func TestABudgetKeepsItsRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, share, users = 1000, 600, 4
		b := NewBudget(limit, share, 12, Grace)
		r := rand.New(rand.NewPCG(1, 2))
		var all sync.WaitGroup
		for range 2000 {
			uid, n, long := uint32(r.IntN(users)), 1+r.Int64N(share), time.Duration(r.IntN(200))*time.Millisecond
			all.Go(func() {
				h, err := b.Reserve(t.Context(), uid, n)
				if err != nil {
					refused(t, "a place", err, http.StatusTooManyRequests, ReasonQueue)
					return
				}
				time.Sleep(long)
				h.Shrink(n / 2)
				time.Sleep(long)
				h.Release()
			})
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			synctest.Wait()
			b.mu.Lock()
			for uid := range uint32(users) {
				if own := sum(b.held, func(h *Held) bool { return h.uid == uid }); own > share {
					t.Errorf("user %d holds %d", uid, own)
				}
			}
			for i, h := range b.line {
				if room(b, b.held, b.line[:i], h) {
					t.Errorf("%d bytes wait that may come in", h.bytes)
				}
				if passed := sum(b.held, func(o *Held) bool { return o.number > h.number }); passed+h.bytes > limit && !beyond(b, b.held, b.line[:i], h) {
					t.Errorf("%d bytes came in past %d", passed, h.bytes)
				}
			}
			b.mu.Unlock()
			if n := b.Used(); n > limit {
				t.Errorf("%d bytes are held", n)
			}
		}
		all.Wait()
		if len(b.held) != 0 || len(b.line) != 0 {
			t.Errorf("%d hold and %d wait at the end", len(b.held), len(b.line))
		}
	})
}
