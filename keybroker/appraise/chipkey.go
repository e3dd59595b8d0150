package appraise

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Extensions of chip key certificates (57230, table 8): 1.3.6.1.4.1.3704.1.x.
var oidPrefix = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

const (
	extProductName = "2"
	extBootLoader  = "3.1"
	extTEE         = "3.2"
	extSNP         = "3.3"
	extMicrocode   = "3.8"
	extFMC         = "3.9"
	extHWID        = "4"
	extCSPID       = "5"
)

// chipKey is what a VCEK or VLEK certificate states.
type chipKey struct {
	key     *ecdsa.PublicKey
	product product
	tcb     evidence.TCB
	hwid    []byte // VCEK
	cspID   string // VLEK
}

// parseChipKey reads a certificate's statements, which count once it is verified.
func parseChipKey(cert *x509.Certificate, signer signerKind) (*chipKey, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, refusal.New(ReasonCertificate, "the chip key is not ECDSA P-384")
	}
	if want := signer.String(); cert.Subject.CommonName != want {
		return nil, refusal.New(ReasonCertificate, "the chip key's certificate is for %q, not %s", cert.Subject.CommonName, want)
	}
	ext := map[string][]byte{}
	for _, e := range cert.Extensions {
		if len(e.Id) > len(oidPrefix) && e.Id[:len(oidPrefix)].Equal(oidPrefix) {
			ext[e.Id[len(oidPrefix):].String()] = e.Value // x509 has refused one that appears twice
		}
	}
	k := &chipKey{key: key}
	name, err := ia5String(ext, extProductName)
	if err != nil {
		return nil, err
	}
	if k.product, ok = productNamed(name); !ok {
		return nil, refusal.New(ReasonProduct, "the certificate is for product %q", name)
	}
	if err := k.readTCB(ext); err != nil {
		return nil, err
	}
	if signer == signerVLEK {
		k.cspID, err = ia5String(ext, extCSPID)
		return k, err
	}
	k.hwid, err = hwid(ext[extHWID], k.product.hwidSize())
	return k, err
}

func (k *chipKey) readTCB(ext map[string][]byte) error {
	type component struct {
		name string
		to   *uint8
	}
	parts := []component{{extBootLoader, &k.tcb.BootLoader}, {extTEE, &k.tcb.TEE}, {extSNP, &k.tcb.SNP}, {extMicrocode, &k.tcb.Microcode}}
	if k.product == turin {
		parts = append(parts, component{extFMC, &k.tcb.FMC})
	} else if _, has := ext[extFMC]; has {
		return refusal.New(ReasonCertificate, "an FMC version for %s, which has none", k.product)
	}
	var reserved [4]uint8 // components that no known product has
	for i, name := range []string{"3.4", "3.5", "3.6", "3.7"} {
		if _, has := ext[name]; has {
			parts = append(parts, component{name, &reserved[i]})
		}
	}
	for _, p := range parts {
		var v int
		rest, err := asn1.Unmarshal(ext[p.name], &v)
		if err != nil || len(rest) > 0 || v < 0 || v > 255 {
			return refusal.New(ReasonCertificate, "extension %s is no version number", p.name)
		}
		*p.to = uint8(v)
	}
	if reserved != [4]uint8{} {
		return refusal.New(ReasonCertificate, "versions %v of components that %s does not have", reserved, k.product)
	}
	return nil
}

func ia5String(ext map[string][]byte, name string) (string, error) {
	var s string
	rest, err := asn1.UnmarshalWithParams(ext[name], &s, "ia5")
	if err != nil || len(rest) > 0 || s == "" {
		return "", refusal.New(ReasonCertificate, "extension %s is no IA5String", name)
	}
	return s, nil
}

// hwid reads the hardware id, which older certificates hold as it is and newer
// ones inside an OCTET STRING.
func hwid(value []byte, size int) ([]byte, error) {
	if len(value) == size {
		return value, nil
	}
	var inner []byte
	rest, err := asn1.Unmarshal(value, &inner)
	if err != nil || len(rest) > 0 || len(inner) != size {
		return nil, refusal.New(ReasonCertificate, "the hardware id has %d bytes", len(value))
	}
	return inner, nil
}
