package protocol

import (
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/digest"
)

const (
	MaxLease         = 15 * time.Minute // the longest lease that either end accepts (docs/protocol.md 7.3)
	maxPolicyIDBytes = 128
)

// Grant is M4, from broker to agent: what the policy allows on this connection
// (docs/protocol.md 5.4). It is not a token: it names a lease, opens nothing,
// and means nothing on another connection.
type Grant struct {
	// Lease names the lease and the grant alike.
	Lease digest.LeaseID
	// PolicyID, PolicyVersion and PolicyDigest name the policy that decided.
	PolicyID      string
	PolicyVersion uint64
	PolicyDigest  [32]byte
	// Resources are the sorted names that may be requested.
	Resources []string
	// BrokerTime is when the broker decided, LeaseEnd when the lease ends.
	BrokerTime, LeaseEnd Time
}

// Type returns TypeGrant.
func (*Grant) Type() Type { return TypeGrant }

func (m *Grant) encode(b *cryptobyte.Builder) {
	b.AddBytes(m.Lease[:])
	addString8(b, m.PolicyID)
	b.AddUint64(m.PolicyVersion)
	b.AddBytes(m.PolicyDigest[:])
	addNames(b, m.Resources)
	b.AddUint64(uint64(m.BrokerTime))
	b.AddUint64(uint64(m.LeaseEnd))
}

func (m *Grant) decode(s *cryptobyte.String) bool {
	*m = Grant{}
	return s.CopyBytes(m.Lease[:]) && readString8(s, &m.PolicyID) && s.ReadUint64(&m.PolicyVersion) &&
		s.CopyBytes(m.PolicyDigest[:]) && readNames(s, MaxResources, &m.Resources) &&
		readTime(s, &m.BrokerTime) && readTime(s, &m.LeaseEnd)
}

func (m *Grant) valid() bool {
	return validText(m.PolicyID, maxPolicyIDBytes) && validNames(m.Resources, MaxResources, ValidResource) &&
		validLease(m.BrokerTime, m.LeaseEnd)
}

// validLease says whether a lease ends after it begins and within MaxLease.
func validLease(from, to Time) bool {
	return from.valid() && to.valid() && to > from && to-from <= Time(MaxLease.Milliseconds())
}

// validText says whether s is 1 to limit bytes of printable ASCII without
// spaces, so that it cannot look like something else in a log.
func validText(s string, limit int) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// Request is M5, from agent to broker: which of the granted keys to send
// (docs/protocol.md 5.5).
type Request struct {
	// Resources are sorted names within the grant.
	Resources []string
	// Sealed says, of resources that open sealed files, which files these are: the broker
	// sends the version that opens one of them, and of every other resource the newest.
	// Sorted by resource.
	Sealed []Sealed
	// Idempotency is the same for all attempts at one acquisition, so that the
	// audit log shows a repeated attempt as what it is.
	Idempotency digest.ExchangeID
}

// Type returns TypeRequest.
func (*Request) Type() Type { return TypeRequest }

func (m *Request) encode(b *cryptobyte.Builder) {
	addNames(b, m.Resources)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, s := range m.Sealed {
			s.encode(b)
		}
	})
	b.AddBytes(m.Idempotency[:])
}

func (m *Request) decode(s *cryptobyte.String) bool {
	*m = Request{}
	var list cryptobyte.String
	if !readNames(s, MaxResources, &m.Resources) || !s.ReadUint16LengthPrefixed(&list) {
		return false
	}
	for !list.Empty() {
		var one Sealed
		if len(m.Sealed) == MaxResources || !one.decode(&list) {
			return false
		}
		m.Sealed = append(m.Sealed, one)
	}
	return s.CopyBytes(m.Idempotency[:])
}

func (m *Request) valid() bool {
	for i, s := range m.Sealed {
		if !slices.Contains(m.Resources, s.Resource) || i > 0 && m.Sealed[i-1].Resource >= s.Resource || !validPreference(s.Files, MaxFiles, File.valid) {
			return false
		}
	}
	return validNames(m.Resources, MaxResources, ValidResource) && m.Idempotency != digest.ExchangeID{}
}

// MaxFiles is how many sealed files M5 names for one resource.
const MaxFiles = 4

// Sealed names the sealed files that one key should open, in order of preference
// (docs/protocol.md 5.5).
type Sealed struct {
	Resource string
	Files    []File
}

// File tells one sealed file, and the key that it was sealed under, from all others, by
// what stands in its first block (docs/sealed-format.md).
type File struct {
	ID         [32]byte
	Commitment [32]byte
	// Model is the id of the model in the file; zero if the guest does not know it before
	// it has the key.
	Model [32]byte
}

func (f File) valid() bool { return f.Commitment != [32]byte{} }

func (m *Sealed) encode(b *cryptobyte.Builder) {
	addString8(b, m.Resource)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, f := range m.Files {
			b.AddBytes(f.ID[:])
			b.AddBytes(f.Commitment[:])
			b.AddBytes(f.Model[:])
		}
	})
}

func (m *Sealed) decode(s *cryptobyte.String) bool {
	var files cryptobyte.String
	if !readString8(s, &m.Resource) || !s.ReadUint16LengthPrefixed(&files) {
		return false
	}
	for !files.Empty() {
		var f File
		if len(m.Files) == MaxFiles || !files.CopyBytes(f.ID[:]) || !files.CopyBytes(f.Commitment[:]) || !files.CopyBytes(f.Model[:]) {
			return false
		}
		m.Files = append(m.Files, f)
	}
	return true
}
