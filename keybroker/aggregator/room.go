package aggregator

import (
	"os"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// gotOn notes that an upload began or got on. r.mu is held.
func (r *round) gotOn(u *upload) {
	r.order++
	u.since = r.order
}

// makeRoom has an upload give way that is neither complete nor under way. A manifest costs
// nothing but an agent key, and one guest has those as it likes: those that came without
// blocks would shut a round for everybody else. r.mu is held.
func (r *round) makeRoom(newcomer string) error {
	u, incomplete := r.leastWanted(newcomer)
	if incomplete == 0 {
		return evidence.Refuse(ReasonFull, "the round has its %d contributions", r.def.Maximum)
	}
	if u == nil {
		return evidence.Refuse(ReasonBusy, "the round has its %d contributions, of which %d are under way; come back", r.def.Maximum, incomplete)
	}
	defer u.mu.Unlock()
	if err := os.RemoveAll(r.path("uploads", u.digest.String())); err != nil {
		return err
	}
	u.gone = true
	delete(r.uploads, u.digest)
	delete(r.agents, u.contribution.Agent)
	return nil
}

// leastWanted is, of the source that has most incomplete uploads, one without blocks, and of
// these the one that got on longest ago. It is of the newcomer's source, or of one that has
// more than that: a source with many takes nothing from one with few. Its mu is held.
func (r *round) leastWanted(newcomer string) (least *upload, incomplete int) {
	count := map[string]int{}
	for _, u := range r.uploads {
		if !u.complete.Load() {
			count[u.source]++
			incomplete++
		}
	}
	for _, u := range r.uploads {
		if u.complete.Load() || u.source != newcomer && count[u.source] <= count[newcomer] || !u.mu.TryLock() {
			continue
		}
		if u.complete.Load() || least != nil && !lessWanted(u, least, count) {
			u.mu.Unlock()
			continue
		}
		if least != nil {
			least.mu.Unlock()
		}
		least = u
	}
	return least, incomplete
}

func lessWanted(u, v *upload, count map[string]int) bool {
	if a, b := count[u.source], count[v.source]; a != b {
		return a > b
	}
	if a, b := u.next.Load() == 0, v.next.Load() == 0; a != b {
		return a
	}
	return u.since < v.since
}
