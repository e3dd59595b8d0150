package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// TestOnlyALogThatExtendsKeptCheckpointsIsServed restores an older copy of the
// audit log under a broker whose configuration names a newer checkpoint.
func TestOnlyALogThatExtendsKeptCheckpointsIsServed(t *testing.T) {
	s := newState(t, false)
	dir, kept := s.result.Layout.Audit(), filepath.Join(t.TempDir(), "checkpoint")
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.record(t.Context(), "later", ""); err != nil {
		t.Fatal(err)
	}
	c, err := d.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, []byte(c.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	s.options.Config.Audit.Checkpoints = []string{kept}
	if err := Check(s.options); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	if reason, _ := evidence.ReasonOf(Check(s.options)); reason != audit.ReasonRolledBack {
		t.Errorf("a restored log was opened: %q", reason)
	}
	if err := os.WriteFile(kept, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, _ := evidence.ReasonOf(Check(s.options)); reason != audit.ReasonCheckpointInvalid {
		t.Errorf("no checkpoint at all: %q", reason)
	}
	s.options.Config.Audit.Checkpoints = []string{kept + ".absent"}
	if Check(s.options) == nil {
		t.Error("a checkpoint that is not there was passed over")
	}
}

func TestAuditBudgetsAreBounded(t *testing.T) {
	for _, c := range []AuditLog{{RefusalMiBPerDay: -1}, {RefusalKiBPerSource: -1}, {RefusalMiBPerDay: maxRefusalMiB + 1}, {RefusalKiBPerSource: maxRefusalMiB<<10 + 1}} {
		s := newState(t, false)
		s.options.Config.Audit = c
		if s.options.Config.Check() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
