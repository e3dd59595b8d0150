// Package federationtest makes brokers and attested agents by their keys alone,
// for tests of federated rounds.
//
// It guarantees statements with the real signatures and chains that a broker and
// its guests would make. It trusts its caller to be a test and refuses to start
// without a testing.TB. Tests of federation, rounds, aggregator and agent call it.
package federationtest

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/he/params"
	"github.com/anchorhold/anchorhold/crypto/he/rlwe"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Begin is when every world begins, in broker time.
const Begin = protocol.Time(1_795_000_000_000)

// World is a broker by its keys.
type World struct {
	Root, EpochKey *identity.Private
	Epoch          protocol.EpochStatement
	EpochSigned    []byte
}

// Agent is an attested agent by its key and lease.
type Agent struct {
	Key   *identity.Private
	Lease protocol.LeaseCertificate
	Chain []byte

	world *World
}

func key(t testing.TB, level identity.Level) *identity.Private {
	t.Helper()
	k, err := identity.Generate(level)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Wipe)
	return k
}

// New makes a broker with one epoch, valid for a year from Begin.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{Root: key(t, identity.LevelRoot), EpochKey: key(t, identity.LevelEpoch)}
	w.Epoch = protocol.EpochStatement{Broker: w.Root.Public().ID(), Epoch: 1, MinEpoch: 1, Key: w.EpochKey.Public(),
		NotBefore: Begin - 1000, NotAfter: Begin.Add(365 * 24 * time.Hour), AnyPolicy: true, AuditKey: [32]byte{1}}
	var err error
	if w.EpochSigned, err = protocol.SignEpoch(w.Root, w.Epoch); err != nil {
		t.Fatal(err)
	}
	return w
}

// NextEpoch is the same broker in a further epoch, whose statement retires those before.
func (w *World) NextEpoch(t testing.TB, number uint64) *World {
	t.Helper()
	next := &World{Root: w.Root, EpochKey: key(t, identity.LevelEpoch), Epoch: w.Epoch}
	next.Epoch.Epoch, next.Epoch.MinEpoch, next.Epoch.Key = number, number, next.EpochKey.Public()
	var err error
	if next.EpochSigned, err = protocol.SignEpoch(next.Root, next.Epoch); err != nil {
		t.Fatal(err)
	}
	return next
}

// Roots are the identities to trust.
func (w *World) Roots() []identity.Public { return []identity.Public{w.Root.Public()} }

// Broker is whose word the broker's rounds need.
func (w *World) Broker() protocol.Broker { return protocol.Of(w.Epoch.Broker) }

// Agent makes an attested agent with a lease of 15 minutes from Begin. change, if
// given, alters the certificate before it is signed.
func (w *World) Agent(t testing.TB, change func(*protocol.LeaseCertificate)) *Agent {
	t.Helper()
	a := &Agent{Key: key(t, identity.LevelEpoch), world: w}
	a.Lease = protocol.LeaseCertificate{Broker: w.Epoch.Broker, Epoch: w.Epoch.Epoch, AgentKey: a.Key.Public(), Kind: evidence.KindSNP, SoftwareTEE: true,
		EvidenceDigest: [32]byte{8}, Registers: []evidence.Register{{Name: evidence.RegisterLaunch, Value: make([]byte, 48)}}, ImageID: "image",
		Tenant: "tenant",
		Grants: []protocol.Granted{{Resource: "members/test", Version: 1, Roles: everyRole}}, PolicyID: "test", PolicyVersion: 1,
		NotBefore: Begin, NotAfter: Begin.Add(15 * time.Minute)}
	id := a.Key.Public().ID()
	copy(a.Lease.Lease[:], id[:])
	a.Lease.Processor = protocol.ProcessorOf(w.Epoch.Broker, w.Epoch.Epoch, a.Lease.Kind, id[:]) // each agent has its own
	if change != nil {
		change(&a.Lease)
	}
	w.certify(t, a)
	return a
}

// Floor is what is accepted a minute after Begin: epoch 1, and nothing that is over.
func (w *World) Floor() protocol.Floor {
	return protocol.Live(protocol.AtLeast(1), Begin.Add(time.Minute))
}

// GrantRound gives the agent's lease the key of a round.
func (a *Agent) GrantRound(t testing.TB, r federation.Round, signed []byte) *Agent {
	t.Helper()
	a.Lease.Grants = slices.DeleteFunc(a.Lease.Grants, func(g protocol.Granted) bool { return g.Resource == r.Resource() })
	a.Lease.Grants = append(a.Lease.Grants, protocol.Granted{Resource: r.Resource(), Version: 1, Subject: digest.Of(signed), Roles: a.Lease.Roles()})
	slices.SortFunc(a.Lease.Grants, func(x, y protocol.Granted) int { return strings.Compare(x.Resource, y.Resource) })
	a.world.certify(t, a)
	return a
}

// Renew is the agent under its next lease, of 15 minutes from a time.
func (a *Agent) Renew(t testing.TB, from protocol.Time) *Agent {
	t.Helper()
	next := &Agent{Key: a.Key, Lease: a.Lease, world: a.world}
	next.Lease.Grants = slices.Clone(a.Lease.Grants)
	next.Lease.NotBefore, next.Lease.NotAfter = from, from.Add(15*time.Minute)
	a.world.certify(t, next)
	return next
}

// GrantKey is the chain of a lease of the agent that was granted a key besides.
func (a *Agent) GrantKey(t testing.TB, resource string) []byte {
	t.Helper()
	more := &Agent{Key: a.Key, Lease: a.Lease, world: a.world}
	more.Lease.Grants = []protocol.Granted{{Resource: resource, Version: 1, Roles: a.Lease.Roles()}}
	a.world.certify(t, more)
	return more.Chain
}

// Grant gives the agent's lease one more key, which is for a subject: a model's id.
func (a *Agent) Grant(t testing.TB, subject [32]byte) {
	t.Helper()
	for _, g := range a.Lease.Grants {
		if g.Subject == subject {
			return
		}
	}
	a.Lease.Grants = append(a.Lease.Grants, protocol.Granted{Resource: fmt.Sprintf("models/%x", subject[:8]), Version: 1, Subject: subject, Roles: a.Lease.Roles()})
	slices.SortFunc(a.Lease.Grants, func(x, y protocol.Granted) int { return strings.Compare(x.Resource, y.Resource) })
	a.world.certify(t, a)
}

const everyRole = protocol.RoleServe | protocol.RoleContribute | protocol.RoleDecrypt | protocol.RoleParty

// SetRoles gives every key of a lease these roles and no others.
func SetRoles(c *protocol.LeaseCertificate, roles protocol.Role) {
	for i := range c.Grants {
		c.Grants[i].Roles = roles
	}
}

// certify signs the agent's lease as it is now.
func (w *World) certify(t testing.TB, a *Agent) {
	t.Helper()
	var err error
	if a.Lease.Image, err = evidence.ImageOf(a.Lease.Kind, a.Lease.Registers); err != nil {
		t.Fatal(err)
	}
	lease, err := protocol.SignLease(w.EpochKey, a.Lease)
	if err != nil {
		t.Fatal(err)
	}
	if a.Chain, err = protocol.MarshalLeaseChain(w.EpochSigned, lease); err != nil {
		t.Fatal(err)
	}
}

// Tenants is the audience of some tenants; "tenant" is that of agents by default.
func Tenants(names ...string) protocol.Audience {
	a := protocol.Audience{Tenants: names}
	a.Sort()
	return a
}

// Seed is 32 random bytes.
func Seed(t testing.TB) *keybuf.Buffer {
	t.Helper()
	s, err := keybuf.Random(32)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Wipe)
	return s
}

// Round makes a valid round of the default set for so many values, and the seed of
// its key. change, if given, alters it before it is signed.
func (w *World) Round(t testing.TB, length uint64, change func(*federation.Round)) (federation.Round, []byte, *keybuf.Buffer) {
	t.Helper()
	set, err := params.Lookup(params.Default)
	if err != nil {
		t.Fatal(err)
	}
	seed := Seed(t)
	sk, pk, err := rlwe.Generate(seed)
	if err != nil {
		t.Fatal(err)
	}
	sk.Wipe()
	r := federation.Round{Broker: w.Epoch.Broker, Epoch: w.Epoch.Epoch, Model: "test", Account: federation.BrokerAccount, Contributors: Tenants("tenant"), Decryptors: Tenants("tenant"), Set: set.ID, SetDigest: set.Digest(), Length: length,
		ClipL2: 1, ClipLinf: 0.5, MaxWeight: 1, Minimum: 2, Maximum: 8, PerGuest: 8, NoiseBits: 8, Rule: federation.WeightedMean,
		Noise: federation.Noise{Mechanism: federation.NoNoise}, Rate: 1, Opened: Begin, Closes: Begin.Add(10 * time.Minute), PublicKey: pk.Bytes()}
	if _, err := rand.Read(r.ID[:]); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&r)
	}
	signed, err := federation.SignRound(w.EpochKey, w.EpochSigned, r)
	if err != nil {
		t.Fatal(err)
	}
	return r, signed, seed
}

// Contribute encrypts a vector of grid integers and signs the contribution: the
// encoded manifest and the blocks.
func (a *Agent) Contribute(t testing.TB, r federation.Round, signedRound []byte, values []int32) (manifest, blocks []byte) {
	t.Helper()
	return a.ContributeWith(t, r, signedRound, values, func(*federation.Contribution) {})
}

// ContributeWith is Contribute of a contribution that change alters before it is signed.
func (a *Agent) ContributeWith(t testing.TB, r federation.Round, signedRound []byte, values []int32, change func(*federation.Contribution)) (manifest, blocks []byte) {
	t.Helper()
	pk, err := rlwe.ParsePublicKey(r.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := rlwe.NewEncryptor(pk, Seed(t))
	if err != nil {
		t.Fatal(err)
	}
	var m federation.Manifest
	for i := uint64(0); len(values) > 0; i++ {
		block := make([]byte, rlwe.BlockBytes)
		n := min(len(values), rlwe.BlockValues)
		if err := enc.Encrypt(block, values[:n]); err != nil {
			t.Fatal(err)
		}
		values = values[n:]
		m.Hashes = append(m.Hashes, federation.BlockHash(r.ID, i, block))
		blocks = append(blocks, block...)
	}
	c := federation.Contribution{Round: r.ID, RoundDigest: digest.Of(signedRound), Agent: a.Key.Public().ID(), Weight: 1,
		Blocks: uint64(len(m.Hashes)), Upload: federation.UploadDigest(r.ID, m.Hashes), Time: Begin.Add(time.Minute)}
	change(&c)
	if m.Signed, err = federation.SignContribution(a.Key, a.Chain, c); err != nil {
		t.Fatal(err)
	}
	if manifest, err = m.Marshal(); err != nil {
		t.Fatal(err)
	}
	return manifest, blocks
}
