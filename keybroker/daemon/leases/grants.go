package leases

import (
	"context"
	"sync"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
)

// Grants says to whom keys were granted.
type Grants struct {
	log   *audit.Log // never changed
	chips chips      // under its own lock
}

// NewGrants reads them from a log.
func NewGrants(log *audit.Log) *Grants { return &Grants{log: log} }

// reasonNotHere: another broker granted the lease, or none.
const reasonNotHere refusal.Reason = "lease-not-granted-here"

// Processor returns the processor that a lease was granted to, by the audit log: from its newest
// records on, and once for a lease.
func (g *Grants) Processor(_ context.Context, lease digest.LeaseID) ([32]byte, error) {
	of, err := g.chips.of(lease, func() (of chipOf, sure bool, err error) {
		found, there, err := g.log.FindLast(audit.Query{Kind: audit.KindGrant, Grant: lease.String()})
		if err != nil || found.Record == nil { // not there, or its text is archived and away
			return of, !there, err
		}
		return chipOf{found.Record.ChipDigest, true}, true, nil
	})
	if err == nil && !of.here {
		err = refusal.New(reasonNotHere, "lease %s is not in this broker's log", lease)
	}
	return of.chip, err
}

// ProcessorIfKnown is the same for receipts and openings of volumes, whose lease another broker of the
// root may have granted: nobody's then.
func (g *Grants) ProcessorIfKnown(ctx context.Context, lease digest.LeaseID) ([32]byte, error) {
	chip, err := g.Processor(ctx, lease)
	if reason, _ := refusal.ReasonOf(err); reason == reasonNotHere {
		return [32]byte{}, nil
	}
	return chip, err
}

// Released says whether a round's key was released to an agent key, by the audit log.
func (g *Grants) Released(_ context.Context, resource string, agent digest.Digest) (bool, error) {
	found, err := g.log.Find(audit.Query{Kind: audit.KindRelease, Resource: resource, AgentKey: agent})
	return len(found) > 0, err
}

// maxChips bounds what is remembered: so many leases twice, of 64 bytes each.
const maxChips = 1 << 15

// chips remembers to which processor a lease was granted. A lease has one for ever; one
// that the log does not have was granted elsewhere, and a log gets no record of a lease after
// the lease itself.
type chips struct {
	mu            sync.Mutex // owns the maps
	newer, before map[digest.LeaseID]chipOf
}

type chipOf struct {
	chip [32]byte
	here bool // this broker granted it
}

// of returns what is remembered of a lease, or what find finds. What find is not sure of is asked
// again.
func (c *chips) of(lease digest.LeaseID, find func() (found chipOf, sure bool, err error)) (chipOf, error) {
	c.mu.Lock()
	held, ok := c.newer[lease]
	if !ok {
		held, ok = c.before[lease]
	}
	c.mu.Unlock()
	if ok {
		return held, nil
	}
	found, sure, err := find()
	if err != nil || !sure {
		return found, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.newer) >= maxChips {
		c.newer, c.before = nil, c.newer
	}
	if c.newer == nil {
		c.newer = map[digest.LeaseID]chipOf{}
	}
	c.newer[lease] = found
	return found, nil
}
