package protocol

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Version is a version of the protocol.
type Version uint16

// Version2 is the only version that this end speaks. Version 1 granted leases that did
// not say for what.
const Version2 Version = 2

// Suite names all algorithms of an exchange at once, so that no combination can
// be picked that nobody examined (docs/protocol.md 2).
type Suite uint16

// Suite1 is ML-DSA-65 + Ed25519 signatures, HPKE with MLKEM768-X25519,
// HKDF-SHA256 and AES-256-GCM, and SHA-512.
const Suite1 Suite = 1

// MaxExchanges is how many exchanges one connection may carry (docs/protocol.md 5.11): some
// hours of renewals, after which guests are spread over the brokers of a fleet anew.
const MaxExchanges = 64

// Hello is M1, from agent to broker: what the agent can do and what kind of
// thing it wants (docs/protocol.md 5.1). It says nothing about the guest.
type Hello struct {
	// Versions and Suites that the agent accepts, best first.
	Versions []Version
	Suites   []Suite
	// Kinds of evidence that the guest can produce, best first.
	Kinds []evidence.Kind
	// HighestEpoch is the highest broker epoch that the agent has seen.
	HighestEpoch uint64
	// Classes are the sorted classes of the resources it will ask for.
	Classes []string
}

// Type returns TypeHello.
func (*Hello) Type() Type { return TypeHello }

func (m *Hello) encode(b *cryptobyte.Builder) {
	addNumbers(b, m.Versions)
	addNumbers(b, m.Suites)
	addNames(b, m.Kinds)
	b.AddUint64(m.HighestEpoch)
	addNames(b, m.Classes)
}

func (m *Hello) decode(s *cryptobyte.String) bool {
	*m = Hello{}
	return readNumbers(s, maxVersions, &m.Versions) && readNumbers(s, maxSuites, &m.Suites) &&
		readNames(s, maxKinds, &m.Kinds) && s.ReadUint64(&m.HighestEpoch) && readNames(s, MaxClasses, &m.Classes)
}

func (m *Hello) valid() bool {
	return validOffers(m.Versions, m.Suites, m.Kinds) && validNames(m.Classes, MaxClasses, func(c string) bool {
		return len(c) <= MaxResourceBytes && validSegment(c)
	})
}

func validOffers(versions []Version, suites []Suite, kinds []evidence.Kind) bool {
	return validPreference(versions, maxVersions, func(v Version) bool { return v != 0 }) &&
		validPreference(suites, maxSuites, func(v Suite) bool { return v != 0 }) &&
		validPreference(kinds, maxKinds, func(k evidence.Kind) bool { return validKind(string(k)) })
}

func addNumbers[T ~uint16](b *cryptobyte.Builder, list []T) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, v := range list {
			b.AddUint16(uint16(v))
		}
	})
}

func readNumbers[T ~uint16](s *cryptobyte.String, limit int, out *[]T) bool {
	var list cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&list) || len(list) > 2*limit {
		return false
	}
	for !list.Empty() {
		var v uint16
		if !list.ReadUint16(&v) {
			return false
		}
		*out = append(*out, T(v))
	}
	return true
}
