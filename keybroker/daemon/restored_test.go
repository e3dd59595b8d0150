package daemon

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/daemon/auditlog"
)

// TestAnOlderKeyStoreIsRefused: what was stored, retired and destroyed since the copy is
// named, and a reason in writing serves it, once.
func TestAnOlderKeyStoreIsRefused(t *testing.T) {
	s := newState(t, false)
	ctx, file := t.Context(), s.result.Layout.Keystore()
	op, _, stop := s.run(t)
	for _, name := range []string{"models/a", "models/b", "models/c"} {
		putSecret(t, op, name)
	}
	if err := op.DestroySecret(ctx, "models/c", 1); err != nil {
		t.Fatal(err)
	}
	stop()
	empty, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	op, _, stop = s.run(t) // agrees with the copy
	putSecret(t, op, "models/a")
	putSecret(t, op, "models/d")
	if err := op.DestroySecret(ctx, "models/d", 1); err != nil {
		t.Fatal(err)
	}
	if err := op.RetireSecret(ctx, "models/a", 1); err != nil {
		t.Fatal(err)
	}
	if err := op.DestroySecret(ctx, "models/b", 1); err != nil {
		t.Fatal(err)
	}
	stop()
	newer, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := "models/a version 1 is active, and was retired; models/a version 2 is missing; models/b version 1 is active, and was destroyed; models/d version 1 is missing; restore"
	ended, end := context.WithCancel(ctx) // a broker that does serve stops at once
	end()
	refused := func(want string) {
		t.Helper()
		for name, start := range map[string]func() error{"check": func() error { return Check(s.options) }, "run": func() error { return Run(ended, s.options) }} {
			err := start()
			if reason, _ := refusal.ReasonOf(err); reason != auditlog.ReasonStoreRolledBack || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	restore := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	restore(empty)
	refused(want)
	restore(newer)
	if err := Check(s.options); err != nil {
		t.Errorf("the newer one: %v", err)
	}
	if err := os.Remove(file); err != nil { // and the broker makes an empty one
		t.Fatal(err)
	}
	refused("models/a version 1 is missing; models/a version 2 is missing")

	restore(empty)
	s.options.Config.Secrets.RestoredStore = "a disk was lost"
	if err := Check(s.options); err != nil {
		t.Errorf("with a reason: %v", err)
	}
	_, _, stop = s.run(t)
	stop()
	s.options.Config.Secrets.RestoredStore = ""
	if err := Check(s.options); err != nil {
		t.Errorf("after it was served with a reason: %v", err)
	}
	records, err := audit.Show(s.result.Layout.Audit(), audit.Filter{Kind: audit.KindService})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, e := range records {
		if e.Record.Action == "secrets-restored" && strings.Contains(e.Record.Detail, "a disk was lost: models/a version 1 is active") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the log tells of the old store %d times", told)
	}
}

// TestSecretsAreComparedFromWhereTheyWereLast, and wholly with a log that was begun anew.
