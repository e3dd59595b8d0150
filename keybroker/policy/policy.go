// Package policy decides whether a guest may have a resource.
//
// It guarantees that Decide is a pure function of policy, claims and time: it
// reads no clock and no file, ends after a number of steps bounded by the
// policy's named limits, and allows only what a rule opens to a guest that
// passes every check. A check is configured or waived in writing with a reason;
// there is no third way, nil never means unchecked, and the zero Policy refuses
// everything. All failing checks are reported, each with a stable code.
//
// It trusts the claims, which keybroker/appraise found true. It refuses unknown
// products, unknown bits, masked chip ids where chips are enrolled, software
// evidence unless allowed, and Milan unless allowed.
//
// The broker calls Decide for each resource; the operator and the command line
// call Parse, Explain and Decide to test a policy before it counts.
package policy

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/systemd/config"
)

// Limits of a policy file.
const (
	maxPolicyBytes = 1 << 20
	maxRules       = 1024
	maxItems       = 4096 // of one list
	maxTextBytes   = 512
	minLeaseTTL    = 300 * time.Second
	maxLeaseTTL    = 900 * time.Second
	digestLabel    = "anchorhold/policy/2\x00"
)

// ErrInvalid means that a policy or a file of reference values is not well formed.
var ErrInvalid = errors.New("invalid policy")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// Policy is a checked policy together with the reference values that it may
// use. It does not change; the zero value refuses everything.
type Policy struct {
	doc        Document
	values     []ReferenceValue // sorted by id
	notBefore  time.Time
	notAfter   time.Time
	require    requirements
	waived     [numChecks]string // the reason of a waived check
	rules      map[string]*openRule
	digest     [32]byte
	compiled   bool
	canonicals []byte
}

// Parse reads a policy file. An unknown or duplicate key, a check that is
// neither configured nor waived, a waiver without a reason and two rules for
// one resource are errors.
func Parse(yaml []byte) (*Policy, error) {
	if len(yaml) > maxPolicyBytes {
		return nil, invalid("got %d bytes, want at most %d", len(yaml), maxPolicyBytes)
	}
	var doc Document
	if err := config.Decode(yaml, &doc); err != nil {
		var old formerDocument
		if config.Decode(yaml, &old) == nil && old.Format == 1 {
			return nil, errFormer()
		}
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return compile(doc, nil)
}

// WithReferenceValues returns the policy with these reference values in the
// place of those it had. The digest covers those that the policy refers to.
func (p *Policy) WithReferenceValues(values []ReferenceValue) (*Policy, error) {
	if p == nil || !p.compiled {
		return nil, invalid("an empty policy takes no reference values")
	}
	return compile(p.doc, values)
}

// ID returns the policy's id.
func (p *Policy) ID() string { return p.doc.ID }

// Version returns the policy's revision.
func (p *Policy) Version() uint64 { return p.doc.Version }

// Digest identifies the policy together with the reference values that it
// refers to: it is the SHA-256 of a label and Canonical.
func (p *Policy) Digest() [32]byte { return p.digest }

// Canonical returns the policy and its reference values in one fixed form
// (JSON): the same meaning written differently in YAML gives the same bytes.
func (p *Policy) Canonical() []byte { return append([]byte(nil), p.canonicals...) }

// Document returns the policy as it was written. The caller must not change
// the lists in it.
func (p *Policy) Document() Document { return p.doc }

// ReferenceValues returns the reference values that the policy refers to.
func (p *Policy) ReferenceValues() []ReferenceValue {
	return append([]ReferenceValue(nil), p.values...)
}

// Unmatched returns the names and subtrees of reference values in the policy that none of
// these values has. Guests that must have one of them are refused.
func (p *Policy) Unmatched(values []ReferenceValue) []string {
	var out []string
	for _, pattern := range patternsOf(p.doc) {
		has := func(v ReferenceValue) bool { return matchesAny([]string{pattern}, v.ID) }
		if !slices.ContainsFunc(values, has) && !slices.Contains(out, pattern) {
			out = append(out, pattern)
		}
	}
	return out
}

// Validity returns the bounds of the policy's life.
func (p *Policy) Validity() (notBefore, notAfter time.Time) { return p.notBefore, p.notAfter }

// LeaseTTL returns how long a lease lasts; 0 for the zero policy.
func (p *Policy) LeaseTTL() time.Duration {
	return time.Duration(p.doc.AttestationTTLSeconds) * time.Second
}

// seal computes the canonical form and the digest.
func (p *Policy) seal() error {
	b, err := json.Marshal(struct {
		Policy          Document         `json:"policy"`
		ReferenceValues []ReferenceValue `json:"reference_values"`
	}{p.doc, p.values})
	if err != nil {
		return err
	}
	p.canonicals = b
	p.digest = sha256.Sum256(append([]byte(digestLabel), b...))
	p.compiled = true
	return nil
}
