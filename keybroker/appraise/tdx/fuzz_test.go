//go:build !release

package tdx

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// realQuotes are those beside the checkout, if there are any.
func realQuotes(f *testing.F) (list [][]byte) {
	for _, pattern := range []string{"tdx/*/quote*.bin", "azure/*/quote.bin"} {
		names, err := filepath.Glob(filepath.Join("..", "..", "..", "..", "shared", "evidence", filepath.FromSlash(pattern)))
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range names {
			if data, err := os.ReadFile(name); err == nil {
				list = append(list, data)
			}
		}
	}
	return list
}

// FuzzTDXQuote: no quote makes parser or verifier panic, every refusal has a reason, and nothing is
// accepted but what the emulated platform signed.
func FuzzTDXQuote(f *testing.F) {
	s := emulate(f, tdxsim.Options{Guest: tdxsim.Guest{Version: 5}})
	good, err := Parse(s.quote)
	if err != nil {
		f.Fatal(err)
	}
	set := NewSet(mustCollateral(f, s.documents, s.roots))
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.quote)
	for _, g := range kinds {
		f.Add(emulate(f, tdxsim.Options{Guest: g}).quote)
	}
	for _, quote := range realQuotes(f) {
		f.Add(quote)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := Parse(raw)
		if err == nil {
			if !bytes.HasPrefix(raw, q.raw) || len(q.Body()) != bodySize(q.body.typ) {
				t.Error("something else was parsed")
			}
			q.claims()
			_, err = v.Verify(q, set, q.ReportData(), simNow)
		}
		if err == nil && !bytes.Equal(q.signed, good.signed) {
			t.Error("a quote that nobody signed was accepted")
		}
		if _, ok := refusal.ReasonOf(err); err != nil && !ok {
			t.Errorf("a refusal without a reason: %v", err)
		}
	})
}

// FuzzTDXDocuments reads TCB info and QE identity as if they were signed.
func FuzzTDXDocuments(f *testing.F) {
	sim, err := tdxsim.New(tdxsim.Options{Now: simNow, TCBInfo: tdxsim.TCBInfo{Levels: levels(), Modules: modules()}})
	if err != nil {
		f.Fatal(err)
	}
	d, err := sim.Collateral()
	if err != nil {
		f.Fatal(err)
	}
	for _, response := range [][]byte{d.TCBInfo, d.QEIdentity} {
		members, err := readMembers(response)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(members["tcbInfo"]))
		f.Add([]byte(members["enclaveIdentity"]))
	}
	f.Add([]byte(`{"id":"TDX","version":3,"issueDate":"2026-01-12T15:46:45Z"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := parseTCBInfo(text)
		if _, ok := refusal.ReasonOf(err); err != nil && !ok || (info == nil) != (err != nil) {
			t.Errorf("%v, %v", info, err)
		}
		if info != nil && (len(info.levels) == 0 || len(info.module.signer) != 48) {
			t.Error("TCB info without levels or module")
		}
		qe, err := parseQEIdentity(text)
		if _, ok := refusal.ReasonOf(err); err != nil && !ok || (qe == nil) != (err != nil) {
			t.Errorf("%v, %v", qe, err)
		}
		if qe != nil && (len(qe.levels) == 0 || len(qe.signer) != 32) {
			t.Error("a QE identity without levels or signer")
		}
	})
}

// FuzzTDXCollateral reads whole responses, chains and lists.
func FuzzTDXCollateral(f *testing.F) {
	s := emulate(f, tdxsim.Options{})
	d := s.documents
	f.Add(d.TCBInfo, d.TCBInfoChain, d.PCKCRL, d.PCKCRLChain, d.RootCRL)
	f.Add([]byte("{}"), []byte("-----BEGIN CERTIFICATE-----"), []byte{0x30, 0}, []byte("%"), []byte{})
	f.Fuzz(func(t *testing.T, info, infoChain, list, listChain, rootList []byte) {
		for _, changed := range []Documents{
			{info, infoChain, d.QEIdentity, d.QEIdentityChain, d.PCKCRL, d.PCKCRLChain, d.RootCRL},
			{d.TCBInfo, d.TCBInfoChain, info, infoChain, d.PCKCRL, d.PCKCRLChain, d.RootCRL},
			{d.TCBInfo, d.TCBInfoChain, d.QEIdentity, d.QEIdentityChain, list, listChain, rootList},
		} {
			c, err := ParseCollateral(changed, s.roots)
			if _, ok := refusal.ReasonOf(err); err != nil && !ok || (c == nil) != (err != nil) {
				t.Errorf("%v, %v", c, err)
			}
		}
	})
}

// FuzzTDXPlatform reads the extension of PCK certificates as it comes.
func FuzzTDXPlatform(f *testing.F) {
	q, err := Parse(emulate(f, tdxsim.Options{}).quote)
	if err != nil {
		f.Fatal(err)
	}
	chain, err := parseChain(q.auth.chain, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(extensionOf(chain[0]))
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		if p, ok := readPlatform(der); ok && (p == nil || p.instance != nil && len(p.instance) != 16) {
			t.Errorf("%+v", p)
		}
	})
}

func extensionOf(cert *x509.Certificate) []byte {
	for _, e := range cert.Extensions {
		if e.Id.String() == sgxExtension {
			return e.Value
		}
	}
	return nil
}
