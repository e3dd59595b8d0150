package appraise

import (
	"crypto/ecdsa"
	"math/big"
	"sync"
)

// maxCombKeys bounds the keys of chips that are kept, of some 24 KiB each.
const maxCombKeys = 256

// combKeys are the keys of chips that signed reports not long ago. A first signature is
// verified by crypto/ecdsa and earns the key a place, a second one a [combKey], which
// verifies those that follow. Only genuine signatures count, so that whoever sends
// certificates of chips that it does not have makes the broker prepare nothing.
// It says nothing about a key but its bytes: the chain is checked at every use.
type combKeys struct {
	mu   sync.Mutex
	keys map[[1 + 2*scalarSize]byte]*combPlace
}

// combPlace is owned by the cache, and key by whoever asks: it does not change.
type combPlace struct {
	preparing bool
	key       *combKey // nil until prepared
}

// verify says whether a signature is the key's.
func (c *combKeys) verify(key *ecdsa.PublicKey, digest *[scalarSize]byte, r, s *big.Int) bool {
	encoded, err := key.Bytes()
	if err != nil || len(encoded) != 1+2*scalarSize {
		return false
	}
	id := [1 + 2*scalarSize]byte(encoded)
	if prepared := c.get(id); prepared != nil {
		return prepared.verify(digest, r, s)
	}
	if !ecdsa.Verify(key, digest[:], r, s) {
		return false
	}
	if place := c.signed(id); place != nil {
		prepared, err := newCombKey(key)
		if err != nil {
			return true // crypto/ecdsa has verified it, and does the next one, too
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		place.key = prepared
	}
	return true
}

// get returns the key if it is prepared.
func (c *combKeys) get(id [1 + 2*scalarSize]byte) *combKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.keys[id]; place != nil {
		return place.key
	}
	return nil
}

// signed counts a signature. It returns the place of a key that is to be prepared now.
func (c *combKeys) signed(id [1 + 2*scalarSize]byte) *combPlace {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.keys[id]; place != nil {
		if place.preparing {
			return nil
		}
		place.preparing = true
		return place
	}
	if c.keys == nil {
		c.keys = map[[1 + 2*scalarSize]byte]*combPlace{}
	}
	if len(c.keys) >= maxCombKeys {
		for any := range c.keys { // one at random, so that a fleet of more than fits keeps most
			delete(c.keys, any)
			break
		}
	}
	c.keys[id] = &combPlace{}
	return nil
}
