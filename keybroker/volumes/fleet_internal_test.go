package volumes

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// silent is a fleet's store that never answers, once it hangs.
type silent struct {
	Store
	hangs bool
}

func (s *silent) Get(ctx context.Context, volume string) (Entry, error) {
	if s.hangs {
		<-ctx.Done()
		return Entry{}, ctx.Err()
	}
	return s.Store.Get(ctx, volume)
}

func (s *silent) Each(ctx context.Context, visit func(Entry) error) error {
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Store.Each(ctx, visit)
}

// empty is a log without records.
type empty struct{}

func (empty) Append(context.Context, audit.Record) (audit.Leaf, error) { return audit.Leaf{}, nil }
func (empty) FindLast(audit.Query) (audit.Found, bool, error)          { return audit.Found{}, false, nil }

func silentFleet(t *testing.T, log *bytes.Buffer) (*Service, *silent) {
	t.Helper()
	dir := t.TempDir()
	own, shared := openBolt(t, filepath.Join(dir, "own")), &silent{Store: openBolt(t, filepath.Join(dir, "shared"))}
	if err := own.Put(t.Context(), Entry{Volume: "volumes/a", State: state(1, 1)}); err != nil {
		t.Fatal(err)
	}
	s := &Service{cfg: Config{Store: own, Shared: shared, Self: digest.Digest{1}, Log: empty{}, Now: time.Now, Logger: slog.New(slog.NewTextHandler(log, nil))}, busy: make(chan struct{}, 1)}
	t.Cleanup(func() { s.Close() })
	return s, shared
}

func TestAStoreThatHangsIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, shared := silentFleet(t, &bytes.Buffer{})
		if err := s.Compare(t.Context()); err != nil {
			t.Fatal(err)
		}
		shared.hangs = true
		for what, ask := range map[string]func() error{
			"a list":       func() error { _, err := s.List(t.Context()); return err },
			"a reset":      func() error { _, err := s.Reset(t.Context(), "volumes/a"); return err },
			"a comparison": func() error { return s.compareOne(t.Context(), "volumes/a") },
		} {
			began := time.Now()
			refusaltest.Want(t, what, ask(), protocol.ReasonBusy)
			if took := time.Since(began); took != fleetWait {
				t.Errorf("%s: waited for %s, want %s", what, took, fleetWait)
			}
		}
		// Whoever waits for another's change waits no longer.
		end, err := s.enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Reset(t.Context(), "volumes/a")
		refusaltest.Want(t, "behind another", err, protocol.ReasonBusy)
		end()
		began := time.Now()
		if err := s.Compare(t.Context()); err == nil || time.Since(began) != compareWait {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

// A broker goes on comparing, sooner until it succeeded once, and says once what is wrong.
func TestComparisonsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s, shared := silentFleet(t, &log)
		bad := Entry{Volume: "volumes/b", State: state(1, 2)}
		full := s.cfg.Shared
		s.cfg.Shared = broken{full}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Keep(ctx) }()
		time.Sleep(3*againEvery + time.Second)
		synctest.Wait()
		if n := strings.Count(log.String(), "not compared"); n != 1 || s.together.Load() {
			t.Errorf("said %d times:\n%s", n, log.String())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.cfg.Shared = full
		ctx, cancel = context.WithCancel(t.Context())
		go func() { done <- s.Keep(ctx) }()
		synctest.Wait()
		if e, err := shared.Get(t.Context(), "volumes/a"); err != nil || e.State != state(1, 1) || !s.together.Load() {
			t.Errorf("%+v, %v", e, err)
		}
		if err := full.Put(t.Context(), bad); err != nil {
			t.Fatal(err)
		}
		time.Sleep(compareEvery)
		synctest.Wait()
		if e, err := s.cfg.Store.Get(t.Context(), "volumes/b"); err != nil || e.State != bad.State {
			t.Errorf("what another broker confirmed: %+v, %v", e, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// broken is a fleet's store with a damaged entry.
type broken struct{ Store }

func (broken) Each(context.Context, func(Entry) error) error { return errDamaged }

var errDamaged = func() error { _, err := decodeEntry("volumes/a", nil); return err }()

// What gives way is what the broker that is furthest behind knew, never what was said just now.
func TestSightsAreBounded(t *testing.T) {
	var e Entry
	for i := range maxBrokers {
		e.see(digest.Digest{byte(i + 1)}, state(uint64(100-i), 1))
	}
	e.see(digest.Digest{200}, state(1, 1))
	if len(e.Seen) != maxBrokers || e.seen(digest.Digest{200}) != state(1, 1) || !e.seen(digest.Digest{maxBrokers}).Zero() || e.seen(digest.Digest{1}) != state(100, 1) {
		t.Errorf("%+v", e.Seen)
	}
	e.Volume, e.Seen = "volumes/a", append(e.Seen, Sight{})
	raw, err := encodeEntry(&e)
	if err != nil {
		t.Fatal(err)
	}
	_, err = decodeEntry("volumes/a", raw)
	refusaltest.Want(t, "one broker more", err, ReasonStore)
}
