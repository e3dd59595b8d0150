package openmodel

import (
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/runtime/arena"
)

// ReasonWipedInUse means that something still used a model when its lease ended, and did not
// let go. Its key and its memory were wiped under it.
const ReasonWipedInUse refusal.Reason = "wiped-in-use"

// CloseGrace is how long running requests have to let go of a model that is closed.
// They end within one step of the computation, which takes milliseconds; only
// something that hangs, as a read from a disk that is gone, takes longer.
const CloseGrace = 2 * time.Second

// Custody is a model's key and all memory that it opens into, from before it is
// opened until it is closed. Any goroutine may wipe it.
type Custody struct {
	// Key is the model's key.
	Key *keybuf.Buffer
	// Subject is the id of the model that the key opens, as the broker says; zero if
	// the broker does not say.
	Subject [32]byte

	mu      sync.Mutex // guards the rest
	budgets []*arena.Budget
	wiped   bool
}

// Budget makes a budget that is wiped with the rest.
func (c *Custody) Budget(limit int64) *arena.Budget {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := arena.NewBudget(limit)
	if c.wiped {
		b.Wipe()
	}
	c.budgets = append(c.budgets, b)
	return b
}

// Wipe wipes the key and the memory under whoever uses them. It may be called on
// nil and more than once.
func (c *Custody) Wipe() {
	if c == nil {
		return
	}
	c.Key.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wiped = true
	for _, b := range c.budgets {
		b.Wipe()
	}
}
