//go:build !race && !release

package keybroker_test

import (
	"context"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/crypto/keybuf/keybuftest"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestReleasesLeaveNoCopyOfAKey releases a key to a guest again and again, and looks for it in the memory of broker and guest,
// which are one process here. No collector is asked: what it might have cleared would be there until it came.
func TestReleasesLeaveNoCopyOfAKey(t *testing.T) {
	if !keybuftest.Alone(t) {
		return
	}
	f := brokertest.New(t)
	secret, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Wipe()
	version, err := f.Store.Put(context.Background(), brokertest.Resource, secret, keystore.Meta{})
	if err != nil {
		t.Fatal(err)
	}
	// A file that was sealed under another key has the broker open this one to compare.
	sealed := protocol.Sealed{Resource: brokertest.Resource, Files: []protocol.File{{ID: [32]byte{1}, Commitment: [32]byte{2}}}}
	c := f.Client(nil)
	defer c.Close()
	for range 5 {
		lease, err := c.Acquire(t.Context(), []string{brokertest.Resource}, sealed)
		if err != nil {
			t.Fatal(err)
		}
		got := lease.Keys[brokertest.Resource]
		if got.Version != version || !got.Key.Equal(secret) {
			t.Fatalf("got another key: version %d, want %d", got.Version, version)
		}
		lease.Wipe()
	}
	if found := keybuftest.Copies(t, secret); len(found) > 0 {
		t.Errorf("after five releases the key is in memory %d times: %q", len(found), found)
	}
}
