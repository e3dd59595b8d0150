package appraise

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// revocation holds certificate revocation lists, which AMD's roots sign and
// which name revoked ASKs and ASVKs.
type revocation struct {
	lists    []*x509.RevocationList // oldest first
	required bool
	grace    time.Duration
	until    time.Time // ended lists are accepted before it
}

func newRevocation(raw [][]byte, required bool, grace time.Duration) (revocation, error) {
	r := revocation{required: required, grace: grace}
	for i, der := range raw {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return revocation{}, fmt.Errorf("appraise: revocation list %d: %w", i, err)
		}
		if list.SignatureAlgorithm != x509.SHA384WithRSAPSS {
			return revocation{}, fmt.Errorf("appraise: revocation list %d: signed with %s", i, list.SignatureAlgorithm)
		}
		if list.Number == nil {
			return revocation{}, fmt.Errorf("appraise: revocation list %d has no number", i)
		}
		for _, e := range list.Extensions {
			if e.Critical { // it may narrow what the list covers
				return revocation{}, fmt.Errorf("appraise: revocation list %d: unknown critical extension %s", i, e.Id)
			}
		}
		r.lists = append(r.lists, list)
	}
	slices.SortStableFunc(r.lists, func(a, b *x509.RevocationList) int { return a.Number.Cmp(b.Number) })
	return r, nil
}

// newest is the list with the highest number that the root signed: an older one
// cannot bring back what a newer one revoked.
func (r revocation) newest(root *x509.Certificate) *x509.RevocationList {
	var best *x509.RevocationList
	for _, list := range r.lists {
		if !bytes.Equal(list.RawIssuer, root.RawSubject) || list.CheckSignatureFrom(root) != nil {
			continue
		}
		if best == nil || list.Number.Cmp(best.Number) > 0 {
			best = list
		}
	}
	return best
}

// check refuses a revoked issuer, ASK or ASVK alike.
func (r revocation) check(c *chain, now time.Time) error {
	list := c.revoked
	if list == nil {
		if r.required && !c.software {
			return refusal.New(ReasonRevocationUnknown, "there is no revocation list for %q", c.root.Subject.CommonName)
		}
		return nil
	}
	if now.Before(list.ThisUpdate) || now.After(r.end(list)) {
		return refusal.New(ReasonRevocationUnknown, "the revocation list for %q is valid from %s to %s", c.root.Subject.CommonName,
			list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	for _, entry := range list.RevokedCertificateEntries {
		// Chip key certificates all have serial number 0; only the root's own
		// issues are on its list.
		if entry.SerialNumber.Cmp(c.issuer.SerialNumber) == 0 {
			return refusal.New(ReasonRevoked, "%q was revoked on %s", c.issuer.Subject.CommonName, entry.RevocationTime.Format(time.RFC3339))
		}
	}
	return nil
}

// end is when a list is accepted no more.
func (r revocation) end(list *x509.RevocationList) time.Time {
	if end := list.NextUpdate.Add(r.grace); end.After(r.until) {
		return end
	}
	return r.until
}
