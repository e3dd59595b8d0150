//go:build !release

package client_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// keeping is a broker that keeps connections.
func keeping() brokertest.Option {
	return brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Kept = 16 })
}

func mustAcquire(t *testing.T, c *client.Client) *client.Lease {
	t.Helper()
	lease, err := c.Acquire(t.Context(), []string{brokertest.Resource})
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Wipe()
	if string(lease.Keys[brokertest.Resource].Key.Bytes()) != brokertest.Secret {
		t.Fatal("another key was released")
	}
	return lease
}

// waitFor waits until the broker's connections are as wanted.
func waitFor(t *testing.T, f *brokertest.Fixture, want func(listen.Stats) bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !want(f.Broker.Connections()) {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it never happened: %+v", f.Broker.Connections())
		}
	}
}

func keptIs(n int) func(listen.Stats) bool {
	return func(s listen.Stats) bool { return s.Kept == n && s.Proven+s.Unproven == 0 }
}

func TestRenewalsUseTheKeptConnection(t *testing.T) {
	f := brokertest.New(t, keeping())
	c := f.Client(nil)
	seen := map[string]bool{}
	for range 3 {
		seen[mustAcquire(t, c).ID] = true
	}
	if s := f.Broker.Connections(); s.Accepted != 1 || s.Reused != 2 || len(seen) != 3 {
		t.Errorf("%+v, %d leases", s, len(seen))
	}
}

// TestNoRenewalDependsOnTheKeptConnection has it fail in every way, between two exchanges
// and as the next one begins. An agent gives an exchange a minute: only a renewal that waits
// for the kept connection for ever takes that long.
func TestNoRenewalDependsOnTheKeptConnection(t *testing.T) {
	f := brokertest.New(t, keeping())
	for name, how := range failures {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, f.Address)
			collected := &counting{next: f.TEE}
			c := f.Client(func(c *client.Config) { c.Address, c.Collector = w.address, collected })
			mustAcquire(t, c)
			w.fail(how)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			lease, err := c.Acquire(ctx, []string{brokertest.Resource})
			if err != nil {
				t.Fatal(err)
			}
			lease.Wipe()
			if n := len(w.all()); n != 2 || collected.n != 2 {
				t.Errorf("%d connections, evidence made %d times; want 2 of each", n, collected.n)
			}
			mustAcquire(t, c)
			if n := len(w.all()); n != 2 {
				t.Errorf("%d connections: the new one was not kept", n)
			}
		})
	}
}

// TestRenewalAfterTheBrokerWasRestarted: another process answers at the same address.
func TestRenewalAfterTheBrokerWasRestarted(t *testing.T) {
	first, second := brokertest.New(t, keeping()), brokertest.New(t, keeping())
	w := newWire(t, first.Address)
	c := first.Client(func(c *client.Config) {
		c.Address, c.Roots = w.address, append(c.Roots, second.Root.Public())
		c.TLSRoots = c.TLSRoots.Clone()
		c.TLSRoots.AddCert(second.Certificate.Leaf)
	})
	mustAcquire(t, c)
	first.Stop()
	w.lead(second.Address)
	if lease := mustAcquire(t, c); lease.BrokerID != second.Root.Public().ID() {
		t.Error("the lease is not the second broker's")
	}
}

// TestRefusalOnAKeptConnectionStands: it is the broker's word, and no failure.
func TestRefusalOnAKeptConnectionStands(t *testing.T) {
	f := brokertest.New(t, keeping())
	c := f.Client(nil)
	mustAcquire(t, c)
	waitFor(t, f, keptIs(1))
	f.SetPolicy(strings.Replace(brokertest.DefaultPolicy(), "vmpl: 0", "vmpl: 1", 1))
	_, err := c.Acquire(t.Context(), []string{brokertest.Resource})
	wantReason(t, err, "vmpl-not-allowed")
	if s := f.Broker.Connections(); s.Accepted != 1 || s.Reused != 1 {
		t.Errorf("%+v", s)
	}
	// Before evidence leaves the guest as well.
	f.SetPolicy(brokertest.DefaultPolicy())
	mustAcquire(t, c)
	waitFor(t, f, keptIs(1))
	if err := f.Broker.SetEpochs(9, []keybroker.Epoch{{Statement: f.Epoch, Key: f.EpochKey}}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Acquire(t.Context(), []string{brokertest.Resource})
	wantReason(t, err, protocol.ReasonNoActiveEpoch)
	if s := f.Broker.Connections(); s.Accepted != 2 || s.Reused != 2 {
		t.Errorf("%+v", s)
	}
}

// TestBrokerThatKeepsNothing closes after M7, which is no failure either.
func TestBrokerThatKeepsNothing(t *testing.T) {
	f := brokertest.New(t)
	c := f.Client(nil)
	for range 3 {
		mustAcquire(t, c)
	}
	if s := f.Broker.Connections(); s.Accepted != 3 || s.Reused != 0 || s.Kept != 0 {
		t.Errorf("%+v", s)
	}
	f.Stop()
	for _, r := range f.Records() {
		if r.Kind == audit.KindRefusal || r.Kind == audit.KindAnomaly {
			t.Errorf("recorded %+v", r)
		}
	}
}

func TestOneOfSeveralUsesTheKeptConnection(t *testing.T) {
	const together = 4
	f := brokertest.New(t, keeping())
	var meet sync.WaitGroup // of those that have a connection and have used it
	c := f.Client(func(cfg *client.Config) {
		cfg.Collector = collectorFunc(func(ctx context.Context, rd [64]byte) (evidence.Envelope, error) {
			meet.Done()
			meet.Wait()
			return f.TEE.Collect(ctx, rd)
		})
	})
	meet.Add(1)
	mustAcquire(t, c)
	meet.Add(together)
	var all sync.WaitGroup
	for range together {
		all.Go(func() {
			lease, err := c.Acquire(t.Context(), []string{brokertest.Resource})
			if err != nil {
				t.Error(err)
			}
			lease.Wipe()
		})
	}
	all.Wait()
	if s := f.Broker.Connections(); s.Reused != 1 || s.Accepted != together {
		t.Errorf("%+v", s)
	}
	// Each end keeps the exchange that was the last to end there. Where these are two, each
	// closes the one that the other keeps, and none is left: the next renewal connects anew.
	waitFor(t, f, func(s listen.Stats) bool { return s.Kept <= 1 && s.Proven+s.Unproven == 0 })
	meet.Add(1)
	mustAcquire(t, c)
	waitFor(t, f, keptIs(1))
}

func TestCloseEndsTheKeptConnection(t *testing.T) {
	f := brokertest.New(t, keeping())
	collecting, goOn := make(chan struct{}, 1), make(chan struct{}, 1)
	c := f.Client(func(cfg *client.Config) {
		cfg.Collector = collectorFunc(func(ctx context.Context, rd [64]byte) (evidence.Envelope, error) {
			collecting <- struct{}{}
			<-goOn
			return f.TEE.Collect(ctx, rd)
		})
	})
	if err := c.Close(); err != nil {
		t.Error("without a connection:", err)
	}
	acquire := func(meanwhile func()) {
		t.Helper()
		done := make(chan struct{})
		go func() {
			defer close(done)
			lease, err := c.Acquire(t.Context(), []string{brokertest.Resource})
			if err != nil {
				t.Error(err)
			}
			lease.Wipe()
		}()
		<-collecting
		meanwhile()
		goOn <- struct{}{}
		<-done
	}
	acquire(func() {})
	waitFor(t, f, keptIs(1))
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, f, keptIs(0))
	acquire(func() { _ = c.Close() })
	waitFor(t, f, keptIs(0)) // it was in use
	acquire(func() {})
	waitFor(t, f, keptIs(1))
}

// TestKeptConnectionGoesWithItsLease: the broker would keep it for half a minute more.
func TestKeptConnectionGoesWithItsLease(t *testing.T) {
	f := brokertest.New(t, keeping(), brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Lease = time.Second }))
	c := f.Client(nil)
	mustAcquire(t, c)
	waitFor(t, f, keptIs(0))
	if c.UsableAt(time.Now()) {
		t.Error("the client still has it")
	}
}

// TestKeptConnectionGoesWithItsCertificate, which the fixture's broker has for a day.
func TestKeptConnectionGoesWithItsCertificate(t *testing.T) {
	f := brokertest.New(t, keeping())
	for name, tc := range map[string]struct {
		after time.Duration
		want  bool
	}{"now": {0, true}, "a day later": {25 * time.Hour, false}, "long before": {-1000 * time.Hour, false}} {
		c := f.Client(nil)
		mustAcquire(t, c)
		if got := c.UsableAt(time.Now().Add(tc.after)); got != tc.want {
			t.Errorf("%s: usable %t", name, got)
		}
	}
}

// TestConnectionCarriesSoManyExchanges runs one more than it may.
func TestConnectionCarriesSoManyExchanges(t *testing.T) {
	f := brokertest.New(t, keeping())
	c := f.Client(nil)
	for range protocol.MaxExchanges + 1 {
		mustAcquire(t, c)
	}
	if s := f.Broker.Connections(); s.Accepted != 2 || s.Reused != protocol.MaxExchanges-1 {
		t.Errorf("%+v", s)
	}
}
