package tenure

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// switching is a keeper whose second lease is for another file than the first.
func switching(t *testing.T, g tenuretest.Guest) (*script, *Keeper) {
	s := &script{t: t}
	s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), s.grant(5*time.Minute, tenuretest.ModelKey, 2), refuse("away")}
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
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, k := switching(t, g)
		disk, opens := make(chan struct{}), 0
		k.open = func(ctx context.Context, cfg settings.Config, m settings.Model, held *openmodel.Custody, version uint64, taken int64, log *slog.Logger) (*openmodel.Model, error) {
			if opens++; opens == 2 {
				<-disk
			}
			return openmodel.Open(ctx, cfg, m, held, version, taken, log)
		}
		run(t, k, func() {
			before := held(k)
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			m, done, err := k.tenure.Use(t.Context())
			if err != nil || m != before || opens != 2 || k.tenure.Status("", false, 0).ModelUpdate == "" {
				t.Fatalf("%d opened; a request gets %v: %v", opens, m, err)
			}
			lease, err := k.tenure.leaseFor(before)
			if err != nil || lease.ID == k.tenure.lease.ID {
				t.Errorf("an answer of the model before is under %v, %v", lease, err)
			}
			waited := make(chan *Model, 1)
			time.Sleep(time.Minute + time.Millisecond) // its lease ends
			synctest.Wait()
			if reason, _ := refusal.ReasonOf(context.Cause(m.serving)); reason != ReasonLeaseExpired {
				t.Errorf("its answers go on after its lease: %v", context.Cause(m.serving))
			}
			if key, _ := s.key(0); key.Len() != 0 || before.Memory.Used() != 0 {
				t.Errorf("%d bytes of key, %d of weights are left", key.Len(), before.Memory.Used())
			}
			if _, err := k.tenure.leaseFor(before); err == nil {
				t.Error("a receipt after the lease's end")
			}
			done()
			go func() {
				m, done, err := k.tenure.Use(t.Context())
				if err != nil {
					t.Error(err)
				}
				defer done()
				waited <- m
			}()
			gone, leave := context.WithCancelCause(t.Context())
			left := errors.New("the client is gone")
			time.AfterFunc(time.Second, func() { leave(left) })
			if _, _, err := k.tenure.Use(gone); !errors.Is(err, left) || reasonOf(t, k) != "serving" {
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
	g := tenuretest.New(t)
	g.Config.Compute.TEE.MemoryLimitMB = openmodel.ProcessReserve>>20 + 2
	synctest.Test(t, func(t *testing.T) {
		_, k := switching(t, g)
		run(t, k, func() {
			before, done, err := k.tenure.Use(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			if before.Context().Err() != nil || held(k) != before {
				t.Fatal("a running answer was ended")
			}
			waited := make(chan *Model, 1)
			go func() {
				m, done, err := k.tenure.Use(t.Context())
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
			if before.Memory.Used() == 0 {
				t.Error("the memory is not in use")
			}
			done()
			if next := <-waited; next == before || next.Taken != nil || before.Memory.Used() != 0 {
				t.Errorf("the next model has %d bytes beside it", before.Memory.Used())
			}
		})
	})
}

// TestAModelThatDoesNotOpenCostsNotTheOneBefore: it goes on under its own lease, and no longer
// if the broker does not grant it again.
func TestAModelThatDoesNotOpenCostsNotTheOneBefore(t *testing.T) {
	for name, limit := range map[string]int{"room for two": 64, "room for one": openmodel.ProcessReserve>>20 + 2} {
		g := tenuretest.New(t)
		g.Config.Compute.TEE.MemoryLimitMB = limit
		synctest.Test(t, func(t *testing.T) {
			s, k := switching(t, g)
			s.steps[1] = s.grant(5*time.Minute, tenuretest.NewKey, 2) // opens nothing
			run(t, k, func() {
				before := held(k)
				time.Sleep(5*time.Minute - time.Second)
				synctest.Wait()
				if held(k) != before || reasonOf(t, k) != "serving" || before.Context().Err() != nil {
					t.Errorf("%s: %v", name, k.tenure.Serving())
				}
				if key, _ := s.key(1); key.Len() != 0 {
					t.Errorf("%s: the key that opens nothing is still there", name)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if key, _ := s.key(0); held(k) != nil || key.Len() != 0 || reasonOf(t, k) != openmodel.ReasonUnavailable {
					t.Errorf("%s: after its lease: %v, %d bytes of key", name, k.tenure.Serving(), key.Len())
				}
			})
		})
	}
}

// TestFiftySwitchesLeaveNothingBehind: no goroutine, descriptor, mapping or locked page, and
// never a model that has less of the limit than it is counted with.
func TestFiftySwitchesLeaveNothingBehind(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, k := switching(t, g)
		const switches, settled = 50, 5
		s.steps = nil
		for i := range switches + 1 {
			s.steps = append(s.steps, s.grant(5*time.Minute, tenuretest.ModelKey, uint64(i)+1))
		}
		var open []int // models, as the heap is told
		k.heap = func(_ settings.Config, n int) { open = append(open, n) }
		type left struct {
			goroutines, files, mappings int
			locked                      string
		}
		count := func() (l left) {
			l.goroutines = runtime.NumGoroutine()
			files, err := os.ReadDir("/proc/self/fd")
			if err != nil {
				t.Fatal(err)
			}
			l.files = len(files)
			l.mappings = strings.Count(procFile(t, "maps"), "\n")
			for line := range strings.Lines(procFile(t, "status")) {
				if strings.HasPrefix(line, "VmLck:") {
					l.locked = line
				}
			}
			return l
		}
		run(t, k, func() {
			var first left
			for i := range switches {
				before := held(k)
				for range 5 * 60 / 10 {
					if held(k) != before {
						break
					}
					time.Sleep(10 * time.Second) // less than from one renewal to the next
					synctest.Wait()
				}
				now := held(k)
				if now == before || now.KeyVersion != uint64(i)+2 {
					t.Fatalf("switch %d: version %d is served", i, now.KeyVersion)
				}
				select {
				case <-before.Gone:
				default:
					t.Fatalf("switch %d: the model before is still there", i)
				}
				if key, _ := s.key(i); key.Len() != 0 || before.Memory.Used() != 0 || now.Taken == nil {
					t.Errorf("switch %d: %d bytes of key, %d of the model before, taken %v", i, key.Len(), before.Memory.Used(), now.Taken)
				}
				if peak := now.Memory.Peak(); peak > k.cfg.MemoryLimit()-openmodel.Reserve(k.cfg) {
					t.Errorf("switch %d: %d bytes at once", i, peak)
				}
				if i == settled {
					first = count()
				}
			}
			last := count()
			// The runtime's goroutine of cleanups counts while it runs one.
			for tries := 0; last.goroutines > first.goroutines && tries < 1000; tries++ {
				runtime.Gosched()
				last = count()
			}
			if last.goroutines > first.goroutines || last.files > first.files || last.locked != first.locked || last.mappings > first.mappings+switches/4 {
				t.Errorf("after %d switches %+v, after %d %+v", settled, first, switches, last)
			}
		})
		for i, n := range open {
			if want := 2 - i%2; n != want {
				t.Fatalf("the heap was told of %v", open[:i+1])
			}
		}
		if len(open) != 2*switches || !slices.Contains(open, 2) {
			t.Errorf("the heap was told %d times of %d switches", len(open), switches)
		}
	})
}

func procFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// hanging is a keeper in the middle of its first switch: the next file opens when the disk
// answers.
func hanging(t *testing.T, g tenuretest.Guest, steps ...func(*script) func(context.Context) (*client.Lease, error)) (*script, *Keeper, chan struct{}, *[]*openmodel.Model) {
	s, k := switching(t, g)
	s.steps = s.steps[:2]
	for _, step := range steps {
		s.steps = append(s.steps, step(s))
	}
	disk, opened := make(chan struct{}), &[]*openmodel.Model{}
	k.open = func(ctx context.Context, cfg settings.Config, m settings.Model, held *openmodel.Custody, version uint64, taken int64, log *slog.Logger) (*openmodel.Model, error) {
		if len(*opened) == 1 {
			<-disk
		}
		o, err := openmodel.Open(ctx, cfg, m, held, version, taken, log)
		*opened = append(*opened, o)
		return o, err
	}
	return s, k, disk, opened
}

// TestAReloadInTheMiddleOfASwitchComesAfterIt, and may take it back.
func TestAReloadInTheMiddleOfASwitchComesAfterIt(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, k, disk, _ := hanging(t, g, func(s *script) func(context.Context) (*client.Lease, error) {
			return s.grant(5*time.Minute, tenuretest.ModelKey, 1)
		})
		run(t, k, func() {
			before := held(k)
			time.Sleep(4 * time.Minute)
			synctest.Wait()
			verdict := make(chan error, 1)
			go func() { k.reloaded <- reload{cfg: k.cfg, broker: s, verdict: verdict} }()
			synctest.Wait()
			if held(k) != before || len(verdict) != 0 {
				t.Fatal("the reload did not wait for the switch")
			}
			close(disk)
			synctest.Wait()
			if err := <-verdict; err != nil {
				t.Error(err)
			}
			synctest.Wait()
			now := held(k)
			if now == before || now.KeyVersion != 1 || reasonOf(t, k) != "serving" || before.Memory.Used() != 0 {
				t.Errorf("version %d is served, %s; %d bytes of the first", now.KeyVersion, reasonOf(t, k), before.Memory.Used())
			}
			if lease, err := k.tenure.leaseFor(now); err != nil || lease != k.tenure.lease {
				t.Errorf("%v, %v", lease, err)
			}
			if _, err := k.tenure.leaseFor(before); err == nil {
				t.Error("a receipt for a model that was closed, under a lease that grants its key again")
			}
			if n := len(k.tenure.running); n > 3 {
				t.Errorf("%d leases are kept", n)
			}
		})
	})
}

// TestAStopInTheMiddleOfASwitchWipesBoth models, the one that opens too late too.
func TestAStopInTheMiddleOfASwitchWipesBoth(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s, k, disk, opened := hanging(t, g)
		var before *Model
		run(t, k, func() {
			before = held(k)
			time.Sleep(4 * time.Minute)
			synctest.Wait()
		})
		for i := range 2 {
			if key, _ := s.key(i); key.Len() != 0 {
				t.Errorf("%d bytes of key %d are left", key.Len(), i)
			}
		}
		if before.Memory.Used() != 0 {
			t.Errorf("%d bytes of the model before are left", before.Memory.Used())
		}
		close(disk)
		synctest.Wait()
		if late := (*opened)[1]; late != nil && late.Memory.Used() != 0 {
			t.Errorf("%d bytes of a model that opened after the end", late.Memory.Used())
		}
		if held(k) != nil {
			t.Error("a model is served after the end")
		}
	})
}
