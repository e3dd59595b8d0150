package amd

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
)

// DefaultBase is AMD's own service.
const DefaultBase = "https://kdsintf.amd.com"

// Pace is what AMD's own service bears: it answers 429 to the fifth certificate in a short time
// and says nowhere how many it allows. The client slows down where that is still too fast.
func Pace() fetch.Pace { return fetch.Pace{Burst: 4, Interval: 10 * time.Second} }

// MirrorPace is for a mirror of the operator's own.
func MirrorPace() fetch.Pace { return fetch.Pace{Burst: 32, Interval: 20 * time.Millisecond} }

// Limits of answers: twice what they have and more.
const (
	maxCertificateBytes = 4 << 10
	maxChainBytes       = 16 << 10
	maxListBytes        = 256 << 10
)

// Service is AMD's key distribution service or a mirror of it.
type Service struct {
	Client *fetch.Client
	Base   fetch.Base
	// Verifier has the pinned roots; without one nothing is accepted.
	Verifier *appraise.Verifier
}

// Chain fetches the authorities of a product line.
func (s Service) Chain(ctx context.Context, key collateral.Key, now func() time.Time) (collateral.Item, error) {
	signer := "vcek"
	if key.Loaded() {
		signer = "vlek"
	}
	r := s.Base.Request("/"+signer+"/v1/"+string(key.Product())+"/cert_chain", nil, maxChainBytes)
	r.Urgent = true
	resp, err := s.Client.Get(ctx, r)
	if err != nil {
		return collateral.Item{}, err
	}
	certs, err := certificates(resp.Body)
	if err != nil {
		return collateral.Item{}, err
	}
	return s.verified(collateral.Item{Key: key, Documents: certs}, collateral.Item{}, now())
}

// List fetches the revocation list of a product line.
func (s Service) List(ctx context.Context, key collateral.Key, chain collateral.Item, now func() time.Time) (collateral.Item, error) {
	r := s.Base.Request("/vcek/v1/"+string(key.Product())+"/crl", nil, maxListBytes)
	r.Urgent = true
	resp, err := s.Client.Get(ctx, r)
	if err != nil {
		return collateral.Item{}, err
	}
	it := collateral.Item{Key: key, Documents: [][]byte{der(resp.Body, "X509 CRL")}}
	at := now()
	if it, err = s.verified(it, chain, at); err != nil {
		return collateral.Item{}, err
	}
	stamps, err := it.Stamps()
	if err == nil && at.After(collateral.Ends(stamps)) {
		err = refusal.New(collateral.ReasonStale, "%s served a list that ended at %s", s.Base, collateral.Ends(stamps).Format(time.RFC3339))
	}
	return it, err
}

// VCEK fetches the certificate of a chip.
func (s Service) VCEK(ctx context.Context, key collateral.Key, chain collateral.Item, now func() time.Time) (collateral.Item, error) {
	resp, err := s.Client.Get(ctx, vcekRequest(s.Base, key.Chip()))
	if err != nil {
		return collateral.Item{}, err
	}
	return s.verified(collateral.Item{Key: key, Documents: [][]byte{der(resp.Body, "CERTIFICATE")}}, chain, now())
}

// vcekRequest is the URL of a chip's certificate (57230, section 4.1): the versions in decimal,
// at least two digits.
func vcekRequest(base fetch.Base, c collateral.Chip) fetch.Request {
	number := func(v uint8) string {
		if v < 10 {
			return "0" + strconv.Itoa(int(v))
		}
		return strconv.Itoa(int(v))
	}
	q := url.Values{"blSPL": {number(c.TCB.BootLoader)}, "teeSPL": {number(c.TCB.TEE)}, "snpSPL": {number(c.TCB.SNP)}, "ucodeSPL": {number(c.TCB.Microcode)}}
	if c.Product == "Turin" {
		q.Set("fmcSPL", number(c.TCB.FMC))
	}
	return base.Request("/vcek/v1/"+string(c.Product)+"/"+hex.EncodeToString(c.HWID), q, maxCertificateBytes)
}

func (s Service) verified(it, chain collateral.Item, now time.Time) (collateral.Item, error) {
	it.Fetched = now.UTC().Truncate(time.Second)
	if err := Verify(s.Verifier, it, chain, now); err != nil {
		return collateral.Item{}, err
	}
	return it, nil
}

// Verify checks an item of AMD's: its signatures up to a pinned root, and that it is about what
// its key names. VCEKs and lists are checked with their product line's chain of VCEKs. An ended
// list verifies: whether it may be used is the caller's to judge.
func Verify(v *appraise.Verifier, it, chain collateral.Item, now time.Time) error {
	if v == nil {
		return refusal.New(collateral.ReasonUnverifiable, "nobody has AMD's roots")
	}
	key := it.Key
	if key.Kind() == collateral.KindAMDChain {
		if len(it.Documents) != 2 {
			return refusal.New(collateral.ReasonMalformed, "%s has %d certificates, want 2", key, len(it.Documents))
		}
		return wrap(key, v.VerifyAuthorities(key.Product(), key.Loaded(), it.Documents[0], it.Documents[1], now))
	}
	if want, err := collateral.ChainKey(key.Product(), false); err != nil || chain.Key != want || len(chain.Documents) != 2 || len(it.Documents) != 1 {
		return refusal.New(collateral.ReasonMissing, "%s cannot be verified without amd-chain/%s/vcek", key, key.Product())
	}
	switch key.Kind() {
	case collateral.KindAMDCRL:
		return wrap(key, v.VerifyRevocationList(key.Product(), it.Documents[0], chain.Documents[1], now))
	case collateral.KindVCEK:
		stated, err := v.VerifyVCEK(it.Documents[0], chain.Documents[0], chain.Documents[1], now)
		if err != nil {
			return wrap(key, err)
		}
		if want := key.Chip(); stated.Product != want.Product || stated.TCB != want.TCB || !bytes.Equal(stated.HWID, want.HWID) {
			return refusal.New(collateral.ReasonMismatch, "%s: the certificate is for a %s chip %x with version %+v", key, stated.Product, stated.HWID, stated.TCB)
		}
		return nil
	}
	return refusal.New(collateral.ReasonUnverifiable, "%s is not AMD's", key)
}

// wrap says about what package appraise's refusal is. The reason is ours: the caller's question
// is whether a document may be kept.
func wrap(key collateral.Key, err error) error {
	if err == nil {
		return nil
	}
	return refusal.New(collateral.ReasonSignature, "%s: %w", key, err)
}

// certificates are the two of a chain.
func certificates(text []byte) ([][]byte, error) {
	list, err := collateral.Certificates(text)
	if err == nil && len(list) != 2 {
		err = refusal.New(collateral.ReasonMalformed, "the chain has %d certificates, want 2", len(list))
	}
	return list, err
}

// der is what a PEM block holds, or the answer itself: mirrors serve either.
func der(answer []byte, label string) []byte {
	if block, rest := pem.Decode(answer); block != nil && block.Type == label && len(bytes.TrimSpace(rest)) == 0 {
		return block.Bytes
	}
	return answer
}
