package jobs

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

// benchQueue is a queue with n jobs that are over, as one that has run for long.
func benchQueue(b *testing.B, n int) *Queue {
	q, _ := newQueue(b, func(o *Options) {
		o.Now, o.MaxJobs, o.MaxKept, o.MaxBytes = time.Now, 1<<30, max(n, 1), 1<<50
	})
	for i := range n {
		info := Info{Job: job(-1 - i), Seq: uint64(i + 1), State: Cancelled, Exit: WasCancelled, Created: time.Now(), Updated: time.Now()}
		info.ID = info.id()
		q.jobs[info.ID], q.next = &info, info.Seq+1
	}
	return q
}

// The disk's own sync is the largest part of each of these.

func BenchmarkSubmit(b *testing.B) {
	for _, kept := range []int{0, 4096} {
		b.Run(fmt.Sprintf("kept=%d", kept), func(b *testing.B) {
			q := benchQueue(b, kept)
			n := 0
			for b.Loop() {
				n++
				submit(b, q, job(n))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func BenchmarkSubmitFromManySides(b *testing.B) {
	q := benchQueue(b, 0)
	var n atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if _, _, err := q.Submit(b.Context(), job(int(n.Add(1)))); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

func BenchmarkSubmitAgain(b *testing.B) {
	q := benchQueue(b, 0)
	submit(b, q, job(1))
	for b.Loop() {
		if _, created, err := q.Submit(b.Context(), job(1)); created || err != nil {
			b.Fatal(created, err)
		}
	}
}

func BenchmarkLeaseAndComplete(b *testing.B) {
	for _, kept := range []int{0, 4096} {
		b.Run(fmt.Sprintf("kept=%d", kept), func(b *testing.B) {
			q := benchQueue(b, kept)
			n := 0
			for b.Loop() {
				b.StopTimer()
				n++
				submit(b, q, job(n))
				b.StartTimer()
				l, err := q.Lease(b.Context(), []string{"add"})
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Complete(json.RawMessage(`1`)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

func BenchmarkOnce(b *testing.B) {
	q := benchQueue(b, 0)
	n := 0
	for b.Loop() {
		n++
		ok(b, q.Once(fmt.Sprint("round/", n), [32]byte{1}))
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkHeartbeat(b *testing.B) {
	q := benchQueue(b, 0)
	submit(b, q, job(1))
	l := try(b, q)
	for b.Loop() {
		ok(b, l.Heartbeat(Progress{Phase: "encrypt", Done: 1, Total: 2}))
	}
}

// BenchmarkOpen reads a queue of 4096 jobs.
func BenchmarkOpen(b *testing.B) {
	q := benchQueue(b, 0)
	for i := range 4096 / 64 {
		var infos []*Info
		for k := range 64 {
			n := i*64 + k
			info := Info{Job: job(n), Seq: uint64(n + 1), State: Queued, Created: time.Now(), Updated: time.Now()}
			info.ID = info.id()
			infos = append(infos, &info)
		}
		ok(b, putAll(q, infos))
	}
	for b.Loop() {
		q = reopen(b, q)
	}
	if len(q.jobs) != 4096 {
		b.Fatal(len(q.jobs))
	}
}

func putAll(q *Queue, infos []*Info) error {
	return q.update(func(tx *bolt.Tx) error {
		for _, info := range infos {
			if err := q.put(tx, info); err != nil {
				return err
			}
		}
		return nil
	})
}
