package model

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestPoolRunsEachTaskOnce runs many short jobs of changing sizes, with more workers than processors.
func TestPoolRunsEachTaskOnce(t *testing.T) {
	p := newPool(5)
	defer p.close()
	var runs [97]atomic.Int32
	for round := range 3000 {
		p.balance = balance{} // all take part, however slow that is
		count := round%len(runs) + 1
		j := &job{func(worker, task int) error {
			runs[task].Add(1)
			return nil
		}}
		if err := p.run(count, j); err != nil {
			t.Fatal(err)
		}
		for task := range runs {
			want := int32(0)
			if task < count {
				want = 1
			}
			if got := runs[task].Swap(0); got != want {
				t.Fatalf("round %d of %d tasks: task %d ran %d times", round, count, task, got)
			}
		}
	}
}

func TestPoolEndsAJobAfterAnError(t *testing.T) {
	p := newPool(3)
	defer p.close()
	wrong := errors.New("wrong")
	for range 100 {
		if err := p.run(50, &job{func(_, task int) error {
			if task == 7 {
				return wrong
			}
			return nil
		}}); !errors.Is(err, wrong) {
			t.Fatalf("got %v", err)
		}
		if err := p.run(50, &job{func(int, int) error { return nil }}); err != nil {
			t.Fatalf("the next job has the error of the one before: %v", err)
		}
	}
}

// TestPoolWaitsForTasksAndNotForWorkers: a job ends while a worker that could take part does not run.
func TestPoolWaitsForTasksAndNotForWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newPool(2)
	defer p.close()
	var others atomic.Int32
	for range 100 {
		if err := p.run(20, &job{func(worker, _ int) error {
			others.Add(int32(worker))
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("the other worker took %d of 2000 tasks", others.Load())
}

// TestCallerWorksAloneWhereWorkersOnlyCost: waits that outweigh what workers do end their use for a
// while, and contributions bring them back.
func TestCallerWorksAloneWhereWorkersOnlyCost(t *testing.T) {
	var b balance
	jobs := func(n int, waited time.Duration) (alone int) {
		for range n {
			if b.alone() {
				alone++
			} else {
				b.note(10, 10, time.Millisecond, waited)
			}
		}
		return alone
	}
	if n := jobs(10*window, time.Millisecond/2); n != 0 {
		t.Errorf("alone for %d jobs though workers save half the time", n)
	}
	if n := jobs(100*window, 2*time.Millisecond); n < 90*window {
		t.Errorf("alone for %d of %d jobs though workers only cost", n, 100*window)
	}
	jobs(2*patience*window, time.Millisecond/2)
	if n := jobs(10*window, time.Millisecond/2); n != 0 {
		t.Errorf("alone for %d jobs though workers save half the time again", n)
	}
}
