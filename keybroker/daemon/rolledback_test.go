package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/daemon/auditlog"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// TestARotatedKeyDoesNotComeBack: a rotation retires version 1, and version 2 is destroyed
// later: the name is out of use. The older store, where version 1 is active, is put back.
func TestARotatedKeyDoesNotComeBack(t *testing.T) {
	s := newState(t, false)
	file := s.result.Layout.Keystore()
	op, _, stop := s.run(t)
	putSecret(t, op, "models/a")
	stop()
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	op, _, stop = s.run(t)
	secret, err := keybuf.Take(repeated('n', 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := op.PutSecret(t.Context(), "models/a", secret, keystore.Meta{}, operator.PutRotate); err != nil {
		t.Fatal(err)
	}
	if err := op.DestroySecret(t.Context(), "models/a", 2); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.WriteFile(file, old, 0o600); err != nil {
		t.Fatal(err)
	}
	if reason, _ := refusal.ReasonOf(Check(s.options)); reason != auditlog.ReasonStoreRolledBack {
		t.Errorf("got %q, want %s", reason, auditlog.ReasonStoreRolledBack)
	}
}

// TestArchivedSegmentsStopNoStart: a broker that ran for long, whose closed segments were
// archived and taken away as documented, starts again.
func TestArchivedSegmentsStopNoStart(t *testing.T) {
	s := newState(t, false)
	op, _, stop := s.run(t)
	putSecret(t, op, "models/a")
	stop()
	d, err := open(s.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.log.Close(); err != nil {
		t.Fatal(err)
	}
	dir := s.result.Layout.Audit()
	l, err := audit.Open(dir, d.keys.Audit, audit.Options{SegmentBytes: 2000, MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if _, err := l.Append(t.Context(), audit.Record{Kind: audit.KindService, Time: time.Now(), Action: "x", Resource: "x", Detail: string(repeated('d', 200))}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := l.Archive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_ = d.close()
	if err := os.RemoveAll(filepath.Join(dir, audit.ArchiveName)); err != nil {
		t.Fatal(err)
	}
	if a.Records == 0 {
		t.Fatal("nothing was archived")
	}
	if err := Check(s.options); err != nil {
		t.Errorf("the store is the newest there is, and the broker does not start: %v", err)
	}
}
