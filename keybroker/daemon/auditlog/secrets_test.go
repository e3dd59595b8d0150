package auditlog

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

func random(t *testing.T) *keybuf.Buffer {
	t.Helper()
	b, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Wipe)
	return b
}

func TestSecretsAreComparedFromWhereTheyWereLast(t *testing.T) {
	ctx, log := t.Context(), newLog(t)
	kek, err := keystore.CredentialKEK(random(t))
	if err != nil {
		t.Fatal(err)
	}
	defer kek.Wipe()
	store, err := keystore.Open(filepath.Join(t.TempDir(), "keystore.db"), kek)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := store.Create(ctx, "models/a", random(t), keystore.Meta{}); err != nil {
		t.Fatal(err)
	}
	q := operator.SecretQueries(0)[0]
	if _, err := log.Append(ctx, audit.Record{Kind: q.Kind, Time: time.Now(), Action: q.Action, Resource: q.Resource, ResourceVersion: 1, Detail: "active models/a"}); err != nil {
		t.Fatal(err)
	}
	secrets := Secrets{Store: store, log: log}
	said, unknown, err := secrets.said(0)
	if err != nil || len(said) != 1 || len(unknown) != 0 {
		t.Fatal(said, unknown, err)
	}
	if err := secrets.Check(log); err != nil {
		t.Error(err)
	}
	if said, _, err := secrets.said(log.Size()); err != nil || len(said) != 0 {
		t.Errorf("what was compared before is asked for again: %v %v", said, err)
	}
	if err := store.SetAudited(ctx, log.Size()+1); err != nil {
		t.Fatal(err)
	}
	if err := store.Retire(ctx, "models/a", 1); err != nil { // ahead of the log is not behind it
		t.Fatal(err)
	}
	if err := secrets.Check(log); err != nil {
		t.Error(err)
	}
}
