package spool

import (
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

const gib = 1 << 30

// tried is one reservation and what must become of it.
func tried(t *testing.T, r *Room, what string, owner uint32, need int64, used Usage, want refusal.Reason) func() {
	t.Helper()
	release, err := r.Reserve(owner, need, func() (Usage, error) { return used, nil })
	if reason, _ := refusal.ReasonOf(err); reason != want || (err == nil) != (want == "") {
		t.Errorf("%s: %v, want %q", what, err, want)
	}
	return release
}

func TestEachLimitOfTheSpoolRefusesAlone(t *testing.T) {
	free := int64(100 * gib)
	make := func() *Room {
		r := NewRoom(t.TempDir(), Limits{Total: 8 * gib, PerOwner: 4 * gib, Floor: gib, Writers: 3, WritersPerOwner: 2})
		r.free = func(string) (int64, error) { return free, nil }
		return r
	}
	r := make()
	tried(t, r, "all of a user's part", 1, 4*gib, Usage{}, "")()
	tried(t, r, "a byte more", 1, 4*gib+1, Usage{}, ReasonOwner)
	tried(t, r, "a byte more than is left", 1, gib+1, Usage{3 * gib, 3 * gib}, ReasonOwner)
	tried(t, r, "a byte more in all", 1, gib+1, Usage{7 * gib, 0}, ReasonFull)
	free = 2 * gib
	tried(t, r, "down to the floor", 1, gib, Usage{}, "")()
	tried(t, r, "below the floor", 1, gib+1, Usage{}, ReasonDisk)
	free = gib / 2
	tried(t, r, "below it already", 1, 0, Usage{}, ReasonDisk)
	free = 100 * gib

	r = make()
	first := tried(t, r, "first", 1, 2*gib, Usage{}, "")
	tried(t, r, "what is being written counts", 1, 2*gib+1, Usage{}, ReasonOwner)
	second := tried(t, r, "second", 1, gib, Usage{}, "")
	tried(t, r, "a third of one user", 1, 1, Usage{}, ReasonBusy)
	third := tried(t, r, "another's", 2, gib, Usage{}, "")
	tried(t, r, "a fourth", 3, 1, Usage{}, ReasonBusy)
	for _, release := range []func(){first, second, third, first} { // twice is once
		release()
	}
	if r.held != 0 || r.writing != 0 || len(r.of) != 0 || len(r.writers) != 0 {
		t.Errorf("something is held: %+v", r)
	}
	free = 3 * gib
	tried(t, r, "one", 1, gib, Usage{}, "")
	tried(t, r, "what is spoken for is not free", 2, gib+1, Usage{}, ReasonDisk)
	if _, err := NewRoom(".", Limits{}).Reserve(1, 0, nil); err == nil {
		t.Error("limits of zero allow something")
	}
}

func TestUnknownSpaceIsRefused(t *testing.T) {
	r := NewRoom(t.TempDir()+"/not-there", Defaults())
	if _, err := r.Reserve(1, 1, func() (Usage, error) { return Usage{}, nil }); err == nil {
		t.Error("the space of a disk that is not there is known")
	}
	if _, err := NewRoom(t.TempDir(), Defaults()).Reserve(1, 1, func() (Usage, error) { return Usage{}, errors.New("no") }); err == nil {
		t.Error("unknown use is taken for none")
	}
}
