//go:build !release

package tdx

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	tgabi "github.com/google/go-tdx-guest/abi"
	"github.com/google/go-tdx-guest/pcs"
	tgproto "github.com/google/go-tdx-guest/proto/tdx"
	tgvalidate "github.com/google/go-tdx-guest/validate"
	tgverify "github.com/google/go-tdx-guest/verify"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// served answers go-tdx-guest's questions to the PCS from documents.
type served struct{ d Documents }

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

// vendor verifies with go-tdx-guest: with everything it can check, or in its default way. What
// it does in a panic is an error here.
func vendor(quote []byte, d *Documents, rootsPEM []byte, now time.Time) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	o := &tgverify.Options{Now: &tgverify.TimeSet{PckCertChain: now, TcbInfo: now, QeIdentity: now, PckCrl: now, RootCaCrl: now}}
	if d != nil {
		o.GetCollateral, o.CheckRevocations, o.Getter = true, true, served{*d}
	}
	if rootsPEM != nil {
		o.TrustedRoots = x509.NewCertPool()
		o.TrustedRoots.AppendCertsFromPEM(rootsPEM)
	}
	return tgverify.RawTdxQuote(quote, o)
}

// On real quotes go-tdx-guest agrees, but for those that it refuses because no level matches: here
// that is a claim.
func TestSamplesBesideGoTDXGuest(t *testing.T) {
	for _, s := range samples(t) {
		err := vendor(s.quote, s.documents, nil, s.now)
		t.Logf("%s: go-tdx-guest says %v", s.name, err)
		if accepted := s.documents == nil || s.want.Status == ok; accepted != (err == nil) {
			t.Errorf("%s: go-tdx-guest says %v, we say %s", s.name, err, s.want.Status)
		}
	}
}

// On emulated quotes: what each says, and why they disagree. Where nothing is refused here but the
// claims show what is unwanted, the reason begins with "claim". D1 to D8 are numbers of a list of
// go-tdx-guest's faults at this version.
func TestEmulatedQuotesBesideGoTDXGuest(t *testing.T) {
	no := errors.New("refused")
	debug, plain, lass := uint64(evidence.TDAttributeDebug|evidence.TDAttributeSEPTVEDisable), uint64(0), uint64(1<<27|evidence.TDAttributeSEPTVEDisable)
	oldModule := tdxsim.TCBInfo{Levels: levels(), Modules: modules()}
	signer := [48]byte{1}
	for name, tc := range map[string]struct {
		o      tdxsim.Options
		theirs error
		ours   evidence.TCBStatus // "": refused
		why    string
	}{
		"v4":             {tdxsim.Options{}, nil, ok, ""},
		"v4, padded":     {tdxsim.Options{Guest: tdxsim.Guest{Padding: 3065}}, nil, ok, ""},
		"v5, body 2":     {tdxsim.Options{Guest: kinds[1]}, nil, ok, ""},
		"v5, body 3":     {tdxsim.Options{Guest: kinds[2]}, nil, ok, ""},
		"v5, body 4":     {tdxsim.Options{Guest: kinds[3]}, no, ok, "its parser ends at body type 3"},
		"Processor CA":   {tdxsim.Options{Platform: tdxsim.Platform{ProcessorCA: true}}, no, ok, "it looks for the Platform CA's name alone"},
		"PCK revoked":    {tdxsim.Options{Lists: tdxsim.Lists{RevokedByCA: []string{tdxsim.PCK}}}, no, "", ""},
		"CA revoked":     {tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.PlatformCA}}}, no, "", ""},
		"signer revoked": {tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.TCBSigner}}}, no, "", ""},
		"lists ended":    {tdxsim.Options{Lists: tdxsim.Lists{NextUpdate: simNow.Add(-time.Second)}}, no, "", ""},
		"QE out of date": {tdxsim.Options{QE: tdxsim.QEIdentity{Levels: []tdxsim.Level{{SVN: 8, Status: "OutOfDate"}}}}, no, ood, "claim: a status is for the policy to judge"},
		"module out of date": {tdxsim.Options{Platform: tdxsim.Platform{Components: svns(5, 5), TEETCBSVN: svns(4, 1, 3)}, TCBInfo: oldModule}, no, ood,
			"claim: a status is for the policy to judge"},
		"SW hardening": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "SWHardeningNeeded"}}, Modules: []tdxsim.Module{}}, Platform: tdxsim.Platform{TEETCBSVN: svns(5, 0, 3)}},
			no, sw, "claim: it takes no status but UpToDate, and cannot be told otherwise"},
		"D1: platform revoked": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "Revoked"}}}}, nil, rev,
			"with a module of version 1 it looks at the module's status alone"},
		"D1: platform out of date": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "OutOfDate"}}}}, nil, ood, "the same"},
		"D4: TCB info from the future": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{Issued: simNow.AddDate(0, 2, 0)}}}, nil, "",
			"it does not look at issueDate"},
		"D4: QE identity from the future": {tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{Issued: simNow.AddDate(0, 2, 0)}}}, nil, "",
			"it does not look at issueDate"},
		"D4: lists from the future": {tdxsim.Options{Lists: tdxsim.Lists{ThisUpdate: simNow.AddDate(0, 2, 0)}}, nil, "", "it does not look at thisUpdate"},
		"D5: module of another signer": {tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Modules: []tdxsim.Module{{ID: "TDX_01", MRSigner: signer, Levels: []tdxsim.Level{{SVN: 5}}}}}}, nil, "",
			"it compares with tdxModule, which is for version 0"},
		"D5: module as its own identity says": {tdxsim.Options{Platform: tdxsim.Platform{MRSignerSEAM: signer},
			TCBInfo: tdxsim.TCBInfo{Modules: []tdxsim.Module{{ID: "TDX_01", MRSigner: signer, Levels: []tdxsim.Level{{SVN: 5}}}}}}, no, ok, "the same, the other way round"},
		"D3, D6: debug, v4":                    {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &debug}}, nil, ok, "claim: it says nothing of it"},
		"D6: debug, v5":                        {tdxsim.Options{Guest: tdxsim.Guest{Version: 5, Attributes: &debug}}, nil, ok, "claim: it says nothing of it"},
		"D6: service trust domain":             {tdxsim.Options{Guest: tdxsim.Guest{Version: 5, MRServiceTD: [48]byte{1}}}, nil, ok, "claim: it says nothing of it"},
		"D6: module rolled back":               {tdxsim.Options{Guest: kinds[2], Platform: tdxsim.Platform{TEETCBSVN2: svns(4, 1, 3)}}, nil, unm, "it does not read TEE_TCB_SVN2"},
		"D7: without SEPT_VE_DISABLE":          {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &plain}}, nil, ok, "claim: it says nothing of it"},
		"D8: LASS":                             {tdxsim.Options{Guest: tdxsim.Guest{Attributes: &lass}}, nil, ok, "claim: see TestUnknownAttributesAreClaims"},
		"levels in another order":              {tdxsim.Options{Platform: tdxsim.Platform{Components: svns(5, 5), TEETCBSVN: svns(5, 0, 3)}, TCBInfo: tdxsim.TCBInfo{Levels: levels()}}, no, ok, "it relies on the document's order, the QVL does not"},
		"a PCK with an extension more":         {tdxsim.Options{Hooks: tdxsim.Hooks{Certificate: func(n string, c *tdxsim.CertificateTemplate) { addOCSP(n, c) }}}, no, ok, "it wants exactly six extensions"},
		"QE report with a reserved byte":       {tdxsim.Options{Hooks: tdxsim.Hooks{QEReport: func(r []byte) { r[100] = 1 }}}, nil, "", "reserved bytes must be zero"},
		"text behind the quote":                {tdxsim.Options{Hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { return append(q, "text"...) }}}, nil, "", "nobody signed it"},
		"TCB info with a member twice":         {tdxsim.Options{Hooks: tdxsim.Hooks{Document: twice}}, nil, "", "which of the two counts is up to the reader"},
		"D2: certification data of any length": {tdxsim.Options{Hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { q[636+64+64+2+3] = 0x7f; return q }}}, no, "", ""},
	} {
		s := emulate(t, tc.o)
		theirs := vendor(s.quote, &s.documents, s.rootsPEM, s.now)
		if (theirs == nil) != (tc.theirs == nil) {
			t.Errorf("%s: go-tdx-guest says %v, want %v", name, theirs, tc.theirs)
		}
		ours, err := s.verify()
		if (err != nil) != (tc.ours == "") || err == nil && ours.TCB.Status != tc.ours {
			t.Errorf("%s: we say %s, %v, want %q", name, ours.TCB.Status, err, tc.ours)
		}
		if agreed := (theirs == nil) == (err == nil && ours.TCB.Status == ok); agreed != (tc.why == "") && !strings.HasPrefix(tc.why, "claim: ") {
			t.Errorf("%s: agreed is %v, and the table says %q", name, agreed, tc.why)
		}
		t.Logf("%s: theirs %v, ours %s %v (%s)", name, theirs, ours.TCB.Status, err, tc.why)
	}
}

func addOCSP(name string, c *tdxsim.CertificateTemplate) {
	if name == tdxsim.PCK {
		c.OCSPServer = []string{"http://localhost.invalid"}
	}
}

func twice(member string, text []byte) []byte {
	if member == "tcbInfo" {
		return bytes.Replace(text, []byte(`"tcbType":0`), []byte(`"tcbType":0,"tcbType":0`), 1)
	}
	return text
}

// D2: sizes that contradict each other. go-tdx-guest panics at some of them, which is an outage of
// whoever serves its verdicts.
func TestContradictingSizesAreRefused(t *testing.T) {
	type field struct{ at, bytes int }
	panics, mutants := 0, 0
	raw := map[string][]byte{}
	for _, g := range kinds {
		raw[fmt.Sprintf("version %d, body %d", g.Version, g.BodyType)] = emulate(t, tdxsim.Options{Guest: g}).quote
	}
	for name, quote := range raw {
		end := 632
		fields := []field{}
		if binary.LittleEndian.Uint16(quote) == version5 {
			end += descriptorBytes + int(binary.LittleEndian.Uint32(quote[50:])) - 584
			fields = append(fields, field{50, 4})
		}
		certification := end + 4 + signatureBytes + rawKeyBytes
		inner := certification + 6 + qeReportBytes + signatureBytes
		fields = append(fields, field{end, 4}, field{certification, 2}, field{certification + 2, 4}, field{inner, 2}, field{inner + 2 + 32, 2}, field{inner + 2 + 32 + 2, 4})
		for _, f := range fields {
			for _, v := range []uint32{0, 1, 2, 7, 100, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff} {
				mutant := bytes.Clone(quote)
				if f.bytes == 2 {
					binary.LittleEndian.PutUint16(mutant[f.at:], uint16(v))
				} else {
					binary.LittleEndian.PutUint32(mutant[f.at:], v)
				}
				if bytes.Equal(mutant, quote) {
					continue
				}
				mutants++
				if _, err := Parse(mutant); err == nil {
					t.Errorf("%s: %#x in the %d bytes at %d was accepted", name, v, f.bytes, f.at)
				}
				if err := vendor(mutant, nil, nil, simNow); err != nil && strings.HasPrefix(err.Error(), "panic") {
					panics++
				}
			}
		}
	}
	t.Logf("%d mutants refused, of which go-tdx-guest panics at %d", mutants, panics)
	if mutants < 200 || panics == 0 {
		t.Errorf("%d mutants, %d panics", mutants, panics)
	}
}

// D3: without collateral go-tdx-guest accepts whatever is signed; here there is no such way.
func TestNothingIsAcceptedWithoutCollateral(t *testing.T) {
	debug := uint64(evidence.TDAttributeDebug)
	s := emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Attributes: &debug}, TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{{Status: "Revoked"}}}})
	if err := vendor(s.quote, nil, s.rootsPEM, s.now); err != nil {
		t.Errorf("go-tdx-guest says %v", err)
	}
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(q, nil, bound, s.now)
	wantReason(t, err, ReasonUnconfigured)
	_, err = v.Verify(q, NewSet(), bound, s.now)
	wantReason(t, err, ReasonCollateralMissing)
}

// D4: a document of an old TCB recovery.
func TestOldRecoveriesAreRefused(t *testing.T) {
	s := emulate(t, tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: 1}}})
	if err := vendor(s.quote, &s.documents, s.rootsPEM, s.now); err != nil {
		t.Errorf("go-tdx-guest says %v", err)
	}
	s.minimum = 18
	_, err := s.verify()
	wantReason(t, err, ReasonEvaluationNumber)
}

// D8: go-tdx-guest's validation refuses a bit that it does not know, here it is a claim, so that a
// policy may name it; of version 5 it refuses every quote (D6).
func TestUnknownAttributesAreClaims(t *testing.T) {
	for _, bit := range []uint{27, 29, 40} {
		attributes := uint64(1)<<bit | evidence.TDAttributeSEPTVEDisable
		s := emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Attributes: &attributes}})
		if got := s.claims(t).TDAttributes; got != attributes {
			t.Errorf("attributes %#x, want %#x", got, attributes)
		}
		quote, err := tgabi.QuoteToProto(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		if err := tgvalidate.TdxQuote(quote, &tgvalidate.Options{}); err == nil {
			t.Errorf("go-tdx-guest takes bit %d", bit)
		}
	}
	quote, err := tgabi.QuoteToProto(emulate(t, tdxsim.Options{Guest: kinds[2]}).quote)
	if err != nil {
		t.Fatal(err)
	}
	if err := tgvalidate.TdxQuote(quote, &tgvalidate.Options{}); err == nil || !strings.Contains(err.Error(), "unsupported") {
		t.Errorf("go-tdx-guest says %v of version 5", err)
	}
}

// Fields mean the same to both.
func TestFieldsBesideGoTDXGuest(t *testing.T) {
	for _, s := range samples(t) {
		if strings.HasPrefix(s.name, "02-") { // another type there
			continue
		}
		quote, err := tgabi.QuoteToProto(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		q, err := Parse(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := tgabi.TdQuoteBodyToAbiBytes(quote.(*tgproto.QuoteV4).GetTdQuoteBody())
		if err != nil || !bytes.Equal(raw, q.Body()) {
			t.Errorf("%s: %v", s.name, err)
		}
	}
}
