package volumes

import (
	"path/filepath"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

func TestStoreIsBounded(t *testing.T) {
	b, err := OpenBolt(filepath.Join(t.TempDir(), "volumes.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	b.most = 2
	for _, name := range []string{"volumes/a", "volumes/b"} {
		refusaltest.Want(t, name, b.Put(t.Context(), Entry{Volume: name}), "")
	}
	refusaltest.Want(t, "one more", b.Put(t.Context(), Entry{Volume: "volumes/c"}), ReasonFull)
	refusaltest.Want(t, "one that is there", b.Put(t.Context(), Entry{Volume: "volumes/a", Version: 1}), "")
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	b, err := OpenBolt(filepath.Join(t.TempDir(), "volumes.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, raw := range []string{"", "{", `{}`, `{"volume":"volumes/b","version":1}`, `{"volume":"volumes/a"}`} {
		if err := b.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketVolumes).Put([]byte("volumes/a"), []byte(raw)) }); err != nil {
			t.Fatal(err)
		}
		_, err := b.Get(t.Context(), "volumes/a")
		refusaltest.Want(t, raw, err, ReasonStore)
		refusaltest.Want(t, raw, b.Put(t.Context(), Entry{Volume: "volumes/a"}), ReasonStore)
		refusaltest.Want(t, raw, b.Each(t.Context(), func(Entry) error { return nil }), ReasonStore)
	}
}
