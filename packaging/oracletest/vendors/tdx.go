//go:build oracle

package main

import (
	"crypto/x509"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	tpb "github.com/google/go-tdx-guest/proto/tdx"
	"github.com/google/go-tdx-guest/validate"
	"github.com/google/go-tdx-guest/verify"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// served answers the library's questions to the PCS from documents.
type served struct{ d oracletest.TDXDocuments }

func (s served) Get(asked string) (map[string][]string, []byte, error) {
	// Anything behind the root's PEM fails its parse.
	header := func(name string, chain []byte) map[string][]string {
		text := strings.TrimSuffix(strings.TrimSuffix(string(chain), "%0A"), "\n")
		if strings.HasPrefix(text, "-----BEGIN ") {
			text = url.QueryEscape(text)
		}
		return map[string][]string{name: {text}}
	}
	switch {
	case strings.Contains(asked, "/tcb?fmspc="):
		return header(pcs.TcbInfoIssuerChainPhrase, s.d.TCBInfoChain), s.d.TCBInfo, nil
	case strings.HasSuffix(asked, "/qe/identity"):
		return header(pcs.SgxQeIdentityIssuerChainPhrase, s.d.QEIdentityChain), s.d.QEIdentity, nil
	case strings.Contains(asked, "/pckcrl?"):
		return header(pcs.SgxPckCrlIssuerChainPhrase, s.d.PCKCRLChain), s.d.PCKCRL, nil
	}
	return nil, s.d.RootCRL, nil
}

// judgeTDX verifies with everything that the library can check, or in its default way.
func judgeTDX(r oracletest.TDXRequest) (a oracletest.TDXAnswer) {
	now := time.Unix(r.Unix, 0)
	o := &verify.Options{Now: &verify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}}
	if r.Documents != nil {
		o.GetCollateral, o.CheckRevocations, o.Getter = true, true, served{*r.Documents}
	}
	if r.RootsPEM != nil {
		o.TrustedRoots = x509.NewCertPool()
		o.TrustedRoots.AppendCertsFromPEM(r.RootsPEM)
	}
	a.Err = text(guarded(func() error { return verify.RawTdxQuote(r.Quote, o) }))
	a.Cost = measured(r.Repeat, func() { verify.RawTdxQuote(r.Quote, o) })
	return a
}

func tdxFields(raw []byte) (f oracletest.TDXFields) {
	f.Err = text(guarded(func() error {
		quote, err := abi.QuoteToProto(raw)
		if err != nil {
			return err
		}
		f.Validate = text(validate.TdxQuote(quote, &validate.Options{}))
		if v4, ok := quote.(*tpb.QuoteV4); ok {
			f.Body, err = abi.TdQuoteBodyToAbiBytes(v4.GetTdQuoteBody())
		}
		return err
	}))
	return f
}
