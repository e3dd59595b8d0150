package epochs

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// made are the epochs of a new broker.
func made(t *testing.T) *Set {
	t.Helper()
	root, err := identity.Generate(identity.LevelRoot)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Wipe()
	credential, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(credential.Wipe)
	keys := statedir.Keys{Layout: statedir.Layout(t.TempDir()), Unlock: idfile.Unlock{Credential: credential}}
	if _, err := statedir.Make(t.Context(), statedir.Options{Dir: string(keys.Layout), Root: root, Unlock: keys.Unlock, Hosts: []string{"localhost"}}); err != nil {
		t.Fatal(err)
	}
	if err := keys.OpenAudit(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(keys.Wipe)
	e, err := Open(Config{Layout: keys.Layout, Root: root.Public(), AuditKey: keys.Audit.Public(), Unlock: keys.Unlock, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Wipe)
	return e
}

// TestRetiredEpochSignsNothing: the epoch with the highest number signs, while it is active
// and not retired.
func TestRetiredEpochSignsNothing(t *testing.T) {
	e := made(t)
	if signer, err := e.Signer(); err != nil || signer.Epoch != 1 || signer.Key == nil {
		t.Fatalf("%+v, %v", signer, err)
	}
	refused := func(when string) {
		t.Helper()
		signer, err := e.Signer()
		if reason, _ := refusal.ReasonOf(err); reason != protocol.ReasonNoActiveEpoch {
			t.Errorf("%s: epoch %d signs: %v", when, signer.Epoch, err)
		}
	}
	e.floor = 2
	refused("retired")
	e.floor = 1
	e.cfg.Now = func() time.Time { return time.Now().AddDate(50, 0, 0) }
	refused("over")
}

// TestAnEpochThatAnotherFollowsEndsNothing: what counts is the day from which there is none.
func TestAnEpochThatAnotherFollowsEndsNothing(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	epoch := func(n uint64, from, to int, floor uint64) heldEpoch {
		return heldEpoch{number: n, signed: []byte("x"), statement: protocol.EpochStatement{Epoch: n, MinEpoch: floor,
			NotBefore: protocol.TimeOf(day(from)), NotAfter: protocol.TimeOf(day(to))}}
	}
	for name, c := range map[string]struct {
		held []heldEpoch
		last uint64
		at   int
	}{
		"one":                  {[]heldEpoch{epoch(1, -1, 9, 0)}, 1, 9},
		"another follows":      {[]heldEpoch{epoch(2, 8, 20, 0), epoch(1, -1, 9, 0)}, 2, 20},
		"a gap":                {[]heldEpoch{epoch(1, -1, 9, 0), epoch(2, 10, 20, 0)}, 1, 9},
		"retired by the next":  {[]heldEpoch{epoch(1, -1, 9, 0), epoch(2, -1, 5, 2)}, 2, 5},
		"requested, unsigned":  {[]heldEpoch{epoch(1, -1, 9, 0), {number: 2}}, 1, 9},
		"none is active":       {[]heldEpoch{epoch(1, -9, -1, 0)}, 0, 0},
		"only one of tomorrow": {[]heldEpoch{epoch(1, 1, 9, 0)}, 0, 0},
	} {
		e := &Set{cfg: Config{Now: func() time.Time { return now }}, held: c.held}
		for _, h := range c.held {
			e.floor = max(e.floor, h.statement.MinEpoch)
		}
		if last, at := e.End(); last != c.last || !at.Equal(day(c.at)) {
			t.Errorf("%s: epoch %d until %s", name, last, at)
		}
	}
}
