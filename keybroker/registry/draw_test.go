package registry

import (
	"maps"
	"math"
	"slices"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// of is an entry of an agent with one of many numbers.
func of(guest, agent byte, n int) ReceiptEntry {
	e := entry(agent, byte(n))
	e.Guest, e.Receipt.ID, e.Raw = digest.Digest{guest}, digest.ReceiptID{agent, byte(n >> 8), byte(n)}, []byte{agent, byte(n >> 8), byte(n)}
	return e
}

// take announces numbers of an agent in one transaction, which are all taken.
func take(t *testing.T, s *Store, l Limits, guest, agent byte, from, n int) (displaced []ReceiptEntry) {
	t.Helper()
	var list []ReceiptEntry
	for i := range n {
		list = append(list, of(guest, agent, from+i))
	}
	a, displaced, err := s.Announce(list, l)
	if err != nil || a.New != n {
		t.Fatalf("%+v: %v", a, err)
	}
	return displaced
}

// waitingOf counts what waits, by agent.
func waitingOf(t *testing.T, s *Store) map[byte][]int {
	t.Helper()
	list, err := s.Waiting()
	if err != nil {
		t.Fatal(err)
	}
	out := map[byte][]int{}
	for _, w := range list {
		out[w.ID[0]] = append(out[w.ID[0]], int(w.ID[1])<<8|int(w.ID[2]))
	}
	return out
}

// near refuses a count that is more than eight standard deviations of a binomial
// distribution from its mean. By Bernstein's inequality that happens with a probability below
// 1e-11 where the deviation is 13 at least.
func near(t *testing.T, what string, got, tries int, p float64) {
	t.Helper()
	mean, deviation := float64(tries)*p, math.Sqrt(float64(tries)*p*(1-p))
	if math.Abs(float64(got)-mean) > 8*deviation {
		t.Errorf("%s: %d of %d, want %.0f within %.0f", what, got, tries, mean, 8*deviation)
	}
}

// TestEachAnnouncementWaitsWithTheSameChance: neither the first nor the last of 40
// announcements for 10 places has an advantage, whether one agent, the keys of one
// processor or guests that nobody knows made them. What stays of each quarter of the order is counted
// over 100 rounds: twelve counts, which are sampled without replacement and so closer to
// their mean than near allows for. One of them is off by chance with less than 1e-9.
func TestEachAnnouncementWaitsWithTheSameChance(t *testing.T) {
	longtest.Run(t, "it makes twelve thousand announcements")
	const places, all, rounds = 10, 40, 100
	for name, tc := range map[string]struct {
		limits       Limits
		guest, agent func(i int) byte
	}{
		"of an agent":     {Limits{Waiting: 1000, WaitingPerAgent: places, WaitingPerGuest: 1000}, func(int) byte { return 1 }, func(int) byte { return 1 }},
		"of a processor":  {Limits{Waiting: 1000, WaitingPerAgent: places, WaitingPerGuest: places}, func(int) byte { return 1 }, func(i int) byte { return byte(1 + i%8) }},
		"of nobody knows": {Limits{Waiting: places, WaitingPerAgent: places, WaitingPerGuest: 1}, func(int) byte { return 0 }, func(i int) byte { return byte(1 + i%8) }},
	} {
		s, _ := openStore(t)
		s.db.NoSync = true // many small writes, of which none has to last
		var quarters [4]int
		for range rounds {
			for i := range all {
				take(t, s, tc.limits, tc.guest(i), tc.agent(i), i, 1)
			}
			list := waitingOf(t, s)
			if n := len(slices.Concat(slices.Collect(maps.Values(list))...)); n != places {
				t.Fatalf("%s: %d wait", name, n)
			}
			for _, numbers := range list {
				for _, n := range numbers {
					quarters[n*4/all]++
				}
			}
			expire(t, s, 2, 0, Expired{Waiting: places})
		}
		for q, got := range quarters {
			near(t, name, got, rounds*all/4, float64(places)/all)
			t.Log(name, "quarter", q, got)
		}
		if c, err := s.Counts(); err != nil || c.Displaced != rounds*(all-places) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestAFullRegistryTakesFromWhoHasMost: two processors that hold all places shut nobody out,
// and one that nobody knows counts as one.
func TestAFullRegistryTakesFromWhoHasMost(t *testing.T) {
	l := Limits{Waiting: 40, WaitingPerAgent: 10, WaitingPerGuest: 20, Kept: 9, Proven: 9, ProvenPerAgent: 9}
	for _, guests := range [][4]byte{{1, 1, 2, 2}, {0, 0, 0, 0}} {
		s, _ := openStore(t)
		for i, guest := range guests {
			take(t, s, l, guest, byte(1+i), 0, 10)
		}
		invariants(t, s)
		for n := range 10 {
			gone := take(t, s, l, 3, 9, n, 1)
			if len(gone) != 1 || gone[0].Guest == (digest.Digest{3}) {
				t.Errorf("receipt %d of a small processor: %d went, of processor %s", n, len(gone), gone[0].Guest)
			}
			invariants(t, s)
		}
		if got := waitingOf(t, s); len(got[9]) != 10 {
			t.Errorf("%d receipts of a small processor wait", len(got[9]))
		}
	}
}

// An agent's own announcements displace its own alone, so another on its processor keeps what
// it has.
func TestAnAgentDisplacesItsOwn(t *testing.T) {
	s, _ := openStore(t)
	l := Limits{Waiting: 100, WaitingPerAgent: 10, WaitingPerGuest: 20}
	take(t, s, l, 1, 1, 0, 10)
	for _, e := range take(t, s, l, 1, 2, 0, 300) {
		if e.Receipt.Agent != (digest.Digest{2}) {
			t.Error("displaced: a receipt of agent", e.Receipt.Agent)
		}
	}
	invariants(t, s)
	if got := waitingOf(t, s); len(got[1]) != 10 || len(got[2]) != 10 {
		t.Errorf("%d and %d wait", len(got[1]), len(got[2]))
	}
}

// What has a challenge or a proof is never displaced, and leaves its place to others.
func TestWhatIsKeptIsNotDisplaced(t *testing.T) {
	s, _ := openStore(t)
	w := federationtest.New(t)
	l := Limits{Waiting: 3, WaitingPerAgent: 3, WaitingPerGuest: 3, Kept: 9, Proven: 9, ProvenPerAgent: 9}
	announce(t, s, 1, 1, 2, 3)
	if err := s.PutChallenges([]Issued{challenge(t, w, 1, 1)}, l); err != nil {
		t.Fatal(err)
	}
	if err := s.PutProof(digest.Digest{1}, ProofEntry{Verified: 1}, []digest.ReceiptID{{1, 2}}, l); err != nil {
		t.Fatal(err)
	}
	if gone := take(t, s, l, 0, 1, 0x101, 2); len(gone) != 0 {
		t.Errorf("%d went though there was room", len(gone))
	}
	take(t, s, l, 0, 1, 0x1000, 200)
	invariants(t, s)
	there(t, s, digest.ReceiptID{1, 1}, true)
	there(t, s, digest.ReceiptID{1, 2}, true)
	if c, err := s.Counts(); err != nil || c.Waiting != 3 || c.Kept != 2 || c.Displaced != 200 || c.Dropped != 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// An operator may lower a limit: what is too much goes in parts.
func TestALoweredLimitIsReachedInParts(t *testing.T) {
	s, _ := openStore(t)
	take(t, s, room(1000), 1, 1, 0, 200)
	if gone := take(t, s, room(10), 1, 1, 200, 1); len(gone) != maxDisplaced {
		t.Errorf("%d went at once, want %d", len(gone), maxDisplaced)
	}
	take(t, s, room(10), 1, 1, 300, 3)
	invariants(t, s)
	if got := waitingOf(t, s); len(got[1]) != 10 {
		t.Errorf("%d wait", len(got[1]))
	}
	if _, gone, err := s.Announce([]ReceiptEntry{of(1, 1, 400)}, Limits{}); err != nil || len(gone) != 11 {
		t.Errorf("limits of nothing: %d went, %v", len(gone), err)
	}
}
