package protocol

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// MaxAudience bounds each list of an [Audience].
const MaxAudience = 256

// Audience says which guests may speak: those that are in every list that it has. The
// zero value is nobody; [Everyone] must be written out.
type Audience struct {
	// Tenants are tenants that the broker's policy checked. A lease whose policy waived
	// that check has no tenant, and is in no such list.
	Tenants []string `json:"tenants,omitempty"`
	// Images are the digests of what was started.
	Images []evidence.ImageDigest `json:"images,omitempty"`
	// Policies are the digests of the policies that may have decided.
	Policies []PolicyDigest `json:"policies,omitempty"`
	// Everyone is whoever has role and resource.
	Everyone bool `json:"everyone,omitempty"`
}

// Everyone is the audience of whoever has role and resource.
func Everyone() Audience { return Audience{Everyone: true} }

// PolicyDigest is the digest of a policy, in hexadecimal as text.
type PolicyDigest [32]byte

// String returns the digest in lower-case hexadecimal.
func (d PolicyDigest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText writes the digest in hexadecimal.
func (d PolicyDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads 64 lower-case hexadecimal digits.
func (d *PolicyDigest) UnmarshalText(text []byte) error {
	if err := digest.Decode(d[:], text); err != nil {
		return fmt.Errorf("not a policy's digest: %w", err)
	}
	return nil
}

// Check refuses an audience of nobody, one that is everyone and somebody, and lists
// that are too long, unsorted, repeat an entry or have a malformed one.
func (a Audience) Check() error {
	lists := len(a.Tenants) + len(a.Images) + len(a.Policies)
	switch {
	case a.Everyone && lists > 0:
		return fmt.Errorf("an audience is either everyone or a list, not both")
	case !a.Everyone && lists == 0:
		return fmt.Errorf("the audience is empty: name tenants, images or policies, or set everyone")
	case len(a.Tenants) > MaxAudience || len(a.Images) > MaxAudience || len(a.Policies) > MaxAudience:
		return fmt.Errorf("an audience may have at most %d tenants, images and policies", MaxAudience)
	}
	for i, t := range a.Tenants {
		if !validText(t, maxTenantBytes) || i > 0 && a.Tenants[i-1] >= t {
			return fmt.Errorf("tenant %q is malformed, unsorted or named twice", t)
		}
	}
	if !ascending(a.Images, func(d evidence.ImageDigest) string { return string(d.Bytes()) }) {
		return fmt.Errorf("the images of an audience must be sorted and unique")
	}
	if !ascending(a.Policies, func(d PolicyDigest) string { return string(d[:]) }) {
		return fmt.Errorf("the policies of an audience must be sorted and unique")
	}
	return nil
}

// Sort brings the lists into the order that Check wants.
func (a *Audience) Sort() {
	slices.Sort(a.Tenants)
	slices.SortFunc(a.Images, func(x, y evidence.ImageDigest) int { return slices.Compare(x.Bytes(), y.Bytes()) })
	slices.SortFunc(a.Policies, func(x, y PolicyDigest) int { return slices.Compare(x[:], y[:]) })
}

func ascending[T any](list []T, key func(T) string) bool {
	for i := 1; i < len(list); i++ {
		if key(list[i-1]) >= key(list[i]) {
			return false
		}
	}
	return true
}

// Admits refuses a lease that is not in every list. It looks at nothing else: of another's
// lease [VerifyAuthority] asks it, and a broker of the certificate that it is about to sign.
func (a Audience) Admits(c *LeaseCertificate) error {
	if err := a.Check(); err != nil {
		return refusal.New(ReasonAudience, "%v", err)
	}
	switch {
	case len(a.Tenants) > 0 && c.Tenant == "":
		return refusal.New(ReasonAudience, "policy %s did not check this guest's tenant, so the lease names none", c.PolicyID)
	case len(a.Tenants) > 0 && !slices.Contains(a.Tenants, c.Tenant):
		return refusal.New(ReasonAudience, "tenant %q is not among those named", c.Tenant)
	case len(a.Images) > 0 && !slices.Contains(a.Images, c.Image):
		return refusal.New(ReasonAudience, "image %s is not among those named", c.Image)
	case len(a.Policies) > 0 && !slices.Contains(a.Policies, PolicyDigest(c.PolicyDigest)):
		return refusal.New(ReasonAudience, "policy %x is not among those named", c.PolicyDigest[:8])
	}
	return nil
}
