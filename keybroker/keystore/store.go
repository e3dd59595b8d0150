// Package keystore keeps the broker's secrets at rest.
//
// It guarantees that a secret is stored only sealed under the key-encryption
// key (KEK), bound to its name, version and KEK, that what Put or a change of
// state acknowledged is on stable storage, and that a secret is found by name
// and version only: nothing here enumerates values. Opening with another KEK
// is ErrWrongKEK before anything is read.
//
// It trusts the KEK, which comes from a systemd credential or a passphrase and
// never lies beside the store. It refuses names outside a small alphabet,
// unknown versions of its own format, and any record that does not open.
// Destroying a secret removes its sealed bytes from the live data; a copy may
// stay in free pages of the file, still sealed under the KEK, until they are
// written again.
//
// The broker reads secrets, the operator socket changes them.
package keystore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// MaxSecretBytes bounds one secret.
const MaxSecretBytes = 64 << 10

var (
	// ErrNotFound means that no secret has this name or version.
	ErrNotFound = errors.New("no such secret")
	// ErrDestroyed means that this version was destroyed.
	ErrDestroyed = errors.New("the secret was destroyed")
	// ErrNotActive means that the secret has no active version.
	ErrNotActive = errors.New("the secret has no active version")
	// ErrWrongKEK means that the store was sealed under another key-encryption key.
	ErrWrongKEK = errors.New("wrong key-encryption key: the store is sealed under another one")
	// ErrDamaged means that the store's bytes are not as they were written.
	ErrDamaged = errors.New("the key store is damaged")
	// ErrInUse means that another process has the store open.
	ErrInUse = errors.New("another process has the key store open")
	// ErrExists means that the name is already taken.
	ErrExists = errors.New("a secret of this name exists")
)

// bucketNames holds name -> head, bucketSecrets holds name, zero byte, version -> record,
// bucketMeta holds what concerns the whole store.
const (
	bucketNames   = "names"
	bucketSecrets = "secrets"
	bucketMeta    = "meta"
)

// Store is an open key store. Its methods may be called by many goroutines.
type Store struct {
	db  *bolt.DB
	now func() time.Time

	mu     sync.RWMutex // held for writing while the KEK changes
	sealer *sealer
}

// Open opens the store at path, creating an empty one if there is none. It
// copies what it needs of kek (32 bytes); the caller keeps and wipes kek.
func Open(path string, kek *keybuf.Buffer) (*Store, error) {
	return open(path, kek, time.Now)
}

func open(path string, kek *keybuf.Buffer, now func() time.Time) (*Store, error) {
	if err := checkMode(path); err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	var db *bolt.DB
	err := guarded(func(func(*bolt.Tx) error) (err error) {
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
		return err
	}, nil)
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open key store: %w", ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	s := &Store{db: db, now: now}
	if err := guarded(db.Update, func(tx *bolt.Tx) error { return s.begin(tx, kek) }); err != nil {
		db.Close()
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return s, nil
}

// checkMode refuses a store that others may read or write.
func checkMode(path string) error {
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %#o; only its owner may have access (0600)", path, st.Mode().Perm())
	}
	return nil
}

// begin creates or checks the store's frame inside the first transaction.
func (s *Store) begin(tx *bolt.Tx, kek *keybuf.Buffer) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return s.initialise(tx, kek)
	}
	if v := meta.Get([]byte(metaFormat)); len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("%w: unknown format %x", ErrDamaged, v)
	}
	if tx.Bucket([]byte(bucketNames)) == nil || tx.Bucket([]byte(bucketSecrets)) == nil {
		return fmt.Errorf("%w: a part is missing", ErrDamaged)
	}
	var err error
	s.sealer, err = openSealer(kek, meta.Get([]byte(metaKEKID)), meta.Get([]byte(metaCommitKey)))
	return err
}

func (s *Store) initialise(tx *bolt.Tx, kek *keybuf.Buffer) error {
	for _, name := range []string{bucketMeta, bucketNames, bucketSecrets} {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	seal, err := newSealer(kek)
	if err != nil {
		return err
	}
	s.sealer = seal
	return s.writeMeta(tx, seal)
}

func (s *Store) writeMeta(tx *bolt.Tx, seal *sealer) error {
	wrapped, err := seal.wrapCommitKey()
	if err != nil {
		return err
	}
	meta := tx.Bucket([]byte(bucketMeta))
	return errors.Join(
		meta.Put([]byte(metaFormat), []byte{formatVersion}),
		meta.Put([]byte(metaKEKID), seal.id[:]),
		meta.Put([]byte(metaCommitKey), wrapped),
	)
}

// Close closes the file and wipes the keys. A Get still running ends first.
func (s *Store) Close() error {
	err := s.db.Close()
	s.sealer.wipe()
	return err
}

// Path returns the store's file.
func (s *Store) Path() string { return s.db.Path() }

// head is what is kept per name: the last version given out and the latest
// active one (0: none).
type head struct{ last, active uint64 }

func readHead(tx *bolt.Tx, name string) (head, error) {
	v := tx.Bucket([]byte(bucketNames)).Get([]byte(name))
	if v == nil {
		return head{}, ErrNotFound
	}
	if len(v) != 16 {
		return head{}, fmt.Errorf("%w: head of %s", ErrDamaged, name)
	}
	return head{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}, nil
}

func writeHead(tx *bolt.Tx, name string, h head) error {
	var v [16]byte
	binary.BigEndian.PutUint64(v[:], h.last)
	binary.BigEndian.PutUint64(v[8:], h.active)
	return tx.Bucket([]byte(bucketNames)).Put([]byte(name), v[:])
}

func secretKey(name string, version uint64) []byte {
	k := append([]byte(name), 0)
	return binary.BigEndian.AppendUint64(k, version)
}

func readRecord(tx *bolt.Tx, name string, version uint64) (record, error) {
	v := tx.Bucket([]byte(bucketSecrets)).Get(secretKey(name, version))
	if v == nil {
		return record{}, ErrNotFound
	}
	r, err := parseRecord(v)
	if err != nil {
		return record{}, fmt.Errorf("%s version %d: %w", name, version, err)
	}
	return r, nil
}

func writeRecord(tx *bolt.Tx, name string, version uint64, r record) error {
	v, err := r.marshal()
	if err != nil {
		return err
	}
	return tx.Bucket([]byte(bucketSecrets)).Put(secretKey(name, version), v)
}

// Put stores secret as the next version of name and makes it the one that Get
// finds by default. Earlier versions stay as they are. It returns when the
// secret is durable; the caller keeps and wipes secret.
func (s *Store) Put(ctx context.Context, name string, secret *keybuf.Buffer, meta Meta) (uint64, error) {
	var version uint64
	err := s.update(ctx, func(tx *bolt.Tx) (err error) {
		version, err = s.put(tx, name, secret, meta)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("store secret: %w", err)
	}
	return version, nil
}

// Create is Put for a name that must be new.
func (s *Store) Create(ctx context.Context, name string, secret *keybuf.Buffer, meta Meta) (uint64, error) {
	var version uint64
	err := s.update(ctx, func(tx *bolt.Tx) error {
		if _, err := readHead(tx, name); !errors.Is(err, ErrNotFound) {
			return errors.Join(ErrExists, err)
		}
		var err error
		version, err = s.put(tx, name, secret, meta)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("create secret: %w", err)
	}
	return version, nil
}

func (s *Store) put(tx *bolt.Tx, name string, secret *keybuf.Buffer, meta Meta) (uint64, error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	if err := meta.check(); err != nil {
		return 0, err
	}
	if secret.Len() == 0 || secret.Len() > MaxSecretBytes {
		return 0, fmt.Errorf("a secret has 1 to %d bytes, not %d", MaxSecretBytes, secret.Len())
	}
	h, err := readHead(tx, name)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	h.last++
	h.active = h.last
	now := s.now().UTC()
	r := record{state: Active, created: now, changed: now, meta: meta, size: secret.Len()}
	r.commitment = s.sealer.commit(secret)
	if r.sealed, err = s.sealer.seal(name, h.last, meta.Subject, secret); err != nil {
		return 0, err
	}
	if err := writeRecord(tx, name, h.last, r); err != nil {
		return 0, err
	}
	return h.last, writeHead(tx, name, h)
}

// Get opens one version of a secret; version 0 is the latest active one. A
// retired version opens only when it is asked for by number. The caller wipes
// the buffer before it returns (keybuf.TakeBriefly).
func (s *Store) Get(ctx context.Context, name string, version uint64) (*keybuf.Buffer, Info, error) {
	if err := CheckName(name); err != nil {
		return nil, Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return nil, Info{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out *keybuf.Buffer
	var info Info
	err := guarded(s.db.View, func(tx *bolt.Tx) error {
		version, r, err := find(tx, name, version)
		if err != nil {
			return err
		}
		info = r.info(name, version)
		if r.state == Destroyed {
			return ErrDestroyed
		}
		out, err = s.sealer.open(name, version, r)
		return err
	})
	if err != nil {
		return nil, info, fmt.Errorf("get secret %s: %w", name, err)
	}
	return out, info, nil
}

// Stat describes one version without opening it; version 0 is the latest
// active one.
func (s *Store) Stat(ctx context.Context, name string, version uint64) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	var info Info
	err := guarded(s.db.View, func(tx *bolt.Tx) error {
		version, r, err := find(tx, name, version)
		info = r.info(name, version)
		return err
	})
	if err != nil {
		return Info{}, fmt.Errorf("stat secret %s: %w", name, err)
	}
	return info, ctx.Err()
}

// maxTried bounds the versions of one name that ForFile opens.
const maxTried = 64

// File tells a sealed file, and the key that it was sealed under, from all others.
type File struct {
	ID         [32]byte // from the file's first block (docs/sealed-format.md)
	Commitment [32]byte // from there, too
	Model      [32]byte // the id of the model in it; zero if nobody knows yet
}

// ForFile describes the newest active version that opens a sealed file, of those whose
// subject is the file's model, of those without a subject if there is none, and of all if
// nobody knows which model the file holds. It looks at the newest 64 active versions, and
// opens them to do so. ErrNotFound means that none is the file's key.
func (s *Store) ForFile(ctx context.Context, name string, file File) (Info, error) {
	if err := CheckName(name); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found Info
	err := guarded(s.db.View, func(tx *bolt.Tx) error {
		h, err := readHead(tx, name)
		if err != nil {
			return err
		}
		for v, tried := h.active, 0; v > 0 && tried < maxTried; v-- {
			r, err := readRecord(tx, name, v)
			if err != nil {
				return err
			}
			exact := file.Model == [32]byte{} || r.meta.Subject == file.Model
			vague := r.meta.Subject == Subject{} && found.Version == 0
			if r.state != Active || r.size != chunkseal.KeySize || !exact && !vague {
				continue
			}
			tried++
			opens, err := s.opens(name, v, r, file)
			if err != nil {
				return err
			}
			if opens {
				found = r.info(name, v)
			}
			if opens && exact {
				return nil
			}
		}
		return nil
	})
	if err == nil && found.Version == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Info{}, fmt.Errorf("secret %s for a file: %w", name, err)
	}
	return found, nil
}

func (s *Store) opens(name string, version uint64, r record, file File) (bool, error) {
	key, err := s.sealer.open(name, version, r)
	if err != nil {
		return false, err
	}
	defer key.Wipe()
	return chunkseal.Lock{FileID: file.ID, Commitment: file.Commitment}.Opens(key)
}

func find(tx *bolt.Tx, name string, version uint64) (uint64, record, error) {
	h, err := readHead(tx, name)
	if err != nil {
		return 0, record{}, err
	}
	if version == 0 {
		if h.active == 0 {
			return 0, record{}, ErrNotActive
		}
		version = h.active
	}
	r, err := readRecord(tx, name, version)
	return version, r, err
}

func (s *Store) update(ctx context.Context, f func(*bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return guarded(s.db.Update, f)
}

// guarded runs a transaction. The database panics on pages that are not what
// they should be; here that is an error like any other damage.
func guarded(run func(func(*bolt.Tx) error) error, f func(*bolt.Tx) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return run(f)
}
