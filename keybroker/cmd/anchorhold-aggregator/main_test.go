package main

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

// An aggregator has no key of a round, but that of its own certificate.
func TestAggregatorLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error { return run([]string{"version"}) })
}
