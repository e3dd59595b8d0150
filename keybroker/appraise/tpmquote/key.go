package tpmquote

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"math/big"

	"golang.org/x/crypto/cryptobyte"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Attributes of objects (part 2, 8.3).
const (
	attrFixedTPM        = 1 << 1
	attrSTClear         = 1 << 2
	attrFixedParent     = 1 << 4
	attrSensitiveOrigin = 1 << 5
	attrUserWithAuth    = 1 << 6
	attrAdminWithPolicy = 1 << 7
	attrFirmwareLimited = 1 << 8
	attrSVNLimited      = 1 << 9
	attrNoDA            = 1 << 10
	attrRestricted      = 1 << 16
	attrDecrypt         = 1 << 17
	attrSign            = 1 << 18

	// What makes a key an attestation key, what it may have besides, and, by leaving it out of
	// both, what it must not have: that it decrypts, that it may be duplicated, that it signs
	// certificates, and reserved bits.
	attrRequired = attrFixedTPM | attrFixedParent | attrSensitiveOrigin | attrRestricted | attrSign
	attrAllowed  = attrRequired | attrSTClear | attrUserWithAuth | attrAdminWithPolicy | attrFirmwareLimited | attrSVNLimited | attrNoDA
)

const (
	curveP256    = 0x0003
	curveP384    = 0x0004
	minRSABits   = 2048
	maxRSABits   = 4096
	rsaExponent  = 65537
	maxPolicy    = 64
	maxParameter = maxRSABits / 8
)

// publicArea is a parsed TPMT_PUBLIC of an attestation key.
type publicArea struct {
	key    crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	scheme uint16
	hash   uint16
	name   []byte
}

// parsePublic reads TPMT_PUBLIC and checks that it is an attestation key's.
func parsePublic(raw []byte) (publicArea, error) {
	var p publicArea
	s := cryptobyte.String(raw)
	var typ, nameAlg, symmetric uint16
	var attributes uint32
	var policy []byte
	if !s.ReadUint16(&typ) || !s.ReadUint16(&nameAlg) || !s.ReadUint32(&attributes) || !sized(&s, &policy, maxPolicy) || !s.ReadUint16(&symmetric) {
		return p, refusal.New(ReasonMalformed, "the public area is cut short")
	}
	if attributes&attrRequired != attrRequired || attributes&^attrAllowed != 0 {
		return p, refusal.New(ReasonAttributes, "attributes %#08x: want at least %#08x and at most %#08x", attributes, attrRequired, attrAllowed)
	}
	if p.name = Name(nameAlg, raw); p.name == nil {
		return p, refusal.New(ReasonAlgorithm, "names of algorithm %#x", nameAlg)
	}
	if symmetric != algNull {
		return p, refusal.New(ReasonMalformed, "a signing key has the symmetric algorithm %#x", symmetric)
	}
	if !s.ReadUint16(&p.scheme) || !s.ReadUint16(&p.hash) || hashOf(p.hash) == 0 {
		return p, refusal.New(ReasonAlgorithm, "scheme %#x with hash %#x", p.scheme, p.hash)
	}
	var err error
	switch typ {
	case algRSA:
		p.key, err = parseRSA(&s, p.scheme)
	case algECC:
		p.key, err = parseECC(&s, p.scheme)
	default:
		err = refusal.New(ReasonAlgorithm, "key type %#x", typ)
	}
	if err == nil && !s.Empty() {
		err = refusal.New(ReasonMalformed, "the public area is followed by more")
	}
	return p, err
}

// KeyName is the name of the key whose public area stands in a quote. Nothing of the quote is verified.
func KeyName(quote []byte) ([]byte, error) {
	q, err := evidence.ParseTPMQuote(quote)
	if err != nil {
		return nil, err
	}
	p, err := parsePublic(q.Public)
	return p.name, err
}

// Name is an object's name (part 1, 16): its name algorithm's number and the digest of its public
// area, TPMT_PUBLIC. nil for algorithms other than SHA-256 and SHA-384.
func Name(nameAlg uint16, public []byte) []byte {
	out := binary.BigEndian.AppendUint16(make([]byte, 0, 2+sha512.Size384), nameAlg)
	switch nameAlg {
	case algSHA256:
		d := sha256.Sum256(public)
		return append(out, d[:]...)
	case algSHA384:
		d := sha512.Sum384(public)
		return append(out, d[:]...)
	}
	return nil
}

// isPrimary says whether a qualified name, which the TPM signs, is that of a primary key with a name. A
// certificate or a CPU's report tells the key and nothing else of its public area, so whoever sends the quote could
// give the key as many names as there are attributes and policies (part 1, 16 and 23.5).
func isPrimary(qualified, name []byte) bool {
	if len(name) < 2 {
		return false
	}
	for _, hierarchy := range [...]uint32{0x40000001, 0x40000007, 0x4000000b, 0x4000000c} { // owner, null, endorsement, platform
		want := Name(binary.BigEndian.Uint16(name), append(binary.BigEndian.AppendUint32(nil, hierarchy), name...))
		if bytes.Equal(qualified, want) {
			return true
		}
	}
	return false
}

// hashOf is a signature's hash; 0 for one that is not accepted.
func hashOf(alg uint16) crypto.Hash {
	switch alg {
	case algSHA256:
		return crypto.SHA256
	case algSHA384:
		return crypto.SHA384
	}
	return 0
}

// digest is a signature's hash of data.
func digest(h crypto.Hash, data []byte) []byte {
	if h == crypto.SHA384 {
		d := sha512.Sum384(data)
		return d[:]
	}
	d := sha256.Sum256(data)
	return d[:]
}

func parseRSA(s *cryptobyte.String, scheme uint16) (*rsa.PublicKey, error) {
	var bits uint16
	var exponent uint32
	var modulus []byte
	if !s.ReadUint16(&bits) || !s.ReadUint32(&exponent) || !sized(s, &modulus, maxParameter) {
		return nil, refusal.New(ReasonMalformed, "the RSA key is cut short")
	}
	if scheme != algRSASSA && scheme != algRSAPSS {
		return nil, refusal.New(ReasonAlgorithm, "an RSA key with scheme %#x", scheme)
	}
	if exponent != 0 && exponent != rsaExponent { // 0 stands for the usual one
		return nil, refusal.New(ReasonAlgorithm, "RSA exponent %d", exponent)
	}
	n := new(big.Int).SetBytes(modulus)
	if bits < minRSABits || bits > maxRSABits || n.BitLen() != int(bits) || len(modulus) != int(bits)/8 {
		return nil, refusal.New(ReasonAlgorithm, "an RSA key of %d bits that has %d", bits, n.BitLen())
	}
	return &rsa.PublicKey{N: n, E: rsaExponent}, nil
}

func parseECC(s *cryptobyte.String, scheme uint16) (*ecdsa.PublicKey, error) {
	var curveID, kdf uint16
	var x, y []byte
	if !s.ReadUint16(&curveID) || !s.ReadUint16(&kdf) || !sized(s, &x, maxParameter) || !sized(s, &y, maxParameter) {
		return nil, refusal.New(ReasonMalformed, "the ECC key is cut short")
	}
	if scheme != algECDSA || kdf != algNull {
		return nil, refusal.New(ReasonAlgorithm, "an ECC key with scheme %#x and key derivation %#x", scheme, kdf)
	}
	var curve elliptic.Curve
	switch curveID {
	case curveP256:
		curve = elliptic.P256()
	case curveP384:
		curve = elliptic.P384()
	default:
		return nil, refusal.New(ReasonAlgorithm, "curve %#x", curveID)
	}
	size := curve.Params().BitSize / 8
	if len(x) > size || len(y) > size {
		return nil, refusal.New(ReasonMalformed, "coordinates of %d and %d bytes on a curve of %d", len(x), len(y), size)
	}
	point := make([]byte, 1+2*size) // TPMs may leave out leading zeros
	point[0] = 4
	copy(point[1+size-len(x):], x)
	copy(point[1+2*size-len(y):], y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, refusal.New(ReasonAlgorithm, "the point is not on the curve: %w", err)
	}
	return key, nil
}
