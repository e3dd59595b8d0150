package receipt

import (
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Limits bound a Store. Zero limits take the defaults named.
type Limits struct {
	// Kept is how many receipts there are, PerUser how many of one user: 512, and a
	// quarter of Kept.
	Kept, PerUser int
	// Age is how long one is kept; a day.
	Age time.Duration
	// Now is the clock; time.Now.
	Now func() time.Time
}

// Store keeps the latest receipts in memory, each for the user whose request it
// answers. A user who has his share, or the most when all places are taken, loses his
// own oldest: nobody's requests drive out another's receipts. It is bounded, and empty
// after a restart: the client holds the copy that lasts. Safe for concurrent use.
type Store struct {
	limits Limits

	mu sync.Mutex
	at map[digest.ReceiptID]*entry
	of map[uint32][]*entry // of each user, the oldest first; no empty lists
}

type entry struct {
	owner  uint32
	issued Issued
	put    time.Time
}

// NewStore makes a store. A receipt costs about 4 KiB beside the chain, which receipts of
// a lease share.
func NewStore(l Limits) *Store {
	if l.Kept <= 0 {
		l.Kept = 512
	}
	if l.PerUser <= 0 {
		l.PerUser = max(l.Kept/4, 1)
	}
	if l.Age <= 0 {
		l.Age = 24 * time.Hour
	}
	if l.Now == nil {
		l.Now = time.Now
	}
	return &Store{limits: l, at: map[digest.ReceiptID]*entry{}, of: map[uint32][]*entry{}}
}

// Put adds a receipt for the user with this uid.
func (s *Store) Put(owner uint32, issued Issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, now := issued.Receipt.Body.ID, s.limits.Now()
	if _, ok := s.at[id]; ok {
		return // an ID is random: it is the same receipt
	}
	for uid := range s.of {
		for len(s.of[uid]) > 0 && s.old(s.of[uid][0], now) {
			s.drop(uid)
		}
	}
	for len(s.of[owner]) >= s.limits.PerUser {
		s.drop(owner)
	}
	for len(s.at) >= s.limits.Kept {
		s.drop(s.most())
	}
	e := &entry{owner, issued, now}
	s.at[id] = e
	s.of[owner] = append(s.of[owner], e)
}

// old says whether a receipt has had its time. One from a later time than now is of a
// clock that was set back, and stays.
func (s *Store) old(e *entry, now time.Time) bool { return now.Sub(e.put) > s.limits.Age }

// most is the user who has the most receipts, of equals the one with the oldest.
func (s *Store) most() (uid uint32) {
	var held []*entry
	for other, list := range s.of {
		if len(list) > len(held) || len(list) == len(held) && list[0].put.Before(held[0].put) {
			uid, held = other, list
		}
	}
	return uid
}

// drop forgets a user's oldest receipt.
func (s *Store) drop(uid uint32) {
	list := s.of[uid]
	delete(s.at, list[0].issued.Receipt.Body.ID)
	list[0] = nil
	if s.of[uid] = list[1:]; len(list) == 1 {
		delete(s.of, uid)
	}
}

// Get returns a receipt of this user. Another user's is not there: its salts
// would confirm guesses at what that user asked.
func (s *Store) Get(owner uint32, id digest.ReceiptID) (Issued, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.at[id]
	if !ok || e.owner != owner || s.old(e, s.limits.Now()) {
		return Issued{}, false
	}
	return e.issued, true
}
