package fed_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/fed"
	"github.com/anchorhold/anchorhold/agent/fed/fedtask"
	"github.com/anchorhold/anchorhold/agent/jobs"
	"github.com/anchorhold/anchorhold/agent/jobs/spool"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// never proves nothing, so that jobs stay where they are, with their files.
type never struct{}

func (never) Deliver(context.Context, uint32, digest.ReceiptID, bool) (bool, error) {
	return false, nil
}

// stored is how much a contribution to a round of the world takes: vector and ciphertexts.
func stored(t *testing.T, r federation.Round) int64 {
	t.Helper()
	set, _, err := r.Parameters()
	if err != nil {
		t.Fatal(err)
	}
	return spool.Size(4*length) + int64(federation.BlockCount(r.Length, set.ValuesPerBlock()))*int64(set.BlockBytes())
}

// unread fails a test that reads it.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("a body was read for which there is no room")
	return 0, io.EOF
}

// TestUsersCannotFillTheDisk: a user could store vectors until the disk was full. Each limit
// refuses before the body is read, and what is done or cancelled gives its room back.
func TestUsersCannotFillTheDisk(t *testing.T) {
	w := newWorld(t)
	w.answers = never{}
	rounds := make([]federation.Round, 4)
	for i := range rounds {
		rounds[i], _, _ = w.open(t, nil)
	}
	need := stored(t, rounds[0])
	const small = 64 << 10 // what was signed: manifest, result
	w.spool = spool.Limits{Total: 3*need + 4*small, PerOwner: need + small, Floor: 1, Writers: 4, WritersPerOwner: 2}
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	sub := fed.Submission{Weight: 1, Format: fedtask.Float32, With: []digest.ReceiptID{{1}}}
	submit := func(uid uint32, round int) jobs.Info {
		t.Helper()
		info, err := g.Submit(t.Context(), uid, rounds[round].ID, sub, bytes.NewReader(floats(randomVector(uint64(round), length, 1))))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	refuse := func(what string, uid uint32, round int, want refusal.Reason) {
		t.Helper()
		_, err := g.Submit(t.Context(), uid, rounds[round].ID, sub, unread{t})
		if reason, _ := refusal.ReasonOf(err); reason != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	first := submit(1, 0)
	refuse("over a user's part", 1, 1, spool.ReasonOwner)
	submit(2, 1)
	submit(3, 2)
	refuse("over all", 4, 3, spool.ReasonFull)
	if err := g.Values(t.Context(), 4, rounds[3].ID, io.Discard); err == nil {
		t.Error("values of a round without result")
	}
	if _, err := g.queue.Cancel(first.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Tidy(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	submit(1, 3)
}

func TestNothingIsTakenBelowTheFloorOfTheDisk(t *testing.T) {
	w := newWorld(t)
	r, _, _ := w.open(t, nil)
	free, err := disk.Free(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w.spool = spool.Defaults()
	w.spool.Floor = free + 1<<40
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	_, err = g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32}, unread{t})
	if reason, _ := refusal.ReasonOf(err); reason != spool.ReasonDisk {
		t.Errorf("%v, want %s", err, spool.ReasonDisk)
	}
}

// TestTidyRemovesWhatNobodyNeeds and nothing else.
func TestTidyRemovesWhatNobodyNeeds(t *testing.T) {
	w := newWorld(t)
	w.answers, w.spool = never{}, spool.Defaults()
	r, _, _ := w.open(t, nil)
	g := w.guest(t, t.TempDir(), w.Agent(t, nil), federationtest.Seed(t), nil)
	info, err := g.Submit(t.Context(), 1, r.ID, fed.Submission{Weight: 1, Format: fedtask.Float32, With: []digest.ReceiptID{{1}}}, bytes.NewReader(floats(randomVector(1, length, 1))))
	if err != nil {
		t.Fatal(err)
	}
	// Signed, and what was half written on the way is gone.
	encrypted := func() bool {
		_, err := os.Stat(filepath.Join(g.dir, "uploads", r.ID.String()+".result"))
		half, globbed := filepath.Glob(filepath.Join(g.dir, "uploads", ".new-*"))
		return err == nil && globbed == nil && len(half) == 0
	}
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !encrypted() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nothing was encrypted")
		}
	}
	for _, name := range []string{"spool/.new-1", "spool/0123", "uploads/.new-2", "uploads/0123.blocks", "uploads/0123.manifest", "results/.new-3"} {
		if err := os.WriteFile(filepath.Join(g.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	left := func() (list []string) {
		for _, dir := range []string{"spool", "uploads", "results"} {
			entries, err := os.ReadDir(filepath.Join(g.dir, dir))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				list = append(list, dir+"/"+e.Name())
			}
		}
		return list
	}
	all := left()
	if n, err := g.Tidy(time.Now()); n != 0 || err != nil || !slices.Equal(left(), all) {
		t.Errorf("%d new files were removed, %v", n, err)
	}
	if n, err := g.Tidy(time.Now().Add(time.Hour)); n != 5 || err != nil {
		t.Errorf("%d removed, %v: %q is left", n, err, left())
	}
	if got := left(); len(got) != len(all)-5 {
		t.Errorf("left %q", got)
	}
	if _, err := g.queue.Cancel(info.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := g.Tidy(time.Now().Add(time.Hour)); n != 2 || err != nil { // vector and ciphertexts
		t.Errorf("%d removed, %v: %q is left", n, err, left())
	}
	if _, err := g.Tidy(time.Now().Add(40 * 24 * time.Hour)); err != nil || len(left()) != 0 {
		t.Errorf("%v: %q is left", err, left())
	}
}
