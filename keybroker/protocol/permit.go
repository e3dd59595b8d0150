package protocol

import (
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Limits of permits (docs/protocol.md 5.12).
const (
	MaxPermit   = 24 * time.Hour // the longest permit that either end accepts
	MaxRestarts = 16             // the most restarts on one permit

	maxSignedPermitBytes  = 12 << 10
	maxSignedRestartBytes = 8 << 10
)

// Sealing is what seals the keys that a guest keeps for a restart without its broker: a set
// of bits, each of which is needed to open them.
type Sealing uint8

// What seals. The first counts restarts, the second does not.
const (
	// SealingTPM is a TPM: its PCRs must have the values that they had, and it counts.
	SealingTPM Sealing = 1 << iota
	// SealingSNP is a key that the firmware of SEV-SNP derives for this measurement.
	SealingSNP

	allSealings = SealingTPM | SealingSNP
)

var sealingNames = []struct {
	sealing Sealing
	name    string
}{{SealingTPM, "tpm"}, {SealingSNP, "sev-snp"}, {allSealings, "sev-snp+tpm"}}

// Sealings are the names of all ways to seal.
func Sealings() []string {
	names := make([]string, len(sealingNames))
	for i, n := range sealingNames {
		names[i] = n.name
	}
	return names
}

// ParseSealing reads the name of a way to seal; any other name is zero.
func ParseSealing(name string) Sealing {
	for _, n := range sealingNames {
		if n.name == name {
			return n.sealing
		}
	}
	return 0
}

// Counts says whether restarts are counted where no copy of a disk can set them back.
func (s Sealing) Counts() bool { return s&SealingTPM != 0 }

func (s Sealing) valid() bool { return s != 0 && s&allSealings == s }

// String is the name.
func (s Sealing) String() string {
	for _, n := range sealingNames {
		if n.sealing == s {
			return n.name
		}
	}
	return "none"
}

// Permitted is one key that a guest may use after a restart.
type Permitted struct {
	Resource string
	Version  uint64
}

// Permit is the broker's signed word that a guest which was granted a lease may use some of its
// keys again after a restart, if no broker answers: how often, and until when
// (docs/protocol.md 5.12). It gives the role serve and no other.
type Permit struct {
	// Broker and Epoch name the statement under which BK signs.
	Broker [32]byte
	Epoch  uint64
	// Lease and Certificate, the SHA-256 of the signed lease certificate, are the lease it
	// came from. The certificate says which guest it was.
	Lease       digest.LeaseID
	Certificate digest.Digest
	// Claims is the digest of what the appraisal of this guest's evidence found true.
	Claims digest.Digest
	// RestartKey signs for each restart. Its private half is sealed with the keys.
	RestartKey identity.Public
	// Sealing is what the guest must seal them with.
	Sealing Sealing
	// Restarts is how many there may be; zero if Sealing does not count.
	Restarts uint16
	// Keys may be used, sorted by name.
	Keys []Permitted
	// NotBefore is the broker's time at the decision, NotAfter the permit's end.
	NotBefore, NotAfter Time
}

// SignPermit signs a permit with the epoch key.
func SignPermit(epoch Signer, p Permit) ([]byte, error) { return sign(epoch, &p) }

// ValidAt says whether the permit runs at t.
func (p *Permit) ValidAt(t Time) bool { return t >= p.NotBefore && t < p.NotAfter }

// Has says whether the permit is for this version of a key.
func (p *Permit) Has(resource string, version uint64) bool {
	return slices.Contains(p.Keys, Permitted{resource, version})
}

func (*Permit) label() string { return contextPermit }

func (p *Permit) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(p.Broker[:])
	b.AddUint64(p.Epoch)
	b.AddBytes(p.Lease[:])
	b.AddBytes(p.Certificate[:])
	b.AddBytes(p.Claims[:])
	addBytes16(b, p.RestartKey.Bytes())
	b.AddUint8(uint8(p.Sealing))
	b.AddUint16(p.Restarts)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, k := range p.Keys {
			addString8(b, k.Resource)
			b.AddUint64(k.Version)
		}
	})
	b.AddUint64(uint64(p.NotBefore))
	b.AddUint64(uint64(p.NotAfter))
}

func (p *Permit) decodeBody(s *cryptobyte.String) bool {
	*p = Permit{}
	var list cryptobyte.String
	if !s.CopyBytes(p.Broker[:]) || !s.ReadUint64(&p.Epoch) || !s.CopyBytes(p.Lease[:]) || !s.CopyBytes(p.Certificate[:]) ||
		!s.CopyBytes(p.Claims[:]) || !readPublic(s, identity.LevelEpoch, &p.RestartKey) || !s.ReadUint8((*uint8)(&p.Sealing)) ||
		!s.ReadUint16(&p.Restarts) || !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var k Permitted
		if len(p.Keys) == MaxResources || !readString8(&list, &k.Resource) || !list.ReadUint64(&k.Version) {
			return false
		}
		p.Keys = append(p.Keys, k)
	}
	return readTime(s, &p.NotBefore) && readTime(s, &p.NotAfter)
}

// validBody wants a number of restarts exactly where they can be counted: a number that nobody
// can hold a guest to would only look like a limit.
func (p *Permit) validBody() bool {
	names := make([]string, len(p.Keys))
	for i, k := range p.Keys {
		names[i] = k.Resource
	}
	counted := p.Restarts > 0 && p.Restarts <= MaxRestarts
	return p.Epoch >= 1 && !p.RestartKey.IsZero() && p.Sealing.valid() && (p.Sealing.Counts() && counted || !p.Sealing.Counts() && p.Restarts == 0) &&
		validNames(names, MaxResources, ValidResource) && !slices.ContainsFunc(p.Keys, func(k Permitted) bool { return k.Version == 0 }) &&
		p.NotBefore.valid() && p.NotAfter.valid() && p.NotAfter > p.NotBefore && p.NotAfter-p.NotBefore <= Time(MaxPermit.Milliseconds())
}

// Restart says that a guest began to use a permit: signed by the permit's restart key, which only
// whoever opens the sealed file has (docs/protocol.md 5.12). It hands the permit to the agent key
// of this boot, and is what the broker is told afterwards.
type Restart struct {
	// Permit is the SHA-256 of the signed permit.
	Permit digest.Digest
	// Number counts the permit's restarts from 1, as the TPM counted them; zero if nobody counts.
	Number uint16
	// AgentKey is AK of this boot.
	AgentKey identity.Public
	// At is the guest's own time, counted on Clock.
	At    Time
	Clock evidence.ClockSource
}

// SignRestart signs with the restart key of the permit.
func SignRestart(key *identity.Private, r Restart) ([]byte, error) { return sign(key, &r) }

func (*Restart) label() string { return contextRestart }

func (r *Restart) encodeBody(b *cryptobyte.Builder) {
	b.AddBytes(r.Permit[:])
	b.AddUint16(r.Number)
	addBytes16(b, r.AgentKey.Bytes())
	b.AddUint64(uint64(r.At))
	b.AddUint8(uint8(r.Clock))
}

func (r *Restart) decodeBody(s *cryptobyte.String) bool {
	*r = Restart{}
	return s.CopyBytes(r.Permit[:]) && s.ReadUint16(&r.Number) && readPublic(s, identity.LevelEpoch, &r.AgentKey) &&
		readTime(s, &r.At) && s.ReadUint8((*uint8)(&r.Clock))
}

// validBody refuses a clock that nobody knows: a permit ends by it.
func (r *Restart) validBody() bool {
	return r.Number <= MaxRestarts && !r.AgentKey.IsZero() && r.At.valid() && r.Clock != evidence.ClockUnknown && r.Clock <= evidence.ClockTimer
}

// KeyNames are the names of the permit's keys.
func (p *Permit) KeyNames() string {
	names := make([]string, len(p.Keys))
	for i, k := range p.Keys {
		names[i] = k.Resource
	}
	return strings.Join(names, ", ")
}
