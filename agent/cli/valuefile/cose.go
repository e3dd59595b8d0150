package valuefile

import (
	"crypto"
	"crypto/elliptic"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/fxamacker/cbor/v2"
)

// Labels of COSE headers (RFC 9052, RFC 9360, RFC 9597), and of CoRIM's.
const (
	labelAlgorithm, labelCritical, labelContentType, labelKeyID = 1, 2, 3, 4
	labelMeta, labelClaims, labelType                           = 8, 15, 16
	labelChain, labelThumbprint, labelChainURL                  = 33, 34, 35

	claimExpires, claimNotBefore = 4, 5
	keyMetaPeriod, keyMetaSigner = 1, 0
	tagSign1                     = 18
	contentType                  = "application/rim+cbor"
)

// coseScheme is the scheme of an algorithm (RFC 9053): each of ECDSA's with the curve that is
// recommended for its hash, and no other.
func coseScheme(algorithm int64) (scheme, error) {
	switch algorithm {
	case -7:
		return scheme{hash: crypto.SHA256, curve: elliptic.P256()}, nil
	case -35:
		return scheme{hash: crypto.SHA384, curve: elliptic.P384()}, nil
	case -36:
		return scheme{hash: crypto.SHA512, curve: elliptic.P521()}, nil
	case -37:
		return scheme{hash: crypto.SHA256, pss: true}, nil
	case -38:
		return scheme{hash: crypto.SHA384, pss: true}, nil
	case -39:
		return scheme{hash: crypto.SHA512, pss: true}, nil
	case -8:
		return scheme{}, nil // Ed25519
	}
	return scheme{}, refusal.New(ReasonUnsupported, "signature algorithm %d is not known (ES256, ES384, ES512, PS256, PS384, PS512, Ed25519)", algorithm)
}

// headers are COSE's: keys are numbers or text.
type headers map[any]cbor.RawMessage

func (h headers) get(label int64) cbor.RawMessage {
	if v := h[uint64(label)]; label >= 0 && v != nil {
		return v
	}
	return h[label]
}

// verifySign1 verifies a COSE_Sign1 message and returns its payload.
func (d decoder) verifySign1(raw []byte, f *File, o Options) ([]byte, error) {
	content, err := d.tagged("signed CoRIM", raw, tagSign1)
	if err != nil {
		return nil, err
	}
	parts, err := d.list("signed CoRIM", content)
	if err != nil {
		return nil, err
	}
	const protectedAt, unprotectedAt, payloadAt, signatureAt, count = 0, 1, 2, 3, 4
	if len(parts) != count {
		return nil, refusal.New(ReasonMalformed, "signed CoRIM: got %d parts, want %d", len(parts), count)
	}
	protected, payload, signature := d.bytesOf(parts[protectedAt]), d.bytesOf(parts[payloadAt]), d.bytesOf(parts[signatureAt])
	if protected == nil || signature == nil {
		return nil, refusal.New(ReasonMalformed, "signed CoRIM: the protected header or the signature is no byte string")
	}
	if payload == nil {
		return nil, refusal.New(ReasonUnsupported, "signed CoRIM: its payload is elsewhere")
	}
	var inside, outside headers
	if err := d.into("protected header", protected, &inside); err != nil {
		return nil, err
	}
	if err := d.into("unprotected header", parts[unprotectedAt], &outside); err != nil {
		return nil, err
	}
	s, err := d.checkHeaders(inside)
	if err != nil {
		return nil, err
	}
	chain, err := d.chain(inside, outside)
	if err != nil {
		return nil, err
	}
	trusted, err := o.Trust.candidates(chain, o.Now)
	if err != nil {
		return nil, err
	}
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, fmt.Errorf("what was signed: %w", err)
	}
	who, err := s.verify(trusted, signed, signature)
	if err != nil {
		return nil, err
	}
	f.signedBy(who.name, signature)
	return payload, d.checkPeriods(inside, o)
}

// checkHeaders refuses headers that say how to read the message differently from here.
func (d decoder) checkHeaders(inside headers) (scheme, error) {
	for label := range inside {
		switch label {
		case uint64(labelAlgorithm), uint64(labelContentType), uint64(labelKeyID), uint64(labelMeta), uint64(labelClaims), uint64(labelType),
			uint64(labelChain), uint64(labelThumbprint), uint64(labelChainURL):
		case uint64(labelCritical):
			return scheme{}, refusal.New(ReasonUnsupported, "the protected header has critical parameters")
		default: // such as those of a payload that is a hash
			return scheme{}, refusal.New(ReasonUnsupported, "the protected header has a parameter %v, which is not known", label)
		}
	}
	var algorithm int64
	if err := d.into("algorithm", inside.get(labelAlgorithm), &algorithm); err != nil {
		return scheme{}, err
	}
	var content string
	if err := d.into("content type", inside.get(labelContentType), &content); err != nil {
		return scheme{}, err
	}
	if media, _, _ := strings.Cut(content, ";"); strings.TrimSpace(media) != contentType {
		return scheme{}, refusal.New(ReasonUnsupported, "content type: got %q, want %q", content, contentType)
	}
	return coseScheme(algorithm)
}

// checkPeriods refuses a signature that is not valid now by what its header says.
func (d decoder) checkPeriods(inside headers, o Options) error {
	if raw := inside.get(labelMeta); raw != nil {
		inner := d.bytesOf(raw)
		meta, err := d.object("corim-meta", inner, keyMetaSigner, keyMetaPeriod)
		if err != nil {
			return err
		}
		if period := meta[keyMetaPeriod]; period != nil {
			if err := d.checkPeriod("the signature's validity", period, o.Now); err != nil {
				return err
			}
		}
	}
	raw := inside.get(labelClaims)
	if raw == nil {
		return nil
	}
	var claims headers
	if err := d.into("CWT claims", raw, &claims); err != nil {
		return err
	}
	for _, c := range []struct {
		label int64
		ended bool
	}{{claimExpires, true}, {claimNotBefore, false}} {
		value := claims.get(c.label)
		if value == nil {
			continue
		}
		at, err := d.seconds("CWT claims", value)
		if err != nil {
			return err
		}
		if c.ended && o.Now.After(at) || !c.ended && o.Now.Before(at) {
			return refusal.New(ReasonPeriod, "CWT claim %d is a bound at %s", c.label, at.UTC())
		}
	}
	return nil
}

// chain is the signer's certificates, which may stand in either header: they prove themselves.
func (d decoder) chain(inside, outside headers) ([][]byte, error) {
	raw := inside.get(labelChain)
	if raw == nil {
		raw = outside.get(labelChain)
	}
	if raw == nil {
		return nil, nil
	}
	if one := d.bytesOf(raw); one != nil {
		return [][]byte{one}, nil
	}
	list, err := d.list("certificate chain", raw)
	if err != nil {
		return nil, err
	}
	if len(list) > maxChain {
		return nil, refusal.New(ReasonSize, "got a chain of %d certificates, want at most %d", len(list), maxChain)
	}
	var chain [][]byte
	for _, item := range list {
		chain = append(chain, d.bytesOf(item))
	}
	return chain, nil
}
