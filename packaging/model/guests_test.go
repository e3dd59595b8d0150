package model

import (
	"crypto/x509"
	"fmt"
	"sync"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/federationtest"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
)

// guest is who the model calls alice, bob and eve, or someone of the same tenant and image.
type guest struct {
	name, tenant string
	image, chip  byte
}

var (
	alice = guest{"alice", "one", 1, 1}
	bob   = guest{"bob", "one", 2, 2}
	eve   = guest{"eve", "two", 3, 3}
	// The companions contribute to every round of their tenant, because no round closes
	// over one contribution.
	carol   = guest{"carol", "one", 1, 4}
	mallory = guest{"mallory", "two", 3, 5}
)

// epochs remembers the highest epoch seen.
type epochs struct {
	mu      sync.Mutex
	highest protocol.Lowest
}

// Highest returns it.
func (e *epochs) Highest(root [32]byte) uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.highest.Of(root)
}

// Raise records it.
func (e *epochs) Raise(root [32]byte, n uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.highest = e.highest.Raised(root, n)
	return nil
}

// running is a guest that has booted: it has its agent key for good, and the chain of the
// newest lease.
type running struct {
	guest
	federationtest.Agent
	epochs epochs
	lowest uint64 // that the broker's root asked for, as far as this guest knows
}

// resource is what a guest of its tenant asks for to be a member, or to serve a model.
func (g guest) resource(model int) string {
	if model == 0 {
		return g.tenant + "/member"
	}
	return fmt.Sprintf("%s/model-%d", g.tenant, model)
}

// started is what the guest's hardware measured.
func (g guest) started(t *testing.T) ([]evidence.Register, evidence.ImageDigest) {
	t.Helper()
	registers := []evidence.Register{{Name: evidence.RegisterLaunch, Value: measurement(g.image)}}
	image, err := evidence.ImageOf(evidence.KindSNP, registers)
	if err != nil {
		t.Fatal(err)
	}
	return registers, image
}

func (g guest) boot(t *testing.T) *running {
	t.Helper()
	r := &running{guest: g, lowest: 1}
	r.Key = key(t, identity.LevelEpoch)
	return r
}

// acquire runs one exchange. What the guest does with the key is no step of the model.
func (r *running) acquire(t *testing.T, address string, made statedir.Made, resource string) error {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(made.CertificatePEM)
	c, err := client.New(client.Config{Address: address, ServerName: "localhost", TLSRoots: pool, Roots: []identity.Public{made.Root},
		MinEpoch: 1, Epochs: &r.epochs, Collector: hardware{r.image, r.chip}, AgentKey: r.Key,
		Claims: evidence.GuestClaims{ImageID: r.name, AgentBuild: "test", MemoryLimit: 1 << 27, Tenant: r.tenant}})
	if err != nil {
		t.Fatal(err)
	}
	lease, err := c.Acquire(t.Context(), []string{resource})
	if err != nil {
		return err
	}
	defer lease.Wipe()
	r.Chain, r.lowest = lease.Certificate, max(r.lowest, lease.MinEpoch)
	return nil
}
