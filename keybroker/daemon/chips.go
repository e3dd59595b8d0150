package daemon

import (
	"sync"

	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// maxChips bounds what is remembered: so many leases twice, of 64 bytes each.
const maxChips = 1 << 15

// chips remembers to which processor a lease was granted. A lease has one for ever; one
// that the log does not have was granted elsewhere, and a log gets no record of a lease after
// the lease itself.
type chips struct {
	mu            sync.Mutex
	newer, before map[protocol.LeaseID]chipOf
}

type chipOf struct {
	chip [32]byte
	here bool // this broker granted it
}

// of returns what is remembered of a lease, or what find finds. What find is not sure of is asked
// again.
func (c *chips) of(lease protocol.LeaseID, find func() (found chipOf, sure bool, err error)) (chipOf, error) {
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
		c.newer = map[protocol.LeaseID]chipOf{}
	}
	c.newer[lease] = found
	return found, nil
}
