package tenure

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// script answers a keeper's exchanges: each call takes the next step; the last
// one repeats.
type script struct {
	t  *testing.T
	mu sync.Mutex // guards all below

	steps []func(ctx context.Context) (*client.Lease, error)
	calls []time.Time
	given []*keybuf.Buffer
}

func (s *script) Acquire(ctx context.Context, resources []string, _ ...protocol.Sealed) (*client.Lease, error) {
	if len(resources) != 1 || resources[0] != "models/test" {
		s.t.Errorf("asked for %q", resources)
	}
	s.mu.Lock()
	s.calls = append(s.calls, time.Now())
	step := s.steps[min(len(s.calls), len(s.steps))-1]
	s.mu.Unlock()
	return step(ctx)
}

// key is the i-th key that was granted, and how many exchanges began.
func (s *script) key(i int) (*keybuf.Buffer, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given[i], len(s.calls)
}

// restart takes these steps from now on.
func (s *script) restart(steps ...func(context.Context) (*client.Lease, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps, s.calls = steps, nil
}

// grant makes a lease with a version of the model key.
func (s *script) grant(ttl time.Duration, key string, version uint64) func(context.Context) (*client.Lease, error) {
	return s.grantFor(ttl, key, version, [32]byte{}, protocol.RoleServe)
}

// grantFor makes a lease with roles, whose key is for a subject.
func (s *script) grantFor(ttl time.Duration, key string, version uint64, subject [32]byte, roles protocol.Role) func(context.Context) (*client.Lease, error) {
	return func(context.Context) (*client.Lease, error) {
		b := tenuretest.Key(s.t, key)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.given = append(s.given, b)
		now := time.Now()
		return &client.Lease{ID: fmt.Sprintf("%032x", len(s.calls)), PolicyID: "test", Roles: map[string]protocol.Role{"models/test": roles}, BrokerTime: now.Add(-time.Hour), TTL: ttl,
			Expires: now.Add(ttl), Keys: map[string]client.Key{"models/test": {Version: version, Subject: subject, Key: b}}}, nil
	}
}

func refuse(reason string) func(context.Context) (*client.Lease, error) {
	return func(context.Context) (*client.Lease, error) {
		return nil, &client.Error{Reason: "measurement-not-allowed", ID: reason}
	}
}

func (s *script) keeper(g tenuretest.Guest) *Keeper {
	return &Keeper{cfg: g.Config, broker: s, tenure: New(slog.New(slog.DiscardHandler)), log: slog.New(slog.DiscardHandler),
		open: openmodel.Open, files: files{installed: installed}, reloaded: make(chan reload)}
}

// snapshot returns the model that is served and what ends its requests, or the refusal. It is
// no request: nothing waits for it.
func (t *Tenure) snapshot() (*Model, context.Context, error) {
	ended, end := context.WithCancel(context.Background())
	end()
	m, done, err := t.Use(ended)
	if err != nil || m == nil {
		return nil, nil, err
	}
	done()
	return m, m.serving, nil
}
