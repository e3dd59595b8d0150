//go:build !release

package tdx

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// kinds are every version and body of a quote.
var kinds = []tdxsim.Guest{{Version: 4}, {Version: 5, BodyType: 2}, {Version: 5, BodyType: 3}, {Version: 5, BodyType: 4}}

func TestEveryKindOfQuoteIsAccepted(t *testing.T) {
	for _, g := range kinds {
		for _, processor := range []bool{false, true} {
			g.Padding = 3065
			g.MRTD[0], g.RTMR[3][47], g.MRServiceTD[1], g.Extended[0], g.Extended[236] = 1, 2, 3, 4, 5
			c := emulate(t, tdxsim.Options{Guest: g, Platform: tdxsim.Platform{ProcessorCA: processor}}).claims(t)
			if c.TCB.Status != evidence.TCBUpToDate || !c.SoftwareTEE || c.ProcessorCA != processor || (c.PlatformInstance == nil) != processor {
				t.Errorf("version %d, body %d: %+v", g.Version, c.BodyType, c)
			}
			if c.QuoteVersion != g.Version || c.MRTD[0] != 1 || c.RTMR[3][47] != 2 || c.TDAttributes != evidence.TDAttributeSEPTVEDisable {
				t.Errorf("version %d, body %d: another guest", g.Version, c.BodyType)
			}
			if c.BodyType >= bodyTD15 && (c.MRServiceTD[1] != 3 || len(c.TEETCBSVN2) != 16 || c.TCB.Current != evidence.TCBUpToDate) {
				t.Errorf("body %d: %+v", c.BodyType, c)
			}
			if e := c.Extended; (e != nil) != (c.BodyType == bodyTD15ex) || e != nil && (e.VMID != 4 || e.CurrentServiceTDAttributes != 5<<56 || len(c.InitialServiceTCB) != 16) {
				t.Errorf("body %d: %+v", c.BodyType, e)
			}
		}
	}
}

// Each row breaks one thing, which one check must find.
func TestSpoiltEvidenceIsRefused(t *testing.T) {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate := func(name string, change func(*tdxsim.CertificateTemplate)) tdxsim.Hooks {
		return tdxsim.Hooks{Certificate: func(n string, c *tdxsim.CertificateTemplate) {
			if n == name {
				change(c)
			}
		}}
	}
	replace := func(member, old, with string) tdxsim.Hooks {
		return tdxsim.Hooks{Document: func(m string, text []byte) []byte {
			if m == member && !bytes.Contains(text, []byte(old)) {
				t.Fatalf("%s has no %s", member, old)
			}
			if m == member {
				return bytes.Replace(text, []byte(old), []byte(with), 1)
			}
			return text
		}}
	}
	body := func(at int, v byte) tdxsim.Hooks { return tdxsim.Hooks{Body: func(b []byte) { b[at] = v }} }
	report := func(at int, v byte) tdxsim.Hooks { return tdxsim.Hooks{QEReport: func(b []byte) { b[at] ^= v }} }
	quote := func(change func(q []byte)) tdxsim.Hooks {
		return tdxsim.Hooks{Quote: func(q []byte) []byte { change(q); return q }}
	}
	const signature, key = 636, 636 + 64
	const qeReport = key + 64 + 6
	for name, tc := range map[string]struct {
		hooks tdxsim.Hooks
		opt   tdxsim.Options
		after func(*scene)
		want  refusal.Reason
	}{
		"header: version":                  {hooks: body(0, 6), want: ReasonQuoteVersion},
		"header: key type":                 {hooks: body(2, 3), want: ReasonKeyType},
		"header: SGX":                      {hooks: body(4, 0), want: ReasonTEEType},
		"header: another TEE":              {hooks: body(4, 0x82), want: ReasonTEEType},
		"header: another vendor":           {hooks: body(12, 0), want: ReasonQEVendor},
		"report data":                      {hooks: body(48+520+63, 65), want: ReasonReportData},
		"report data, first byte":          {hooks: body(48+520, 0), want: ReasonReportData},
		"module's signer":                  {hooks: body(48+64, 1), want: ReasonModule},
		"module's attributes":              {hooks: body(48+112, 1), want: ReasonModule},
		"quote's signature, r":             {hooks: quote(func(q []byte) { q[signature+31] ^= 1 }), want: ReasonSignature},
		"quote's signature, s":             {hooks: quote(func(q []byte) { q[signature+63] ^= 1 }), want: ReasonSignature},
		"quote's signature of zeros":       {hooks: quote(func(q []byte) { clear(q[signature:key]) }), want: ReasonSignature},
		"quote's signature of r+n":         {hooks: quote(func(q []byte) { copy(q[signature:], bytes.Repeat([]byte{0xff}, 32)) }), want: ReasonSignature},
		"signed body changed after":        {hooks: quote(func(q []byte) { q[48+136] ^= 1 }), want: ReasonSignature},
		"another attestation key":          {hooks: quote(func(q []byte) { copy(q[key:], rawKey(t, stranger)) }), want: ReasonAttestationKey},
		"attestation key off the curve":    {hooks: quote(func(q []byte) { q[key] ^= 1 }), want: ReasonAttestationKey},
		"QE authentication data":           {hooks: quote(func(q []byte) { q[qeReport+384+64+2] ^= 1 }), want: ReasonAttestationKey},
		"QE report data behind the digest": {hooks: report(320+63, 1), want: ReasonAttestationKey},
		"QE report changed after":          {hooks: quote(func(q []byte) { q[qeReport+64] ^= 1 }), want: ReasonQEReportSignature},
		"QE report's signature":            {hooks: quote(func(q []byte) { q[qeReport+384+40] ^= 1 }), want: ReasonQEReportSignature},
		"QE: reserved bytes":               {hooks: report(100, 1), want: ReasonReserved},
		"QE: MISCSELECT":                   {hooks: report(16, 1), want: ReasonQEIdentity},
		"QE: debug":                        {hooks: report(48, 2), want: ReasonQEIdentity},
		"QE: signer":                       {hooks: report(128, 1), want: ReasonQEIdentity},
		"QE: product":                      {hooks: report(256, 1), want: ReasonQEIdentity},
		"QE: attribute outside the mask":   {hooks: report(48+8, 0xff)},
		"trailing byte":                    {hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { return append(q, 0, 1) }}, want: ReasonTrailing},
		"too large":                        {opt: tdxsim.Options{Guest: tdxsim.Guest{Padding: MaxQuoteBytes}}, want: ReasonQuoteSize},
		"QE authentication data too long":  {opt: tdxsim.Options{Platform: tdxsim.Platform{QEAuthBytes: maxQEAuthBytes + 1}}, want: ReasonQuoteMalformed},

		"chain: without root":      {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 0, 1) }}, want: ReasonCertificate},
		"chain: four certificates": {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 0, 1, 2, 2) }}, want: ReasonCertificate},
		"chain: other order":       {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 1, 0, 2) }}, want: ReasonChain},
		"chain: authority as PCK":  {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 1, 2, 2) }}, want: ReasonChain},
		"chain: text between":      {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return append([]byte("x\n"), p...) }}, want: ReasonCertificate},
		"chain: newline and zeros": {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return append(p, '\n', 0, 0) }}},
		"chain: CRLF":              {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")) }}},
		"chain: not PEM":           {hooks: tdxsim.Hooks{Chain: func([]byte) []byte { return []byte("-----BEGIN CERTIFICATE-----\nAA") }}, want: ReasonCertificate},

		"PCK: another name":               {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Intel SGX TCB Signing" }), want: ReasonChain},
		"PCK: expired":                    {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"PCK: from the future":            {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.NotBefore = simNow.Add(time.Hour) }), want: ReasonExpired},
		"PCK: without SGX extension":      {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.ExtraExtensions = nil }), want: ReasonCertificate},
		"PCK: fewer extensions":           {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.CRLDistributionPoints, c.SubjectKeyId = nil, nil })},
		"PCK: more extensions":            {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.OCSPServer = []string{"http://localhost.invalid"} })},
		"PCK: unknown critical one":       {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.ExtraExtensions[0].Critical = true }), want: ReasonCertificate},
		"CA: no authority":                {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.IsCA = false }), want: ReasonCollateralSignature},
		"CA: another name":                {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Intel SGX" }), want: ReasonChain},
		"CA: expired":                     {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"root: expired":                   {hooks: certificate(tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"root: another name":              {hooks: certificate(tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Some Root CA" }), want: ReasonChain},
		"TCB signer: another name":        {hooks: certificate(tdxsim.TCBSigner, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = namePCK }), want: ReasonChain},
		"TCB signer: expired":             {hooks: certificate(tdxsim.TCBSigner, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"PCK revoked":                     {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByCA: []string{tdxsim.PCK}}}, want: ReasonRevoked},
		"PCK revoked by the Processor CA": {opt: tdxsim.Options{Platform: tdxsim.Platform{ProcessorCA: true}, Lists: tdxsim.Lists{RevokedByCA: []string{tdxsim.PCK}}}, want: ReasonRevoked},
		"CA revoked":                      {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.PlatformCA}}}, want: ReasonRevoked},
		"TCB signer revoked":              {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.TCBSigner}}}, want: ReasonRevoked},
		"another authority revoked":       {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.ProcessorCA}}}},
		"serials count for their issuer":  {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.PCK}, RevokedByCA: []string{tdxsim.PlatformCA}}}},
		"lists ended":                     {opt: tdxsim.Options{Lists: tdxsim.Lists{NextUpdate: simNow.Add(-time.Second)}}, want: ReasonCollateralExpired},
		"lists from the future":           {opt: tdxsim.Options{Lists: tdxsim.Lists{ThisUpdate: simNow.Add(time.Second)}}, want: ReasonCollateralEarly},
		"lists exchanged": {after: func(s *scene) { s.documents.PCKCRL, s.documents.RootCRL = s.documents.RootCRL, s.documents.PCKCRL },
			want: ReasonCollateralSignature},
		"list malformed": {after: func(s *scene) { s.documents.RootCRL = []byte{0x30, 0} }, want: ReasonCollateralMalformed},

		"TCB info ended":               {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{NextUpdate: simNow.Add(-time.Second)}}}, want: ReasonCollateralExpired},
		"TCB info from the future":     {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{Issued: simNow.Add(time.Second)}}}, want: ReasonCollateralEarly},
		"QE identity ended":            {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{NextUpdate: simNow.Add(-time.Second)}}}, want: ReasonCollateralExpired},
		"QE identity from the future":  {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{Issued: simNow.Add(time.Second)}}}, want: ReasonCollateralEarly},
		"TCB info of a low number":     {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: 17}}}, after: func(s *scene) { s.minimum = 18 }, want: ReasonEvaluationNumber},
		"QE identity of a low number":  {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{EvaluationNumber: 17}}}, after: func(s *scene) { s.minimum = 18 }, want: ReasonEvaluationNumber},
		"both of the number required":  {after: func(s *scene) { s.minimum = 18 }},
		"TCB info of SGX":              {hooks: replace("tcbInfo", `"TDX"`, `"SGX"`), want: ReasonCollateralMismatch},
		"TCB info of another version":  {hooks: replace("tcbInfo", `"version":3`, `"version":4`), want: ReasonCollateralMismatch},
		"TCB info of another type":     {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":1`), want: ReasonCollateralMalformed},
		"TCB info of another PCE":      {hooks: replace("tcbInfo", `"pceId":"0000"`, `"pceId":"0001"`), want: ReasonCollateralMismatch},
		"TCB info of another platform": {hooks: replace("tcbInfo", `50806f000000`, `50806f000001`), want: ReasonCollateralMissing},
		"QE identity of SGX":           {hooks: replace("enclaveIdentity", `"TD_QE"`, `"QE"`), want: ReasonCollateralMismatch},
		"QE identity, version":         {hooks: replace("enclaveIdentity", `"version":2`, `"version":1`), want: ReasonCollateralMismatch},
		"TCB info twice a member":      {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":0,"tcbType":0`), want: ReasonCollateralMalformed},
		"TCB info in another case":     {hooks: replace("tcbInfo", `"fmspc"`, `"FMSPC"`), want: ReasonCollateralMalformed},
		"TCB info with a new member":   {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":0,"new":{"a":[1,null]}`)},
		"TCB info without levels":      {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{}}}, want: ReasonCollateralMalformed},
		"TCB info with a short number": {hooks: replace("tcbInfo", `{"svn":5}`, `{"svn":256}`), want: ReasonCollateralMalformed},
		"TCB info with 15 components":  {hooks: replace("tcbInfo", `{"svn":5},`, ``), want: ReasonCollateralMalformed},
		"TCB info with 17 components":  {hooks: replace("tcbInfo", `{"svn":5},`, `{"svn":5},{"svn":5},`), want: ReasonCollateralMalformed},
		"QE identity with null":        {hooks: replace("enclaveIdentity", `"isvprodid":2`, `"isvprodid":null`), want: ReasonCollateralMalformed},
		"QE identity with a bad time":  {hooks: replace("enclaveIdentity", `"issueDate":"2026`, `"issueDate":"26`), want: ReasonCollateralMalformed},
		"QE identity with odd bytes":   {hooks: replace("enclaveIdentity", `"mrsigner":"00`, `"mrsigner":"zz`), want: ReasonCollateralMalformed},
		"TCB info changed after": {after: func(s *scene) {
			s.documents.TCBInfo = bytes.Replace(s.documents.TCBInfo, []byte("UpToDate"), []byte("UpToDat3"), 1)
		}, want: ReasonCollateralSignature},
		"QE identity with a space more": {after: func(s *scene) {
			s.documents.QEIdentity = bytes.Replace(s.documents.QEIdentity, []byte(`"id":`), []byte(`"id": `), 1)
		}, want: ReasonCollateralSignature},
		"space outside what is signed": {after: func(s *scene) {
			s.documents.TCBInfo = bytes.Replace(s.documents.TCBInfo, []byte(`:{`), []byte(`: {`), 1)
		}},
		"documents exchanged":             {after: func(s *scene) { s.documents.QEIdentity = s.documents.TCBInfo }, want: ReasonCollateralMalformed},
		"signature of another length":     {hooks: tdxsim.Hooks{Response: func(m string, text []byte) []byte { return append(text[:len(text)-4], '"', '}') }}, want: ReasonCollateralMalformed},
		"signature in no hexadecimal":     {hooks: tdxsim.Hooks{Response: func(m string, text []byte) []byte { return append(text[:len(text)-4], `zz"}`...) }}, want: ReasonCollateralMalformed},
		"something behind a response":     {after: func(s *scene) { s.documents.TCBInfo = append(s.documents.TCBInfo, '{') }, want: ReasonCollateralMalformed},
		"response too large":              {after: func(s *scene) { s.documents.TCBInfo = append(s.documents.TCBInfo, make([]byte, maxDocumentBytes)...) }, want: ReasonCollateralMalformed},
		"chain of a document missing":     {after: func(s *scene) { s.documents.TCBInfoChain = nil }, want: ReasonCertificate},
		"chain of a document too long":    {after: func(s *scene) { s.documents.TCBInfoChain = make([]byte, maxIssuerChainBytes+1) }, want: ReasonCertificate},
		"chain of a document escaped ill": {after: func(s *scene) { s.documents.TCBInfoChain = []byte("%zz") }, want: ReasonCertificate},
		"PCK authority signs documents":   {after: func(s *scene) { s.documents.TCBInfoChain = s.documents.PCKCRLChain }, want: ReasonChain},
		"roots not trusted":               {after: func(s *scene) { s.roots = Roots{} }, want: ReasonRoot},
		"no minimum":                      {after: func(s *scene) { s.minimum = 0 }, want: "none"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tc.opt
			o.Hooks = tc.hooks
			s := emulate(t, o)
			if tc.after != nil {
				tc.after(&s)
			}
			_, err := s.verify()
			if tc.want == "none" {
				if _, ok := refusal.ReasonOf(err); err == nil || ok {
					t.Errorf("got %v, want an error of the configuration", err)
				}
				return
			}
			wantReason(t, err, tc.want)
		})
	}
}

// The chain of a quote alone, where collateral would stumble over the same fault.
func TestSpoiltChainsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		of     string
		change func(*tdxsim.CertificateTemplate)
		want   refusal.Reason
	}{
		"good":                    {"", nil, ""},
		"CA that is no authority": {tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.IsCA = false }, ReasonChain},
		"CA that may not sign":    {tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.KeyUsage = x509.KeyUsageCRLSign }, ReasonChain},
		"CA of another name":      {tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Intel SGX" }, ReasonChain},
		"root of another name":    {tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Some Root CA" }, ReasonChain},
		"PCK signed with SHA-384": {tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.SignatureAlgorithm = x509.ECDSAWithSHA384 }, ReasonCertificate},
		"CA with an unknown extension": {tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}, ReasonCertificate},
	} {
		s := emulate(t, tdxsim.Options{Hooks: tdxsim.Hooks{Certificate: func(n string, c *tdxsim.CertificateTemplate) {
			if n == tc.of {
				tc.change(c)
			}
		}}})
		q, err := Parse(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		_, err = verifyPCKChain(q.auth.chain, s.roots)
		t.Log(name)
		wantReason(t, err, tc.want)
	}
	// A chain whose signature by the CA does not verify.
	good, other := emulate(t, tdxsim.Options{}), emulate(t, tdxsim.Options{})
	a, b := chainText(t, good.quote), chainText(t, other.quote)
	mixed := append(joinPEM(b, 0), joinPEM(a, 1, 2)...)
	_, err := verifyPCKChain(mixed, good.roots)
	wantReason(t, err, ReasonChain)
	mixed = append(joinPEM(b, 0, 1), joinPEM(a, 2)...)
	_, err = verifyPCKChain(mixed, good.roots)
	wantReason(t, err, ReasonChain)
	_, err = verifyPCKChain(a, other.roots)
	wantReason(t, err, ReasonRoot)
}

func chainText(tb testing.TB, quote []byte) []byte {
	q, err := Parse(quote)
	if err != nil {
		tb.Fatal(err)
	}
	return q.auth.chain
}

func rawKey(tb testing.TB, key *ecdsa.PrivateKey) []byte {
	raw, err := key.PublicKey.Bytes()
	if err != nil {
		tb.Fatal(err)
	}
	return raw[1:]
}

// joinPEM takes certificates out of a chain, by their places.
func joinPEM(text []byte, places ...int) (out []byte) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		blocks = append(blocks, block)
	}
	for _, i := range places {
		out = append(out, pem.EncodeToMemory(blocks[i])...)
	}
	return out
}

// A quote and collateral under different roots do not go together, each good in itself.
func TestQuoteAndCollateralShareTheirRoot(t *testing.T) {
	a, b := emulate(t, tdxsim.Options{}), emulate(t, tdxsim.Options{})
	both, err := SoftwareRoots(append(slices.Clone(a.rootsPEM), b.rootsPEM...))
	if err != nil {
		t.Fatal(err)
	}
	a.roots, b.roots = both, both
	a.claims(t)
	b.claims(t)
	a.documents, b.documents = b.documents, a.documents
	_, err = a.verify()
	wantReason(t, err, ReasonRoot)
	mixed := a
	mixed.documents.QEIdentity, mixed.documents.QEIdentityChain = b.documents.QEIdentity, b.documents.QEIdentityChain
	_, err = mixed.verify()
	wantReason(t, err, ReasonRoot)
}

// The list must be the one of the authority that certified the platform.
func TestRevocationListIsOfThePlatformsAuthority(t *testing.T) {
	dir := t.TempDir()
	platform := emulate(t, tdxsim.Options{Dir: dir})
	processor := emulate(t, tdxsim.Options{Dir: dir, Platform: tdxsim.Platform{ProcessorCA: true}})
	c, err := ParseCollateral(processor.documents, processor.roots)
	if err != nil {
		t.Fatal(err)
	}
	q, err := Parse(platform.quote)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: platform.roots})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Verify(q, NewSet(c), bound, simNow)
	wantReason(t, err, ReasonCollateralMissing)
	_, err = v.Verify(q, anything{c}, bound, simNow) // a provider that answers for another authority
	wantReason(t, err, ReasonCollateralMismatch)
}

// anything is a provider that gives one answer to every question.
type anything struct{ c *Collateral }

func (a anything) Lookup([6]byte, CA) (*Collateral, error) { return a.c, nil }

var errNoAnswer = errors.New("no answer")

// failing is a provider that has failed.
type failing struct{ err error }

func (f failing) Lookup([6]byte, CA) (*Collateral, error) { return nil, f.err }

func TestZeroValuesRefuse(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	good := NewSet(mustCollateral(t, s.documents, s.roots))
	for name, tc := range map[string]struct {
		v    *Verifier
		q    *Quote
		from Provider
		want refusal.Reason
	}{
		"good":                   {v, q, good, ""},
		"zero verifier":          {&Verifier{}, q, good, ReasonUnconfigured},
		"no quote":               {v, nil, good, ReasonUnconfigured},
		"zero quote":             {v, &Quote{}, good, ReasonUnconfigured},
		"no provider":            {v, q, nil, ReasonUnconfigured},
		"no collateral":          {v, q, anything{}, ReasonCollateralMissing},
		"zero collateral":        {v, q, anything{&Collateral{}}, ReasonCollateralMissing},
		"zero set":               {v, q, &Set{}, ReasonCollateralMissing},
		"set of zero collateral": {v, q, NewSet(&Collateral{}), ReasonCollateralMissing},
		"provider that failed":   {v, q, failing{errNoAnswer}, ReasonCollateralMissing},
		"provider's own reason":  {v, q, failing{refusal.New("of-its-own", "")}, "of-its-own"},
	} {
		_, err := tc.v.Verify(tc.q, tc.from, bound, simNow)
		t.Log(name)
		wantReason(t, err, tc.want)
	}
	wantReason(t, (&Collateral{}).ValidAt(simNow), ReasonCollateralMissing)
	if _, err := SoftwareRoots(nil); err == nil {
		t.Error("no roots were accepted")
	}
	if _, err := SoftwareRoots(joinPEM(q.auth.chain, 0)); err == nil {
		t.Error("a certificate that is no root was accepted")
	}
}

// What is true but unwanted is a claim: the policy judges it.
func TestUnwantedPropertiesAreClaims(t *testing.T) {
	attributes := uint64(evidence.TDAttributeDebug | evidence.TDAttributeMigratable | evidence.TDAttributePerfmon | 1<<27 | 1<<40)
	c := emulate(t, tdxsim.Options{Guest: tdxsim.Guest{Attributes: &attributes, XFAM: 1 << 62}}).claims(t)
	if c.TDAttributes != attributes || c.XFAM != 1<<62 {
		t.Errorf("attributes %#x, XFAM %#x", c.TDAttributes, c.XFAM)
	}
}

// Caches save arithmetic, not checks: revocation, time and freshness count at every use.
func TestCachedChainsAreCheckedAtEveryUse(t *testing.T) {
	dir := t.TempDir()
	s, revoking := emulate(t, tdxsim.Options{Dir: dir}), emulate(t, tdxsim.Options{Dir: dir, Lists: tdxsim.Lists{RevokedByCA: []string{tdxsim.PCK}}})
	good, revoked := mustCollateral(t, s.documents, s.roots), mustCollateral(t, revoking.documents, s.roots)
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		c    *Collateral
		want [64]byte
		now  time.Time
		code refusal.Reason
	}{
		{good, bound, simNow, ""}, {good, bound, simNow, ""}, {revoked, bound, simNow, ReasonRevoked}, {good, [64]byte{}, simNow, ReasonReportData},
		{good, bound, simNow.AddDate(0, 2, 0), ReasonCollateralExpired}, {good, bound, simNow.AddDate(8, 0, 0), ReasonExpired},
		{good, bound, simNow.AddDate(0, 0, -2), ReasonExpired}, {good, bound, simNow, ""},
	} {
		_, err := v.Verify(q, anything{tc.c}, tc.want, tc.now)
		wantReason(t, err, tc.code)
	}
	if len(v.chains.entries) != 1 || len(v.certified.entries) != 1 {
		t.Errorf("%d chains and %d keys are cached", len(v.chains.entries), len(v.certified.entries))
	}
	// A QE report that was verified does not help another attestation key.
	forged := bytes.Clone(s.quote)
	forged[636+64] ^= 1
	if q, err = Parse(forged); err == nil {
		_, err = v.Verify(q, anything{good}, bound, simNow)
	}
	wantReason(t, err, ReasonAttestationKey)
}

func TestCachesAreBounded(t *testing.T) {
	var c cache[int]
	for i := range maxCached + 1 {
		c.put([32]byte{byte(i), byte(i >> 8)}, i)
	}
	if len(c.entries) > maxCached {
		t.Errorf("%d entries", len(c.entries))
	}
}

// The digest names a quote, whatever padding follows it.
func TestDigestIsOfTheQuoteAlone(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	digest := func(raw []byte) [32]byte {
		q, err := Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		return q.Digest()
	}
	bare := digest(s.quote)
	if digest(append(bytes.Clone(s.quote), make([]byte, 3065)...)) != bare {
		t.Error("padding changes the digest")
	}
	other := bytes.Clone(s.quote)
	other[100] ^= 1
	if digest(other) == bare {
		t.Error("two quotes share a digest")
	}
}

// The signature (r, n-s) is as valid as (r, s); verifying it changes no claim.
func TestNegatedSignatureGivesTheSameClaims(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	want := s.claims(t)
	at := s.quote[636+32 : 636+64]
	n := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(at))
	n.FillBytes(at)
	if got := s.claims(t); got.TCB.Status != want.TCB.Status || !bytes.Equal(got.MRTD, want.MRTD) {
		t.Errorf("%+v", got)
	}
}

// Nothing of what is signed can be changed.
func TestEveryChangedByteOfTheSignedPartIsRefused(t *testing.T) {
	for _, g := range kinds {
		s := emulate(t, tdxsim.Options{Guest: g})
		q, err := Parse(s.quote)
		if err != nil {
			t.Fatal(err)
		}
		v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots})
		if err != nil {
			t.Fatal(err)
		}
		set := NewSet(mustCollateral(t, s.documents, s.roots))
		for i := range q.signed {
			changed := bytes.Clone(s.quote)
			changed[i] ^= 1 << (i % 8)
			q, err := Parse(changed)
			if err == nil {
				_, err = v.Verify(q, set, bound, simNow)
			}
			if reason, ok := refusal.ReasonOf(err); !ok || !strings.HasPrefix(string(reason), "tdx-") {
				t.Fatalf("version %d, byte %d: %v", g.Version, i, err)
			}
		}
	}
}
