package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// maxCertificateBytes bounds one certificate; Intel's have half of it at most.
const maxCertificateBytes = 4 << 10

// Common names of Intel's certificates (PCK Certificate and CRL Profile Specification). They
// tell apart what one root signs, and are read after the signature was verified.
const (
	nameRoot      = "Intel SGX Root CA"
	namePlatform  = "Intel SGX PCK Platform CA"
	nameProcessor = "Intel SGX PCK Processor CA"
	namePCK       = "Intel SGX PCK Certificate"
	nameTCBSigner = "Intel SGX TCB Signing"
)

// parseChain reads as many PEM certificates as wanted, the leaf first. Line ends may stand between
// and behind them, and zeros behind: some quoting libraries count the end of their C string.
func parseChain(text []byte, want int) ([]*x509.Certificate, error) {
	text = bytes.TrimRight(text, "\r\n\x00")
	var chain []*x509.Certificate
	for len(text) > 0 {
		text = bytes.TrimLeft(text, "\r\n")
		if !bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) || len(chain) == want {
			return nil, refusal.New(ReasonCertificate, "something follows certificate %d of %d in PEM", len(chain), want)
		}
		block, rest := pem.Decode(text)
		if block == nil || len(block.Headers) > 0 || len(block.Bytes) > maxCertificateBytes {
			return nil, refusal.New(ReasonCertificate, "certificate %d is not PEM, or has more than %d bytes", len(chain), maxCertificateBytes)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refusal.New(ReasonCertificate, "certificate %d: %w", len(chain), err)
		}
		if err := checkForm(cert); err != nil {
			return nil, err
		}
		chain, text = append(chain, cert), rest
	}
	if len(chain) < want {
		return nil, refusal.New(ReasonCertificate, "a chain of %d certificates, want %d", len(chain), want)
	}
	return chain, nil
}

// checkForm refuses what Intel's certificates never are, before any arithmetic with their keys.
func checkForm(cert *x509.Certificate) error {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return refusal.New(ReasonCertificate, "%q is not a P-256 key signed with ECDSA and SHA-256", cert.Subject.CommonName)
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return refusal.New(ReasonCertificate, "%q has an unknown critical extension", cert.Subject.CommonName)
	}
	return nil
}

// verifyChain checks the signatures of a chain from the root down, once its root is known to be
// pinned: the key of each certificate is used only after it was signed by the one above. Only
// then does it look at names, of which each certificate may have those in its place.
func verifyChain(chain []*x509.Certificate, roots Roots, names ...[]string) (software bool, err error) {
	last := len(chain) - 1
	if software, err = roots.check(chain[last]); err != nil {
		return false, err
	}
	for i := last; i >= 0; i-- {
		cert, by := chain[i], chain[min(i+1, last)]
		if !bytes.Equal(cert.RawIssuer, by.RawSubject) {
			return false, refusal.New(ReasonChain, "%q was issued by %q, %q follows", cert.Subject.CommonName, cert.Issuer.CommonName, by.Subject.CommonName)
		}
		if err := cert.CheckSignatureFrom(by); err != nil {
			return false, refusal.New(ReasonChain, "%q is not signed by %q: %w", cert.Subject.CommonName, by.Subject.CommonName, err)
		}
		if name := cert.Subject.CommonName; !slices.Contains(names[i], name) {
			return false, refusal.New(ReasonChain, "%q stands in the place of %q", name, names[i])
		}
	}
	return software, nil
}

// holder is what is kept of a certificate that was verified.
type holder struct {
	window
	subject string   // in DER
	key     [32]byte // SHA-256 of the subject public key info
	serial  string   // big-endian, without leading zeros
}

func holderOf(cert *x509.Certificate) holder {
	return holder{window{cert.Subject.CommonName, cert.NotBefore, cert.NotAfter}, string(cert.RawSubject),
		sha256.Sum256(cert.RawSubjectPublicKeyInfo), string(cert.SerialNumber.Bytes())}
}

// window is the time in which a certificate, document or list holds, both ends included.
type window struct {
	name        string
	from, until time.Time
}

// check refuses a time outside, with one reason before and one behind.
func (w window) check(now time.Time, early, late refusal.Reason) error {
	reason := late
	switch {
	case now.Before(w.from):
		reason = early
	case !now.After(w.until):
		return nil
	}
	return refusal.New(reason, "%s is valid from %s to %s", w.name, w.from.Format(time.RFC3339), w.until.Format(time.RFC3339))
}
