//go:build !release

package tenure

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// rotating is a guest under a real broker, whose renewals the test makes.
type rotating struct {
	t    *testing.T
	path string
	*Keeper
}

func newRotating(t *testing.T, f *brokertest.Fixture, g tenuretest.Guest) *rotating {
	path := filepath.Join(t.TempDir(), "tiny.ahm")
	tenuretest.Install(t, g.Sealed, path)
	g.Config.Models = []settings.Model{g.Config.Models[0]}
	g.Config.Models[0].Path = path
	k := (&script{t: t}).keeper(g)
	k.broker = f.Client(nil)
	t.Cleanup(func() {
		if err := k.tenure.refuse(ReasonDraining, "the test ends"); err != nil {
			t.Error(err)
		}
	})
	return &rotating{t, path, k}
}

// renew renews, and wants this model under this version of the key, opened anew or not.
func (r *rotating) renew(model [32]byte, version uint64, anew bool) {
	r.t.Helper()
	before := held(r.Keeper)
	if _, err := r.attest(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	m, _, err := r.tenure.snapshot()
	if err != nil || m.Weights.ModelID() != model || m.KeyVersion != version || (m != before) != anew {
		r.t.Fatalf("serves %v, version %d, want %s under version %d: %v", m, m.KeyVersion, hex.EncodeToString(model[:4]), version, err)
	}
}

// TestModelKeyRotationRefusesNobody is the rotation of docs/operations.md, with a broker and
// two guests of which one gets the new file later. Nobody is refused while it goes on: each
// renewal leaves each guest serving the file that it has.
func TestModelKeyRotationRefusesNobody(t *testing.T) {
	for name, stated := range map[string]bool{"keys for a model": true, "keys for nothing in particular": false} {
		t.Run(name, func(t *testing.T) {
			f, g := brokertest.New(t), tenuretest.New(t)
			put := func(key string, model [32]byte) {
				if !stated {
					model = [32]byte{}
				}
				f.PutFor(brokertest.Resource, key, model)
			}
			put(tenuretest.ModelKey, g.Model) // version 2
			first, second := newRotating(t, f, g), newRotating(t, f, g)
			first.renew(g.Model, 2, true)
			second.renew(g.Model, 2, true)

			sealed := filepath.Join(t.TempDir(), "new.ahm")
			model := g.Seal(t, sealed, tenuretest.NewKey, 4)
			tenuretest.Install(t, sealed, first.path) // before its key is there: what is open stays open
			first.renew(g.Model, 2, false)
			put(tenuretest.NewKey, model)
			second.renew(g.Model, 2, false) // a newer key is not this guest's
			first.renew(model, 3, true)
			first.renew(model, 3, false)
			second.renew(g.Model, 2, false)
			restarted := newRotating(t, f, g) // with the old file
			restarted.renew(g.Model, 2, true)

			tenuretest.Install(t, sealed, second.path)
			second.renew(model, 3, true)
			for version := range uint64(2) { // the fixture's first one is the same key
				if err := f.Store.Retire(t.Context(), brokertest.Resource, version+1); err != nil {
					t.Fatal(err)
				}
			}
			first.renew(model, 3, false)
			second.renew(model, 3, false)
			if _, err := restarted.attest(t.Context()); err == nil || restarted.tenure.Serving() == nil {
				t.Error("a guest serves on under a key that was retired")
			}
		})
	}
}

// TestOneKeyForTwoModelsOpensTheOneThatIsInstalled: a new version of the model under the
// key of the former one, which the store then has twice.
func TestOneKeyForTwoModelsOpensTheOneThatIsInstalled(t *testing.T) {
	f, g := brokertest.New(t), tenuretest.New(t)
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	r := newRotating(t, f, g)
	r.renew(g.Model, 2, true)
	sealed := filepath.Join(t.TempDir(), "new.ahm")
	model := g.Seal(t, sealed, tenuretest.ModelKey, 4)
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, model)
	r.renew(g.Model, 2, false)
	tenuretest.Install(t, sealed, r.path)
	r.renew(model, 3, true)
}

// TestABadFileCostsNoOpenModel: what is installed and would be refused is not asked for.
func TestABadFileCostsNoOpenModel(t *testing.T) {
	f, g := brokertest.New(t), tenuretest.New(t)
	f.PutFor(brokertest.Resource, tenuretest.ModelKey, g.Model)
	r := newRotating(t, f, g)
	r.renew(g.Model, 2, true)
	other := tenuretest.New(t) // another publisher's
	sealed := filepath.Join(t.TempDir(), "bad.ahm")
	model := other.Seal(t, sealed, tenuretest.NewKey, 4)
	tenuretest.Install(t, sealed, r.path)
	f.PutFor(brokertest.Resource, tenuretest.NewKey, model)
	r.renew(g.Model, 2, false)
}

// TestAHungDiskIsAskedOnceAndKeepsNoRenewalWaiting: what is open is named without it.
func TestAHungDiskIsAskedOnceAndKeepsNoRenewalWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk, asked := make(chan struct{}), 0
		f := files{installed: func(settings.Config) []opened { asked++; <-disk; return nil }}
		var cfg settings.Config
		cfg.Models = []settings.Model{{Resource: "models/a"}}
		open := []opened{{resource: "models/a", file: protocol.File{ID: [32]byte{1}, Commitment: [32]byte{2}, Model: [32]byte{3}}}}
		for i, took := range []time.Duration{lookGrace, 0, 0} {
			began := time.Now()
			got := f.want(t.Context(), cfg, cfg.Resources(), open)
			if len(got) != 1 || got[0].Resource != "models/a" || !slices.Equal(got[0].Files, []protocol.File{open[0].file}) {
				t.Errorf("renewal %d names %v", i, got)
			}
			if time.Since(began) != took {
				t.Errorf("renewal %d waited %s for the disk", i, time.Since(began))
			}
		}
		close(disk)
		synctest.Wait()
		if f.want(t.Context(), cfg, cfg.Resources(), nil); asked != 2 {
			t.Errorf("the disk was asked %d times", asked)
		}
	})
}

// TestALookMayFollowAnother: one exchange looks twice, for what is barred and for what to ask.
func TestALookMayFollowAnother(t *testing.T) {
	f := files{installed: func(settings.Config) []opened { return make([]opened, 1) }}
	for i := range 20_000 {
		if len(f.look(t.Context(), settings.Config{}, time.Hour)) != 1 {
			t.Fatalf("look %d found nothing", i)
		}
	}
}

// TestAStartWaitsForASlowDisk: while nothing is open, only the disk says which files there are.
func TestAStartWaitsForASlowDisk(t *testing.T) {
	var cfg settings.Config
	cfg.Models = []settings.Model{{Resource: "models/a"}}
	there := []opened{{resource: "models/a", file: protocol.File{ID: [32]byte{1}}}}
	for name, c := range map[string]struct {
		answers, stops, took time.Duration
		named                int
	}{
		"slow":    {10 * time.Second, time.Hour, 10 * time.Second, 1},
		"hangs":   {time.Hour, 2 * time.Hour, firstLookGrace, 0},
		"stopped": {time.Hour, 5 * time.Second, 5 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.stops)
				defer cancel()
				f := files{installed: func(settings.Config) []opened { time.Sleep(c.answers); return there }}
				began := time.Now()
				if got := f.want(ctx, cfg, cfg.Resources(), nil); len(got) != c.named || time.Since(began) != c.took {
					t.Errorf("named %v after %s, want %d after %s", got, time.Since(began), c.named, c.took)
				}
				time.Sleep(c.answers) // the look comes back
			})
		})
	}
}
