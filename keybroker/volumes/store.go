package volumes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/generation"
)

// Entry is what is known of one volume.
type Entry struct {
	// Volume is the resource of its key.
	Volume string `json:"volume"`
	// State was confirmed last; none before the first time.
	State State `json:"state"`
	// Reset means that an operator lets the next opening begin with any state.
	Reset bool `json:"reset,omitempty"`
	// Agent and Lease are whose opening was confirmed, At is when.
	Agent digest.Digest  `json:"agent"`
	Lease digest.LeaseID `json:"lease"`
	At    time.Time      `json:"at"`
	// Logged is the number of records of the audit log when this was compared with it last: a later record
	// about the volume says more than this entry.
	Logged uint64 `json:"logged"`
	// Seen and Disputed are of a fleet. Seen is what each broker knew when it spoke of the volume last. Disputed, in
	// the store that they share, means that a broker knows a state that the store does not, and that the volume
	// went on without it.
	Seen     []Sight `json:"seen,omitempty"`
	Disputed bool    `json:"disputed,omitempty"`
	// Version counts changes; a store refuses to overwrite another version.
	Version uint64 `json:"version"`
}

// Sight is what one broker of a fleet knew of a volume.
type Sight struct {
	Broker digest.Digest `json:"broker"`
	State  State         `json:"state"`
}

// State is a state of a volume.
type State = generation.State

// Store keeps the entries. Every method returns only when what it did is durable, and may be called from
// several goroutines.
type Store interface {
	// Get returns the entry of a volume; one that is not there has only the name.
	Get(ctx context.Context, volume string) (Entry, error)
	// Put replaces an entry whose stored version is e.Version, and adds one to it; any other is
	// ReasonConflict. One more volume than [MaxVolumes] is ReasonFull.
	Put(ctx context.Context, e Entry) error
	// Each visits all entries in the order of their names.
	Each(ctx context.Context, visit func(Entry) error) error
	// Close ends the use of the store.
	Close() error
}

// MaxVolumes bounds how many volumes a store remembers.
const MaxVolumes = 10_000

// maxEntryBytes is more than an entry with [maxBrokers] sights has.
const maxEntryBytes = 32 << 10

// Bolt is the store of a single broker: one file.
type Bolt struct {
	db   *bolt.DB
	most int // volumes that there may be
}

var bucketVolumes = []byte("volumes") // name -> Entry

// OpenBolt opens or makes the file.
func OpenBolt(path string) (*Bolt, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open volumes %s: %w", path, err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketVolumes)
		return err
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("open volumes %s: %w", path, err), db.Close())
	}
	return &Bolt{db, MaxVolumes}, nil
}

// Close implements Store.
func (b *Bolt) Close() error { return b.db.Close() }

// Get implements Store.
func (b *Bolt) Get(_ context.Context, volume string) (e Entry, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		e, err = getEntry(tx, volume)
		return err
	})
	return e, err
}

func getEntry(tx *bolt.Tx, volume string) (Entry, error) {
	raw := tx.Bucket(bucketVolumes).Get([]byte(volume))
	if raw == nil {
		return Entry{Volume: volume}, nil
	}
	return decodeEntry(volume, raw)
}

func conflict(volume string) error {
	return refusal.New(ReasonConflict, "%s was changed at the same time", volume)
}

func full(most int) error {
	return refusal.New(ReasonFull, "%d volumes are known, the most there may be", most)
}

// encodeEntry makes an entry its next version.
func encodeEntry(e *Entry) ([]byte, error) {
	e.Version++
	return json.Marshal(e)
}

func decodeEntry(volume string, raw []byte) (e Entry, err error) {
	if len(raw) > maxEntryBytes || !generation.ValidVolume(volume) {
		return Entry{}, refusal.New(ReasonStore, "the entry of %q is damaged", volume)
	}
	if err := json.Unmarshal(raw, &e); err != nil || e.Volume != volume || e.Version == 0 || len(e.Seen) > maxBrokers {
		return Entry{}, refusal.New(ReasonStore, "the entry of %s is damaged", volume)
	}
	return e, nil
}

// Put implements Store.
func (b *Bolt) Put(_ context.Context, e Entry) error {
	return b.db.Update(func(tx *bolt.Tx) error {
		held, err := getEntry(tx, e.Volume)
		if err != nil {
			return err
		}
		bucket := tx.Bucket(bucketVolumes)
		switch {
		case held.Version != e.Version:
			return conflict(e.Volume)
		case held.Version == 0 && bucket.Stats().KeyN >= b.most:
			return full(b.most)
		}
		raw, err := encodeEntry(&e)
		if err != nil {
			return err
		}
		return bucket.Put([]byte(e.Volume), raw)
	})
}

// Each implements Store.
func (b *Bolt) Each(_ context.Context, visit func(Entry) error) error {
	return b.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketVolumes).ForEach(func(k, v []byte) error {
			e, err := decodeEntry(string(k), v)
			if err != nil {
				return err
			}
			return visit(e)
		})
	})
}
