package evidence

import (
	"crypto/sha256"
	"strings"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// MaxClaimBytes bounds each text that a guest states about itself.
const MaxClaimBytes = 128

// The label of the claims ends in their version.
const (
	guestClaimsFamily = "anchorhold/evidence/guest-claims/"
	guestClaimsLabel  = guestClaimsFamily + "2"
)

// GuestClaims are a guest's statements about itself. REPORT_DATA binds their digest, so the
// measured software vouches for them.
type GuestClaims struct {
	// EventLogDigest is the SHA-256 of the boot event log; zero where there is none.
	EventLogDigest [32]byte
	// ImageID names the VM image.
	ImageID string
	// AgentBuild names the agent's version.
	AgentBuild string
	// Tenant names the tenant; may be empty.
	Tenant string
	// MemoryLimit is the agent's memory limit in bytes.
	MemoryLimit uint64
	// ClockSource is the clock that the kernel keeps time with. It says whether the host can
	// slow the clock on which leases are counted.
	ClockSource ClockSource
}

func (g GuestClaims) valid() bool {
	if !g.ClockSource.Known() {
		return false
	}
	for _, s := range []string{g.ImageID, g.AgentBuild, g.Tenant} {
		if len(s) > MaxClaimBytes || strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
			return false
		}
	}
	return true
}

// Marshal returns the canonical encoding: label, event log digest (32 bytes),
// image id, agent build, tenant (1-byte lengths), memory limit (8 bytes), clock
// source (1 byte). Texts are printable ASCII without spaces.
func (g GuestClaims) Marshal() ([]byte, error) {
	if !g.valid() {
		return nil, refusal.New(ReasonMalformedClaims, "image id, agent build and tenant must be at most %d printable ASCII characters without spaces, and the clock source must be known", MaxClaimBytes)
	}
	return g.encode(), nil
}

func (g GuestClaims) encode() []byte {
	var b cryptobyte.Builder
	addString(&b, guestClaimsLabel)
	b.AddBytes(g.EventLogDigest[:])
	addString(&b, g.ImageID)
	addString(&b, g.AgentBuild)
	addString(&b, g.Tenant)
	b.AddUint64(g.MemoryLimit)
	b.AddUint8(uint8(g.ClockSource))
	out, err := b.Bytes()
	if err != nil {
		return nil // only an invalid value overflows a length; its digest is of nothing and matches nothing
	}
	return out
}

// Digest is the SHA-256 of the canonical encoding.
func (g GuestClaims) Digest() [32]byte { return sha256.Sum256(g.encode()) }

// ParseGuestClaims reads the canonical encoding and nothing else. Claims of another version have
// a reason of their own, which tells the reader to update one of the two ends.
func ParseGuestClaims(data []byte) (GuestClaims, error) {
	s := cryptobyte.String(data)
	var g GuestClaims
	var label string
	if !readString(&s, &label) || !strings.HasPrefix(label, guestClaimsFamily) {
		return GuestClaims{}, refusal.New(ReasonMalformedClaims, "these are not guest claims")
	}
	if label != guestClaimsLabel {
		return GuestClaims{}, refusal.New(ReasonClaimsVersion, "got %q, want %s: update the older of agent and broker", label, guestClaimsLabel)
	}
	if !s.CopyBytes(g.EventLogDigest[:]) ||
		!readString(&s, &g.ImageID) || !readString(&s, &g.AgentBuild) || !readString(&s, &g.Tenant) ||
		!s.ReadUint64(&g.MemoryLimit) || !s.ReadUint8((*uint8)(&g.ClockSource)) || !s.Empty() || !g.valid() {
		return GuestClaims{}, refusal.New(ReasonMalformedClaims, "not the canonical encoding of this version")
	}
	return g, nil
}
