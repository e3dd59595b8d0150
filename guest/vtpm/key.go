package vtpm

import (
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// AzureKey is the handle at which Azure's paravisor keeps the attestation key that the CPU's
// report names (Azure/azure-cvm-tooling, az-snp-vtpm).
const AzureKey = 0x81000003

// GoogleKey is the attestation key of Google Compute Engine, RSA, which has a certificate
// (google/go-tpm-tools v0.4.5, client/handles.go).
func GoogleKey() Key { return Key{CertificateIndex: 0x01c10000, TemplateIndex: 0x01c10001} }

// GoogleKeyECC is the same, ECDSA over P-256.
func GoogleKeyECC() Key { return Key{CertificateIndex: 0x01c10002, TemplateIndex: 0x01c10003} }

// Key says where the attestation key comes from. The zero value is a restricted signing key,
// ECDSA over P-256, of the endorsement hierarchy: made anew for each quote, and the same each
// time, because the TPM derives it from its seed.
type Key struct {
	// Handle is a persistent key, such as [AzureKey].
	Handle uint32
	// TemplateIndex is the NV index of the template (TPMT_PUBLIC) from which the key is made.
	TemplateIndex uint32
	// CertificateIndex is the NV index of the key's certificate (DER).
	CertificateIndex uint32
	// Owner makes the key in the owner's hierarchy, which a reset of the TPM replaces.
	Owner bool
}

// Ranges of handles (TPM 2.0 Library, part 2, 7.2).
const (
	rangeNV         = 0x01
	rangePersistent = 0x81

	maxTemplateBytes = 1 << 10
)

func (k Key) check() error {
	switch {
	case k.Handle != 0 && k.Handle>>24 != rangePersistent:
		return fmt.Errorf("vtpm: %#x is no handle of a persistent key", k.Handle)
	case k.Handle != 0 && (k.TemplateIndex != 0 || k.Owner):
		return errors.New("vtpm: a persistent key is not made from a template or in a hierarchy")
	case k.TemplateIndex != 0 && k.TemplateIndex>>24 != rangeNV || k.CertificateIndex != 0 && k.CertificateIndex>>24 != rangeNV:
		return fmt.Errorf("vtpm: %#x and %#x are not both NV indices", k.TemplateIndex, k.CertificateIndex)
	}
	return nil
}

// loadedKey is a key in the TPM.
type loadedKey struct {
	handle    tpm2.NamedHandle
	public    []byte // TPMT_PUBLIC
	transient bool
}

// load finds or makes the key.
func (k Key) load(tpm transport.TPM) (*loadedKey, error) {
	if k.Handle != 0 {
		response, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(k.Handle)}.Execute(tpm)
		if err != nil {
			return nil, fmt.Errorf("read the key %#x: %w", k.Handle, err)
		}
		return &loadedKey{handle: tpm2.NamedHandle{Handle: tpm2.TPMHandle(k.Handle), Name: response.Name}, public: response.OutPublic.Bytes()}, nil
	}
	template := tpm2.New2B(keyTemplate())
	if k.TemplateIndex != 0 {
		raw, err := readNV(tpm, k.TemplateIndex, maxTemplateBytes)
		if err != nil {
			return nil, err
		}
		template = tpm2.BytesAs2B[tpm2.TPMTPublic](raw)
	}
	hierarchy := tpm2.TPMRHEndorsement
	if k.Owner {
		hierarchy = tpm2.TPMRHOwner
	}
	response, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}, InPublic: template}.Execute(tpm)
	if err != nil {
		return nil, fmt.Errorf("make the key: %w", err)
	}
	return &loadedKey{handle: tpm2.NamedHandle{Handle: response.ObjectHandle, Name: response.Name}, public: response.OutPublic.Bytes(), transient: true}, nil
}

// flush takes a key that was made out of the TPM, which has room for three.
func (k *loadedKey) flush(tpm transport.TPM) error {
	if !k.transient {
		return nil
	}
	if _, err := (tpm2.FlushContext{FlushHandle: k.handle.Handle}).Execute(tpm); err != nil {
		return fmt.Errorf("flush the key: %w", err)
	}
	return nil
}

func (k Key) certificate(tpm transport.TPM) ([]byte, error) {
	if k.CertificateIndex == 0 {
		return nil, nil
	}
	return readNV(tpm, k.CertificateIndex, evidence.MaxEndorsementBytes)
}

// keyTemplate is a restricted signing key that never leaves its TPM.
func keyTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			CurveID: tpm2.TPMECCNistP256,
			KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}),
	}
}

// signatureHash is the hash of a signature, with which the TPM also digests the quoted registers.
func signatureHash(s tpm2.TPMTSignature) (hash.Hash, error) {
	alg := tpm2.TPMAlgNull
	switch s.SigAlg {
	case tpm2.TPMAlgECDSA:
		if sig, err := s.Signature.ECDSA(); err == nil {
			alg = sig.Hash
		}
	case tpm2.TPMAlgRSASSA:
		if sig, err := s.Signature.RSASSA(); err == nil {
			alg = sig.Hash
		}
	case tpm2.TPMAlgRSAPSS:
		if sig, err := s.Signature.RSAPSS(); err == nil {
			alg = sig.Hash
		}
	}
	switch alg {
	case tpm2.TPMAlgSHA256:
		return sha256.New(), nil
	case tpm2.TPMAlgSHA384:
		return sha512.New384(), nil
	}
	return nil, refusal.New(ReasonDevice, "the key signs with scheme %#x and hash %#x", uint16(s.SigAlg), uint16(alg))
}
