package appraise

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// End is a date from which some evidence is refused.
type End struct {
	// Kind is "revocation_list" or "certificate".
	Kind string
	// Name is whose list or certificate it is.
	Name string
	At   time.Time
}

// Ends lists when what the verifier holds ends: the newest list of each issuer, with
// its grace; the certificates that were configured; and the first end among the
// certificates of the guests seen so far.
func (v *Verifier) Ends() []End {
	var out []End
	r := v.revocation.Load()
	for i, list := range r.lists {
		if !slices.ContainsFunc(r.lists[i+1:], func(o *x509.RevocationList) bool { return bytes.Equal(o.RawIssuer, list.RawIssuer) }) {
			out = append(out, End{"revocation_list", list.Issuer.CommonName, r.end(list)})
		}
	}
	for _, c := range v.certificates {
		out = append(out, End{"certificate", c.Subject.CommonName, c.NotAfter})
	}
	if c := v.cache.firstEnd(); c != nil {
		out = append(out, End{"certificate", "a guest's " + c.Subject.CommonName, c.NotAfter})
	}
	return out
}

// firstEnd is the certificate that ends first among those of the chains in the cache.
func (c *chainCache) firstEnd() (first *x509.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.chains {
		for _, cert := range []*x509.Certificate{ch.root, ch.issuer, ch.leaf} {
			if first == nil || cert.NotAfter.Before(first.NotAfter) {
				first = cert
			}
		}
	}
	return first
}

// SetCertificates takes ARK, ASK and ASVK certificates (DER) that evidence may leave out, besides those
// of the options and in place of those that were set before. One that cannot be read changes nothing and is an
// error.
func (v *Verifier) SetCertificates(raw [][]byte) error {
	certs := make([]*x509.Certificate, len(raw))
	for i, der := range raw {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("appraise: certificate %d: %w", i, err)
		}
	}
	v.supplied.Store(&certs)
	return nil
}

// maxLists bounds the revocation lists that are held, those of before among them.
const maxLists = 64

// SetRevocationLists takes new lists (DER) besides those that are held, from now on.
// Lists that cannot be read change nothing and are an error. The newest list that a root
// signed is asked, so an older file, or a forged one, put in its place brings no
// revoked key back while the broker runs.
func (v *Verifier) SetRevocationLists(raw [][]byte) error {
	held := v.revocation.Load()
	next, err := newRevocation(raw, held.required, held.grace)
	if err != nil {
		return err
	}
	next.until = held.until
	for _, old := range held.lists {
		if !slices.ContainsFunc(next.lists, func(l *x509.RevocationList) bool { return bytes.Equal(l.Raw, old.Raw) }) {
			next.lists = append(next.lists, old)
		}
	}
	slices.SortStableFunc(next.lists, func(a, b *x509.RevocationList) int { return a.Number.Cmp(b.Number) })
	next.lists = next.lists[max(0, len(next.lists)-maxLists):]
	v.revocation.Store(&next) // chains that were verified under the old lists are verified anew
	return nil
}
