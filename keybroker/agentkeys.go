package keybroker

import (
	"sync"

	"github.com/anchorhold/anchorhold/crypto/identity"
)

// maxAgentKeys bounds the keys kept, of some 34 KiB each.
const maxAgentKeys = 1024

// agentKeys are the keys of agents that were attested not long ago, ready to verify:
// a renewal then does not expand its key again. It says nothing about a key but its
// bytes; every exchange verifies and appraises anew.
type agentKeys struct {
	mu   sync.Mutex
	keys map[[32]byte]identity.Public
}

// known returns the same key, from those kept if it is there.
func (a *agentKeys) known(k identity.Public) identity.Public {
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept := a.keys[k.ID()]; kept.Equal(k) {
		return kept
	}
	return k
}

// put keeps a key. Only those of attested agents are, so that strangers push none out.
func (a *agentKeys) put(k identity.Public) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.keys == nil || len(a.keys) >= maxAgentKeys {
		a.keys = map[[32]byte]identity.Public{} // as in appraise: bounded, and simple
	}
	a.keys[k.ID()] = k
}
