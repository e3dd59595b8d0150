package intel

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
)

// Intel's own services. The root's revocation list has a host of its own; a PCCS serves all.
const (
	DefaultBase     = "https://api.trustedservices.intel.com"
	DefaultRootBase = "https://certificates.trustedservices.intel.com"
)

// Pace is what Intel's service and a PCCS bear.
func Pace() fetch.Pace { return fetch.Pace{Burst: 8, Interval: 250 * time.Millisecond} }

// Limits of answers.
const (
	maxDocumentBytes = 256 << 10
	maxListBytes     = 1 << 20
	maxChainBytes    = 16 << 10
)

// Headers that carry chains. Version 3 of the API and some caches use the second name of the
// first.
const (
	headerTCBChain    = "TCB-Info-Issuer-Chain"
	headerTCBChainOld = "SGX-TCB-Info-Issuer-Chain"
	headerQEChain     = "SGX-Enclave-Identity-Issuer-Chain"
	headerPCKChain    = "SGX-PCK-CRL-Issuer-Chain"
)

// Service is Intel's service, or a PCCS.
type Service struct {
	Client *fetch.Client
	Base   fetch.Base
	// Root is where the root's revocation list is; the zero value says that Base is a PCCS,
	// which serves it too.
	Root fetch.Base
}

// Documents fetches the documents of a platform, unverified.
func (s Service) Documents(ctx context.Context, p collateral.Platform) (docs collateral.TDXDocuments, err error) {
	query := url.Values{"update": {p.Update}}
	if n := p.EvaluationNumber(); n != 0 {
		query = url.Values{"tcbEvaluationDataNumber": {strconv.FormatUint(uint64(n), 10)}}
	}
	tcb := url.Values{"fmspc": {hex.EncodeToString(p.FMSPC[:])}}
	for name, value := range query {
		tcb[name] = value
	}
	if docs.TCBInfo, docs.TCBInfoChain, err = s.get(ctx, s.Base.Request("/tdx/certification/v4/tcb", tcb, maxDocumentBytes), headerTCBChain, headerTCBChainOld); err != nil {
		return docs, err
	}
	if docs.QEIdentity, docs.QEIdentityChain, err = s.get(ctx, s.Base.Request("/tdx/certification/v4/qe/identity", query, maxDocumentBytes), headerQEChain, headerTCBChainOld); err != nil {
		return docs, err
	}
	crl := url.Values{"ca": {string(p.CA)}, "encoding": {"der"}}
	if docs.PCKCRL, docs.PCKCRLChain, err = s.get(ctx, s.Base.Request("/sgx/certification/v4/pckcrl", crl, maxListBytes), headerPCKChain); err != nil {
		return docs, err
	}
	root := s.Base.Request("/sgx/certification/v4/rootcacrl", nil, maxListBytes)
	if !s.Root.IsZero() {
		root = s.Root.Request("/IntelSGXRootCA.der", nil, maxListBytes)
	}
	if docs.RootCRL, _, err = s.get(ctx, root); err != nil {
		return docs, err
	}
	for _, list := range []*[]byte{&docs.PCKCRL, &docs.RootCRL} {
		if *list, err = revocationList(*list); err != nil {
			return docs, err
		}
	}
	return docs, nil
}

// get fetches a document and the chain in the first of the headers that is there.
func (s Service) get(ctx context.Context, r fetch.Request, headers ...string) (body, chain []byte, err error) {
	r.Urgent = true
	resp, err := s.Client.Get(ctx, r)
	if err != nil || len(headers) == 0 {
		return resp.Body, nil, err
	}
	for _, name := range headers {
		if text := resp.Header.Get(name); text != "" {
			chain, err = issuerChain(text)
			return resp.Body, chain, err
		}
	}
	return nil, nil, refusal.New(collateral.ReasonMalformed, "%s: the answer has no header %s", r, headers[0])
}

// issuerChain undoes the escapes of a header and reads its certificates, one to three of them.
func issuerChain(header string) ([]byte, error) {
	text, err := url.PathUnescape(header)
	if err != nil || len(text) > maxChainBytes {
		return nil, refusal.New(collateral.ReasonMalformed, "the issuer chain's header is not URL-escaped or larger than %d bytes", maxChainBytes)
	}
	list, err := collateral.Certificates([]byte(text))
	if err != nil {
		return nil, err
	}
	var clean []byte
	for _, der := range list {
		clean = append(clean, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return clean, nil
}

// revocationList reads a list as services serve it: DER, PEM, or DER in hexadecimal, as a PCCS
// serves the root's.
func revocationList(answer []byte) ([]byte, error) {
	der := answer
	if block, rest := pem.Decode(answer); block != nil && block.Type == "X509 CRL" && len(bytes.TrimSpace(rest)) == 0 {
		der = block.Bytes
	} else if raw, err := hex.DecodeString(string(bytes.TrimSpace(answer))); err == nil {
		der = raw
	}
	if _, err := x509.ParseRevocationList(der); err != nil {
		return nil, refusal.New(collateral.ReasonMalformed, "the revocation list is neither DER nor PEM nor hexadecimal: %w", err)
	}
	return der, nil
}

// Verify checks an item of Intel's with the check that was given.
func Verify(check collateral.TDXCheck, it collateral.Item, now time.Time) error {
	if check == nil {
		return refusal.New(collateral.ReasonUnverifiable, "nobody said how to verify Intel's documents")
	}
	if it.Key.Kind() != collateral.KindTDX {
		return refusal.New(collateral.ReasonUnverifiable, "%s is not Intel's", it.Key)
	}
	if err := check(it.Key.Platform(), it.TDX(), now); err != nil {
		return refusal.New(collateral.ReasonSignature, "%s: %w", it.Key, err)
	}
	return nil
}
