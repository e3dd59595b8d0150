package rounds

import (
	"context"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// The keys of an open round's bucket: one kind each, and what it is of.
const (
	memberAt    = 'n' // place in the list -> member
	memberOf    = 'c' // contribution -> place
	memberAgent = 'a' // agent -> place
	memberFile  = 'u' // upload -> place
	memberChip  = 'p' // processor -> how many
)

// boltRoster is the list of one open round. Its bucket's sequence is the number of members.
type boltRoster struct{ b *bolt.Bucket }

func memberKey(kind byte, of []byte) []byte { return append([]byte{kind}, of...) }

func (l boltRoster) find(contribution digest.Digest) (m Member, there bool, err error) {
	at := l.b.Get(memberKey(memberOf, contribution[:]))
	if at == nil {
		return m, false, nil
	}
	m, err = decodeMember(l.b.Get(memberKey(memberAt, at)))
	if err == nil && m.Contribution != contribution {
		err = damaged("contribution %s is in the place of %s", m.Contribution, contribution)
	}
	return m, true, err
}

func (l boltRoster) taken(m Member) (bool, error) {
	return l.b.Get(memberKey(memberAgent, m.Agent[:])) != nil || l.b.Get(memberKey(memberFile, m.Upload[:])) != nil, nil
}

func (l boltRoster) ofChip(chip digest.Digest) (uint32, error) {
	raw := l.b.Get(memberKey(memberChip, chip[:]))
	switch len(raw) {
	case 0:
		return 0, nil
	case 4:
		return binary.BigEndian.Uint32(raw), nil
	}
	return 0, damaged("the number of contributions of a processor has %d bytes", len(raw))
}

func (l boltRoster) count() uint64 { return l.b.Sequence() }

func (l boltRoster) put(m Member) error {
	raw, err := encodeMember(m)
	if err != nil {
		return err
	}
	same, err := l.ofChip(m.Chip)
	if err != nil {
		return err
	}
	n, err := l.b.NextSequence()
	if err != nil {
		return err
	}
	at := sequence(n)
	for _, kv := range [][2][]byte{
		{memberKey(memberAt, at), raw}, {memberKey(memberOf, m.Contribution[:]), at}, {memberKey(memberAgent, m.Agent[:]), at},
		{memberKey(memberFile, m.Upload[:]), at}, {memberKey(memberChip, m.Chip[:]), binary.BigEndian.AppendUint32(nil, same+1)},
	} {
		if err := l.b.Put(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

// addListed adds the list of an open round to its record.
func addListed(tx *bolt.Tx, r *Record) error {
	b := tx.Bucket([]byte(bucketMembers)).Bucket(r.ID[:])
	if b == nil {
		return nil
	}
	if r.State != Open {
		return damaged("round %s is %s, and has a list beside its record", r.ID, r.State)
	}
	c := b.Cursor()
	for k, v := c.Seek([]byte{memberAt}); len(k) > 0 && k[0] == memberAt; k, v = c.Next() {
		m, err := decodeMember(v)
		if err != nil {
			return err
		}
		r.Members, r.listed = append(r.Members, m), r.listed+1
	}
	if uint64(r.listed) != b.Sequence() {
		return damaged("round %s has %d contributions on its list, there were %d", r.ID, r.listed, b.Sequence())
	}
	return nil
}

// Head implements Store.
func (b *Bolt) Head(_ context.Context, id digest.RoundID) (r Record, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, _, err = getHead(tx, id)
		return err
	})
	return r, err
}

// Members implements Store.
func (b *Bolt) Members(_ context.Context, id digest.RoundID, contributions []digest.Digest) (found map[digest.Digest]Member, err error) {
	err = b.db.View(func(tx *bolt.Tx) error {
		r, _, err := getHead(tx, id)
		if err != nil {
			return err
		}
		found = ofRecord(r, contributions)
		listed := tx.Bucket([]byte(bucketMembers)).Bucket(id[:])
		if listed == nil {
			return nil
		}
		for _, d := range contributions {
			m, there, err := boltRoster{listed}.find(d)
			if err != nil {
				return err
			}
			if there {
				found[d] = m
			}
		}
		return nil
	})
	return found, err
}

// Admit implements Store.
func (b *Bolt) Admit(_ context.Context, id digest.RoundID, some []Member, places Places) (refused []error, err error) {
	err = b.db.Update(func(tx *bolt.Tx) error {
		r, key, err := getHead(tx, id)
		if err != nil {
			return err
		}
		before := len(r.Members)
		listed, err := tx.Bucket([]byte(bucketMembers)).CreateBucketIfNotExists(id[:])
		if err != nil {
			return err
		}
		if refused, err = enlistAll(boltRoster{listed}, &r, some, places); err != nil || before == 0 {
			return err
		}
		return putRecord(tx.Bucket([]byte(bucketRounds)), append([]byte(nil), key...), r)
	})
	return refused, err
}
