package secrets

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

var configured = []settings.Secret{
	{Name: "tls.key", Resource: "secrets/web-tls", Units: []string{"nginx.service"}, Volumes: []string{"data"}, Users: []settings.Account{"1000"}, Groups: []settings.Account{"2000"}},
	{Name: "other", Resource: "secrets/other"},
}

// lease brings secrets, and the key of a model, which is not for the store.
func lease(t *testing.T, ttl time.Duration, version uint64, values map[string]string) *client.Lease {
	t.Helper()
	l := &client.Lease{Expires: time.Now().Add(ttl), Keys: map[string]client.Key{}}
	for name, value := range values {
		key, err := keybuf.Take([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		l.Keys[name] = client.Key{Version: version, Key: key}
	}
	return l
}

func granted(t *testing.T) *Store {
	t.Helper()
	s := New(func() error { return errors.New("still attesting") })
	if err := s.Allow(configured); err != nil {
		t.Fatal(err)
	}
	l := lease(t, time.Hour, 3, map[string]string{"secrets/web-tls": "the key", "secrets/other": "x", "models/m": "a model's"})
	if err := s.Take(l); err != nil {
		t.Fatal(err)
	}
	l.Wipe()
	if len(s.held) != 2 {
		t.Errorf("holds %d keys, want none of a model", len(s.held))
	}
	return s
}

func user(uid uint32, groups ...uint32) *Peer {
	return &Peer{UID: uid, In: func(gid uint32) bool {
		for _, g := range groups {
			if g == gid {
				return true
			}
		}
		return false
	}}
}

// get returns a copy of what somebody may have, as soon as he can have it.
func (s *Store) get(ctx context.Context, a Asker) (value string, g Given, err error) {
	if err := s.Await(ctx, a); err != nil {
		if err := s.Lend(a, func(Given, []byte) error { return nil }); err == nil {
			return "lent to who waited in vain", g, nil
		}
		return "", g, err
	}
	err = s.Lend(a, func(given Given, secret []byte) error {
		value, g = string(secret), given
		return nil
	})
	return value, g, err
}

// over is a context that has ended: nobody waits.
func over() context.Context {
	ctx, end := context.WithCancel(context.Background())
	end()
	return ctx
}

// TestWhoIsNotNamedGetsNothing, root and everybody's group included.
func TestWhoIsNotNamedGetsNothing(t *testing.T) {
	s := granted(t)
	for name, a := range map[string]Asker{
		"a unit": {Unit: "nginx.service", Credential: "tls.key"}, "a volume": {Volume: "data"},
		"a user": {Peer: user(1000), Name: "tls.key"}, "a member": {Peer: user(7, 1, 2000), Name: "tls.key"},
	} {
		value, g, err := s.get(over(), a)
		if err != nil || value != "the key" || g != (Given{"tls.key", 3}) {
			t.Errorf("%s: %q, %+v, %v", name, value, g, err)
		}
	}
	for name, a := range map[string]Asker{
		"nobody": {}, "a name alone": {Name: "tls.key"}, "another unit": {Unit: "apache.service", Credential: "tls.key"}, "another credential": {Unit: "nginx.service", Credential: "other"},
		"a unit without one": {Unit: "nginx.service"}, "another volume": {Volume: "root"}, "a unit as a volume": {Volume: "nginx.service"}, "a volume as a unit": {Unit: "data", Credential: "tls.key"},
		"root": {Peer: user(0), Name: "tls.key"}, "another user": {Peer: user(2000), Name: "tls.key"}, "another group": {Peer: user(7, 1000), Name: "tls.key"},
		"another secret": {Peer: user(1000), Name: "other"}, "no secret": {Peer: user(1000), Name: "none"}, "a resource": {Peer: user(1000), Name: "secrets/web-tls"},
		"a user with a unit's name": {Peer: user(7), Unit: "nginx.service", Credential: "tls.key", Name: "tls.key"},
	} {
		value, _, err := s.get(over(), a)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonNotAllowed || value != "" {
			t.Errorf("%s: %q, %v", name, value, err)
		}
	}
	if _, _, err := New(nil).get(t.Context(), Asker{Unit: "nginx.service", Credential: "tls.key"}); err == nil {
		t.Error("an empty store allows somebody")
	}
}

// TestNothingOutlivesItsLease, whether or not somebody wipes it, and nothing that a lease does
// not bring stays.
func TestNothingOutlivesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := granted(t)
		nginx := Asker{Unit: "nginx.service", Credential: "tls.key"}
		time.Sleep(time.Hour)
		if _, _, err := s.get(over(), nginx); err == nil || !strings.Contains(err.Error(), "secret-not-held: no lease is held: still attesting") {
			t.Errorf("after the lease: %v", err)
		}
		if err := s.Ready(over()); err == nil || len(s.Held()) != 0 {
			t.Errorf("after the lease: %v, %v", err, s.Held())
		}
		held := s.held["secrets/web-tls"].Key
		if err := s.Take(lease(t, time.Hour, 4, map[string]string{"secrets/other": "y"})); err != nil {
			t.Fatal(err)
		}
		if held.Len() != 0 || s.Held()["other"] != 4 || len(s.Held()) != 1 {
			t.Errorf("%d bytes of what is no longer granted; %v", held.Len(), s.Held())
		}
		s.why = func() error { return nil }
		if _, _, err := s.get(over(), nginx); err == nil || !strings.Contains(err.Error(), "the lease did not bring it") {
			t.Error(err)
		}
		held = s.held["secrets/other"].Key
		s.Wipe()
		if held.Len() != 0 || len(s.Held()) != 0 {
			t.Error("not wiped")
		}
	})
}

// TestWhoMayHaveASecretWaitsForIt: for a lease, for the one that has it, or for a reload; and no
// longer than its own time.
func TestWhoMayHaveASecretWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(func() error { return errors.New("still attesting") })
		if err := s.Allow(configured); err != nil {
			t.Fatal(err)
		}
		nginx := Asker{Unit: "nginx.service", Credential: "tls.key"}
		within, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if _, _, err := s.get(within, nginx); err == nil || time.Since(began) != time.Minute {
			t.Errorf("waited %s: %v", time.Since(began), err)
		}
		got := make(chan string, 1)
		go func() {
			value, _, err := s.get(t.Context(), nginx)
			if err != nil {
				value = err.Error()
			}
			got <- value
		}()
		for i, values := range []map[string]string{{"secrets/other": "x"}, {"secrets/web-tls": "the key"}} {
			synctest.Wait()
			if len(got) != 0 {
				t.Fatal("it did not wait")
			}
			if err := s.Take(lease(t, time.Hour, uint64(i+1), values)); err != nil {
				t.Fatal(err)
			}
		}
		if text := <-got; text != "the key" {
			t.Errorf("%q", text)
		}
		refused := make(chan error, 1)
		s.Wipe()
		go func() { _, _, err := s.get(t.Context(), nginx); refused <- err }()
		synctest.Wait()
		if err := s.Allow(configured[1:]); err != nil { // a reload takes the permission away
			t.Fatal(err)
		}
		if reason, _ := refusal.ReasonOf(<-refused); reason != ReasonNotAllowed {
			t.Error(reason)
		}
		if err := s.Allow(nil); err != nil || s.Ready(t.Context()) != nil {
			t.Error("it waits for secrets although none is configured")
		}
	})
}

// TestAccountsMustExist: a name that this machine does not have is no user.
func TestAccountsMustExist(t *testing.T) {
	s := granted(t)
	err := s.Allow([]settings.Secret{{Name: "a", Resource: "secrets/a", Users: []settings.Account{"no-such-user"}}})
	if err == nil || !strings.Contains(err.Error(), "secrets: a: there is no user") {
		t.Error(err)
	}
	if len(s.Held()) == 0 {
		t.Error("a list that was refused changed what is handed on")
	}
	own := settings.Account(strconv.Itoa(os.Getuid()))
	if err := s.Allow([]settings.Secret{{Name: "a", Resource: "secrets/other", Users: []settings.Account{own}}}); err != nil {
		t.Fatal(err)
	}
	if value, _, err := s.get(over(), Asker{Peer: user(uint32(os.Getuid())), Name: "a"}); err != nil || value != "x" {
		t.Errorf("%q, %v", value, err)
	}
	key := s.held["secrets/other"].Key
	err = s.Lend(Asker{Peer: user(uint32(os.Getuid())), Name: "a"}, func(Given, []byte) error { return os.ErrClosed })
	if !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	key.Wipe() // between the look and the use
	if reason, _ := refusal.ReasonOf(s.Lend(Asker{Peer: user(uint32(os.Getuid())), Name: "a"}, func(Given, []byte) error { return nil })); reason != ReasonNotHeld {
		t.Errorf("of a wiped key: %q", reason)
	}
}
