package evidence

import (
	"errors"
	"fmt"
)

// Reason is the stable code of a refusal: lower-case words joined by '-'.
// Packages declare their own; docs/protocol.md lists them all.
type Reason string

// Reasons of this package.
const (
	// ReasonMalformedEvidence: the envelope is not the canonical encoding of this version.
	ReasonMalformedEvidence Reason = "malformed-evidence"
	// ReasonMalformedClaims: the guest's claims are not the canonical encoding of this version.
	ReasonMalformedClaims Reason = "malformed-claims"
	// ReasonClaimsVersion: the guest's claims are those of another version.
	ReasonClaimsVersion Reason = "guest-claims-version"
)

// Refusal is an error with a stable code. Detail is for the operator of the
// side that refused; a remote peer gets the code only.
type Refusal struct {
	// Reason is the stable code.
	Reason Reason
	// Detail says what was found, for people.
	Detail string
	// Err is the failure underneath, if any.
	Err error
}

// Error is code and detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ": " + r.Detail
}

// Unwrap returns the failure underneath.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse makes a refusal; an argument for %w in the format becomes its Err.
func Refuse(reason Reason, format string, args ...any) error {
	wrapped := fmt.Errorf(format, args...)
	return &Refusal{Reason: reason, Detail: wrapped.Error(), Err: errors.Unwrap(wrapped)}
}

// ReasonOf returns the code of the first refusal in err's chain.
func ReasonOf(err error) (Reason, bool) {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Reason, true
	}
	return "", false
}
