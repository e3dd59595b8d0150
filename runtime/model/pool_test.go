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
		p.balances[0] = balance{} // all take part, however slow that is
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

// TestCallerWorksAloneWhereWorkersOnlyCost: where the caller waits long, a window alone tells whether workers pay; what it tells
// holds for longer and longer, and a job without waits ends it. The same where others take the processors from those who compute, whom nobody waits for.
func TestCallerWorksAloneWhereWorkersOnlyCost(t *testing.T) {
	var b balance
	const job = 10 * time.Microsecond // of the caller alone
	var gone, each int64              // processors that were lost, and for each window
	lost := func() int64 { gone += each; return gone }
	jobs := func(windows int, spent, waited time.Duration) (alone int) {
		for range windows * window {
			if b.alone() {
				alone++
				b.note(10, job, 0, lost)
			} else {
				b.note(10, spent, waited, lost)
			}
		}
		return alone / window
	}
	if n := jobs(100, job/2, job/10); n != 0 {
		t.Errorf("alone for %d windows though nobody waits", n)
	}
	if n := jobs(200, job*3/4, job/2); n < 5 || n > 20 {
		t.Errorf("alone for %d of 200 windows, want some trials that show that workers pay", n)
	}
	jobs(2*patience, job/2, job/10)
	if n := jobs(200, 2*job, job); n < 180 {
		t.Errorf("alone for %d of 200 windows though workers only cost", n)
	}
	jobs(2*patience, job/2, job/10)
	if n := jobs(100, job/2, job/10); n != 0 {
		t.Errorf("alone for %d windows though workers save half the time again", n)
	}
	each = 10
	if n := jobs(200, 2*job, 0); n < 180 {
		t.Errorf("alone for %d of 200 windows though workers only cost, whose processors others take", n)
	}
	each = 0
	jobs(2*patience, job/2, 0)
	if n := jobs(100, job/2, 0); n != 0 {
		t.Errorf("alone for %d windows though nobody takes a processor away any more", n)
	}
	b = balance{}
	b.note(10, windowTime, windowTime/2, lost) // one long job
	if !b.alone() {
		t.Error("a window of one long job has not ended")
	}
}
