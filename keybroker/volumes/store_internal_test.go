package volumes

import (
	"fmt"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

func state(number uint64, mark byte) State {
	return State{Generation: number, Mark: digest.Digest{mark}}
}

func openBolt(t testing.TB, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBolt(t *testing.T) {
	conform(t, func(t *testing.T) func() Store {
		path := filepath.Join(t.TempDir(), "volumes.db")
		return func() Store { return openBolt(t, path) }
	}, func(s Store, most int) { s.(*Bolt).most = most })
}

// conform is what both stores must do. at makes a place for one, which can be opened again; bound sets how many
// volumes there may be.
func conform(t *testing.T, at func(*testing.T) func() Store, bound func(Store, int)) {
	end := func(t *testing.T, s Store) {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Run("KeepsEntries", func(t *testing.T) {
		open := at(t)
		s := open()
		e, err := s.Get(t.Context(), "volumes/b")
		if err != nil || !reflect.DeepEqual(e, Entry{Volume: "volumes/b"}) {
			t.Fatalf("%+v, %v", e, err)
		}
		e.State, e.Agent, e.Lease, e.At = State{Generation: 1 << 52, Mark: digest.Digest{1}}, digest.Digest{2}, digest.LeaseID{3}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		e.Reset, e.Disputed, e.Logged, e.Seen = true, true, 7, []Sight{{digest.Digest{4}, state(9, 5)}}
		refusaltest.Want(t, "put", s.Put(t.Context(), e), "")
		for _, name := range []string{"volumes/aa", "volumes/a-z", "volumes/a"} {
			refusaltest.Want(t, name, s.Put(t.Context(), Entry{Volume: name}), "")
		}
		end(t, s)
		s = open()
		defer end(t, s)
		e.Version = 1
		if got, err := s.Get(t.Context(), e.Volume); err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v, want %+v", got, err, e)
		}
		var names []string
		if err := s.Each(t.Context(), func(e Entry) error { names = append(names, e.Volume); return nil }); err != nil || fmt.Sprint(names) != "[volumes/a volumes/a-z volumes/aa volumes/b]" {
			t.Errorf("%v, %v", names, err)
		}
	})
	t.Run("RefusesTheSecondOfTwoChanges", func(t *testing.T) {
		s := at(t)()
		defer end(t, s)
		e := Entry{Volume: "volumes/a"}
		for range 3 {
			refusaltest.Want(t, "the first", s.Put(t.Context(), e), "")
			refusaltest.Want(t, "the second", s.Put(t.Context(), e), ReasonConflict)
			e.Version += 2
			refusaltest.Want(t, "a version to come", s.Put(t.Context(), e), ReasonConflict)
			e.Version--
		}
	})
	t.Run("IsBounded", func(t *testing.T) {
		s := at(t)()
		defer end(t, s)
		bound(s, 2)
		for _, name := range []string{"volumes/a", "volumes/b"} {
			refusaltest.Want(t, name, s.Put(t.Context(), Entry{Volume: name}), "")
		}
		refusaltest.Want(t, "one more", s.Put(t.Context(), Entry{Volume: "volumes/c"}), ReasonFull)
		refusaltest.Want(t, "one that is there", s.Put(t.Context(), Entry{Volume: "volumes/a", Version: 1}), "")
	})
}

func TestDamagedEntriesAreRefused(t *testing.T) {
	b := openBolt(t, filepath.Join(t.TempDir(), "volumes.db"))
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
