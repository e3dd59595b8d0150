package worker

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkEmptyTask is the whole cost of a process of its own: from Run to the
// end of a worker that does nothing.
func BenchmarkEmptyTask(b *testing.B) {
	p := testPool(b, Exec{}, 1)
	for b.Loop() {
		if _, err := p.Run(b.Context(), Task{Class: "empty", Limits: bounds()}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEmptyTaskOfAServiceManager is the same over a socket, without what
// systemd itself needs to set up a unit.
func BenchmarkEmptyTaskOfAServiceManager(b *testing.B) {
	path := filepath.Join(b.TempDir(), "worker.sock")
	testHolds(b, path)
	p := testPool(b, Exec{}, 1)
	p.runner = Socket{Path: path}
	for b.Loop() {
		if _, err := p.Run(b.Context(), Task{Class: "empty", Limits: bounds()}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFlood measures what a flood of workers, eight for each processor,
// costs a parent that computes on every processor: how much of its speed it
// keeps (which others on the machine disturb), and how much of the processors'
// time the whole flood got beside it (which they do not).
func BenchmarkFlood(b *testing.B) {
	workers := 8 * runtime.NumCPU()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		alone := turns(time.Second)
		p := testPool(b, Exec{}, workers)
		started := make(chan *child, workers)
		p.runner = watched{Exec{Path: self}, started}
		ctx, cancel := context.WithCancel(b.Context())
		var all sync.WaitGroup
		for range workers {
			all.Go(func() {
				_, err := p.Run(ctx, Task{Class: "spin", Limits: Limits{Memory: 64 << 20, Time: time.Minute}}, nil)
				if f, ok := errors.AsType[*Failure](err); !ok || f.Exit != Cancelled {
					b.Error(err)
				}
			})
		}
		children := make([]*child, workers)
		for i := range children {
			children[i] = <-started
		}
		before := ownTime(b)
		settle := turns(time.Second) // until every worker has yielded
		flooded := turns(time.Second)
		ours := ownTime(b) - before
		cancel()
		all.Wait()
		var theirs time.Duration
		for _, c := range children {
			theirs += c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
		}
		b.ReportMetric(100*float64(theirs)/float64(ours+theirs), "%cpu-to-flood")
		b.ReportMetric(100*float64(flooded)/float64(alone), "%kept")
		b.ReportMetric(100*float64(settle)/float64(alone), "%kept-while-starting")
	}
}

// ownTime is the processor time of this process.
func ownTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// turns counts what this process computes on every processor in a while.
func turns(while time.Duration) (sum uint64) {
	counts := make([]uint64, runtime.NumCPU())
	deadline := time.Now().Add(while)
	var all sync.WaitGroup
	for i := range counts {
		all.Go(func() {
			x, n := uint64(i), uint64(0)
			for ; n&0xfff != 0 || time.Now().Before(deadline); n++ {
				x = x*6364136223846793005 + 1442695040888963407
			}
			counts[i] = n | x&1
		})
	}
	all.Wait()
	for _, n := range counts {
		sum += n
	}
	return sum
}
