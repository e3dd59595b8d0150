package receipt

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// shelf is a store and what a user did with it.
type shelf struct {
	*Store
	t    *testing.T
	next uint32
	now  time.Time
}

func newShelf(t *testing.T, l Limits) *shelf {
	s := &shelf{t: t, now: time.Unix(1_795_000_000, 0)}
	l.Now = func() time.Time { return s.now }
	s.Store = NewStore(l)
	return s
}

func (s *shelf) put(owner uint32) (id digest.ReceiptID) {
	s.next++
	binary.BigEndian.PutUint32(id[:], s.next)
	s.Put(owner, Issued{Receipt: Receipt{Body: Body{ID: id}}})
	s.now = s.now.Add(time.Second)
	n := 0
	for uid, list := range s.of {
		n += len(list)
		if len(list) == 0 || len(list) > s.limits.PerUser {
			s.t.Errorf("user %d has %d receipts", uid, len(list))
		}
	}
	if n != len(s.at) || n > s.limits.Kept {
		s.t.Errorf("%d receipts, %d in the index", n, len(s.at))
	}
	return id
}

func (s *shelf) has(owner uint32, id digest.ReceiptID, want bool) {
	s.t.Helper()
	if _, ok := s.Get(owner, id); ok != want {
		s.t.Errorf("user %d, receipt %s: found %t", owner, id, ok)
	}
}

func TestReceiptsArePrivate(t *testing.T) {
	s := newShelf(t, Limits{})
	id := s.put(1000)
	s.has(1000, id, true)
	s.has(1001, id, false)
}

// TestNobodyDrivesOutAnothersReceipts: one user's requests drove out everybody's.
func TestNobodyDrivesOutAnothersReceipts(t *testing.T) {
	s := newShelf(t, Limits{Kept: 8, PerUser: 6})
	quiet := s.put(1)
	var flood []digest.ReceiptID
	for range 100 {
		flood = append(flood, s.put(2))
	}
	s.has(1, quiet, true)
	s.has(2, flood[99], true)
	s.has(2, flood[94], true)
	s.has(2, flood[93], false) // over the quota of one user
	another := s.put(3)
	s.has(2, flood[94], true) // all eight places are taken now
	s.put(1)
	s.has(2, flood[94], false) // the one who has the most makes room
	s.has(1, quiet, true)
	s.has(3, another, true)
}

// Users without number have one place each at most, and the newest stay.
func TestManyUsersStayInsideTheStore(t *testing.T) {
	s := newShelf(t, Limits{Kept: 8})
	first := s.put(0)
	var last digest.ReceiptID
	for uid := range uint32(100) {
		last = s.put(uid + 1)
	}
	s.has(0, first, false)
	s.has(100, last, true)
}

func TestReceiptsEndWithTheirAge(t *testing.T) {
	s := newShelf(t, Limits{Age: time.Hour})
	old := s.put(1)
	s.now = s.now.Add(time.Hour)
	s.has(1, old, false)
	s.put(2)
	if len(s.at) != 1 || len(s.of) != 1 {
		t.Error("a receipt that is too old still takes a place")
	}
	young := s.put(1)
	s.now = s.now.Add(-48 * time.Hour) // a clock that was set back
	s.has(1, young, true)
}
