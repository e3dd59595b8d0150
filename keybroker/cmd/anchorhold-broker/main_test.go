package main

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
)

// The broker holds every key, in buffers and, of TLS and of signatures, in the Go heap.
func TestBrokerLeavesItsMemoryToNobody(t *testing.T) {
	keybuftest.Undumpable(t, func() error { return run([]string{"version"}) })
}
