// Package crl judges certificates by revocation lists that an operator configured (RFC 5280, 5), for authorities of which no
// service is asked: those of TPMs' attestation keys and of GPUs. Nothing that evidence says chooses where a list comes from.
//
// It guarantees that a list counts only if the issuer in the chain signed it, that the newest one that was held since
// the start is asked, and that one which has ended proves nothing. Lists that are not of all that their issuer
// revoked (deltas, partitions, indirect ones) are refused when they are read. Packages tpmquote and gpu ask it at
// every use of a chain, whether they verified the chain before or not.
package crl

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Limits of lists.
const (
	MaxLists = 256 // held at once, those of before among them

	maxIssuers = 1024 // whose newest list is remembered
)

// Options say how certificates are judged. The zero value has no reasons, and is refused.
type Options struct {
	// Lists are revocation lists in DER. The caller bounds their size.
	Lists [][]byte
	// WithoutRevocation accepts certificates of issuers that no list is held of. A list that is held is asked all the same.
	WithoutRevocation bool
	// Revoked and Unknown are the reasons of refusals: the certificate was revoked; no current list says whether it was.
	Revoked, Unknown refusal.Reason
}

// Lists are what is held. They may be used by several goroutines.
type Lists struct {
	o Options

	mu     sync.Mutex
	held   []*list            // by number, owned by mu
	newest map[[32]byte]*list // of an issuer by its certificate, nil for none; owned by mu
}

// list is one revocation list.
type list struct {
	*x509.RevocationList
	revoked map[string]time.Time // by serial number
}

// End is when a list ends, and whose it is.
type End struct {
	Issuer string
	At     time.Time
}

// New reads the lists.
func New(o Options) (*Lists, error) {
	if o.Revoked == "" || o.Unknown == "" {
		return nil, errors.New("crl: refusals need reasons")
	}
	l := &Lists{o: o, newest: map[[32]byte]*list{}}
	return l, l.Set(o.Lists)
}

// Set takes new lists (DER) besides those that are held, from now on. Lists that cannot be read change nothing and are an
// error. An older one in the place of a newer one brings no revoked key back.
func (l *Lists) Set(raw [][]byte) error {
	next := make([]*list, len(raw))
	for i, der := range raw {
		var err error
		if next[i], err = parse(der); err != nil {
			return fmt.Errorf("revocation list %d: %w", i, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, old := range l.held {
		if !slices.ContainsFunc(next, func(n *list) bool { return bytes.Equal(n.Raw, old.Raw) }) {
			next = append(next, old)
		}
	}
	slices.SortStableFunc(next, func(a, b *list) int { return a.Number.Cmp(b.Number) })
	for len(next) > MaxLists {
		i := slices.IndexFunc(next, func(a *list) bool { return superseded(a, next) })
		if i < 0 {
			return fmt.Errorf("%d revocation lists, the limit is %d", len(next), MaxLists)
		}
		next = slices.Delete(next, i, i+1)
	}
	l.held = next
	clear(l.newest)
	return nil
}

// superseded reports whether one of the others names the same issuer and key and has a higher number.
func superseded(a *list, others []*list) bool {
	return slices.ContainsFunc(others, func(b *list) bool {
		return bytes.Equal(a.RawIssuer, b.RawIssuer) && bytes.Equal(a.AuthorityKeyId, b.AuthorityKeyId) && a.Number.Cmp(b.Number) < 0
	})
}

func parse(der []byte) (*list, error) {
	r, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	switch {
	case !accepted(r.SignatureAlgorithm):
		return nil, fmt.Errorf("%q signed with %s", r.Issuer.CommonName, r.SignatureAlgorithm)
	case r.Number == nil:
		return nil, fmt.Errorf("%q gave it no number", r.Issuer.CommonName)
	case r.NextUpdate.IsZero():
		return nil, fmt.Errorf("%q does not say when it ends", r.Issuer.CommonName)
	}
	for _, e := range r.Extensions {
		if e.Critical { // it may narrow what the list covers
			return nil, fmt.Errorf("unknown critical extension %s", e.Id)
		}
	}
	out := &list{r, make(map[string]time.Time, len(r.RevokedCertificateEntries))}
	for _, entry := range r.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical { // it may name another issuer
				return nil, fmt.Errorf("entry %s: unknown critical extension %s", entry.SerialNumber, e.Id)
			}
		}
		out.revoked[serial(entry.SerialNumber)] = entry.RevocationTime
	}
	return out, nil
}

func serial(n *big.Int) string { return n.Text(16) }

// accepted leaves out SHA-1 and MD5, which crypto/x509 accepts under lists.
func accepted(a x509.SignatureAlgorithm) bool {
	return slices.Contains([]x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519,
		x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}, a)
}

// Check judges a verified chain, each certificate by the list of the one behind it; the last needs none.
func (l *Lists) Check(chain []*x509.Certificate, now time.Time) error {
	for i := range len(chain) - 1 {
		if err := l.check(chain[i], chain[i+1], now); err != nil {
			return err
		}
	}
	return nil
}

// Ask judges a certificate whose issuer publishes no list as far as anybody knows: only a list that is held all the same
// can refuse it.
func (l *Lists) Ask(cert, issuer *x509.Certificate, now time.Time) error {
	if l.of(issuer) == nil {
		return nil
	}
	return l.check(cert, issuer, now)
}

func (l *Lists) check(cert, issuer *x509.Certificate, now time.Time) error {
	list := l.of(issuer)
	switch {
	case list == nil && l.o.WithoutRevocation:
		return nil
	case list == nil:
		return refusal.New(l.o.Unknown, "no revocation list of %q is held, which issued %q", issuer.Subject.CommonName, cert.Subject.CommonName)
	case now.Before(list.ThisUpdate) || now.After(list.NextUpdate):
		return refusal.New(l.o.Unknown, "the revocation list of %q is valid from %s to %s", issuer.Subject.CommonName,
			list.ThisUpdate.Format(time.RFC3339), list.NextUpdate.Format(time.RFC3339))
	}
	if at, revoked := list.revoked[serial(cert.SerialNumber)]; revoked {
		return refusal.New(l.o.Revoked, "%q was revoked on %s", cert.Subject.CommonName, at.Format(time.RFC3339))
	}
	return nil
}

// of is the list with the highest number that the issuer signed; nil for none.
func (l *Lists) of(issuer *x509.Certificate) *list {
	id := sha256.Sum256(issuer.Raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	if found, known := l.newest[id]; known {
		return found
	}
	var found *list
	for _, list := range slices.Backward(l.held) {
		if bytes.Equal(list.RawIssuer, issuer.RawSubject) && list.CheckSignatureFrom(issuer) == nil {
			found = list
			break
		}
	}
	if len(l.newest) >= maxIssuers {
		clear(l.newest)
	}
	l.newest[id] = found
	return found
}

// Ends are when the newest list of each issuer ends.
func (l *Lists) Ends() (out []End) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, list := range l.held {
		if !superseded(list, l.held) {
			out = append(out, End{list.Issuer.CommonName, list.NextUpdate})
		}
	}
	return out
}
