package audit

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkAppend measures durable records: one writer alone pays for a commit by
// itself, several share it. CPU is the whole process's, system time included.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			l := openLog(b, b.TempDir(), newSigner(b), Options{})
			b.ReportAllocs()
			b.ResetTimer()
			before := cpuTime(b)
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						if _, err := l.Append(b.Context(), sample(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e3, "cpu-µs/op")
			b.StopTimer()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDecision measures three records of one decision: each in a step of its
// own, and in one.
func BenchmarkDecision(b *testing.B) {
	for name, decide := range map[string]func(l *Log, r Record) error{
		"three steps": func(l *Log, r Record) error {
			for range 3 {
				if _, err := l.Append(b.Context(), r); err != nil {
					return err
				}
			}
			return nil
		},
		"one step": func(l *Log, r Record) error {
			_, err := l.AppendAll(b.Context(), r, r, r)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			l := openLog(b, b.TempDir(), newSigner(b), Options{})
			b.ResetTimer()
			before := cpuTime(b)
			for i := range b.N {
				if err := decide(l, sample(i)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N)/1e3, "cpu-µs/op")
			b.StopTimer()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
