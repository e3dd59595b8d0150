package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestEachJobIsDoneOnceByManyWorkers: producers submit the same jobs; of the workers,
// which take them, some fail and some hang until another has their job.
func TestEachJobIsDoneOnceByManyWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const producers, workers, jobs = 4, 6, 40
		q := waiting(t)
		var mu sync.Mutex
		results, created, lost := map[ID]int{}, 0, 0
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		for range producers {
			ended.Go(func() {
				for i := range jobs {
					_, isNew, err := q.Submit(ctx, job(i))
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					if isNew {
						created++
					}
					mu.Unlock()
					if q.Counts()[Dead]+q.Usage().Unfinished > jobs {
						t.Error("more jobs than there are")
					}
				}
			})
		}
		work := func(l *Lease, n int) error {
			switch {
			case l.Info.Tries == 1 && n%3 == 0:
				return l.Fail(Crash, "", "on purpose")
			case l.Info.Tries < MaxTries && n%5 == 0:
				time.Sleep(2 * time.Minute) // without a heartbeat
			}
			err := l.Complete(json.RawMessage(fmt.Sprint(l.number)))
			if err == nil {
				mu.Lock()
				results[l.Info.ID]++
				mu.Unlock()
			}
			return err
		}
		for w := range workers {
			ended.Go(func() {
				for n := w; ; n++ {
					l, err := q.Lease(ctx, []string{"add"})
					if err != nil {
						if ctx.Err() == nil {
							t.Error(err)
						}
						return
					}
					if err := work(l, n); err != nil {
						if reason, _ := refusal.ReasonOf(err); reason != ReasonLeaseLost {
							t.Error(err)
						}
						mu.Lock()
						lost++
						mu.Unlock()
					}
				}
			})
		}
		for i := range jobs {
			j := job(i)
			for {
				info, err := q.Wait(t.Context(), j.id())
				if reason, _ := refusal.ReasonOf(err); reason == ReasonUnknown {
					time.Sleep(time.Millisecond) // of the bubble: it is not submitted yet
					continue
				}
				if err != nil || info.State != Done && info.State != Dead {
					t.Fatalf("%+v, %v", info, err)
				}
				break
			}
		}
		stop()
		ended.Wait()
		for _, info := range q.List(nil) {
			if (info.State == Done) != (results[info.ID] == 1) || results[info.ID] > 1 {
				t.Errorf("job %s is %s and has %d results", info.ID, info.State, results[info.ID])
			}
		}
		if created != jobs || lost == 0 {
			t.Errorf("%d of %d jobs were new, %d leases were lost", created, jobs, lost)
		}
	})
}
