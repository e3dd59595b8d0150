package registry_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/registry"
)

// A process that ends between the audit record and the store leaves a record of
// something that never happened, never the reverse; the same step succeeds afterwards.
func TestCrashBetweenAuditAndStore(t *testing.T) {
	g := keys(t, 1)
	for name, tc := range map[string]struct {
		action  string
		prepare func(*site, answer)
		step    func(*site, answer) error
	}{
		"register": {"proof-record", func(*site, answer) {}, func(s *site, _ answer) error {
			_, err := s.Register(t.Context(), *g.Record(1, outputs), g.Key)
			return err
		}},
		"challenge": {"proof-challenge", func(s *site, a answer) { s.announce(t, a) }, func(s *site, _ answer) error {
			_, err := s.Challenge(t.Context(), registry.Spec{All: true, Count: 1, Before: s.now().Add(time.Hour).Time()})
			return err
		}},
		"submit": {"proof-verified", func(s *site, a answer) { s.register(t, 1); s.announce(t, a) }, func(s *site, a answer) error {
			_, err := s.Submit(t.Context(), &a.bundle)
			return err
		}},
		"sweep": {"proof-overdue", func(s *site, a answer) { s.announce(t, a); s.challenge(t, 1); s.pass(2 * time.Hour) }, func(s *site, _ answer) error {
			_, err := s.Sweep(t.Context())
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, nil)
			a := s.answer(t, s.Agent(t, nil), 1, 1)
			tc.prepare(s, a)
			before := s.status(t)
			good := s.cfg.Audit
			s.restart(t, func(c *registry.Config) {
				c.Audit = func(ctx context.Context, action, detail string) error {
					if err := good(ctx, action, detail); err != nil {
						return err
					}
					return s.store.Close()
				}
			})
			if tc.step(s, a) == nil {
				t.Fatal("succeeded without a store")
			}
			s.restart(t, func(c *registry.Config) { c.Audit = good })
			after := s.status(t)
			if after.Counts != before.Counts || after.Unanswered != before.Unanswered {
				t.Errorf("before %+v, after %+v", before, after)
			}
			if err := tc.step(s, a); err != nil || s.recorded(tc.action) != 2 {
				t.Errorf("the next time: %v, %d records", err, s.recorded(tc.action))
			}
		})
	}
}

// What was acknowledged is in the file, though nobody closed it.
func TestAcknowledgedStepsSurviveTheProcess(t *testing.T) {
	s := open(t, nil)
	a := s.answer(t, s.Agent(t, nil), 1, 1)
	check := func(step string, holds func(*registry.Store) bool) {
		t.Helper()
		raw, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "copy")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		copied, err := registry.OpenStore(path)
		if err != nil {
			t.Fatal(err)
		}
		if !holds(copied) {
			t.Errorf("%s: lost", step)
		}
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	s.register(t, 1)
	check("register", func(l *registry.Store) bool { _, found, err := l.Record(keys(t, 1).Digest); return found && err == nil })
	s.announce(t, a)
	check("announce", func(l *registry.Store) bool { _, found, err := l.Receipt(a.ids[0]); return found && err == nil })
	sum := s.challenge(t, 1)[0].Digest
	check("challenge", func(l *registry.Store) bool {
		c, err := l.Challenge(sum)
		list, _ := l.Unanswered(nil)
		return err == nil && digest.Of(c.Signed) == sum && len(list) == 1
	})
	got, err := s.Submit(t.Context(), &a.bundle)
	if err != nil {
		t.Fatal(err)
	}
	check("submit", func(l *registry.Store) bool {
		_, found, err := l.Proof(got.Proof)
		list, _ := l.Unanswered(nil)
		return found && err == nil && len(list) == 0
	})
}
