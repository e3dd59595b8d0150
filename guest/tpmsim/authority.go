//go:build !release

package tpmsim

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/anchorhold/anchorhold/guest/kept"
)

const authorityFile = "tpmsim.pem"

// authority is the key with the authority that certified it.
type authority struct {
	key         crypto.Signer
	certificate []byte
	root        *x509.Certificate
}

// openAuthority reads the key and its certificates from a directory, or makes them there.
func openAuthority(dir string, key crypto.Signer) (*authority, error) {
	if dir == "" {
		a, _, err := makeAuthority(key)
		return a, err
	}
	if key != nil {
		return nil, errors.New("tpmsim: a key is either given or kept in a directory")
	}
	text, err := kept.File(dir, authorityFile, func() ([]byte, error) {
		_, text, err := makeAuthority(nil)
		return text, err
	})
	if err != nil {
		return nil, fmt.Errorf("tpmsim: %w", err)
	}
	return readAuthority(text)
}

// makeAuthority makes an authority and certifies a key, a new one if none is given. The text holds
// the key, its certificate and the authority's; the authority's own key is forgotten.
func makeAuthority(key crypto.Signer) (*authority, []byte, error) {
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("tpmsim: %w", err)
	}
	if key == nil {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, nil, fmt.Errorf("tpmsim: %w", err)
		}
	}
	begin := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "SOFTWARE TPM, PROVES NOTHING"}, NotBefore: begin, NotAfter: begin.AddDate(100, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("tpmsim: %w", err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "software TPM"}, NotBefore: begin, NotAfter: root.NotAfter,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, root, key.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("tpmsim: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("tpmsim: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER})...)
	text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: rootDER})...)
	a, err := readAuthority(text)
	return a, text, err
}

func readAuthority(text []byte) (*authority, error) {
	var parts [3][]byte
	for i := range parts {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("tpmsim: %s has %d parts, want 3", authorityFile, i)
		}
		parts[i], text = block.Bytes, rest
	}
	key, err := x509.ParsePKCS8PrivateKey(parts[0])
	if err != nil {
		return nil, fmt.Errorf("tpmsim: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("tpmsim: a key of type %T", key)
	}
	root, err := x509.ParseCertificate(parts[2])
	if err != nil {
		return nil, fmt.Errorf("tpmsim: %w", err)
	}
	return &authority{key: signer, certificate: parts[1], root: root}, nil
}
