package hybridtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// NewCertificate makes a self-signed ECDSA P-256 certificate for hosts (names or IP addresses),
// which serves as its own root, and its PKCS#8 key, both in PEM. Every TLS peer supports P-256;
// post-quantum authentication comes from the signed messages that contain the exporter.
func NewCertificate(hosts []string, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 || validity <= 0 {
		return nil, nil, errors.New("hybridtls: a certificate needs hosts and a validity period")
	}
	return make509(hosts[0], hosts, validity, nil)
}

// make509 makes a certificate: under a root, a root that has no hosts, or one that serves and is
// its own root.
func make509(name string, hosts []string, validity time.Duration, root *Root) (certPEM, keyPEM []byte, err error) {
	if err := checkHosts(hosts); err != nil {
		return nil, nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("hybridtls: make certificate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("hybridtls: make serial number: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Anchorhold broker"}},
		NotBefore: now.Add(-5 * time.Minute), NotAfter: now.Add(validity),
		BasicConstraintsValid: true,
	}
	parent, signer := template, crypto.Signer(key)
	if root != nil {
		parent, signer = root.certificate, root.key
	} else {
		template.KeyUsage, template.IsCA, template.MaxPathLenZero = x509.KeyUsageCertSign, true, true
	}
	if len(hosts) > 0 {
		template.KeyUsage |= x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, fmt.Errorf("hybridtls: make certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("hybridtls: encode certificate key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}

// Serves returns an error if peers would refuse a server with this certificate at this time, as
// far as the certificate alone shows. It tells an operator who replaces a certificate before the
// peers do.
func Serves(pair *tls.Certificate, now time.Time) error {
	for i, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		switch {
		case err != nil:
			return fmt.Errorf("hybridtls: certificate %d: %w", i+1, err)
		case now.After(c.NotAfter):
			return fmt.Errorf("hybridtls: the certificate %q expired on %s: every peer would refuse it", c.Subject.CommonName, c.NotAfter.UTC().Format(time.RFC3339))
		case now.Before(c.NotBefore):
			return fmt.Errorf("hybridtls: the certificate %q is not valid before %s: until then every peer would refuse it", c.Subject.CommonName, c.NotBefore.UTC().Format(time.RFC3339))
		case i == 0 && len(c.DNSNames)+len(c.IPAddresses) == 0:
			return fmt.Errorf("hybridtls: the certificate %q names no host, so every peer would refuse it: is it a root?", c.Subject.CommonName)
		}
	}
	return nil
}

// checkHosts refuses what is neither a host's name nor an IP address: no peer would ever
// connect by it.
func checkHosts(hosts []string) error {
	for _, h := range hosts {
		switch {
		case net.ParseIP(h) != nil:
		case strings.ContainsAny(h, "/:"):
			return fmt.Errorf("hybridtls: %q is not a host: want a name or an IP address alone, without scheme, port or path", h)
		case !isHostName(h) || len(h) > 253:
			return fmt.Errorf("hybridtls: %q is not a host: want labels of letters, digits and hyphens joined by dots (a name in another script is written as xn--...), or an IP address", h)
		}
	}
	return nil
}

// isHostName says whether a host is a DNS name (RFC 1123, 2.1), perhaps with a wildcard in
// front; underscores are in use.
func isHostName(h string) bool {
	for label := range strings.SplitSeq(strings.TrimPrefix(h, "*."), ".") {
		if len(label) < 1 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-') {
				return false
			}
		}
	}
	return true
}

// NewRoot makes a self-signed certificate that only signs others, and its PKCS#8 key, both in
// PEM. Put it into images where certificates change more often than images do.
func NewRoot(name string, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	if name == "" || validity <= 0 {
		return nil, nil, errors.New("hybridtls: a root needs a name and a validity period")
	}
	return make509(name, nil, validity, nil)
}

// Root is a certificate that signs others, with its key.
type Root struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// ParseRoot reads the result of NewRoot, or another root of this form.
func ParseRoot(certPEM, keyPEM []byte) (*Root, error) {
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("hybridtls: root: %w", err)
	}
	key, signs := pair.PrivateKey.(crypto.Signer)
	if c := pair.Leaf; !signs || !c.BasicConstraintsValid || !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0 || c.CheckSignatureFrom(c) != nil {
		return nil, errors.New("hybridtls: the certificate is not a root that may sign other certificates")
	}
	return &Root{pair.Leaf, key}, nil
}

// Issue makes a server's certificate under the root, and its PKCS#8 key, both PEM. It may
// not outlive the root: peers would refuse it from then on.
func (r *Root) Issue(hosts []string, validity time.Duration) (certPEM, keyPEM []byte, err error) {
	if len(hosts) == 0 || validity <= 0 {
		return nil, nil, errors.New("hybridtls: a certificate needs hosts and a validity period")
	}
	if end := time.Now().Add(validity); end.After(r.certificate.NotAfter) {
		return nil, nil, fmt.Errorf("hybridtls: the certificate would expire on %s, and its root expires on %s: ask for a shorter validity, or make a new root",
			end.Format(time.DateOnly), r.certificate.NotAfter.Format(time.DateOnly))
	}
	return make509(hosts[0], hosts, validity, r)
}

// maxRoots bounds the roots of one file.
const maxRoots = 64

// Roots reads PEM certificates, each of which may sign a server's: during a rotation the old
// root and the new one. All of them must be complete: a root that was silently ignored would be
// missed on the day a server presents a certificate under it.
func Roots(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	begun := bytes.Count(text, []byte("-----BEGIN"))
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if n++; n > maxRoots {
			return nil, fmt.Errorf("hybridtls: more than %d certificates", maxRoots)
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("hybridtls: block %d holds a %s, not a certificate", n, strings.ToLower(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("hybridtls: certificate %d: %w", n, err)
		}
		pool.AddCert(c)
	}
	switch {
	case n == 0:
		return nil, errors.New("hybridtls: no PEM certificate found")
	case n != begun:
		return nil, fmt.Errorf("hybridtls: %d of %d certificates are cut short or malformed", begun-n, begun)
	}
	return pool, nil
}
