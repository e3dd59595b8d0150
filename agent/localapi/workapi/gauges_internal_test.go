package workapi

import (
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The queue has four figures while it is open, and none before it is, between leases, or where
// none is configured.
func TestQueueFiguresAreThoseOfAnOpenQueue(t *testing.T) {
	key, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	queue, err := jobs.Open(filepath.Join(t.TempDir(), "jobs.db"), key, jobs.Options{Boot: "b", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := queue.Close(); err != nil {
			t.Error(err)
		}
	})
	if g := (&Service{}).gauges(); g != nil {
		t.Errorf("figures of nothing: %v", g)
	}
	if g := (&Service{Work: func() (Work, error) { return Work{}, refusal.New("attesting", "no lease") }}).gauges(); g != nil {
		t.Errorf("figures of a queue that is closed: %v", g)
	}
	if g := (&Service{Work: func() (Work, error) { return Work{Queue: queue}, nil }}).gauges(); len(g) != 4 {
		t.Errorf("%+v", g)
	}
}
