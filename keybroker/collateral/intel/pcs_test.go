package intel

import (
	"bytes"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
	"github.com/anchorhold/anchorhold/guest/evidence/evidencetest"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/fetch"
	"github.com/anchorhold/anchorhold/keybroker/collateral/sourcetest"
)

func base(tb testing.TB, text string) fetch.Base {
	tb.Helper()
	b, err := fetch.ParseBase(text, Pace())
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var platform = collateral.Platform{FMSPC: [6]byte{0x90, 0xc0, 0x6f}, CA: collateral.CAProcessor, Update: collateral.UpdateEarly}

// TestRequestsAreThoseOfTheAPI, of Intel's service with its second host, and of a PCCS.
func TestRequestsAreThoseOfTheAPI(t *testing.T) {
	const pccs = "https://pccs.example:8081/sgx-cache"
	for what, c := range map[string]struct {
		s    Service
		p    collateral.Platform
		want []string
	}{
		"Intel's": {Service{Base: base(t, DefaultBase), Root: base(t, DefaultRootBase)}, platform, []string{
			"https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=90c06f000000&update=early",
			"https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=early",
			"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
			"https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"}},
		"a PCCS": {Service{Base: base(t, pccs)}, collateral.Platform{FMSPC: platform.FMSPC, CA: collateral.CAPlatform, Update: "18"}, []string{
			pccs + "/tdx/certification/v4/tcb?fmspc=90c06f000000&tcbEvaluationDataNumber=18",
			pccs + "/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=18",
			pccs + "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
			pccs + "/sgx/certification/v4/rootcacrl"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			pcs := sourcetest.NewPCS(t, time.Now())
			var asked []string
			pcs.Hook = func(r *http.Request) (int, http.Header) {
				asked = append(asked, r.URL.String())
				return 0, nil
			}
			c.s.Client = fetch.New(fetch.Options{Transport: pcs})
			docs, err := c.s.Documents(t.Context(), c.p)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !slices.Equal(asked, c.want) {
				t.Errorf("%s: asked for\n%s, want\n%s", what, strings.Join(asked, "\n"), strings.Join(c.want, "\n"))
			}
			if err := pcs.Check(c.p, docs, time.Now()); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
}

// rewriting changes answers.
type rewriting struct {
	to     http.RoundTripper
	change func(*http.Response)
}

// RoundTrip implements http.RoundTripper.
func (r rewriting) RoundTrip(q *http.Request) (*http.Response, error) {
	resp, err := r.to.RoundTrip(q)
	if err == nil {
		r.change(resp)
	}
	return resp, err
}

func TestChainsComeFromTheirHeaders(t *testing.T) {
	for what, c := range map[string]struct {
		change func(http.Header)
		reason refusal.Reason
	}{
		"as they are": {func(http.Header) {}, ""},
		"the older name": {func(h http.Header) {
			if v := h.Get("TCB-Info-Issuer-Chain"); v != "" {
				h.Del("TCB-Info-Issuer-Chain")
				h.Set("SGX-TCB-Info-Issuer-Chain", v)
			}
		}, ""},
		"none":           {func(h http.Header) { h.Del("TCB-Info-Issuer-Chain") }, collateral.ReasonMalformed},
		"no PCK chain":   {func(h http.Header) { h.Del("SGX-PCK-CRL-Issuer-Chain") }, collateral.ReasonMalformed},
		"bad escapes":    {func(h http.Header) { h.Set("TCB-Info-Issuer-Chain", "%zz") }, collateral.ReasonMalformed},
		"text":           {func(h http.Header) { h.Set("TCB-Info-Issuer-Chain", "none") }, collateral.ReasonMalformed},
		"larger than is": {func(h http.Header) { h.Set("TCB-Info-Issuer-Chain", strings.Repeat("a", maxChainBytes+1)) }, collateral.ReasonMalformed},
	} {
		synctest.Test(t, func(t *testing.T) {
			pcs := sourcetest.NewPCS(t, time.Now())
			s := Service{Base: base(t, "https://pccs.example"), Client: fetch.New(fetch.Options{Transport: rewriting{pcs, func(r *http.Response) { c.change(r.Header) }}})}
			docs, err := s.Documents(t.Context(), platform)
			if refusaltest.Want(t, what, err, c.reason); err == nil && pcs.Check(platform, docs, time.Now()) != nil {
				t.Errorf("%s: the chain is another", what)
			}
		})
	}
}

func TestFailuresOfEachDocumentAreErrors(t *testing.T) {
	for _, path := range []string{"/tcb", "/qe/identity", "/pckcrl", "/rootcacrl"} {
		synctest.Test(t, func(t *testing.T) {
			pcs := sourcetest.NewPCS(t, time.Now())
			pcs.Hook = func(r *http.Request) (int, http.Header) {
				if strings.HasSuffix(r.URL.Path, path) {
					return http.StatusNotFound, nil
				}
				return 0, nil
			}
			s := Service{Base: base(t, "https://pccs.example"), Client: fetch.New(fetch.Options{Transport: pcs})}
			_, err := s.Documents(t.Context(), platform)
			refusaltest.Want(t, path, err, collateral.ReasonUnknown)
		})
	}
}

// TestRealHeadersAndListsAreRead: as Intel served them in January 2026.
func TestRealHeadersAndListsAreRead(t *testing.T) {
	for _, name := range []string{"tcb_info_90c06f000000_chain.txt", "tcb_info_00a06d080000_chain.txt", "qe_identity_chain.txt", "pck_crl_platform_chain.txt", "pck_crl_processor_chain.txt"} {
		header := evidencetest.Read(t, "tdx", "collateral-tinfoil", name)
		chain, err := issuerChain(string(header))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		list, err := collateral.Certificates(chain)
		if err != nil || len(list) != 2 {
			t.Errorf("%s: %d certificates, %v", name, len(list), err)
		}
		if bare, err := url.PathUnescape(string(header)); err != nil || !bytes.Equal(bytes.TrimSpace([]byte(bare)), bytes.TrimSpace(chain)) {
			t.Errorf("%s: the chain is not what was served", name)
		}
	}
	for _, name := range []string{"pck_crl_platform.crl", "pck_crl_processor.crl", "root_ca.crl"} {
		der := evidencetest.Read(t, "tdx", "collateral-tinfoil", name)
		for what, served := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}), "hexadecimal": []byte(hex.EncodeToString(der) + "\n"), "upper case": []byte(strings.ToUpper(hex.EncodeToString(der)))} {
			if got, err := revocationList(served); err != nil || !bytes.Equal(got, der) {
				t.Errorf("%s as %s: %v", name, what, err)
			}
		}
	}
	for what, bad := range map[string]string{"nothing": "", "a page": "<html>", "a certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})), "digits": "abcd"} {
		_, err := revocationList([]byte(bad))
		refusaltest.Want(t, what, err, collateral.ReasonMalformed)
	}
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte("-----BEGIN%20CERTIFICATE-----%0AAQID%0A-----END%20CERTIFICATE-----%0A"))
	f.Add([]byte("30820120"))
	f.Fuzz(func(t *testing.T, answer []byte) { // must not panic
		_, _ = issuerChain(string(answer))
		_, _ = revocationList(answer)
	})
}

func TestWithoutACheckNothingIsVerified(t *testing.T) {
	k, err := platform.Key()
	if err != nil {
		t.Fatal(err)
	}
	accept := func(collateral.Platform, collateral.TDXDocuments, time.Time) error { return nil }
	refusaltest.Want(t, "no check", Verify(nil, collateral.Item{Key: k}, time.Now()), collateral.ReasonUnverifiable)
	refusaltest.Want(t, "AMD's", Verify(accept, collateral.Item{}, time.Now()), collateral.ReasonUnverifiable)
	refusaltest.Want(t, "accepted", Verify(accept, collateral.Item{Key: k}, time.Now()), "")
	refusaltest.Want(t, "refused", Verify(func(collateral.Platform, collateral.TDXDocuments, time.Time) error { return refusal.New("x", "y") }, collateral.Item{Key: k}, time.Now()), collateral.ReasonSignature)
}
