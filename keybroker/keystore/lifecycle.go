package keystore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// MaxListed is the most entries that one List returns.
const MaxListed = 10_000

// List describes the versions of secrets whose names start with prefix, in
// order, at most MaxListed of them; more reports that others follow.
func (s *Store) List(ctx context.Context, prefix string) (infos []Info, more bool, err error) {
	err = guarded(s.db.View, func(tx *bolt.Tx) error {
		c := tx.Bucket([]byte(bucketSecrets)).Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if len(infos) == MaxListed {
				more = true
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			name, version, err := splitKey(k)
			if err != nil {
				return err
			}
			r, err := parseRecord(v)
			if err != nil {
				return fmt.Errorf("%s version %d: %w", name, version, err)
			}
			infos = append(infos, r.info(name, version))
		}
		return nil
	})
	return infos, more, err
}

// Count returns the number of names.
func (s *Store) Count() (int, error) {
	n := 0
	err := guarded(s.db.View, func(tx *bolt.Tx) error {
		n = tx.Bucket([]byte(bucketNames)).Stats().KeyN
		return nil
	})
	return n, err
}

// Audited returns up to which record of the audit log the store was found to have what the
// log says, as SetAudited said; 0 if never. A copy that is put back says what it said then.
func (s *Store) Audited() (records uint64, err error) {
	err = guarded(s.db.View, func(tx *bolt.Tx) error {
		switch v := tx.Bucket([]byte(bucketMeta)).Get([]byte(metaAudited)); len(v) {
		case 0:
		case 8:
			records = binary.BigEndian.Uint64(v)
		default:
			return fmt.Errorf("%w: the number of audit records", ErrDamaged)
		}
		return nil
	})
	return records, err
}

// SetAudited keeps how many records of the audit log the store was compared with.
func (s *Store) SetAudited(ctx context.Context, records uint64) error {
	return s.update(ctx, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(bucketMeta)).Put([]byte(metaAudited), binary.BigEndian.AppendUint64(nil, records))
	})
}

// Rotate stores secret as the next version of an existing name and retires all
// active ones before it, in one step.
func (s *Store) Rotate(ctx context.Context, name string, secret *keybuf.Buffer, meta Meta) (version uint64, retired []uint64, err error) {
	err = s.update(ctx, func(tx *bolt.Tx) error {
		retired = nil
		h, err := readHead(tx, name)
		if err != nil {
			return err
		}
		for v := uint64(1); v <= h.last; v++ {
			r, err := readRecord(tx, name, v)
			if err != nil {
				return err
			}
			if r.state == Active {
				r.state, r.changed = Retired, s.now().UTC()
				if err := writeRecord(tx, name, v, r); err != nil {
					return err
				}
				retired = append(retired, v)
			}
		}
		version, err = s.put(tx, name, secret, meta)
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("rotate secret: %w", err)
	}
	return version, retired, nil
}

// Retire ends the use of a version by default; it can still be asked for by
// number. The latest version that is still active takes its place, if any.
func (s *Store) Retire(ctx context.Context, name string, version uint64) error {
	return s.change(ctx, name, version, Retired)
}

// Destroy removes a version's sealed bytes for ever. Its name, number and
// commitment remain.
func (s *Store) Destroy(ctx context.Context, name string, version uint64) error {
	return s.change(ctx, name, version, Destroyed)
}

func (s *Store) change(ctx context.Context, name string, version uint64, to State) error {
	err := s.update(ctx, func(tx *bolt.Tx) error {
		if err := CheckName(name); err != nil {
			return err
		}
		h, err := readHead(tx, name)
		if err != nil {
			return err
		}
		r, err := readRecord(tx, name, version)
		if err != nil {
			return err
		}
		if r.state == Destroyed {
			return ErrDestroyed
		}
		if r.state >= to {
			return fmt.Errorf("it is %s already", r.state)
		}
		r.state, r.changed = to, s.now().UTC()
		if to == Destroyed {
			r.sealed = nil
		}
		if err := writeRecord(tx, name, version, r); err != nil {
			return err
		}
		if h.active, err = latestActive(tx, name, h.last); err != nil {
			return err
		}
		return writeHead(tx, name, h)
	})
	if err != nil {
		return fmt.Errorf("%s version %d cannot be %s: %w", name, version, to, err)
	}
	return nil
}

func latestActive(tx *bolt.Tx, name string, last uint64) (uint64, error) {
	for v := last; v > 0; v-- {
		r, err := readRecord(tx, name, v)
		if err != nil {
			return 0, err
		}
		if r.state == Active {
			return v, nil
		}
	}
	return 0, nil
}

// RotateKEK seals every secret anew under kek in one transaction: after a
// crash the store opens with the old KEK or with the new one, never with a
// mixture.
func (s *Store) RotateKEK(ctx context.Context, kek *keybuf.Buffer) error {
	own, id, err := copyKEK(kek)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := &sealer{kek: own, id: id}
	if next.commitKey, err = keybuf.New(s.sealer.commitKey.Len()); err != nil {
		own.Wipe()
		return err
	}
	copy(next.commitKey.Bytes(), s.sealer.commitKey.Bytes())
	err = guarded(s.db.Update, func(tx *bolt.Tx) error {
		// The keys are collected first: a cursor does not survive writes.
		var keys [][]byte
		c := tx.Bucket([]byte(bucketSecrets)).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			keys = append(keys, bytes.Clone(k))
		}
		for _, k := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := s.rewrap(tx, next, k); err != nil {
				return err
			}
		}
		return s.writeMeta(tx, next)
	})
	if err != nil {
		next.wipe()
		return fmt.Errorf("rotate key-encryption key: %w", err)
	}
	old := s.sealer
	s.sealer = next
	old.wipe()
	return nil
}

// rewrap opens one secret under the old KEK and seals it under the next.
func (s *Store) rewrap(tx *bolt.Tx, next *sealer, key []byte) error {
	name, version, err := splitKey(key)
	if err != nil {
		return err
	}
	r, err := readRecord(tx, name, version)
	if err != nil || r.state == Destroyed {
		return err
	}
	secret, err := s.sealer.open(name, version, r)
	if err != nil {
		return fmt.Errorf("%s version %d: %w", name, version, err)
	}
	defer secret.Wipe()
	if r.sealed, err = next.seal(name, version, r.meta.Subject, secret); err != nil {
		return err
	}
	return writeRecord(tx, name, version, r)
}

func splitKey(k []byte) (string, uint64, error) {
	i := bytes.IndexByte(k, 0)
	if i < 0 || len(k) != i+9 || CheckName(string(k[:i])) != nil {
		return "", 0, fmt.Errorf("%w: a key of %d bytes", ErrDamaged, len(k))
	}
	return string(k[:i]), binary.BigEndian.Uint64(k[i+1:]), nil
}
