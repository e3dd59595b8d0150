package registry

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

// Limits of what is remembered of displaced receipts.
const (
	// maxCounted bounds the agents that are counted apart.
	maxCounted = 1024
	// maxNamed bounds the agents that one record names: those with the most.
	maxNamed = 16
)

// tellEvery is how often the audit log is told of them.
const tellEvery = time.Hour

// displaced counts receipts that went by a draw, until the audit log has them. Strangers can
// cause any number, and one record an hour. It is the summary of Metwally, Agrawal and El
// Abbadi (2005, "Space-Saving"): whoever had more than one in maxCounted of all is in it,
// whatever came before and between.
type displaced struct{ of map[digest.Digest]tally }

// tally is how many receipts of an agent went: most of them at most, and over of these may be
// of agents that gave their place to it.
type tally struct{ most, over int }

func (d *displaced) add(entries []ReceiptEntry) {
	for _, e := range entries {
		d.count(e.Receipt.Agent, tally{most: 1})
	}
}

func (d *displaced) count(agent digest.Digest, more tally) {
	held, counted := d.of[agent]
	if !counted && len(d.of) == maxCounted {
		last, least := digest.Digest{}, math.MaxInt
		for other, n := range d.of {
			if n.most < least {
				last, least = other, n.most
			}
		}
		delete(d.of, last)
		held = tally{least, least}
	}
	if d.of == nil {
		d.of = map[digest.Digest]tally{}
	}
	d.of[agent] = tally{held.most + more.most, held.over + more.over}
}

// largest are the agents, those with the most first.
func (d *displaced) largest() []digest.Digest {
	return slices.SortedFunc(maps.Keys(d.of), func(a, b digest.Digest) int {
		return cmp.Or(cmp.Compare(d.of[b].most, d.of[a].most), bytes.Compare(a[:], b[:]))
	})
}

func (d *displaced) String() string {
	var parts []string
	others := 0
	for i, agent := range d.largest() {
		n := d.of[agent]
		switch {
		case i >= maxNamed:
			others += n.most
		case n.over > 0:
			parts = append(parts, fmt.Sprintf("%d to %d of agent %s", n.most-n.over, n.most, agent))
		default:
			parts = append(parts, fmt.Sprintf("%d of agent %s", n.most, agent))
		}
	}
	if others > 0 {
		parts = append(parts, fmt.Sprintf("%d of other agents", others))
	}
	return "more receipts than may wait, displaced: " + strings.Join(parts, ", ")
}

// TellDisplaced puts into the audit log whose receipts went by a draw since the last time, an
// hour ago at least. An agent that announces more than may wait makes each of its answers
// less likely to be challenged, or answers more than is challenged. What the log does not
// take is told the next time.
func (s *Service) TellDisplaced(ctx context.Context) error {
	s.mu.Lock()
	gone, last := s.displaced, s.told
	if len(gone.of) == 0 || s.now() < last.Add(tellEvery) {
		s.mu.Unlock()
		return nil
	}
	s.displaced, s.told = displaced{}, s.now()
	s.mu.Unlock()
	err := s.cfg.Audit(ctx, "receipts-displaced", gone.String())
	if err != nil {
		s.mu.Lock()
		for agent, n := range s.displaced.of {
			gone.count(agent, n)
		}
		s.displaced, s.told = gone, last
		s.mu.Unlock()
	}
	return err
}
