package receipt

import "sync"

// Store keeps the latest receipts in memory, each for the user whose request it
// answers. It is bounded, and empty after a restart: the client holds the copy
// that lasts. Safe for concurrent use.
type Store struct {
	mu   sync.Mutex
	ring []entry // fixed length; the oldest is overwritten
	next int
	at   map[ID]int
}

type entry struct {
	owner  uint32
	issued Issued
}

// NewStore makes a store of at most n receipts, n > 0. One costs about 4 KiB
// beside the chain, which receipts of a lease share.
func NewStore(n int) *Store {
	return &Store{ring: make([]entry, max(n, 1)), at: make(map[ID]int)}
}

// Put adds a receipt for the user with this uid.
func (s *Store) Put(owner uint32, issued Issued) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := &s.ring[s.next]
	if i, ok := s.at[old.issued.Receipt.Body.ID]; ok && i == s.next {
		delete(s.at, old.issued.Receipt.Body.ID)
	}
	*old = entry{owner, issued}
	s.at[issued.Receipt.Body.ID] = s.next
	s.next = (s.next + 1) % len(s.ring)
}

// Get returns a receipt of this user. Another user's is not there: its salts
// would confirm guesses at what that user asked.
func (s *Store) Get(owner uint32, id ID) (Issued, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.at[id]
	if !ok || s.ring[i].owner != owner {
		return Issued{}, false
	}
	return s.ring[i].issued, true
}
