package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/systemd/disk"
)

// MaxItems bounds the files of a directory: beyond it no new certificate of a chip is kept, for
// guests name those. Each takes 4 KiB of disk: less than 1 GiB.
const MaxItems = 200_000

// suffix ends the names of items' files.
const suffix = ".item"

// fileMode lets others read what is public, as the broker does what root fetched.
const fileMode = 0o644

// Store is an open directory. It may be used by several goroutines and processes.
type Store struct {
	dir   string
	items atomic.Int64 // of files, about: other processes write, too
	limit int64
}

// Open opens a directory, which must exist, and removes what a crash left unfinished.
func Open(dir string) (*Store, error) {
	s := &Store{dir: dir, limit: MaxItems}
	unlock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := disk.Sweep(dir); err != nil { // all write under the lock
		return nil, err
	}
	keys, err := s.Keys()
	s.items.Store(int64(len(keys)))
	return s, err
}

// Bound sets another bound than MaxItems, before the store is used.
func (s *Store) Bound(items int64) { s.limit = items }

// lock takes the directory for a process and a goroutine.
func (s *Store) lock() (unlock func(), err error) {
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", s.dir, err), d.Close())
	}
	return func() { _ = d.Close() }, nil // which unlocks; nothing was written to it
}

func (s *Store) path(k collateral.Key) string { return filepath.Join(s.dir, k.FileName()+suffix) }

// Keys are those of the items that are kept, in the order of their names. Files that are not the
// store's are passed over.
func (s *Store) Keys() ([]collateral.Key, error) {
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err = errors.Join(err, d.Close()); err != nil {
		return nil, err
	}
	keys := make([]collateral.Key, 0, len(names))
	slices.Sort(names)
	for _, name := range names {
		if base, ours := strings.CutSuffix(name, suffix); ours {
			if k, err := collateral.ParseFileName(base); err == nil {
				keys = append(keys, k)
			}
		}
	}
	return keys, nil
}

// Get reads an item. A missing one is ReasonMissing; a damaged one, ReasonMalformed.
func (s *Store) Get(k collateral.Key) (collateral.Item, error) {
	f, err := os.Open(s.path(k))
	if errors.Is(err, fs.ErrNotExist) {
		return collateral.Item{}, refusal.New(collateral.ReasonMissing, "%s is not kept", k)
	} else if err != nil {
		return collateral.Item{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, collateral.MaxItemBytes+1))
	if err != nil {
		return collateral.Item{}, err
	}
	it, err := collateral.ParseItem(data)
	if err == nil && it.Key != k {
		err = refusal.New(collateral.ReasonMalformed, "the file of %s holds %s", k, it.Key)
	}
	if err != nil {
		return collateral.Item{}, err
	}
	return it, nil
}

// Put keeps an item whose documents were verified. It returns whether that changed more than the
// time at which the item was fetched. It refuses with ReasonRollback or ReasonConflict what is not
// newer than any document of the same name that is kept, in this item or, of Intel's, in one of
// another platform.
func (s *Store) Put(it collateral.Item) (changed bool, err error) {
	data, err := it.Marshal()
	if err != nil {
		return false, err
	}
	unlock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer unlock()
	kept, err := s.Get(it.Key)
	reason, refused := refusal.ReasonOf(err)
	switch first := reason == collateral.ReasonMissing; {
	case err != nil && !refused:
		return false, err
	case first && it.Key.Kind() == collateral.KindVCEK && s.items.Load() >= s.limit:
		return false, refusal.New(collateral.ReasonFull, "%d items are kept already", s.items.Load())
	case err == nil && it.Key.Kind() == collateral.KindVCEK:
		return false, nil
	}
	// A damaged file is replaced: whoever can damage it can delete it, too.
	if err := s.checkNewer(it); err != nil {
		return false, err
	}
	if err := s.write(it.Key, data); err != nil {
		return false, err
	}
	if reason == collateral.ReasonMissing {
		s.items.Add(1)
	}
	return !slices.EqualFunc(kept.Documents, it.Documents, bytes.Equal), nil
}

// Replace puts a VCEK in the place of a kept one that turned out to be damaged.
func (s *Store) Replace(it collateral.Item) error {
	if it.Key.Kind() != collateral.KindVCEK {
		return refusal.New(collateral.ReasonRollback, "%s may only be replaced by what is newer", it.Key)
	}
	data, err := it.Marshal()
	if err != nil {
		return err
	}
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return s.write(it.Key, data)
}

// checkNewer compares the documents of an item with those that are kept under the same names.
func (s *Store) checkNewer(it collateral.Item) error {
	offered, err := it.Stamps()
	if err != nil || len(offered) == 0 {
		return err
	}
	kept, err := s.Newest(it.Key)
	if err != nil {
		return err
	}
	for _, o := range offered {
		if k, has := kept[o.Name]; has {
			if _, err := o.Replaces(k.Stamp); err != nil {
				return err
			}
		}
	}
	return nil
}

// Document is a document that is kept, and the chain that signs it if its item has one.
type Document struct {
	Stamp collateral.Stamp
	// Parts are the document and its chain, at the stamp's indices in their item.
	Parts [][]byte
}

// Newest are the newest of the documents that items of the key's kind hold, by name. Only
// platforms of Intel share documents; for other kinds it is what is kept under the key.
func (s *Store) Newest(k collateral.Key) (map[string]Document, error) {
	keys := []collateral.Key{k}
	if k.Kind() == collateral.KindTDX {
		all, err := s.Keys()
		if err != nil {
			return nil, err
		}
		keys = slices.DeleteFunc(all, func(o collateral.Key) bool { return o.Kind() != collateral.KindTDX })
	}
	found := map[string]Document{}
	for _, k := range keys {
		it, err := s.Get(k)
		if err != nil {
			if _, refused := refusal.ReasonOf(err); refused {
				continue // missing or damaged
			}
			return nil, err
		}
		stamps, err := it.Stamps()
		if err != nil {
			continue
		}
		for _, st := range stamps {
			d := Document{Stamp: st}
			for _, at := range st.Documents {
				d.Parts = append(d.Parts, it.Documents[at])
			}
			have, known := found[st.Name]
			if newer, err := st.Replaces(have.Stamp); !known || err == nil && newer {
				found[st.Name] = d
			}
		}
	}
	return found, nil
}

// write gives an item its place. The lock is held.
func (s *Store) write(k collateral.Key, data []byte) error {
	f, err := disk.Create(s.dir)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(fileMode)); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Keep(s.path(k))
}

// Count is how many items are kept, about.
func (s *Store) Count() int { return int(s.items.Load()) }
