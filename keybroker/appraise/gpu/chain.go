package gpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// pinDeviceIdentity is the SHA-256 of the public key (subject public key info) of "NVIDIA Device
// Identity CA", the certificate that NVIDIA publishes with its verifiers: NVIDIA/nvtrust,
// guest_tools/gpu_verifiers/local_gpu_verifier/src/verifier/certs/verifier_device_root.pem.
const pinDeviceIdentity = "a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"

// Limits of a chain.
const (
	// ChainLength is the number of certificates: the report key's, the device's, three above.
	ChainLength = 5

	maxCertificateBytes = 4 << 10
	maxChainText        = 32 << 10
	maxChains           = 4096
)

// Places in a chain.
const (
	atLeaf        = 0 // the key that firmware holds and that signs reports
	atDevice      = 1 // the boot ROM's key, certified when the device was made
	atProvisioner = 2 // which certifies devices
	atIdentity    = 3 // the authority for one chip, which the root issued
	atRoot        = 4
)

// ParseChain reads certificates in PEM, as NVIDIA's driver gives them: the report key's first,
// the root last, and nothing between or behind them.
func ParseChain(text []byte) ([][]byte, error) {
	if len(text) > maxChainText {
		return nil, refusal.New(ReasonChain, "%d bytes, the limit is %d", len(text), maxChainText)
	}
	var list [][]byte
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		var block *pem.Block
		if bytes.HasPrefix(text, []byte("-----BEGIN CERTIFICATE-----")) {
			block, text = pem.Decode(text)
		}
		if block == nil || block.Type != "CERTIFICATE" || len(list) == ChainLength {
			return nil, refusal.New(ReasonChain, "not %d certificates in PEM alone", ChainLength)
		}
		list = append(list, block.Bytes)
	}
	if len(list) != ChainLength {
		return nil, refusal.New(ReasonChain, "%d certificates, want %d", len(list), ChainLength)
	}
	return list, nil
}

// chain is a verified chain, and what its certificates state.
type chain struct {
	certificates [ChainLength]*x509.Certificate
	key          *ecdsa.PublicKey
	architecture evidence.GPUArchitecture
	software     bool
	firmware     firmware
}

// newChain checks a chain but for the time. Arithmetic comes last, from the root down: before
// that, whoever sent the certificates decides what it costs.
func (v *Verifier) newChain(ders [][]byte) (*chain, error) {
	if len(ders) != ChainLength {
		return nil, refusal.New(ReasonChain, "%d certificates, want %d", len(ders), ChainLength)
	}
	c := &chain{}
	for i, der := range ders {
		cert, err := parseCertificate(der, i)
		if err != nil {
			return nil, err
		}
		c.certificates[i] = cert
	}
	root := c.certificates[atRoot]
	digest := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	c.software = v.software[digest]
	if !c.software && hex.EncodeToString(digest[:]) != pinDeviceIdentity {
		return nil, refusal.New(ReasonRoot, "%q with key sha256:%x is not NVIDIA's", root.Subject.CommonName, digest)
	}
	if err := c.identify(); err != nil {
		return nil, err
	}
	for i, cert := range c.certificates {
		if by := c.certificates[min(i+1, atRoot)]; !bytes.Equal(cert.RawIssuer, by.RawSubject) {
			return nil, refusal.New(ReasonChain, "%q was issued by %q, and %q follows", cert.Subject.CommonName, cert.Issuer.CommonName, by.Subject.CommonName)
		}
	}
	for i := atRoot; i >= atLeaf; i-- {
		cert, by := c.certificates[i], c.certificates[min(i+1, atRoot)]
		if err := cert.CheckSignatureFrom(by); err != nil {
			return nil, refusal.New(ReasonChain, "%q is not signed by %q: %w", cert.Subject.CommonName, by.Subject.CommonName, err)
		}
	}
	c.key = c.certificates[atLeaf].PublicKey.(*ecdsa.PublicKey)
	return c, c.firmware.read(c.certificates[atLeaf], c.certificates[atDevice])
}

// parseCertificate reads one certificate, which has the form that all of NVIDIA's have.
func parseCertificate(der []byte, at int) (*x509.Certificate, error) {
	if len(der) > maxCertificateBytes {
		return nil, refusal.New(ReasonCertificate, "certificate %d has %d bytes, the limit is %d", at, len(der), maxCertificateBytes)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refusal.New(ReasonCertificate, "certificate %d: %w", at, err)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || cert.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return nil, refusal.New(ReasonCertificate, "certificate %d is not of ECDSA P-384 with SHA-384", at)
	}
	authority := cert.BasicConstraintsValid && cert.IsCA && cert.KeyUsage&x509.KeyUsageCertSign != 0
	signer := !cert.IsCA && cert.KeyUsage == x509.KeyUsageDigitalSignature
	if at == atLeaf && !signer || at != atLeaf && !authority {
		return nil, refusal.New(ReasonCertificate, "certificate %d has the use %#x, authority %t", at, cert.KeyUsage, cert.IsCA)
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return nil, refusal.New(ReasonCertificate, "certificate %d has an unknown critical extension", at)
	}
	return cert, nil
}

// identify finds out which chip it is from the names in the chain: under the same root, NVIDIA
// certifies switches, network adapters and chips of other generations. The root's own issue
// decides; the device and its firmware have to agree.
func (c *chain) identify() error {
	identity, device, leaf := c.commonName(atIdentity), c.commonName(atDevice), c.commonName(atLeaf)
	chip, _ := strings.CutSuffix(strings.TrimPrefix(identity, "NVIDIA "), " Identity")
	c.architecture = architecture(chip)
	model, isROM := strings.CutSuffix(device, " GSP BROM")
	if c.architecture == "" || identity != "NVIDIA "+chip+" Identity" {
		return refusal.New(ReasonDevice, "%q certifies no GPU that is known", identity)
	}
	of, stepping, _ := strings.Cut(model, " ")
	if !isROM || stepping == "" || architecture(of) != c.architecture || leaf != model+" GSP FMC LF" {
		return refusal.New(ReasonDevice, "%q and %q are not a %s GPU and its firmware", device, leaf, c.architecture)
	}
	return nil
}

func (c *chain) commonName(at int) string { return c.certificates[at].Subject.CommonName }

// architecture of a chip by its name, GH100 or GB20X; empty if it is not known.
func architecture(chip string) evidence.GPUArchitecture {
	if len(chip) != 5 || strings.ContainsFunc(chip[2:], func(c rune) bool { return (c < '0' || c > '9') && (c < 'A' || c > 'Z') }) {
		return ""
	}
	switch chip[:2] {
	case "GH":
		return evidence.GPUHopper
	case "GB":
		return evidence.GPUBlackwell
	}
	return ""
}

// validAt checks the time, at every use of a chain. Most of NVIDIA's certificates end in the
// year 9999.
func (c *chain) validAt(now time.Time) error {
	for _, cert := range c.certificates {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return refusal.New(ReasonExpired, "%q is valid from %s to %s", cert.Subject.CommonName, cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
		}
	}
	return nil
}

// chainCache keeps chains whose signatures were verified.
type chainCache struct {
	mu     sync.Mutex
	chains map[[32]byte]*chain
}

// chainOf returns the verified chain of certificates, as it was kept or anew.
func (v *Verifier) chainOf(ders [][]byte) (*chain, error) {
	h := sha256.New()
	for _, der := range ders {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(der)))
		h.Write(n[:])
		h.Write(der)
	}
	id := [32]byte(h.Sum(nil))
	v.cache.mu.Lock()
	kept := v.cache.chains[id]
	v.cache.mu.Unlock()
	if kept != nil {
		return kept, nil
	}
	c, err := v.newChain(ders)
	if err != nil {
		return nil, err
	}
	v.cache.mu.Lock()
	defer v.cache.mu.Unlock()
	if v.cache.chains == nil || len(v.cache.chains) >= maxChains {
		v.cache.chains = map[[32]byte]*chain{} // simpler than an order of eviction, and as bounded
	}
	v.cache.chains[id] = c
	return c, nil
}
