package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"golang.org/x/mod/sumdb/note"
)

// TestACopyOfTheLogIsVerifiedWithoutABroker: by key, against kept checkpoints, with
// an archive, saying what was not checked.
func TestACopyOfTheLogIsVerifiedWithoutABroker(t *testing.T) {
	key, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Wipe()
	dir, aside := filepath.Join(t.TempDir(), "audit"), t.TempDir()
	pub, kept, later := filepath.Join(aside, "audit.pub"), filepath.Join(aside, "kept"), filepath.Join(aside, "later")
	if err := identity.WritePublicFile(pub, key.Public()); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(dir, key, audit.Options{SegmentBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	fill := func(log *audit.Log, n int, path string) {
		for range n {
			if _, err := log.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		c, err := log.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.Note), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fill(log, 30, kept)
	a, err := log.Archive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	other, err := audit.Open(filepath.Join(aside, "other"), key, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fill(other, 40, later)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(aside, "segments")
	if err := os.Rename(a.Directory, archive); err != nil {
		t.Fatal(err)
	}
	copied := []string{"audit", "verify", "--dir", dir, "--key", pub}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{nil, 0, "NOT checked: whether it was restored"},
		{nil, 0, "NOT read: "},
		{[]string{"--archive", archive, "--checkpoint", kept}, 0, "it extends 1 checkpoints"},
		{[]string{"--checkpoint", later}, exitRefused, "audit-log-rolled-back"},
		{[]string{"--checkpoint", pub}, exitRefused, "checkpoint-invalid"},
		{[]string{"--checkpoint", pub + ".absent"}, exitFailure, "no such file"},
	} {
		if out, code, err := run(t, append(copied, tc.args...)...); code != tc.code || !strings.Contains(fmt.Sprint(out, err), tc.says) {
			t.Errorf("%v: %d, %s, %v", tc.args, code, out, err)
		}
	}
	for _, args := range [][]string{{"audit", "verify", "--dir", dir}, {"audit", "verify", "--archive", archive}, {"audit", "archive", "--keep", "0"}, {"audit", "vkey"}} {
		if out, code, err := run(t, args...); code != exitUsage {
			t.Errorf("%v: %d, %s, %v", args, code, out, err)
		}
	}
	vkey, code, _ := run(t, "audit", "vkey", pub)
	verifier, err := note.NewVerifier(strings.TrimSpace(vkey))
	if code != 0 || err != nil {
		t.Fatalf("%q: %d, %v", vkey, code, err)
	}
	b, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(b, note.VerifierList(verifier)); err != nil {
		t.Errorf("the printed key does not verify a checkpoint: %v", err)
	}
}
