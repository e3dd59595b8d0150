package tenure

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// run starts a keeper in a bubble of virtual time and stops it at the end.
func run(t *testing.T, k *Keeper, during func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	synctest.Wait()
	during()
	stop()
	if err := <-done; err != nil {
		t.Errorf("the keeper ended with %v", err)
	}
	if got := reasonOf(t, k); got != ReasonDraining || k.tenure.model != nil || k.tenure.lease != nil {
		t.Errorf("after the end: %s, model %v, lease %v", got, k.tenure.model, k.tenure.lease)
	}
}

func reasonOf(t *testing.T, k *Keeper) refusal.Reason {
	t.Helper()
	err := k.tenure.Serving()
	if err == nil {
		return "serving"
	}
	reason, ok := refusal.ReasonOf(err)
	if !ok {
		t.Errorf("%v has no reason", err)
	}
	return reason
}

// held returns the open model.
func held(k *Keeper) *Model {
	k.tenure.mu.RLock()
	defer k.tenure.mu.RUnlock()
	return k.tenure.model
}

func TestLeaseIsRenewedAtSevenTenthsAndTheModelStays(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(10*time.Minute, tenuretest.ModelKey, 1)}
		k := s.keeper(g)
		run(t, k, func() {
			if reasonOf(t, k) != "serving" {
				t.Fatal(k.tenure.Serving())
			}
			model := held(k)
			time.Sleep(time.Hour)
			synctest.Wait()
			if reasonOf(t, k) != "serving" || held(k) != model {
				t.Errorf("%s; the model was opened anew: %v", reasonOf(t, k), held(k) != model)
			}
			for i := 1; i < len(s.calls); i++ {
				if gap := s.calls[i].Sub(s.calls[i-1]); gap < 389*time.Second || gap > 451*time.Second {
					t.Errorf("renewal %d after %s of a lease of 10 minutes", i, gap)
				}
			}
			if n := len(s.calls); n < 8 || n > 10 {
				t.Errorf("%d exchanges in an hour", n)
			}
			for i, key := range s.given[1:] {
				if key.Len() != 0 {
					t.Errorf("the key of renewal %d is still there", i+1)
				}
			}
		})
		if s.given[0].Len() != 0 {
			t.Error("the model's key survives the agent")
		}
	})
}

func TestKeysAndWeightsAreWipedWhenTheLeaseEnds(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), refuse("away")}
		k := s.keeper(g)
		run(t, k, func() {
			model, serving, err := k.tenure.snapshot()
			if err != nil {
				t.Fatal(err)
			}
			lease, err := k.tenure.Held()
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(5*time.Minute - time.Second)
			synctest.Wait()
			if reasonOf(t, k) != "serving" || serving.Err() != nil {
				t.Fatal("it stopped serving inside its lease")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := reasonOf(t, k); got != ReasonLeaseExpired {
				t.Errorf("after the lease: %s", got)
			}
			if s.given[0].Len() != 0 || model.Memory.Used() != 0 {
				t.Errorf("%d bytes of key, %d bytes of weights are left", s.given[0].Len(), model.Memory.Used())
			}
			if reason, _ := refusal.ReasonOf(context.Cause(serving)); reason != ReasonLeaseExpired {
				t.Errorf("requests under way end with %v", context.Cause(serving))
			}
			if _, _, err := k.tenure.snapshot(); err == nil {
				t.Error("a session after the lease")
			}
			if len(lease.Keys) != 0 {
				t.Error("the lease still holds keys")
			}
			s.restart(s.grant(5*time.Minute, tenuretest.ModelKey, 1))
			time.Sleep(time.Minute)
			synctest.Wait()
			if reasonOf(t, k) != "serving" {
				t.Errorf("a new lease does not serve: %v", k.tenure.Serving())
			}
		})
	})
}

func TestFailuresAreRetriedWithGrowingPauses(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){refuse("no")}
		k := s.keeper(g)
		run(t, k, func() {
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			want := time.Second
			for i := 1; i < len(s.calls); i++ {
				if gap := s.calls[i].Sub(s.calls[i-1]); gap != want {
					t.Errorf("attempt %d after %s, expected %s", i, gap, want)
				}
				want = min(2*want, retryLongest)
			}
			if got := reasonOf(t, k); got != ReasonAttesting {
				t.Errorf("before any lease: %s", got)
			}
		})
	})
}

func TestSlowBrokerCannotCarryPastTheLease(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		hang := func(ctx context.Context) (*client.Lease, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), hang}
		k := s.keeper(g)
		run(t, k, func() {
			time.Sleep(5*time.Minute + time.Millisecond)
			synctest.Wait()
			if s.given[0].Len() != 0 || reasonOf(t, k) != ReasonLeaseExpired {
				t.Errorf("%s, key of %d bytes", reasonOf(t, k), s.given[0].Len())
			}
		})
	})
}

func TestNewKeyVersionOpensTheModelAnew(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), s.grant(5*time.Minute, tenuretest.ModelKey, 2)}
		k := s.keeper(g)
		run(t, k, func() {
			before := held(k)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			after := held(k)
			if after == before || after.KeyVersion != 2 || s.given[0].Len() != 0 || before.Memory.Used() != 0 {
				t.Errorf("key version %d, old key of %d bytes", after.KeyVersion, s.given[0].Len())
			}
		})
	})
}

// Classifiers are opened by the same lease as the model, and stay when the model is opened
// anew: only a lease's end closes them.
func TestWhatALeaseOpensBesideTheModelStays(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1), s.grant(5*time.Minute, tenuretest.ModelKey, 2), refuse("away")}
		k := s.keeper(g)
		var open atomic.Bool
		var opened atomic.Int32
		k.tenure.wiped = append(k.tenure.wiped, func() { open.Store(false) })
		k.granted = func(Grant) error { open.Store(true); opened.Add(1); return nil }
		run(t, k, func() {
			if reasonOf(t, k) != "serving" || !open.Load() || opened.Load() != 1 {
				t.Errorf("%s; open %t after %d", reasonOf(t, k), open.Load(), opened.Load())
			}
			time.Sleep(4*time.Minute + 30*time.Second)
			synctest.Wait()
			if reasonOf(t, k) != "serving" || !open.Load() || opened.Load() != 2 {
				t.Errorf("after a new key version: %s; open %t after %d", reasonOf(t, k), open.Load(), opened.Load())
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if open.Load() {
				t.Error("open after the lease's end")
			}
		})
	})
}

func TestAnotherMemoryLimitOpensTheModelAnew(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
		k := s.keeper(g)
		run(t, k, func() {
			before := held(k)
			smaller := g.Config
			smaller.Compute.TEE.MemoryLimitMB = 40
			k.reloaded <- reload{cfg: smaller, broker: s}
			synctest.Wait()
			if after := held(k); after == before || after.Memory.Limit() != 40<<20-openmodel.ProcessReserve {
				t.Errorf("the model keeps a budget of %d bytes", after.Memory.Limit())
			}
		})
	})
}

// TestModelThatWasNotGrantedIsNotServed: the key opens the file, and the broker's store
// says that it is for another model. Its answers could never be vouched for.
func TestModelThatWasNotGrantedIsNotServed(t *testing.T) {
	g := tenuretest.New(t)
	for _, mode := range []string{"", "streamed"} {
		g.Config.Models[0].Mode = mode
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t}
			s.steps = []func(context.Context) (*client.Lease, error){s.grantFor(5*time.Minute, tenuretest.ModelKey, 1, [32]byte{9}, protocol.RoleServe)}
			k := s.keeper(g)
			run(t, k, func() {
				err := k.tenure.Serving()
				if got := reasonOf(t, k); got != openmodel.ReasonNotGranted || !strings.Contains(err.Error(), "secret put models/test") {
					t.Errorf("mode %q: %v", mode, err)
				}
				if key, _ := s.key(0); key.Len() != 0 {
					t.Error("the key of a model that was not granted is still there")
				}
			})
		})
	}
}

// TestStatusSaysWhetherReceiptsVerify: a lease without role or subject serves, and says
// what its receipts are worth.
func TestStatusSaysWhetherReceiptsVerify(t *testing.T) {
	g := tenuretest.New(t)
	for name, tc := range map[string]struct {
		subject [32]byte
		roles   protocol.Role
		want    string
	}{
		"granted":    {g.Model, protocol.RoleServe | protocol.RoleContribute, "verify"},
		"no subject": {[32]byte{}, protocol.RoleServe, "--model"},
		"no role":    {g.Model, protocol.RoleContribute, "role serve"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t}
			s.steps = []func(context.Context) (*client.Lease, error){s.grantFor(5*time.Minute, tenuretest.ModelKey, 1, tc.subject, tc.roles)}
			k := s.keeper(g)
			run(t, k, func() {
				got := k.tenure.Status("", false, 0)
				if got.State != "serving" || got.Model == nil || !strings.Contains(got.Model.Receipts, tc.want) || strings.HasPrefix(got.Model.Receipts, "do not") != (tc.want != "verify") {
					t.Errorf("%s: %+v", name, got.Model)
				}
			})
		})
	}
}

// TestStatusSaysWhyTheAgentWasRefused: with the reason, and the id that the broker's operator
// finds it under, until a lease is granted.
func TestStatusSaysWhyTheAgentWasRefused(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		refused := func(context.Context) (*client.Lease, error) {
			return nil, fmt.Errorf("attest: %w", &client.Error{Reason: "measurement-mismatch", ID: "r-0123"})
		}
		here := func(context.Context) (*client.Lease, error) {
			return nil, refusal.New(protocol.ReasonConnectionFailed, "no route")
		}
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){refused, here, s.grant(5*time.Minute, tenuretest.ModelKey, 1), refused}
		k := s.keeper(g)
		run(t, k, func() {
			began := time.Now().UTC().Truncate(time.Second)
			last := func() *RefusalStatus { return k.tenure.Status("", false, 0).LastRefusal }
			if got := last(); got == nil || *got != (RefusalStatus{"measurement-mismatch", "r-0123", began}) {
				t.Errorf("%+v", got)
			}
			if text, err := json.Marshal(k.tenure.Status("", false, 0)); err != nil || !strings.Contains(string(text), `"last_refusal":{"reason":"measurement-mismatch","id":"r-0123","time":"`) {
				t.Errorf("%s, %v", text, err)
			}
			time.Sleep(retryFirst)
			synctest.Wait()
			if got := last(); got == nil || got.Reason != string(protocol.ReasonConnectionFailed) || got.ID != "" || !got.Time.After(began) {
				t.Errorf("a failure here: %+v", got)
			}
			time.Sleep(2 * retryFirst)
			synctest.Wait()
			if got := last(); reasonOf(t, k) != "serving" || got != nil {
				t.Errorf("%s, %+v", reasonOf(t, k), got)
			}
			time.Sleep(4 * time.Minute) // the renewal is refused
			synctest.Wait()
			if got := last(); reasonOf(t, k) != "serving" || got == nil || got.ID != "r-0123" {
				t.Errorf("%s, %+v", reasonOf(t, k), got)
			}
		})
	})
}

func TestModelThatDoesNotOpenIsNamedAndNothingIsServed(t *testing.T) {
	g := tenuretest.New(t)
	data, err := os.ReadFile(g.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(g.Sealed, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"", "streamed"} {
		g.Config.Models[0].Mode = mode
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t}
			s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
			k := s.keeper(g)
			run(t, k, func() {
				err := k.tenure.Serving()
				if got := reasonOf(t, k); got != openmodel.ReasonUnavailable || !strings.Contains(err.Error(), "chunk") {
					t.Errorf("mode %q: %v", mode, err)
				}
				if s.given[0].Len() != 0 {
					t.Error("the key of a model that did not open is still there")
				}
			})
		})
	}
}

func TestOwnLimitShortensALongLease(t *testing.T) {
	g := tenuretest.New(t)
	g.Config.Compute.TEE.AttestationTTLSeconds = 300
	k := (&script{t: t}).keeper(g)
	now := time.Now()
	lease := &client.Lease{TTL: 15 * time.Minute, Expires: now.Add(15 * time.Minute)}
	k.shorten(lease)
	if lease.TTL != 5*time.Minute || !lease.Expires.Equal(now.Add(5*time.Minute)) {
		t.Errorf("%s until %s", lease.TTL, lease.Expires.Sub(now))
	}
}

func TestBrokerTimeDecides(t *testing.T) {
	now := time.Now()
	broker := time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC)
	lease := &client.Lease{BrokerTime: broker, TTL: 5 * time.Minute, Expires: now.Add(4 * time.Minute)}
	if got := lease.BrokerNow(now); !got.Equal(broker.Add(time.Minute)) {
		t.Errorf("a minute into the lease it is %s at the broker", got)
	}
	if _, err := leaseOf(&client.Lease{Expires: now.Add(-time.Second)}, now); err == nil {
		t.Error("a receipt after the lease")
	} else if reason, _ := refusal.ReasonOf(err); reason != ReasonLeaseExpired {
		t.Error(err)
	}
}

// TestABrokerWhoseClockIsRightAgainServesOn: an agent asks on while a broker refuses every
// guest, for longer than its lease, and needs no restart.
func TestABrokerWhoseClockIsRightAgainServesOn(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		const behind = 3 * time.Hour
		began := time.Now()
		s := &script{t: t}
		grant := s.grant(10*time.Minute, tenuretest.ModelKey, 1)
		s.steps = []func(context.Context) (*client.Lease, error){func(ctx context.Context) (*client.Lease, error) {
			if gone := time.Since(began); gone > 0 && gone < behind {
				return nil, &client.Error{Reason: protocol.ReasonClockBackwards, ID: "x"}
			}
			return grant(ctx)
		}}
		k := s.keeper(g)
		run(t, k, func() {
			for _, c := range []struct {
				at   time.Duration
				want bool
			}{{0, true}, {9 * time.Minute, true}, {11 * time.Minute, false}, {behind - time.Second, false}, {behind + 2*retryLongest, true}} {
				time.Sleep(c.at - time.Since(began))
				synctest.Wait()
				if got := reasonOf(t, k); (got == "serving") != c.want {
					t.Errorf("after %s: %s", c.at, got)
				}
			}
		})
	})
}
