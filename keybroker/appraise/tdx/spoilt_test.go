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
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/tdxsim"
)

// spoilt is an emulation with one fault, and the reason for which it is refused; "" for what looks
// like a fault and is none.
type spoilt struct {
	hooks tdxsim.Hooks
	opt   tdxsim.Options
	after func(*scene)
	want  refusal.Reason
}

// Places in a quote of version 4.
const (
	signatureAt = 636
	keyAt       = signatureAt + 64
	qeReportAt  = keyAt + 64 + 6
)

func certificate(name string, change func(*tdxsim.CertificateTemplate)) tdxsim.Hooks {
	return tdxsim.Hooks{Certificate: func(n string, c *tdxsim.CertificateTemplate) {
		if n == name {
			change(c)
		}
	}}
}

func list(by string, change func(*tdxsim.RevocationListTemplate)) tdxsim.Hooks {
	return tdxsim.Hooks{List: func(n string, l *tdxsim.RevocationListTemplate) {
		if n == by {
			change(l)
		}
	}}
}

func critical() []pkix.Extension {
	return []pkix.Extension{{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
}

func spoiltQuotes(t *testing.T) map[string]spoilt {
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	body := func(at int, v byte) tdxsim.Hooks { return tdxsim.Hooks{Body: func(b []byte) { b[at] = v }} }
	report := func(at int, v byte) tdxsim.Hooks { return tdxsim.Hooks{QEReport: func(b []byte) { b[at] ^= v }} }
	quote := func(change func(q []byte)) tdxsim.Hooks {
		return tdxsim.Hooks{Quote: func(q []byte) []byte { change(q); return q }}
	}
	return map[string]spoilt{
		"header: version":                  {hooks: body(0, 6), want: ReasonQuoteVersion},
		"header: key type":                 {hooks: body(2, 3), want: ReasonKeyType},
		"header: SGX":                      {hooks: body(4, 0), want: ReasonTEEType},
		"header: another TEE":              {hooks: body(4, 0x82), want: ReasonTEEType},
		"header: another vendor":           {hooks: body(12, 0), want: ReasonQEVendor},
		"report data":                      {hooks: body(48+520+63, 65), want: ReasonReportData},
		"report data, first byte":          {hooks: body(48+520, 0), want: ReasonReportData},
		"module's signer":                  {hooks: body(48+64, 1), want: ReasonModule},
		"module's attributes":              {hooks: body(48+112, 1), want: ReasonModule},
		"quote's signature, r":             {hooks: quote(func(q []byte) { q[signatureAt+31] ^= 1 }), want: ReasonSignature},
		"quote's signature, s":             {hooks: quote(func(q []byte) { q[signatureAt+63] ^= 1 }), want: ReasonSignature},
		"quote's signature of zeros":       {hooks: quote(func(q []byte) { clear(q[signatureAt:keyAt]) }), want: ReasonSignature},
		"quote's signature of r+n":         {hooks: quote(func(q []byte) { copy(q[signatureAt:], bytes.Repeat([]byte{0xff}, 32)) }), want: ReasonSignature},
		"signed body changed after":        {hooks: quote(func(q []byte) { q[48+136] ^= 1 }), want: ReasonSignature},
		"another attestation key":          {hooks: quote(func(q []byte) { copy(q[keyAt:], rawKey(t, stranger)) }), want: ReasonAttestationKey},
		"attestation key off the curve":    {hooks: quote(func(q []byte) { q[keyAt] ^= 1 }), want: ReasonAttestationKey},
		"QE authentication data":           {hooks: quote(func(q []byte) { q[qeReportAt+384+64+2] ^= 1 }), want: ReasonAttestationKey},
		"QE report data behind the digest": {hooks: report(320+63, 1), want: ReasonAttestationKey},
		"QE report changed after":          {hooks: quote(func(q []byte) { q[qeReportAt+64] ^= 1 }), want: ReasonQEReportSignature},
		"QE report's signature":            {hooks: quote(func(q []byte) { q[qeReportAt+384+40] ^= 1 }), want: ReasonQEReportSignature},
		"QE: reserved bytes":               {hooks: report(100, 1), want: ReasonReserved},
		"QE: MISCSELECT":                   {hooks: report(16, 1), want: ReasonQEIdentity},
		"QE: debug":                        {hooks: report(48, 2), want: ReasonQEIdentity},
		"QE: signer":                       {hooks: report(128, 1), want: ReasonQEIdentity},
		"QE: product":                      {hooks: report(256, 1), want: ReasonQEIdentity},
		"QE: attribute outside the mask":   {hooks: report(48+8, 0xff)},
		"trailing byte":                    {hooks: tdxsim.Hooks{Quote: func(q []byte) []byte { return append(q, 0, 1) }}, want: ReasonTrailing},
		"too large":                        {opt: tdxsim.Options{Guest: tdxsim.Guest{Padding: MaxQuoteBytes}}, want: ReasonQuoteSize},
		"QE authentication data too long":  {opt: tdxsim.Options{Platform: tdxsim.Platform{QEAuthBytes: maxQEAuthBytes + 1}}, want: ReasonQuoteMalformed},
		"QE identity with a space more": {after: func(s *scene) {
			s.documents.QEIdentity = bytes.Replace(s.documents.QEIdentity, []byte(`"id":`), []byte(`"id": `), 1)
		}, want: ReasonCollateralSignature},
		"version 5, header: SGX":                   {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(4, 0), want: ReasonTEEType},
		"version 5, header: key type":              {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(2, 3), want: ReasonKeyType},
		"version 5, body of SGX":                   {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(48, 1), want: ReasonTEEType},
		"version 5, body of an unknown type":       {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(48, 5), want: ReasonBodyType},
		"version 5, body of another type":          {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(48, 2), want: ReasonQuoteMalformed},
		"version 5, body of another size":          {opt: tdxsim.Options{Guest: kinds[2]}, hooks: body(50, 0), want: ReasonQuoteMalformed},
		"version 3":                                {hooks: body(0, 3), want: ReasonTEEType},
		"certification data of another type":       {hooks: quote(func(q []byte) { q[keyAt+64] = 5 }), want: ReasonCertificationData},
		"inner certification data of another type": {hooks: quote(func(q []byte) { q[qeReportAt+384+64+2+32] = 4 }), want: ReasonCertificationData},
	}
}

func spoiltChains() map[string]spoilt {
	return map[string]spoilt{
		"chain: without root":      {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 0, 1) }}, want: ReasonCertificate},
		"chain: four certificates": {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 0, 1, 2, 2) }}, want: ReasonCertificate},
		"chain: other order":       {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 1, 0, 2) }}, want: ReasonChain},
		"chain: authority as PCK":  {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return joinPEM(p, 1, 2, 2) }}, want: ReasonChain},
		"chain: text between":      {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return append([]byte("x\n"), p...) }}, want: ReasonCertificate},
		"chain: newline and zeros": {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return append(p, '\n', 0, 0) }}},
		"chain: CRLF":              {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n")) }}},
		"chain: not PEM":           {hooks: tdxsim.Hooks{Chain: func([]byte) []byte { return []byte("-----BEGIN CERTIFICATE-----\nAA") }}, want: ReasonCertificate},
		"chain: PEM headers":       {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return bytes.Replace(p, []byte("-----\n"), []byte("-----\nName: value\n\n"), 1) }}, want: ReasonCertificate},
		"chain: too long":          {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte { return append(p, bytes.Repeat([]byte("\n"), maxChainBytes)...) }}, want: ReasonQuoteMalformed},
		"chain: certificate too large": {hooks: tdxsim.Hooks{Chain: func(p []byte) []byte {
			return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: make([]byte, maxCertificateBytes+1)})
		}}, want: ReasonCertificate},
		"chain: empty": {hooks: tdxsim.Hooks{Chain: func([]byte) []byte { return nil }}, want: ReasonCertificate},
	}
}

func spoiltCertificates() map[string]spoilt {
	return map[string]spoilt{
		"PCK: another name":          {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Intel SGX TCB Signing" }), want: ReasonChain},
		"PCK: expired":               {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"PCK: from the future":       {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.NotBefore = simNow.Add(time.Hour) }), want: ReasonExpired},
		"PCK: without SGX extension": {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.ExtraExtensions = nil }), want: ReasonCertificate},
		"PCK: fewer extensions":      {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.CRLDistributionPoints, c.SubjectKeyId = nil, nil })},
		"PCK: more extensions":       {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.OCSPServer = []string{"http://localhost.invalid"} })},
		"PCK: unknown critical one":  {hooks: certificate(tdxsim.PCK, func(c *tdxsim.CertificateTemplate) { c.ExtraExtensions[0].Critical = true }), want: ReasonCertificate},
		"CA: no authority":           {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.IsCA = false }), want: ReasonCollateralSignature},
		"CA: another name":           {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Intel SGX" }), want: ReasonChain},
		"CA: expired":                {hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"root: expired":              {hooks: certificate(tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
		"root: another name":         {hooks: certificate(tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = "Some Root CA" }), want: ReasonChain},
		"TCB signer: another name":   {hooks: certificate(tdxsim.TCBSigner, func(c *tdxsim.CertificateTemplate) { c.Subject.CommonName = namePCK }), want: ReasonChain},
		"TCB signer: too large": {hooks: certificate(tdxsim.TCBSigner, func(c *tdxsim.CertificateTemplate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3}, Value: make([]byte, maxCertificateBytes)}}
		}), want: ReasonCertificate},
		"TCB signer: expired": {hooks: certificate(tdxsim.TCBSigner, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) }), want: ReasonExpired},
	}
}

func spoiltLists() map[string]spoilt {
	return map[string]spoilt{
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
		"list malformed":                  {after: func(s *scene) { s.documents.RootCRL = []byte{0x30, 0} }, want: ReasonCollateralMalformed},
		"PCK list ended":                  {hooks: list(tdxsim.PlatformCA, func(l *tdxsim.RevocationListTemplate) { l.NextUpdate = simNow.Add(-time.Second) }), want: ReasonCollateralExpired},
		"root list ended":                 {hooks: list(tdxsim.Root, func(l *tdxsim.RevocationListTemplate) { l.NextUpdate = simNow.Add(-time.Second) }), want: ReasonCollateralExpired},
		"list signed with SHA-384":        {hooks: list(tdxsim.Root, func(l *tdxsim.RevocationListTemplate) { l.SignatureAlgorithm = x509.ECDSAWithSHA384 }), want: ReasonCollateralMalformed},
		"list with an unknown extension":  {hooks: list(tdxsim.Root, func(l *tdxsim.RevocationListTemplate) { l.ExtraExtensions = critical() }), want: ReasonCollateralMalformed},
		"entry with an unknown extension": {opt: tdxsim.Options{Lists: tdxsim.Lists{RevokedByRoot: []string{tdxsim.ProcessorCA}}}, hooks: list(tdxsim.Root, func(l *tdxsim.RevocationListTemplate) { l.RevokedCertificateEntries[0].ExtraExtensions = critical() }), want: ReasonCollateralMalformed},
		"list too large":                  {after: func(s *scene) { s.documents.PCKCRL = make([]byte, maxListBytes+1) }, want: ReasonCollateralMalformed},
	}
}

func spoiltWindows() map[string]spoilt {
	return map[string]spoilt{
		"TCB info ended":              {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{NextUpdate: simNow.Add(-time.Second)}}}, want: ReasonCollateralExpired},
		"TCB info from the future":    {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{Issued: simNow.Add(time.Second)}}}, want: ReasonCollateralEarly},
		"QE identity ended":           {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{NextUpdate: simNow.Add(-time.Second)}}}, want: ReasonCollateralExpired},
		"QE identity from the future": {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{Issued: simNow.Add(time.Second)}}}, want: ReasonCollateralEarly},
		"TCB info of a low number":    {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Document: tdxsim.Document{EvaluationNumber: 17}}}, after: func(s *scene) { s.minimum = 18 }, want: ReasonEvaluationNumber},
		"QE identity of a low number": {opt: tdxsim.Options{QE: tdxsim.QEIdentity{Document: tdxsim.Document{EvaluationNumber: 17}}}, after: func(s *scene) { s.minimum = 18 }, want: ReasonEvaluationNumber},
		"both of the number required": {after: func(s *scene) { s.minimum = 18 }},
	}
}

func spoiltDocuments(t *testing.T) map[string]spoilt {
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
	return map[string]spoilt{
		"TCB info of SGX":                       {hooks: replace("tcbInfo", `"TDX"`, `"SGX"`), want: ReasonCollateralMismatch},
		"TCB info of another version":           {hooks: replace("tcbInfo", `"version":3`, `"version":4`), want: ReasonCollateralMismatch},
		"TCB info of another type":              {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":1`), want: ReasonCollateralMalformed},
		"TCB info of another PCE":               {hooks: replace("tcbInfo", `"pceId":"0000"`, `"pceId":"0001"`), want: ReasonCollateralMismatch},
		"TCB info of another platform":          {hooks: replace("tcbInfo", `50806f000000`, `50806f000001`), want: ReasonCollateralMissing},
		"QE identity of SGX":                    {hooks: replace("enclaveIdentity", `"TD_QE"`, `"QE"`), want: ReasonCollateralMismatch},
		"QE identity, version":                  {hooks: replace("enclaveIdentity", `"version":2`, `"version":1`), want: ReasonCollateralMismatch},
		"TCB info twice a member":               {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":0,"tcbType":0`), want: ReasonCollateralMalformed},
		"TCB info in another case":              {hooks: replace("tcbInfo", `"fmspc"`, `"FMSPC"`), want: ReasonCollateralMalformed},
		"TCB info with a new member":            {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":0,"new":{"a":[1,null]}`)},
		"TCB info without levels":               {opt: tdxsim.Options{TCBInfo: tdxsim.TCBInfo{Levels: []tdxsim.Level{}}}, want: ReasonCollateralMalformed},
		"TCB info with a short number":          {hooks: replace("tcbInfo", `{"svn":5}`, `{"svn":256}`), want: ReasonCollateralMalformed},
		"TCB info with 15 components":           {hooks: replace("tcbInfo", `{"svn":5},`, ``), want: ReasonCollateralMalformed},
		"TCB info with 17 components":           {hooks: replace("tcbInfo", `{"svn":5},`, `{"svn":5},{"svn":5},`), want: ReasonCollateralMalformed},
		"QE identity with null":                 {hooks: replace("enclaveIdentity", `"isvprodid":2`, `"isvprodid":null`), want: ReasonCollateralMalformed},
		"QE identity with a bad time":           {hooks: replace("enclaveIdentity", `"issueDate":"2026`, `"issueDate":"26`), want: ReasonCollateralMalformed},
		"QE identity with odd bytes":            {hooks: replace("enclaveIdentity", `"mrsigner":"00`, `"mrsigner":"zz`), want: ReasonCollateralMalformed},
		"TCB info with many members":            {hooks: replace("tcbInfo", `"tcbType":0`, `"tcbType":0,`+members(maxMembers)), want: ReasonCollateralMalformed},
		"TCB info with many advisories":         {hooks: replace("tcbInfo", `"tcbStatus"`, `"advisoryIDs":["a"`+strings.Repeat(`,"a"`, maxElements)+`],"tcbStatus"`), want: ReasonCollateralMalformed},
		"TCB info with a long text":             {hooks: replace("tcbInfo", `"UpToDate"`, `"`+strings.Repeat("x", maxTextBytes+1)+`"`), want: ReasonCollateralMalformed},
		"TCB info with the longest text":        {hooks: replace("tcbInfo", `"UpToDate"`, `"`+strings.Repeat("x", maxTextBytes)+`"`)},
		"TCB info with a text that is a number": {hooks: replace("tcbInfo", `"id":"TDX"`, `"id":5`), want: ReasonCollateralMalformed},
		"TCB info with a list that is none":     {hooks: replace("tcbInfo", `"tcbLevels":[{"tcb":{"isvsvn"`, `"tcbLevels":{},"new":[{"tcb":{"isvsvn"`), want: ReasonCollateralMalformed},
	}
}

func spoiltResponses() map[string]spoilt {
	return map[string]spoilt{
		"TCB info changed after": {after: func(s *scene) {
			s.documents.TCBInfo = bytes.Replace(s.documents.TCBInfo, []byte("UpToDate"), []byte("UpToDat3"), 1)
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
	}
}

// members are so many more of an object.
func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"new%d":0,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}
