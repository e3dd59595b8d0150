//go:build !release

package keybroker_test

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestConfigMustBeComplete leaves out one part each: nil never means unchecked.
func TestConfigMustBeComplete(t *testing.T) {
	var good keybroker.Config
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { good = *c }))
	if _, err := keybroker.New(good); err != nil {
		t.Fatal(err)
	}
	other := f.NewKey(identity.LevelEpoch)
	for name, change := range map[string]func(*keybroker.Config){
		"TLS":            func(c *keybroker.Config) { c.TLS = nil },
		"root":           func(c *keybroker.Config) { c.Root = identity.Public{} },
		"root's level":   func(c *keybroker.Config) { c.Root = f.EpochKey.Public() },
		"another root":   func(c *keybroker.Config) { c.Root = f.NewKey(identity.LevelRoot).Public() },
		"kinds":          func(c *keybroker.Config) { c.Kinds = nil },
		"appraiser":      func(c *keybroker.Config) { c.Appraiser = nil },
		"policy":         func(c *keybroker.Config) { c.Policy = nil },
		"secrets":        func(c *keybroker.Config) { c.Secrets = nil },
		"audit":          func(c *keybroker.Config) { c.Audit = nil },
		"logger":         func(c *keybroker.Config) { c.Logger = nil },
		"epochs":         func(c *keybroker.Config) { c.Epochs = nil },
		"epoch twice":    func(c *keybroker.Config) { c.Epochs = append(c.Epochs, c.Epochs...) },
		"epoch's key":    func(c *keybroker.Config) { c.Epochs = []keybroker.Epoch{{Statement: f.Epoch, Key: other}} },
		"no epoch key":   func(c *keybroker.Config) { c.Epochs = []keybroker.Epoch{{Statement: f.Epoch}} },
		"bad statement":  func(c *keybroker.Config) { c.Epochs = []keybroker.Epoch{{Statement: []byte("x"), Key: other}} },
		"negative limit": func(c *keybroker.Config) { c.Limits.Listen.Connections = -1 },
		"negative kept":  func(c *keybroker.Config) { c.Limits.Kept = -1 },
		"short window":   func(c *keybroker.Config) { c.Limits.NonceWindow = time.Millisecond },
		"long window":    func(c *keybroker.Config) { c.Limits.NonceWindow = time.Hour },
		"long lease":     func(c *keybroker.Config) { c.Limits.Lease = protocol.MaxLease + time.Second },
	} {
		bad := good
		change(&bad)
		if _, err := keybroker.New(bad); err == nil {
			t.Errorf("a broker without a proper %s was made", name)
		}
	}
}

// TestLeaseIsTheShortestOfAll lets the broker's own limit be below the policy's.
func TestLeaseIsTheShortestOfAll(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) { c.Limits.Lease = 90 * time.Second }))
	g := dial(t, f)
	g.begin()
	g.fatal(g.attest(g.attestation()))
	if got := g.m4.LeaseEnd - g.m4.BrokerTime; got != 90_000 {
		t.Errorf("the lease lasts %d ms", got)
	}
}
