package evidence

import "github.com/anchorhold/anchorhold/crypto/refusal"

// Reasons of this package.
const (
	// ReasonMalformedEvidence: the envelope is not the canonical encoding of this version.
	ReasonMalformedEvidence refusal.Reason = "malformed-evidence"
	// ReasonMalformedClaims: the guest's claims are not the canonical encoding of this version.
	ReasonMalformedClaims refusal.Reason = "malformed-claims"
	// ReasonClaimsVersion: the guest's claims are those of another version.
	ReasonClaimsVersion refusal.Reason = "guest-claims-version"
)
