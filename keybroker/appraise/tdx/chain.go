package tdx

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"sync"
	"time"
)

// CA says which of Intel's authorities certified a platform's key. Its text is the parameter of
// the PCS for the authority's revocation list.
type CA string

// The authorities: of platforms with several sockets (all servers of today), and of those with one.
const (
	PlatformCA  CA = "platform"
	ProcessorCA CA = "processor"
)

// pckChain is a verified chain of a platform's key. Time and revocation are checked at every use.
type pckChain struct {
	leaf, issuer, root holder
	key                *ecdsa.PublicKey
	platform           *platform
	ca                 CA
	software           bool
}

// maxCached bounds each cache. A platform's chain stays the same until its firmware changes; the
// certified attestation key, until its quoting enclave starts anew.
const maxCached = 4096

// cache keeps what was verified, by the digest of all bytes that went into it. It may be used by
// several goroutines.
type cache[V any] struct {
	mu      sync.Mutex
	entries map[[32]byte]V
}

func (c *cache[V]) get(id [32]byte) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.entries[id]
	return v, ok
}

func (c *cache[V]) put(id [32]byte, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxCached {
		c.entries = map[[32]byte]V{} // simpler than an order of eviction, and as bounded
	}
	c.entries[id] = v
}

// chainOf returns the verified chain of a quote, and the digest of its text.
func (v *Verifier) chainOf(text []byte) (*pckChain, [32]byte, error) {
	id := sha256.Sum256(text)
	if c, ok := v.chains.get(id); ok {
		return c, id, nil
	}
	c, err := verifyPCKChain(text, v.roots)
	if err != nil {
		return nil, id, err
	}
	v.chains.put(id, c)
	return c, id, nil
}

// verifyPCKChain reads and verifies PCK, authority and root.
func verifyPCKChain(text []byte, roots Roots) (*pckChain, error) {
	certs, err := parseChain(text, 3)
	if err != nil {
		return nil, err
	}
	c := &pckChain{leaf: holderOf(certs[0]), issuer: holderOf(certs[1]), root: holderOf(certs[2]), ca: PlatformCA}
	if c.software, err = verifyChain(certs, roots, []string{namePCK}, []string{namePlatform, nameProcessor}, []string{nameRoot}); err != nil {
		return nil, err
	}
	if c.issuer.name == nameProcessor {
		c.ca = ProcessorCA
	}
	if c.platform, err = parsePlatform(certs[0]); err != nil {
		return nil, err
	}
	c.key, _ = certs[0].PublicKey.(*ecdsa.PublicKey) // checkForm has seen to it
	return c, nil
}

// validAt checks the certificates' times.
func (c *pckChain) validAt(now time.Time) error {
	for _, h := range []*holder{&c.root, &c.issuer, &c.leaf} {
		if err := h.check(now, ReasonExpired, ReasonExpired); err != nil {
			return err
		}
	}
	return nil
}
