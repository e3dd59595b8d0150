package worker

import (
	"context"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const gib = 1 << 30 // the race detector's runtime does not start in less

// holding runs a task of so much memory, and returns when its worker is there; the
// function ends it.
func holding(t *testing.T, p *Pool, memory int64, all *sync.WaitGroup) (end func()) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	here, over := make(chan struct{}), make(chan struct{})
	all.Go(func() {
		defer close(over)
		defer r.Close()
		if _, err := p.Run(t.Context(), Task{Class: "hold", In: []*os.File{r}, Limits: Limits{Memory: memory, Time: time.Minute}}, func(Progress) { close(here) }); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-here:
	case <-over:
		t.Fatal("it did not begin")
	}
	return func() { w.Close() }
}

// Workers that fit the machine one by one may not together.
func TestPoolBoundsTheMemoryOfAll(t *testing.T) {
	p := testPool(t, Exec{}, 3)
	p.Bound(2 * gib)
	var all sync.WaitGroup
	first := holding(t, p, gib, &all)
	second := holding(t, p, gib, &all) // both fit
	ctx, cancel := context.WithCancel(t.Context())
	third := make(chan error, 1)
	go func() {
		_, err := p.Run(ctx, Task{Class: "empty", Limits: Limits{Memory: gib / 2, Time: time.Minute}}, nil)
		third <- err
	}()
	// There is a slot for it, and it holds its turn for memory until it is withdrawn.
	for len(p.turn) == 0 {
		select {
		case err := <-third:
			t.Fatalf("it ran beyond the bound: %v", err)
		default:
		}
	}
	cancel()
	wantFailure(t, <-third, Cancelled, "before a worker was free")
	first()
	second()
	all.Wait()
	wantUnharmed(t, p)
}

// The rest is about waiting, and needs no processes.
func TestMemoryIsGivenInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pool{slots: make(chan struct{}, 8), turn: make(chan struct{}, 1), freed: make(chan struct{}), memory: 100}
		type grant struct {
			need    int64
			release func()
		}
		granted := make(chan grant, 8)
		ask := func(need int64) {
			go func() {
				release, err := p.admit(t.Context(), need)
				if err != nil {
					t.Error(err)
				}
				granted <- grant{need, release}
			}()
			synctest.Wait()
		}
		want := func(need int64) grant {
			t.Helper()
			synctest.Wait()
			select {
			case g := <-granted:
				if g.need != need {
					t.Errorf("%d was granted, want %d", g.need, need)
				}
				return g
			default:
				t.Fatalf("%d was not granted", need)
				return grant{}
			}
		}
		ask(60)
		a := want(60)
		ask(40)
		b := want(40)
		ask(250) // more than there is: alone
		ask(10)  // would fit once b is over, but is not before the large one
		b.release()
		if synctest.Wait(); len(granted) != 0 {
			t.Error("granted out of turn, or beyond the bound")
		}
		a.release()
		c := want(250)
		if synctest.Wait(); len(granted) != 0 {
			t.Error("granted beside one that runs alone")
		}
		c.release()
		want(10).release()
		if p.used != 0 || len(p.slots) != 0 || len(p.turn) != 0 {
			t.Errorf("%d bytes, %d slots, %d turns are still taken", p.used, len(p.slots), len(p.turn))
		}
		ctx, cancel := context.WithCancel(t.Context())
		p.turn <- struct{}{}
		cancel()
		if _, err := p.admit(ctx, 1); err == nil || len(p.slots) != 0 {
			t.Errorf("while another waits: %v, %d slots", err, len(p.slots))
		}
	})
}
