package aggregator

import (
	"fmt"
	"maps"
	"os"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// gotOn notes that an upload began or got on. r.mu is held.
func (r *round) gotOn(u *upload) {
	r.order++
	u.since = r.order
}

// makeRoom has an upload give way where the round has its maximum, or the newcomer's
// processor its part: one that is neither complete nor under way. A manifest costs nothing but
// an agent key, and one guest has those as it likes: those that came without blocks would shut
// a round for everybody else, and those that were uploaded whole would fill it with what the
// broker does not admit. r.mu is held.
func (r *round) makeRoom(newcomer *upload) error {
	switch own := r.processors[newcomer.processor]; {
	case len(own) >= int(r.def.PerGuest):
		return r.giveWay(own, newcomer.source, ReasonGuest, fmt.Sprintf("this processor has its %d contributions to the round", r.def.PerGuest))
	case len(r.uploads) >= int(r.def.Maximum):
		// What is complete by now keeps its place, and is not looked at again.
		maps.DeleteFunc(r.waiting, func(_ digest.Digest, u *upload) bool { return u.complete.Load() })
		return r.giveWay(r.waiting, newcomer.source, ReasonFull, fmt.Sprintf("the round has its %d contributions", r.def.Maximum))
	}
	return nil
}

// giveWay removes the least wanted of some uploads. r.mu is held.
func (r *round) giveWay(some map[digest.Digest]*upload, newcomer string, full refusal.Reason, detail string) error {
	u, incomplete := leastWanted(some, newcomer)
	if incomplete == 0 {
		return refusal.New(full, "%s", detail)
	}
	if u == nil {
		return refusal.New(ReasonBusy, "%s, of which %d are in progress; try again later", detail, incomplete)
	}
	defer u.mu.Unlock()
	if err := os.RemoveAll(r.path("uploads", u.digest.String())); err != nil {
		return err
	}
	u.gone = true
	r.drop(u)
	return nil
}

// leastWanted is, of the source that has most incomplete uploads, one without blocks, and of
// these the one that got on longest ago. It is of the newcomer's source, or of one that has
// more than that: a source with many takes nothing from one with few. Its mu is held.
func leastWanted(some map[digest.Digest]*upload, newcomer string) (least *upload, incomplete int) {
	count := map[string]int{}
	for _, u := range some {
		if !u.complete.Load() {
			count[u.source]++
			incomplete++
		}
	}
	for _, u := range some {
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
