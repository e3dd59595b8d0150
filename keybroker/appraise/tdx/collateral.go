package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// maxIssuerChainBytes bounds the text of an issuer chain, escaped or not.
const maxIssuerChainBytes = 16 << 10

// Documents are Intel's documents for one platform and one authority, as its PCS serves them
// (API version 4). Chains are PEM text, escaped as in the response's header or not.
type Documents struct {
	// TCBInfo is {"tcbInfo": ..., "signature": ...} for the platform's FMSPC, and TCBInfoChain is
	// the header TCB-Info-Issuer-Chain: TCB signer, root.
	TCBInfo, TCBInfoChain []byte
	// QEIdentity is {"enclaveIdentity": ..., "signature": ...} of the TDX quoting enclave, and
	// QEIdentityChain is the header SGX-Enclave-Identity-Issuer-Chain: TCB signer, root.
	QEIdentity, QEIdentityChain []byte
	// PCKCRL is the authority's revocation list (DER), and PCKCRLChain is the header
	// SGX-PCK-CRL-Issuer-Chain: authority, root.
	PCKCRL, PCKCRLChain []byte
	// RootCRL is the root's revocation list (DER).
	RootCRL []byte
}

// Collateral is what Intel says of one platform, verified. It does not change, and may serve any
// number of quotes at once: [ParseCollateral] checks what does not depend on the time, each
// [Verifier.Verify] what does. The zero value matches no quote.
type Collateral struct {
	tcb      *tcbInfo
	qe       *qeIdentity
	pckCRL   *revocationList
	rootCRL  *revocationList
	ca       CA
	root     [32]byte // SHA-256 of its subject public key info
	windows  []window // documents and lists
	holders  []holder // certificates
	software bool
}

// ParseCollateral reads the documents and verifies each signature up to a trusted root, which
// must be one and the same. It checks no time, except that signers are not revoked. A refusal is
// an *refusal.Error.
func ParseCollateral(d Documents, roots Roots) (*Collateral, error) {
	c := &Collateral{}
	p := collateralParser{c: c, roots: roots}
	for _, step := range []func(Documents) error{p.lists, p.tcbInfo, p.qeIdentity} {
		if err := step(d); err != nil {
			return nil, err
		}
	}
	c.windows = []window{c.tcb.window, c.qe.window, c.pckCRL.window, c.rootCRL.window}
	return c, nil
}

// FMSPC names the platform that the collateral is for.
func (c *Collateral) FMSPC() [6]byte {
	if c.tcb == nil {
		return [6]byte{}
	}
	return c.tcb.fmspc
}

// CA is the authority whose revocation list the collateral has.
func (c *Collateral) CA() CA { return c.ca }

// EvaluationNumber is the lower tcbEvaluationDataNumber of the two documents.
func (c *Collateral) EvaluationNumber() uint32 {
	if c.tcb == nil {
		return 0
	}
	return min(c.tcb.evaluation, c.qe.evaluation)
}

// Window is the time in which all documents and lists hold; it may be empty, from after until.
func (c *Collateral) Window() (from, until time.Time) {
	for i, w := range c.windows {
		if i == 0 || w.from.After(from) {
			from = w.from
		}
		if i == 0 || w.until.Before(until) {
			until = w.until
		}
	}
	return from, until
}

// ValidAt refuses a time outside the windows of the documents, lists and certificates.
func (c *Collateral) ValidAt(now time.Time) error { return c.validAt(now, time.Time{}) }

// validAt does the same, but before a date it forgives documents and lists, not certificates, their end.
func (c *Collateral) validAt(now, grace time.Time) error {
	if c.tcb == nil {
		return refusal.New(ReasonCollateralMissing, "the collateral is empty")
	}
	for i := range c.holders {
		if err := c.holders[i].check(now, ReasonExpired, ReasonExpired); err != nil {
			return err
		}
	}
	for i := range c.windows {
		at := now
		if end := c.windows[i].until; now.After(end) && now.Before(grace) {
			at = end
		}
		if err := c.windows[i].check(at, ReasonCollateralEarly, ReasonCollateralExpired); err != nil {
			return err
		}
	}
	return nil
}

// collateralParser fills in a Collateral, a group of documents at each step.
type collateralParser struct {
	c     *Collateral
	roots Roots
	seen  bool // a root
}

// issuers verifies the chain of a document's signer: two certificates, the second of which is the
// root that all documents share.
func (p *collateralParser) issuers(text []byte, names ...string) (signer, root *x509.Certificate, err error) {
	if len(text) > maxIssuerChainBytes {
		return nil, nil, refusal.New(ReasonCertificate, "an issuer chain of %d bytes, the limit is %d", len(text), maxIssuerChainBytes)
	}
	if !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
		plain, err := url.QueryUnescape(string(text))
		if err != nil {
			return nil, nil, refusal.New(ReasonCertificate, "an issuer chain is neither PEM nor escaped PEM: %w", err)
		}
		text = []byte(plain)
	}
	chain, err := parseChain(text, 2)
	if err != nil {
		return nil, nil, err
	}
	software, err := verifyChain(chain, p.roots, names, []string{nameRoot})
	if err != nil {
		return nil, nil, err
	}
	root = chain[1]
	h := holderOf(root)
	if p.seen && h.key != p.c.root {
		return nil, nil, refusal.New(ReasonRoot, "the documents end at different roots")
	}
	p.seen, p.c.root, p.c.software = true, h.key, software
	p.c.holders = append(p.c.holders, holderOf(chain[0]), h)
	return chain[0], root, nil
}

// lists reads both revocation lists, of which the root's is also over the signers of documents.
func (p *collateralParser) lists(d Documents) error {
	ca, root, err := p.issuers(d.PCKCRLChain, namePlatform, nameProcessor)
	if err != nil {
		return err
	}
	p.c.ca = PlatformCA
	if ca.Subject.CommonName == nameProcessor {
		p.c.ca = ProcessorCA
	}
	if p.c.rootCRL, err = parseRevocationList(d.RootCRL, root, "root CRL"); err != nil {
		return err
	}
	if p.c.pckCRL, err = parseRevocationList(d.PCKCRL, ca, "PCK CRL"); err != nil {
		return err
	}
	return p.c.rootCRL.check(&p.c.holders[0])
}

func (p *collateralParser) tcbInfo(d Documents) (err error) {
	text, err := p.signed(d.TCBInfo, "tcbInfo", d.TCBInfoChain)
	if err == nil {
		p.c.tcb, err = parseTCBInfo(text)
	}
	return err
}

func (p *collateralParser) qeIdentity(d Documents) (err error) {
	text, err := p.signed(d.QEIdentity, "enclaveIdentity", d.QEIdentityChain)
	if err == nil {
		p.c.qe, err = parseQEIdentity(text)
	}
	return err
}

// signed returns the member of a response that is signed: the signature covers its bytes exactly
// as they stand there.
func (p *collateralParser) signed(response []byte, member string, chain []byte) (json.RawMessage, error) {
	if len(response) > maxDocumentBytes {
		return nil, refusal.New(ReasonCollateralMalformed, "%s has %d bytes, the limit is %d", member, len(response), maxDocumentBytes)
	}
	var failed error
	o := parseObject(response, "response", &failed)
	text, signature := o.raw(member), o.raw("signature")
	raw := make([]byte, signatureBytes)
	if failed != nil {
		return nil, refusal.New(ReasonCollateralMalformed, "%w", failed)
	}
	if len(signature) != 2*signatureBytes+2 {
		return nil, refusal.New(ReasonCollateralMalformed, "the signature of %s is not %d bytes in hexadecimal", member, signatureBytes)
	}
	if _, err := hex.Decode(raw, signature[1:len(signature)-1]); err != nil {
		return nil, refusal.New(ReasonCollateralMalformed, "the signature of %s: %w", member, err)
	}
	signer, _, err := p.issuers(chain, nameTCBSigner)
	if err != nil {
		return nil, err
	}
	if err := p.c.rootCRL.check(&p.c.holders[len(p.c.holders)-2]); err != nil {
		return nil, err
	}
	if key, ok := signer.PublicKey.(*ecdsa.PublicKey); !ok || !verifyP256(key, text, raw) {
		return nil, refusal.New(ReasonCollateralSignature, "%q did not sign %s", signer.Subject.CommonName, member)
	}
	return text, nil
}
