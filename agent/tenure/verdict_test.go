//go:build !release

package tenure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/openmodel"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestModelThatCannotBeOpenedIsAskedForOnce: one lease for one file, however long it lies
// there; the reason stays when that lease ends; another file is tried at once, and a reload
// is a new attempt.
func TestModelThatCannotBeOpenedIsAskedForOnce(t *testing.T) {
	g := tenuretest.New(t)
	g.Replace(t, func(path string) { g.Unsupported(t, path) })
	good := filepath.Join(t.TempDir(), "good.ahm")
	g.Seal(t, good, tenuretest.ModelKey, 3)
	for _, mode := range []string{"", "streamed"} {
		g.Config.Models[0].Mode = mode
		bad, err := os.ReadFile(g.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t}
			s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
			k := s.keeper(g)
			run(t, k, func() {
				for _, after := range []time.Duration{0, 12 * time.Second, 10 * time.Minute, 10 * time.Hour} {
					time.Sleep(after)
					synctest.Wait()
					err := k.tenure.Serving()
					if got := reasonOf(t, k); got != openmodel.ReasonUnsupported || !strings.Contains(err.Error(), "llama.final_logit_softcapping") {
						t.Errorf("after %s: %v", after, err)
					}
					if key, calls := s.key(0); calls != 1 || key.Len() != 0 {
						t.Fatalf("after %s: %d leases, %d bytes of key", after, calls, key.Len())
					}
				}
				k.reloaded <- reload{cfg: k.cfg, broker: s}
				synctest.Wait()
				if _, calls := s.key(0); calls != 2 || reasonOf(t, k) != openmodel.ReasonUnsupported {
					t.Errorf("after a reload: %d leases, %v", calls, k.tenure.Serving())
				}
				tenuretest.Install(t, good, g.Sealed)
				time.Sleep(lookAgain)
				synctest.Wait()
				if _, calls := s.key(0); calls != 3 || reasonOf(t, k) != "serving" {
					t.Errorf("after another file: %d leases, %v", calls, k.tenure.Serving())
				}
			})
		})
		write(t, g.Sealed, bad)
	}
}

// TestWhatThePublicPartShowsCostsNoKey: the file is missing, another publisher's, an old
// version, cut or changed. No key is asked for before it is another one.
func TestWhatThePublicPartShowsCostsNoKey(t *testing.T) {
	g, other := tenuretest.New(t), tenuretest.New(t)
	good, err := os.ReadFile(g.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	changed := slices.Clone(good)
	changed[len(changed)-20] ^= 1 // in the signature
	foreign, err := os.ReadFile(other.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		file    []byte
		minimum uint64
		says    string
	}{
		"missing":           {nil, 0, "no such file"},
		"empty":             {[]byte{}, 0, string(chunkseal.ReasonNotSealed)},
		"cut":               {good[:len(good)-100], 0, "ends"},
		"another publisher": {foreign, 0, string(chunkseal.ReasonPublisher)},
		"changed":           {changed, 0, string(chunkseal.ReasonSignature)},
		"an old version":    {good, 9, string(chunkseal.ReasonRollback)},
	} {
		g.Config.Models[0].MinimumVersion = tc.minimum
		if err := os.Remove(g.Sealed); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if tc.file != nil {
			write(t, g.Sealed, tc.file)
		}
		synctest.Test(t, func(t *testing.T) {
			s := &script{t: t}
			s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
			k := s.keeper(g)
			run(t, k, func() {
				time.Sleep(time.Hour)
				synctest.Wait()
				err := k.tenure.Serving()
				if reasonOf(t, k) != openmodel.ReasonUnavailable || !strings.Contains(err.Error(), tc.says) || len(s.given) != 0 {
					t.Errorf("%s: %d keys were asked for: %v", name, len(s.given), err)
				}
				if tc.minimum != 0 {
					return
				}
				write(t, g.Sealed+".good", good)
				tenuretest.Install(t, g.Sealed+".good", g.Sealed)
				time.Sleep(lookAgain)
				synctest.Wait()
				if reasonOf(t, k) != "serving" || len(s.given) != 1 {
					t.Errorf("%s, then the right file: %d keys, %v", name, len(s.given), k.tenure.Serving())
				}
			})
		})
	}
}

// TestAWrongKeyIsAskedForAtThePaceOfRenewals: the broker's store may be put right, so that
// it is tried again, and not four times in twelve seconds.
func TestAWrongKeyIsAskedForAtThePaceOfRenewals(t *testing.T) {
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		wrong := s.grant(5*time.Minute, strings.Repeat("w", 32), 1)
		s.steps = []func(context.Context) (*client.Lease, error){wrong, wrong, s.grant(5*time.Minute, tenuretest.ModelKey, 2)}
		k := s.keeper(g)
		run(t, k, func() {
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if _, calls := s.key(0); calls != 1 || reasonOf(t, k) != openmodel.ReasonUnavailable {
				t.Errorf("%d leases, %v", calls, k.tenure.Serving())
			}
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if _, calls := s.key(0); calls != 3 || reasonOf(t, k) != "serving" {
				t.Errorf("%d leases, %v", calls, k.tenure.Serving())
			}
		})
	})
}

// asking is a broker that grants whatever it is asked for, and remembers it.
type asking struct {
	*script
	asked [][]string
	gone  bool // it grants nothing any more
	mu    sync.Mutex
}

func (a *asking) Acquire(_ context.Context, resources []string, _ ...protocol.Sealed) (*client.Lease, error) {
	a.mu.Lock()
	a.asked = append(a.asked, resources)
	gone := a.gone
	a.mu.Unlock()
	if gone {
		return nil, errors.New("the broker is away")
	}
	now := time.Now()
	lease := &client.Lease{ID: fmt.Sprintf("%032x", len(a.asked)), TTL: 5 * time.Minute, Expires: now.Add(5 * time.Minute), BrokerTime: now, Keys: map[string]client.Key{}}
	for _, name := range resources {
		lease.Keys[name] = client.Key{Version: 1, Key: tenuretest.Key(a.t, tenuretest.ModelKey)}
	}
	return lease, nil
}

// TestLeasesGoOnForWhatElseTheyAreFor without the key of a model that cannot be opened.
func TestLeasesGoOnForWhatElseTheyAreFor(t *testing.T) {
	g := tenuretest.New(t)
	g.Replace(t, func(path string) { g.Unsupported(t, path) })
	g.Config.Federation = settings.Federation{Aggregators: []string{"a:1"}, Membership: "rounds/member"}
	synctest.Test(t, func(t *testing.T) {
		a := &asking{script: &script{t: t}}
		k := a.keeper(g)
		k.broker = a
		var granted int
		k.granted = func(g Grant) error {
			if granted++; g.Lease.Keys["rounds/member"].Key == nil {
				t.Error("the membership's key is not there")
			}
			return nil
		}
		run(t, k, func() {
			time.Sleep(12 * time.Second)
			synctest.Wait()
			if len(a.asked) != 1 || !slices.Equal(a.asked[0], []string{"models/test", "rounds/member"}) {
				t.Errorf("asked for %q in twelve seconds", a.asked)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := len(a.asked); n < 14 || n > 22 || granted != n {
				t.Errorf("%d leases of five minutes in an hour, %d granted", n, granted)
			}
			for _, resources := range a.asked[1:] {
				if !slices.Equal(resources, []string{"rounds/member"}) {
					t.Errorf("asked for %q", resources)
				}
			}
			if lease, err := k.tenure.Held(); err != nil || lease == nil || reasonOf(t, k) != openmodel.ReasonUnsupported {
				t.Errorf("%v, %v", err, k.tenure.Serving())
			}
			if err := k.tenure.Classifying(); err != nil {
				t.Errorf("the model keeps classifiers from being served: %v", err)
			}
			a.mu.Lock()
			a.gone = true
			a.mu.Unlock()
			time.Sleep(6 * time.Minute)
			synctest.Wait()
			if reason, _ := refusal.ReasonOf(k.tenure.Classifying()); reason != ReasonLeaseExpired || reasonOf(t, k) != openmodel.ReasonUnsupported {
				t.Errorf("without a lease: %v, %v", k.tenure.Classifying(), k.tenure.Serving())
			}
		})
	})
}

// TestAReloadFailsForAClassifierThatIsNotServed, and costs no further lease; one whose
// version before goes on is another error.
func TestAReloadFailsForAClassifierThatIsNotServed(t *testing.T) {
	broken := errors.New("another publisher signed it")
	var before notOpened
	if err := kept([]classify.Unopened{{Name: "a", Path: "a.ahm", Kept: true, Err: broken}, {Name: "b", Err: broken}}); !errors.As(err, &before) || !before.kept || !slices.Equal(before.paths, []string{"a.ahm"}) || !strings.Contains(err.Error(), "classifier b is not served") {
		t.Errorf("%v", err)
	}
	if err := kept(nil); err != nil {
		t.Error(err)
	}
	g := tenuretest.New(t)
	synctest.Test(t, func(t *testing.T) {
		s := &script{t: t}
		s.steps = []func(context.Context) (*client.Lease, error){s.grant(5*time.Minute, tenuretest.ModelKey, 1)}
		k := s.keeper(g)
		list := []classify.Unopened{{Name: "digits", Err: broken}}
		k.granted = func(Grant) error { return kept(list) }
		run(t, k, func() {
			for i, wrong := range []bool{true, false} {
				if !wrong {
					list = nil
				}
				verdict, taken := make(chan error, 1), false
				k.reloaded <- reload{cfg: k.cfg, broker: s, verdict: verdict, took: func() { taken = true }}
				err := <-verdict
				if (err != nil) != wrong || !taken || wrong && (!errors.Is(err, broken) || !strings.Contains(err.Error(), "classifier digits")) {
					t.Errorf("%v, taken %t", err, taken)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if _, calls := s.key(0); calls != i+2 || reasonOf(t, k) != "serving" || k.tenure.Classifying() != nil {
					t.Errorf("%d leases, %v, %v", calls, k.tenure.Serving(), k.tenure.Classifying())
				}
			}
		})
	})
}

// TestClassifiersThatHadNoKeysAreNotThere: an error before they were asked is the reason.
func TestClassifiersThatHadNoKeysAreNotThere(t *testing.T) {
	for name, c := range map[string]struct {
		err      error
		other    bool // it is of a lease that is over
		ok, only bool
	}{
		"all is well":                {ok: true},
		"one is not served":          {err: unserved{errors.New("damaged")}, ok: true, only: true},
		"a version before is served": {err: notOpened{error: errors.New("damaged"), kept: true}, ok: true},
		"long work did not begin":    {err: errors.New("no room")},
		"of a lease before":          {other: true},
	} {
		tenure := New(slog.New(slog.DiscardHandler))
		lease := &client.Lease{TTL: time.Minute, Expires: time.Now().Add(time.Minute)}
		if err := tenure.adopt(lease); err != nil {
			t.Fatal(err)
		}
		of := lease
		if c.other {
			of = &client.Lease{}
		}
		if only := tenure.hand(of, c.err); only != c.only || (tenure.Classifying() == nil) != c.ok || (tenure.unopened() != nil) != c.only {
			t.Errorf("%s: %t, %v, %v", name, only, tenure.Classifying(), tenure.unopened())
		}
		tenure.refuse(ReasonDraining, "the test is over")
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
