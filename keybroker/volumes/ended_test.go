//go:build !release

package volumes_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/volumes"
)

// told is a fleet's store that a test looks at whenever something is put there.
type told struct {
	volumes.Store
	put func()
}

func (s told) Put(ctx context.Context, e volumes.Entry) error {
	s.put()
	return s.Store.Put(ctx, e)
}

// kept is a log that a test looks at whenever a record is made.
type kept struct {
	volumes.Log
	append func()
}

func (l kept) Append(ctx context.Context, r audit.Record) (audit.Leaf, error) {
	l.append()
	return l.Log.Append(ctx, r)
}

// An operator who ends leases waits for what is being recorded, and releases wait for the operator. So nothing is held while
// a database is asked, which may hang; and whoever was ended meanwhile confirms nothing.
func TestNobodyWaitsForTheFleetsStoreToEndLeases(t *testing.T) {
	var held, atPut, atRecord atomic.Int32
	var ended atomic.Bool
	w := newWorld(t, func(c *keybroker.Config) {
		c.Ended = func(_, _ digest.Digest) (func(), error) {
			if ended.Load() {
				return nil, refusal.New(protocol.ReasonEnded, "ended")
			}
			held.Add(1)
			return func() { held.Add(-1) }, nil
		}
	})
	s := &shared{t: t}
	s.putBack(nil)
	during := func() {}
	w.cfg.Log = kept{w.cfg.Log, func() { atRecord.Store(held.Load()) }}
	w.join(told{s, func() { atPut.Store(held.Load()); during() }})
	g, d := w.guest(), &disk{}
	atPut.Store(-1)
	w.must(g.open(d))
	if atPut.Load() != 0 || atRecord.Load() != 1 {
		t.Errorf("held %d times while the fleet's store is told, want 0, and %d times while it is recorded, want 1", atPut.Load(), atRecord.Load())
	}
	w.must(g.write(d))
	during = func() { ended.Store(true) }
	want(t, "ended while the fleet's store is told", g.confirm(d), protocol.ReasonEnded)
	if records := w.Records(); records[len(records)-1].Kind != audit.KindRefusal || held.Load() != 0 {
		t.Errorf("the last record is %+v, held %d times", records[len(records)-1], held.Load())
	}
	// It is as after a crash there: the volume goes on once the guest may.
	ended.Store(false)
	during = func() {}
	w.must(g.open(d))
	if d.confirmed.Generation != 3 {
		t.Errorf("got generation %d, want 3", d.confirmed.Generation)
	}
	want(t, "an empty disk", g.open(&disk{}), generation.ReasonRolledBack)
}
