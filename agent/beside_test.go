package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// switching is a keeper whose second lease is for another file than the first.
func switching(t *testing.T, g guest) (*script, *keeper) {
	s := &script{t: t}
	s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, modelKey, 1), s.grant(5*time.Minute, modelKey, 2), refuse("away")}
	k := s.keeper(g)
	k.files.installed = func(settings.Config) []opened {
		return []opened{{resource: "models/test", file: protocol.File{ID: [32]byte{1}}, path: "the next file"}}
	}
	return s, k
}

// TestTheModelBeforeIsServedUnderItsOwnLeaseWhileTheNextOpens: receipts name the lease that
// granted the model; with its end the model is closed, and requests wait for the next, no
// longer than they care to.
func TestTheModelBeforeIsServedUnderItsOwnLeaseWhileTheNextOpens(t *testing.T) {
	g := newGuest(t)
	synctest.Test(t, func(t *testing.T) {
		s, k := switching(t, g)
		disk, opens := make(chan struct{}), 0
		k.open = func(ctx context.Context, cfg settings.Config, m settings.Model, held *custody, version uint64, taken int64, log *slog.Logger) (*openModel, error) {
			if opens++; opens == 2 {
				<-disk
			}
			return open(ctx, cfg, m, held, version, taken, log)
		}
		run(t, k, func() {
			before := held(k)
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			m, done, err := k.tenure.use(t.Context())
			if err != nil || m != before || opens != 2 || k.tenure.status("", false, 0).ModelUpdate == "" {
				t.Fatalf("%d opened; a request gets %v: %v", opens, m, err)
			}
			lease, err := k.tenure.leaseFor(before)
			if err != nil || lease.ID == k.tenure.lease.ID {
				t.Errorf("an answer of the model before is under %v, %v", lease, err)
			}
			waited := make(chan *openModel, 1)
			time.Sleep(time.Minute + time.Millisecond) // its lease ends
			synctest.Wait()
			if reason, _ := evidence.ReasonOf(context.Cause(m.serving)); reason != ReasonLeaseExpired {
				t.Errorf("its answers go on after its lease: %v", context.Cause(m.serving))
			}
			if key, _ := s.key(0); key.Len() != 0 || before.memory.Used() != 0 {
				t.Errorf("%d bytes of key, %d of weights are left", key.Len(), before.memory.Used())
			}
			if _, err := k.tenure.leaseFor(before); err == nil {
				t.Error("a receipt after the lease's end")
			}
			done()
			go func() {
				m, done, err := k.tenure.use(t.Context())
				if err != nil {
					t.Error(err)
				}
				defer done()
				waited <- m
			}()
			gone, leave := context.WithCancelCause(t.Context())
			left := errors.New("the client is gone")
			time.AfterFunc(time.Second, func() { leave(left) })
			if _, _, err := k.tenure.use(gone); !errors.Is(err, left) || reasonOf(t, k) != "serving" {
				t.Errorf("%v, %s", err, reasonOf(t, k))
			}
			close(disk)
			next := <-waited
			lease, err = k.tenure.leaseFor(next)
			if err != nil || next == before || next != held(k) || lease.ID != k.tenure.lease.ID {
				t.Errorf("%v, %v", lease, err)
			}
		})
	})
}

// TestWithoutRoomRequestsWaitUntilOneModelTookThePlaceOfTheOther: what runs ends first.
func TestWithoutRoomRequestsWaitUntilOneModelTookThePlaceOfTheOther(t *testing.T) {
	g := newGuest(t)
	g.cfg.Compute.TEE.MemoryLimitMB = goReserve>>20 + 2
	synctest.Test(t, func(t *testing.T) {
		_, k := switching(t, g)
		run(t, k, func() {
			before, done, err := k.tenure.use(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			if before.serving.Err() != nil || held(k) != before {
				t.Fatal("a running answer was ended")
			}
			waited := make(chan *openModel, 1)
			go func() {
				m, done, err := k.tenure.use(t.Context())
				if err != nil {
					t.Error(err)
				}
				defer done()
				waited <- m
			}()
			synctest.Wait()
			select {
			case <-waited:
				t.Fatal("a new request does not wait")
			default:
			}
			if before.memory.Used() == 0 {
				t.Error("the memory is not in use")
			}
			done()
			if next := <-waited; next == before || next.taken != nil || before.memory.Used() != 0 {
				t.Errorf("the next model has %d bytes beside it", before.memory.Used())
			}
		})
	})
}

// TestAModelThatDoesNotOpenCostsNotTheOneBefore: it goes on under its own lease, and no longer
// if the broker does not grant it again.
func TestAModelThatDoesNotOpenCostsNotTheOneBefore(t *testing.T) {
	for name, limit := range map[string]int{"room for two": 64, "room for one": goReserve>>20 + 2} {
		g := newGuest(t)
		g.cfg.Compute.TEE.MemoryLimitMB = limit
		synctest.Test(t, func(t *testing.T) {
			s, k := switching(t, g)
			s.steps[1] = s.grant(5*time.Minute, newKey, 2) // opens nothing
			run(t, k, func() {
				before := held(k)
				time.Sleep(5*time.Minute - time.Second)
				synctest.Wait()
				if held(k) != before || reasonOf(t, k) != "serving" || before.serving.Err() != nil {
					t.Errorf("%s: %v", name, k.tenure.Serving())
				}
				if key, _ := s.key(1); key.Len() != 0 {
					t.Errorf("%s: the key that opens nothing is still there", name)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if key, _ := s.key(0); held(k) != nil || key.Len() != 0 || reasonOf(t, k) != ReasonModelUnavailable {
					t.Errorf("%s: after its lease: %v, %d bytes of key", name, k.tenure.Serving(), key.Len())
				}
			})
		})
	}
}
