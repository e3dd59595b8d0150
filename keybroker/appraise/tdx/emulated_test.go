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
	"os"
	"path/filepath"
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
			s := emulate(t, tdxsim.Options{Guest: g, Platform: tdxsim.Platform{ProcessorCA: processor}})
			c := s.claims(t)
			if own := readByTheGuest(s.quote); !bytes.Equal(own, c.PlatformInstance) {
				t.Errorf("version %d: the guest reads the platform %x, the broker %x", g.Version, own, c.PlatformInstance)
			}
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

// TestAGraceForgivesTheEndOfDocuments, until its date, and nothing else.
func TestAGraceForgivesTheEndOfDocuments(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	q, err := Parse(s.quote)
	if err != nil {
		t.Fatal(err)
	}
	set := NewSet(mustCollateral(t, s.documents, s.roots))
	_, end := mustCollateral(t, s.documents, s.roots).Window()
	day := 24 * time.Hour
	for _, c := range []struct {
		until, now time.Time
		want       refusal.Reason
	}{
		{time.Time{}, end, ""}, {time.Time{}, end.Add(day), ReasonCollateralExpired},
		{end.Add(2 * day), end.Add(day), ""}, {end.Add(day), end.Add(day), ReasonCollateralExpired},
		{end.Add(2 * day), simNow.AddDate(0, 0, -2), ReasonExpired}, {simNow.AddDate(9, 0, 0), simNow.AddDate(8, 0, 0), ReasonExpired}, // certificates
	} {
		v, err := New(Options{MinimumEvaluationNumber: 1, Roots: s.roots, GraceUntil: c.until})
		if err != nil {
			t.Fatal(err)
		}
		_, err = v.Verify(q, set, bound, c.now)
		wantReason(t, err, c.want)
	}
	early := Collateral{tcb: &tcbInfo{}, windows: []window{{"list", end.Add(day), end.Add(2 * day)}, {"document", simNow, simNow}}}
	wantReason(t, early.validAt(end, end.Add(day)), ReasonCollateralEarly)
}

// Each row breaks one thing, which one check must find.
func TestSpoiltEvidenceIsRefused(t *testing.T) {
	for _, table := range []map[string]spoilt{spoiltQuotes(t), spoiltChains(), spoiltCertificates(), spoiltLists(), spoiltWindows(), spoiltDocuments(t), spoiltResponses()} {
		for name, tc := range table {
			t.Run(name, func(t *testing.T) {
				o := tc.opt
				o.Hooks = tc.hooks
				s := emulate(t, o)
				if tc.after != nil {
					tc.after(&s)
				}
				_, err := s.verify()
				wantReason(t, err, tc.want)
			})
		}
	}
}

func TestMinimumEvaluationNumberIsRequired(t *testing.T) {
	if v, err := New(Options{}); err == nil || v != nil {
		t.Error("a verifier without a minimum was made")
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
	// An authority of the right key and another name.
	dir := t.TempDir()
	good = emulate(t, tdxsim.Options{Dir: dir})
	other = emulate(t, tdxsim.Options{Dir: dir, Hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.Subject.Organization = nil })})
	a, b = chainText(t, good.quote), chainText(t, other.quote)
	mixed = append(joinPEM(a, 0), joinPEM(b, 1, 2)...)
	_, err = verifyPCKChain(mixed, good.roots)
	wantReason(t, err, ReasonChain)
	// A root of a trusted key that signs with another.
	mixed = append(joinPEM(a, 0, 1), tampered(t, joinPEM(a, 2))...)
	_, err = verifyPCKChain(mixed, good.roots)
	wantReason(t, err, ReasonChain)
}

// tampered is a certificate whose last byte, of its signature, is another.
func tampered(tb testing.TB, text []byte) []byte {
	block, _ := pem.Decode(text)
	if block == nil {
		tb.Fatal("no PEM")
	}
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
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
	other := emulate(t, tdxsim.Options{Dir: dir, Platform: tdxsim.Platform{FMSPC: [6]byte{1}}})
	_, err = v.Verify(q, anything{mustCollateral(t, other.documents, other.roots)}, bound, simNow) // for another platform
	wantReason(t, err, ReasonCollateralMismatch)
}

// A list of the right name that another key signed: of an authority that the root certified, too.
func TestRevocationListIsOfThePlatformsAuthoritysKey(t *testing.T) {
	const keyFile = "tdx-keys.pem" // root's first
	dir, other := t.TempDir(), t.TempDir()
	platform := emulate(t, tdxsim.Options{Dir: dir})
	emulate(t, tdxsim.Options{Dir: other})
	keys := append(joinPEM(readFile(t, dir, keyFile), 0), joinPEM(readFile(t, other, keyFile), 1, 2, 3, 4)...)
	if err := os.WriteFile(filepath.Join(other, keyFile), keys, 0o600); err != nil {
		t.Fatal(err)
	}
	platform.documents = emulate(t, tdxsim.Options{Dir: other}).documents
	_, err := platform.verify()
	wantReason(t, err, ReasonCollateralMismatch)
}

// A list that the right key signed under another name.
func TestRevocationListNamesItsIssuer(t *testing.T) {
	dir := t.TempDir()
	s := emulate(t, tdxsim.Options{Dir: dir})
	s.documents.RootCRL = emulate(t, tdxsim.Options{Dir: dir, Hooks: certificate(tdxsim.Root, func(c *tdxsim.CertificateTemplate) { c.Subject.Organization = nil })}).documents.RootCRL
	_, err := s.verify()
	wantReason(t, err, ReasonCollateralSignature)
}

// The size of a list is looked at before anything of it is read.
func TestLargeListsAreNotRead(t *testing.T) {
	s := emulate(t, tdxsim.Options{})
	s.documents.PCKCRL = append(s.documents.PCKCRL, make([]byte, maxListBytes)...)
	_, err := s.verify()
	if wantReason(t, err, ReasonCollateralMalformed); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
}

func TestKeysOfOtherCurvesAreRefused(t *testing.T) {
	for curve, want := range map[elliptic.Curve]refusal.Reason{elliptic.P256(): "", elliptic.P384(): ReasonCertificate} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, checkForm(&x509.Certificate{PublicKey: &key.PublicKey, SignatureAlgorithm: x509.ECDSAWithSHA256}), want)
	}
	wantReason(t, checkForm(&x509.Certificate{SignatureAlgorithm: x509.ECDSAWithSHA256}), ReasonCertificate)
}

// Intel may issue its authority's certificate anew: the root's list counts for the one in the quote
// as well as for the one that came with the documents.
func TestEachCertificateOfTheAuthorityMayBeRevoked(t *testing.T) {
	dir := t.TempDir()
	first := emulate(t, tdxsim.Options{Dir: dir})
	revoking := tdxsim.Lists{RevokedByRoot: []string{tdxsim.PlatformCA}}
	anew := tdxsim.Options{Dir: dir, Hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.SerialNumber = big.NewInt(0x2002) })}
	first.documents = emulate(t, anew).documents
	first.claims(t)
	anew.Lists = revoking
	first.documents = emulate(t, anew).documents
	mustCollateral(t, first.documents, first.roots)
	_, err := first.verify()
	wantReason(t, err, ReasonRevoked)
	_, err = ParseCollateral(emulate(t, tdxsim.Options{Dir: dir, Lists: revoking}).documents, first.roots)
	wantReason(t, err, ReasonRevoked)
	// The same of its time.
	ended := emulate(t, tdxsim.Options{Dir: dir, Hooks: certificate(tdxsim.PlatformCA, func(c *tdxsim.CertificateTemplate) { c.NotAfter = simNow.Add(-time.Hour) })})
	ended.documents = emulate(t, tdxsim.Options{Dir: dir}).documents
	_, err = ended.verify()
	wantReason(t, err, ReasonExpired)
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
	// Nor does it help another report on the same key.
	forged = bytes.Clone(s.quote)
	forged[qeReportAt+64] ^= 1
	if q, err = Parse(forged); err == nil {
		_, err = v.Verify(q, anything{good}, bound, simNow)
	}
	wantReason(t, err, ReasonQEReportSignature)
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
