package tdx

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Provider finds the collateral of a platform. It is asked with what a verified PCK certificate
// states, may be asked by several goroutines, and answers from what it holds: nothing that a
// quote says makes it fetch from another place. An error is a refusal; an *refusal.Error keeps its
// reason.
type Provider interface {
	Lookup(fmspc [6]byte, ca CA) (*Collateral, error)
}

// Set is collateral in memory. It does not change, and several goroutines may use it.
type Set struct {
	byPlatform map[platformKey]*Collateral
}

type platformKey struct {
	fmspc [6]byte
	ca    CA
}

// NewSet holds collateral, none of which may be nil; of several for one platform and authority,
// the last.
func NewSet(list ...*Collateral) *Set {
	s := &Set{map[platformKey]*Collateral{}}
	for _, c := range list {
		s.byPlatform[platformKey{c.FMSPC(), c.CA()}] = c
	}
	return s
}

// Lookup returns the collateral of a platform and authority.
func (s *Set) Lookup(fmspc [6]byte, ca CA) (*Collateral, error) {
	if c := s.byPlatform[platformKey{fmspc, ca}]; c != nil {
		return c, nil
	}
	return nil, refusal.New(ReasonCollateralMissing, "no collateral for FMSPC %x and the %s CA", fmspc, ca)
}
