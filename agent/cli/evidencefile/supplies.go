package evidencefile

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
)

// Limits of supplies.
const (
	maxCertificates  = 256
	maxDocuments     = 32 // of Intel's, of each sort
	maxPEMBlocks     = 64
	maxCombinations  = 64
	gpuChainLength   = 5
	nvidiaRootName   = "NVIDIA Device Identity CA"
	blockCertificate = "CERTIFICATE"
	blockList        = "X509 CRL"
)

// Supplies are what helps to verify evidence. None of it is verified, or believed for where it lay.
type Supplies struct {
	// Authorities are certificates of AMD's ARK, ASK and ASVK, Chips those of VCEK and VLEK.
	Authorities, Chips []*x509.Certificate
	// Lists are AMD's revocation lists.
	Lists []*x509.RevocationList
	// Intel are certificates of Intel's root, of what it certified, and IntelLists its lists.
	Intel      []*x509.Certificate
	IntelLists []*x509.RevocationList
	// TCBInfos and QEIdentities are Intel's documents as its service gives them.
	TCBInfos, QEIdentities [][]byte
	// Complete are documents that came together: of a collateral directory, or of dcap-qvl.
	Complete []collateral.TDXDocuments
	// GPUChains are chains of NVIDIA's, as PEM, the report key's certificate first.
	GPUChains [][]byte
	// Others are certificates of anyone else, such as those of a TPM's attestation key.
	Others []*x509.Certificate
}

// add joins supplies.
func (s *Supplies) add(o Supplies) error {
	s.Authorities = append(s.Authorities, o.Authorities...)
	s.Chips = append(s.Chips, o.Chips...)
	s.Lists = append(s.Lists, o.Lists...)
	s.Intel = append(s.Intel, o.Intel...)
	s.IntelLists = append(s.IntelLists, o.IntelLists...)
	s.TCBInfos = append(s.TCBInfos, o.TCBInfos...)
	s.QEIdentities = append(s.QEIdentities, o.QEIdentities...)
	s.Complete = append(s.Complete, o.Complete...)
	s.GPUChains = append(s.GPUChains, o.GPUChains...)
	s.Others = append(s.Others, o.Others...)
	certificates := len(s.Authorities) + len(s.Chips) + len(s.Intel) + len(s.Others) + len(s.Lists) + len(s.IntelLists)
	if certificates > maxCertificates || max(len(s.TCBInfos), len(s.QEIdentities), len(s.Complete), len(s.GPUChains)) > maxDocuments {
		return refusal.New(ReasonSize, "more than %d certificates and lists, or %d documents of a sort", maxCertificates, maxDocuments)
	}
	return nil
}

// addCertificate files a certificate by the names in it, which say where to try it and nothing more.
func (s *Supplies) addCertificate(der []byte) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return refusal.New(ReasonMalformed, "a certificate: %w", err)
	}
	switch name := c.Subject.CommonName; {
	case name == "SEV-VCEK" || name == "SEV-VLEK":
		s.Chips = append(s.Chips, c)
	case strings.HasPrefix(name, "ARK-") || strings.HasPrefix(name, "SEV-"):
		s.Authorities = append(s.Authorities, c)
	case strings.HasPrefix(name, "Intel SGX "):
		s.Intel = append(s.Intel, c)
	default:
		s.Others = append(s.Others, c)
	}
	return nil
}

func (s *Supplies) addList(der []byte) error {
	l, err := x509.ParseRevocationList(der)
	if err != nil {
		return refusal.New(ReasonMalformed, "a revocation list: %w", err)
	}
	if strings.HasPrefix(l.Issuer.CommonName, "Intel SGX ") {
		s.IntelLists = append(s.IntelLists, l)
	} else {
		s.Lists = append(s.Lists, l)
	}
	return nil
}

var errNotDER = errors.New("neither a certificate nor a revocation list")

// addDER takes a certificate or a revocation list.
func (s *Supplies) addDER(der []byte) error {
	if s.addCertificate(der) == nil || s.addList(der) == nil {
		return nil
	}
	return errNotDER
}

// recognisePEM reads certificates and revocation lists, escaped as in a header of Intel's service
// or not. Five certificates that end at NVIDIA's root are a GPU's chain.
func recognisePEM(text []byte) (found, error) {
	if bytes.HasPrefix(text, []byte("-----BEGIN%20")) {
		plain, err := url.PathUnescape(string(text))
		if err != nil {
			return found{}, refusal.New(ReasonMalformed, "escaped PEM: %w", err)
		}
		text = bytes.TrimRight([]byte(plain), "\x00\r\n ")
	}
	f := found{form: formSupply}
	rest := text
	blocks := 0
	for ; ; blocks++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		var err error
		switch {
		case blocks == maxPEMBlocks:
			return found{}, refusal.New(ReasonSize, "more than %d blocks of PEM", maxPEMBlocks)
		case block.Type == blockCertificate:
			err = f.supplies.addCertificate(block.Bytes)
		case block.Type == blockList:
			err = f.supplies.addList(block.Bytes)
		default:
			err = refusal.New(ReasonForm, "PEM of type %q; certificates and revocation lists are known", block.Type)
		}
		if err != nil {
			return found{}, err
		}
	}
	if blocks == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return found{}, refusal.New(ReasonMalformed, "PEM that does not end")
	}
	if n := len(f.supplies.Others); n == gpuChainLength && n == blocks && f.supplies.Others[n-1].Subject.CommonName == nvidiaRootName {
		f.supplies = Supplies{GPUChains: [][]byte{text}}
	}
	return f, nil
}

// Names of Intel's certificates.
const (
	nameIntelRoot = "Intel SGX Root CA"
	nameTCBSigner = "Intel SGX TCB Signing"
	namePlatform  = "Intel SGX PCK Platform CA"
	nameProcessor = "Intel SGX PCK Processor CA"
)

// TDXDocuments are the complete documents, and every combination of the others that could belong
// together: who verifies them finds out which do.
func (s *Supplies) TDXDocuments() []collateral.TDXDocuments {
	all := append([]collateral.TDXDocuments{}, s.Complete...)
	lists := func(issuer string) (of [][]byte) {
		for _, l := range s.IntelLists {
			if l.Issuer.CommonName == issuer {
				of = append(of, l.Raw)
			}
		}
		return of
	}
	signers := s.chains(nameTCBSigner)
	for _, ca := range []string{namePlatform, nameProcessor} {
		for _, root := range lists(nameIntelRoot) {
			for _, list := range lists(ca) {
				for _, chain := range s.chains(ca) {
					for _, signer := range signers {
						all = append(all, s.pairs(collateral.TDXDocuments{TCBInfoChain: signer, QEIdentityChain: signer, PCKCRL: list, PCKCRLChain: chain, RootCRL: root})...)
					}
				}
			}
		}
	}
	return all[:min(len(all), maxCombinations+len(s.Complete))]
}

// pairs completes documents by each TCB info with each QE identity.
func (s *Supplies) pairs(d collateral.TDXDocuments) (all []collateral.TDXDocuments) {
	for _, info := range s.TCBInfos {
		for _, qe := range s.QEIdentities {
			d.TCBInfo, d.QEIdentity = info, qe
			all = append(all, d)
		}
	}
	return all
}

// chains are the certificates of a name with the root behind each, as PEM, without repetitions.
func (s *Supplies) chains(name string) (all [][]byte) {
	for _, root := range s.Intel {
		if root.Subject.CommonName != nameIntelRoot {
			continue
		}
		for _, c := range s.Intel {
			if c.Subject.CommonName != name {
				continue
			}
			text := append(pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: c.Raw}), pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: root.Raw})...)
			if !containsBytes(all, text) {
				all = append(all, text)
			}
		}
	}
	return all
}

func containsBytes(list [][]byte, b []byte) bool {
	for _, have := range list {
		if bytes.Equal(have, b) {
			return true
		}
	}
	return false
}
