package tenure

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/runtime/arena"
	"github.com/anchorhold/anchorhold/runtime/gguf"
	"github.com/anchorhold/anchorhold/runtime/infer"
	"github.com/anchorhold/anchorhold/runtime/weights"
)

// reasons gathers the reason codes of logged errors.
type reasons struct {
	slog.Handler
	mu   sync.Mutex
	seen map[refusal.Reason]int
}

func (r *reasons) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			if reason, ok := refusal.ReasonOf(err); ok {
				r.seen[reason]++
			}
		}
		return true
	})
	return nil
}

func (r *reasons) Enabled(context.Context, slog.Level) bool { return true }

func (r *reasons) count(reason refusal.Reason) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen[reason]
}

// TestExpiryWipesThoughTheDeviceNeverAnswers: the renewal hangs in the report device
// and ignores its deadline. The lease ends all the same, once; nobody else asks the
// device; and the lease that the device brings at last is not used.
func TestExpiryWipesThoughTheDeviceNeverAnswers(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, answer := &script{t: t}, make(chan struct{})
		hang := func(ctx context.Context) (*client.Lease, error) {
			<-answer
			return s.grant(5*time.Minute, tenuretest.ModelKey, 1)(ctx)
		}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), hang}
		k, log := s.keeper(g), &reasons{seen: map[refusal.Reason]int{}}
		k.log = slog.New(log)
		run(t, k, func() {
			model, serving, err := k.tenure.snapshot()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5*time.Minute - time.Millisecond)
			synctest.Wait()
			if reasonOf(t, k) != "serving" {
				t.Fatal("it stopped serving inside its lease")
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			key, _ := s.key(0)
			if reasonOf(t, k) != ReasonLeaseExpired || key.Len() != 0 || model.Memory.Used() != 0 || serving.Err() == nil {
				t.Errorf("%s: %d bytes of key, %d of weights, requests end with %v", reasonOf(t, k), key.Len(), model.Memory.Used(), context.Cause(serving))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if _, calls := s.key(0); calls != 2 || log.count(ReasonUnresponsive) < 100 {
				t.Errorf("%d exchanges, of which one hangs; %d refusals name it", calls, log.count(ReasonUnresponsive))
			}
			if !k.Stuck(time.Now()) {
				t.Error("the watchdog is not told of a device that hangs")
			}
			s.restart(s.grant(5*time.Minute, tenuretest.ModelKey, 1))
			close(answer)
			synctest.Wait()
			if key, _ := s.key(1); key.Len() != 0 {
				t.Error("the key that came too late is still there")
			}
			time.Sleep(retryLongest)
			synctest.Wait()
			if reasonOf(t, k) != "serving" {
				t.Errorf("after the device answered: %v", k.tenure.Serving())
			}
		})
	})
}

// TestExpiryWipesAModelThatHangsWhileItIsOpened: a disk that hangs in the middle of
// decrypting must not keep what was decrypted before.
func TestExpiryWipesAModelThatHangsWhileItIsOpened(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, disk := &script{t: t}, make(chan struct{})
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
		k := s.keeper(g)
		var region *arena.Region
		var budget *arena.Budget
		k.open = func(_ context.Context, _ settings.Config, _ settings.Model, held *openmodel.Custody, _ uint64, _ int64, _ *slog.Logger) (*openmodel.Model, error) {
			budget = held.Budget(1 << 20)
			var err error
			if region, err = budget.Map("weights", 64<<10); err != nil {
				return nil, err
			}
			copy(region.Bytes(), bytes.Repeat([]byte{0xa5}, len(region.Bytes())))
			<-disk
			return nil, errors.Join(errors.New("the disk came back too late"), region.Release())
		}
		run(t, k, func() {
			key, _ := s.key(0)
			if key.Len() == 0 || region.Bytes()[0] != 0xa5 {
				t.Fatal("the model is not being opened")
			}
			time.Sleep(5*time.Minute + time.Millisecond)
			synctest.Wait()
			if left := bytes.Trim(region.Bytes(), "\x00"); key.Len() != 0 || len(left) != 0 {
				t.Errorf("%d bytes of key, %d bytes of weights are left", key.Len(), len(left))
			}
			if _, err := budget.Map("more weights", 1); reasonOf(t, k) != ReasonLeaseExpired || !errors.Is(err, arena.ErrWiped) {
				t.Errorf("%s; more memory: %v", reasonOf(t, k), err)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if _, calls := s.key(0); calls != 1 {
				t.Errorf("%d exchanges while a disk hangs", calls)
			}
			k.open = openmodel.Open
			close(disk)
			time.Sleep(retryLongest)
			synctest.Wait()
			if reasonOf(t, k) != "serving" {
				t.Errorf("after the disk came back: %v", k.tenure.Serving())
			}
		})
	})
}

// stalling are weights whose disk hangs from some moment on.
type stalling struct {
	*weights.Weights
	stall chan struct{} // nil: it does not
}

func (s *stalling) Chunk(worker, tensor, chunk int) ([]byte, error) {
	if s.stall != nil {
		<-s.stall
	}
	return s.Weights.Chunk(worker, tensor, chunk)
}

// TestExpiryWipesUnderARequestThatHangs: the answer's thread waits for a disk and lets
// go of nothing. Key and weights are wiped under it, no later than the grace says, and
// the next model waits until the memory is back.
func TestExpiryWipesUnderARequestThatHangs(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, disk := &script{t: t}, make(chan struct{})
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), refuse("away")}
		k, source := s.keeper(g), &stalling{}
		k.open = func(ctx context.Context, cfg settings.Config, m settings.Model, held *openmodel.Custody, version uint64, taken int64, log *slog.Logger) (*openmodel.Model, error) {
			o, err := openmodel.Open(ctx, cfg, m, held, version, taken, log)
			if err != nil || source.Weights != nil {
				return o, err
			}
			source.Weights = o.Weights
			header, err := gguf.ParseHeader(o.Weights.Header())
			if err = errors.Join(err, o.Engine.Close()); err != nil {
				return nil, err
			}
			o.Engine, err = infer.New(infer.Config{Source: source, File: header, Budget: o.Memory, Threads: 1, Context: 64, MaxSequences: 1})
			return o, err
		}
		run(t, k, func() {
			model, serving, err := k.tenure.snapshot()
			if err != nil {
				t.Fatal(err)
			}
			source.stall = disk
			answered := make(chan error, 1)
			go func() {
				_, err := model.Engine.Generate(serving, infer.Request{Prompt: []int32{1, 2, 3}, MaxTokens: 8}, func(string) error { return nil })
				answered <- err
			}()
			time.Sleep(5*time.Minute + time.Millisecond)
			if reason, _ := refusal.ReasonOf(<-answered); reason != ReasonLeaseExpired {
				t.Errorf("the request ended with %s", reason)
			}
			if key, _ := s.key(0); key.Len() != 0 {
				t.Errorf("%d bytes of key are left at the end", key.Len())
			}
			time.Sleep(openmodel.CloseGrace)
			synctest.Wait()
			vector, err := source.Vector("output_norm.weight")
			if err != nil || vector[0] != 0 || reasonOf(t, k) != ReasonLeaseExpired {
				t.Errorf("%s; weights %v after the grace: %v", reasonOf(t, k), vector[:1], err)
			}
			s.restart(s.grant(5*time.Minute, tenuretest.ModelKey, 1))
			time.Sleep(time.Minute)
			synctest.Wait()
			if got := reasonOf(t, k); got != openmodel.ReasonUnavailable {
				t.Errorf("while the old model's memory is not back: %s", got)
			}
			close(disk)
			synctest.Wait()
			if reasonOf(t, k) != "serving" || model.Memory.Used() != 0 {
				t.Errorf("after the disk came back: %v, %d bytes of the old model", k.tenure.Serving(), model.Memory.Used())
			}
		})
	})
}

// TestExpiryWipesWhatElseALeaseOpenedThoughAnotherStepHangs: each thing that a lease
// opened is wiped beside the others.
func TestExpiryWipesWhatElseALeaseOpenedThoughAnotherStepHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenure, hang, wiped := New(slog.New(slog.DiscardHandler)), make(chan struct{}), make(chan struct{})
		tenure.wiped = []func(){func() { <-hang }, func() { close(wiped) }}
		key := tenuretest.Key(t, tenuretest.ModelKey)
		lease := &client.Lease{TTL: time.Minute, Expires: time.Now().Add(time.Minute), Keys: map[string]client.Key{"jobs/queue": {Key: key}}}
		if err := tenure.adopt(lease); err != nil {
			t.Fatal(err)
		}
		delete(lease.Keys, "jobs/queue") // somebody took it
		time.Sleep(time.Minute)
		synctest.Wait()
		select {
		case <-wiped:
		default:
			t.Error("one step that hangs holds up another")
		}
		if key.Len() != 0 {
			t.Error("a key that somebody took outlives the lease that brought it")
		}
		close(hang)
	})
}

// stuck is a log that hangs, as one whose disk is gone.
type stuck struct {
	slog.Handler
	until chan struct{}
}

func (s stuck) Enabled(context.Context, slog.Level) bool { return true }

func (s stuck) Handle(context.Context, slog.Record) error { <-s.until; return nil }

// TestExpiryWipesThoughTheLogHangs: what is logged about the end comes after it, and what
// is logged about a grant after the clock is set.
func TestExpiryWipesThoughTheLogHangs(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, until := &script{t: t}, make(chan struct{})
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), refuse("away")}
		k := s.keeper(g)
		k.log = slog.New(stuck{until: until})
		k.tenure = New(k.log)
		run(t, k, func() {
			time.Sleep(5*time.Minute + time.Millisecond)
			synctest.Wait()
			if key, _ := s.key(0); key.Len() != 0 || reasonOf(t, k) != ReasonLeaseExpired {
				t.Errorf("%d bytes of key, %s", key.Len(), reasonOf(t, k))
			}
			close(until)
		})
	})
}

// TestWhatIsOpenedTooLateIsWiped: long work hangs while it begins, and comes back after
// the lease's end. What it opened then is wiped once more.
func TestWhatIsOpenedTooLateIsWiped(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, disk := &script{t: t}, make(chan struct{})
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), refuse("away")}
		k := s.keeper(g)
		var open atomic.Bool
		k.tenure.wiped = append(k.tenure.wiped, func() { open.Store(false) })
		k.granted = func(Grant) error { <-disk; open.Store(true); return nil }
		run(t, k, func() {
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if got := reasonOf(t, k); got != ReasonLeaseExpired {
				t.Errorf("after the lease: %s", got)
			}
			close(disk)
			synctest.Wait()
			if key, _ := s.key(0); open.Load() || key.Len() != 0 || reasonOf(t, k) != ReasonLeaseExpired {
				t.Errorf("open %t, %d bytes of key, %s", open.Load(), key.Len(), reasonOf(t, k))
			}
		})
	})
}

// TestLeaseThatIsOverOnArrivalIsNotAdopted: an attempt that was given up may bring one.
func TestLeaseThatIsOverOnArrivalIsNotAdopted(t *testing.T) {
	tenure, key := New(slog.New(slog.DiscardHandler)), tenuretest.Key(t, tenuretest.ModelKey)
	err := tenure.adopt(&client.Lease{Expires: time.Now(), Keys: map[string]client.Key{"x": {Key: key}}})
	if reason, _ := refusal.ReasonOf(err); reason != ReasonLeaseExpired || tenure.lease != nil || key.Len() != 0 {
		t.Errorf("%v, lease %v, %d bytes of key", err, tenure.lease, key.Len())
	}
}

// TestTheCollectorRunsTwiceWhenTheLeaseEnds: it overwrites (with GODEBUG=clobberfree=1) what nothing refers to any more,
// and what a pool of buffers holds is let go of only at the second time.
func TestTheCollectorRunsTwiceWhenTheLeaseEnds(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), refuse("away")}
		run(t, s.keeper(g), func() {
			time.Sleep(5*time.Minute - time.Millisecond)
			synctest.Wait()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			runtime.ReadMemStats(&after)
			if n := after.NumForcedGC - before.NumForcedGC; n < 2 {
				t.Errorf("it ran %d times, want 2", n)
			}
		})
	})
}
