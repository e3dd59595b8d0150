//go:build !release

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
)

// TestModelsShareOneLimit: models that state no part share what there is, a reload divides it anew, and at no time do all
// parts, or the arenas of all that is open, exceed it; a reload that is refused puts back the parts that there were, whatever became of
// the files.
func TestModelsShareOneLimit(t *testing.T) {
	if !inSubprocess(t) {
		return
	}
	s, f, g, other, otherID := newSeveral(t)
	tiny := [4]string{"tiny", g.Sealed, brokertest.Resource, ""}
	second := [4]string{"second", other, "models/other", ""}
	third := [4]string{"third", other, "models/other", ""}
	s.config(t, tiny, second)
	cfg, findings, err := settings.Read(s.path)
	if err := errors.Join(err, findings.Runnable()); err != nil {
		t.Fatal(err)
	}
	stop, ended := s.start(t, cfg, f.TEE, 600)
	parts := func(models, limit int) (list []int) {
		t.Helper()
		list = append(list, s.d.beside.inForce().Models[0].MemoryMB)
		arenas := s.d.tenure.Status("", false, 0).Model.ArenaBytes
		for _, seat := range s.d.beside.all() {
			list = append(list, seat.cfg.Models[0].MemoryMB)
			arenas += seat.tenure.Status("", false, 0).Model.ArenaBytes
		}
		sum := 0
		for _, mb := range list {
			sum += mb
		}
		if len(list) != models || sum != limit || arenas > int64(limit)<<20 {
			t.Errorf("parts %v and arenas of %d bytes, want %d models in %d MiB", list, arenas, models, limit)
		}
		return list
	}
	serve := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if id := otherID; name == "tiny" {
				s.serves(t, name, g.Model)
			} else {
				s.serves(t, name, id)
			}
		}
	}
	serve("tiny", "second")
	two := parts(2, 64-18-9)

	s.config(t, tiny, second, third)
	if err := s.d.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	serve("tiny", "second", "third")
	three := parts(3, 64-18-18)
	if slices.Min(three) < 9 || two[1] <= three[1] {
		t.Errorf("two share %v, three %v", two, three)
	}

	// The file of one grows meanwhile by what would be most of the limit, and a reload is refused.
	before := slices.Clone(s.d.cfg.Load().Models)
	if err := os.Truncate(other, 40<<20); err != nil {
		t.Fatal(err)
	}
	s.config(t, [4]string{"tiny", filepath.Join(filepath.Dir(other), "none.ahm"), brokertest.Resource, ", memory_mb: 4"}, third)
	if err := s.d.reload(t.Context()); err == nil {
		t.Error("a file that is not there was taken")
	}
	if !slices.Equal(before, s.d.cfg.Load().Models) {
		t.Errorf("the parts are %+v, were %+v", s.d.cfg.Load().Models, before)
	}
	for i, seat := range s.d.beside.all() {
		if !slices.Contains(before, seat.cfg.Models[0]) {
			t.Errorf("seat %d has %+v", i, seat.cfg.Models[0])
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
