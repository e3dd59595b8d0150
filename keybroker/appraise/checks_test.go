//go:build !release

package appraise

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

var bound = [64]byte{0: 1, 31: 2, 63: 3}

func mustKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func drop(id asn1.ObjectIdentifier) func([]pkix.Extension) []pkix.Extension {
	return func(list []pkix.Extension) []pkix.Extension {
		return slices.DeleteFunc(list, func(e pkix.Extension) bool { return e.Id.Equal(id) })
	}
}

func set(id asn1.ObjectIdentifier, value []byte) func([]pkix.Extension) []pkix.Extension {
	return func(list []pkix.Extension) []pkix.Extension {
		return append(drop(id)(list), pkix.Extension{Id: id, Value: value})
	}
}

func put64(at int, v uint64) func([]byte) {
	return func(r []byte) { binary.LittleEndian.PutUint64(r[at:], v) }
}

func put(at int, b ...byte) func([]byte) { return func(r []byte) { copy(r[at:], b) } }

// Each row spoils one thing of evidence that is right otherwise and really
// signed; the reason says that only the check meant has refused it.
func TestEachCheckAloneRefuses(t *testing.T) {
	signatureOrder := elliptic.P384().Params().N
	number := func(at int, n *big.Int) func([]byte) {
		return func(r []byte) {
			be := n.FillBytes(make([]byte, 72))
			slices.Reverse(be)
			copy(r[at:], be)
		}
	}
	rows := []struct {
		name  string
		start func() *platform
		spoil func(*platform)
		want  refusal.Reason
	}{
		{"nothing", genoaPlatform, func(p *platform) {}, ""},
		{"nothing, Turin", turinPlatform, func(p *platform) {}, ""},
		{"nothing, VLEK", vlekPlatform, func(p *platform) {}, ""},
		{"nothing, hardware id in an octet string", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(4), append([]byte{4, 64}, fill(64, 7)...)) }, ""},
		{"version 1", genoaPlatform, func(p *platform) { p.version = 1 }, ReasonReportVersion},
		{"version 6", genoaPlatform, func(p *platform) { p.version = 6 }, ReasonReportVersion},
		{"algorithm", genoaPlatform, func(p *platform) { p.report = put(0x34, 2) }, ReasonSignatureAlgorithm},
		{"signing key none", genoaPlatform, func(p *platform) { p.report = put(0x48, 7<<2) }, ReasonSigningKey},
		{"reserved behind key information", genoaPlatform, func(p *platform) { p.report = put(0x4c, 1) }, ReasonReserved},
		{"reserved bits of key information", genoaPlatform, func(p *platform) { p.report = put(0x48, 1<<5) }, ReasonReserved},
		{"reserved behind CPUID", genoaPlatform, func(p *platform) { p.report = put(0x19f, 1) }, ReasonReserved},
		{"reserved in the versions", genoaPlatform, func(p *platform) { p.report = put(0x1eb, 1) }, ReasonReserved},
		{"reserved in the committed version", genoaPlatform, func(p *platform) { p.report = put(0x1ef, 1) }, ReasonReserved},
		{"CPUID in version 2", genoaPlatform, func(p *platform) { p.version, p.report = 2, put(0x188, 0x19) }, ReasonReserved},
		{"mitigations in version 4", genoaPlatform, func(p *platform) { p.version, p.report = 4, put(0x1f8, 1) }, ReasonReserved},
		{"reserved before the signature", genoaPlatform, func(p *platform) { p.report = put(0x29f, 1) }, ReasonReserved},
		{"unsigned bytes behind the signature", genoaPlatform, func(p *platform) { p.signed = put(0x49f, 1) }, ReasonReserved},
		{"TCB in Turin's layout on Genoa", genoaPlatform, func(p *platform) { p.report = put64(0x1e0, 0x0000_0000_0403_0201) }, ReasonReserved},
		{"TCB in Genoa's layout on Turin", turinPlatform, func(p *platform) { p.report = put64(0x1f0, 72<<56|23<<48|9) }, ReasonReserved},
		{"leaf of another product", genoaPlatform, func(p *platform) { p.family, p.model = 0x19, 0x01 }, ReasonProduct},
		{"unknown model", genoaPlatform, func(p *platform) { p.model = 0x20 }, ReasonProduct},
		{"unknown family", genoaPlatform, func(p *platform) { p.family = 0x1b }, ReasonProduct},
		{"unknown product name", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(2), []byte("\x16\x05Venic")) }, ReasonProduct},
		{"product name is no IA5String", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(2), []byte{2, 1, 1}) }, ReasonCertificate},
		{"no hardware id", genoaPlatform, func(p *platform) { p.extensions = drop(kdsOID(4)) }, ReasonCertificate},
		{"short hardware id", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(4), fill(8, 7)) }, ReasonCertificate},
		{"long hardware id for Turin", turinPlatform, func(p *platform) { p.extensions = set(kdsOID(4), fill(64, 5)) }, ReasonCertificate},
		{"no FMC on Turin", turinPlatform, func(p *platform) { p.extensions = drop(kdsOID(3, 9)) }, ReasonCertificate},
		{"FMC on Genoa", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 9), []byte{2, 1, 1}) }, ReasonCertificate},
		{"no microcode version", genoaPlatform, func(p *platform) { p.extensions = drop(kdsOID(3, 8)) }, ReasonCertificate},
		{"version over 255", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 8), []byte{2, 2, 1, 0}) }, ReasonCertificate},
		{"negative version", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 8), []byte{2, 1, 0x80}) }, ReasonCertificate},
		{"bytes behind a version", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 8), []byte{2, 1, 72, 0}) }, ReasonCertificate},
		{"reserved component", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 5), []byte{2, 1, 1}) }, ReasonCertificate},
		{"nothing, reserved component zero", genoaPlatform, func(p *platform) { p.extensions = set(kdsOID(3, 5), []byte{2, 1, 0}) }, ""},
		{"VLEK without provider", vlekPlatform, func(p *platform) { p.extensions = drop(kdsOID(5)) }, ReasonCertificate},
		{"VCEK named as VLEK", genoaPlatform, func(p *platform) { p.leafName = "SEV-VLEK" }, ReasonCertificate},
		{"chip key on another curve", genoaPlatform, func(p *platform) { p.leafKey = mustKey(t, elliptic.P256()) }, ReasonCertificate},
		{"critical extension", genoaPlatform, func(p *platform) {
			p.extensions = func(l []pkix.Extension) []pkix.Extension {
				return append(l, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
			}
		}, ReasonCertificate},
		{"older firmware than the certificate's", genoaPlatform, func(p *platform) { p.report = put64(0x180, 72<<56|22<<48|9) }, ReasonTCBMismatch},
		{"newer firmware than the certificate's", genoaPlatform, func(p *platform) { p.report = put64(0x180, 73<<56|23<<48|9) }, ReasonTCBMismatch},
		{"FMC differs", turinPlatform, func(p *platform) { p.report = put64(0x180, p.tcb+1) }, ReasonTCBMismatch},
		{"VLEK for other firmware", vlekPlatform, func(p *platform) { p.report = put64(0x180, 72<<56|22<<48|9) }, ReasonTCBMismatch},
		{"another chip", genoaPlatform, func(p *platform) { p.report = put(0x1a0, 8) }, ReasonChipMismatch},
		{"another chip in its last byte", genoaPlatform, func(p *platform) { p.report = put(0x1df, 8) }, ReasonChipMismatch},
		{"Turin chip id with a tail", turinPlatform, func(p *platform) { p.report = put(0x1df, 8) }, ReasonChipMismatch},
		{"masked but there", genoaPlatform, func(p *platform) { p.report = put(0x48, 2) }, ReasonChipMismatch},
		{"zero hardware id", genoaPlatform, func(p *platform) { p.hwid = fill(64, 0) }, ReasonChipMismatch},
		{"signed by another key", genoaPlatform, func(p *platform) { p.signWith = mustKey(t, elliptic.P384()) }, ReasonSignature},
		{"measurement changed", genoaPlatform, func(p *platform) { p.signed = put(0x90, 1) }, ReasonSignature},
		{"r is zero", genoaPlatform, func(p *platform) { p.signed = number(0x2a0, new(big.Int)) }, ReasonSignature},
		{"s is zero", genoaPlatform, func(p *platform) { p.signed = number(0x2e8, new(big.Int)) }, ReasonSignature},
		{"r is the order", genoaPlatform, func(p *platform) { p.signed = number(0x2a0, signatureOrder) }, ReasonSignature},
		{"s over 48 bytes", genoaPlatform, func(p *platform) { p.signed = put(0x2e8+48, 1) }, ReasonSignature},
		{"leaf over", genoaPlatform, func(p *platform) { p.leaf = func(c *x509.Certificate) { c.NotAfter = pkiNow.Add(-time.Second) } }, ReasonExpired},
		{"leaf not yet", genoaPlatform, func(p *platform) { p.leaf = func(c *x509.Certificate) { c.NotBefore = pkiNow.Add(time.Second) } }, ReasonExpired},
		{"issuer over", genoaPlatform, func(p *platform) { p.issuer = func(c *x509.Certificate) { c.NotAfter = pkiNow.Add(-time.Second) } }, ReasonExpired},
		{"root over", genoaPlatform, func(p *platform) { p.root = func(c *x509.Certificate) { c.NotAfter = pkiNow.Add(-time.Second) } }, ReasonExpired},
		{"issuer is no authority", genoaPlatform, func(p *platform) { p.issuer = func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, 0 } }, ReasonChain},
		{"leaf signed with SHA-256", genoaPlatform, func(p *platform) {
			p.leaf = func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }
		}, ReasonChain},
		{"issuer signed in PKCS #1 v1.5", genoaPlatform, func(p *platform) {
			p.issuer = func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }
		}, ReasonChain},
		{"root signed in PKCS #1 v1.5", genoaPlatform, func(p *platform) {
			p.root = func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }
		}, ReasonChain},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			p := row.start()
			row.spoil(p)
			env := p.evidence(t, bound)
			v := p.trusting(t, Options{})
			for range 2 { // with a chain that is new and one that is cached
				c, err := v.Appraise(t.Context(), env, bound, pkiNow)
				wantReason(t, err, row.want)
				if err != nil && (c.Kind != "" || c.SNP != nil || c.Registers != nil) {
					t.Error("claims came with a refusal")
				}
			}
		})
	}
}

func TestChainPartsFromElsewhereAreRefused(t *testing.T) {
	keys := signingKeys()
	p := genoaPlatform()
	good := p.evidence(t, bound)
	v := p.trusting(t, Options{})
	stranger := authority{key: keys[2]}
	stranger.cert = issueCertificate(t, template("ARK-Genoa", 1, true, nil), stranger, keys[2].Public())
	strangeASK := issueCertificate(t, template("SEV-Genoa", 2, true, nil), stranger, keys[3].Public())
	renamed := issueCertificate(t, template("SEV-Milan", 2, true, nil), p.ark, keys[1].Public())
	for _, row := range []struct {
		name  string
		which int
		data  []byte
		want  refusal.Reason
	}{
		{"root of the same name, another key", 0, stranger.cert.Raw, ""}, // the configured root fits
		{"issuer of the same name, another key", 1, strangeASK.Raw, ReasonChain},
		{"issuer of another name, the same key", 1, renamed.Raw, ReasonChain},
		{"rubbish for an issuer", 1, []byte{0x30, 0}, ReasonCertificate},
		{"rubbish for a leaf", 2, []byte{0x30, 0}, ReasonCertificate},
		{"a root for an issuer", 1, p.ark.cert.Raw, ReasonChain},
		{"bytes behind the leaf", 2, append(bytes.Clone(good.Parts[3].Data), 0), ReasonCertificate},
	} {
		env := good
		env.Parts = slices.Clone(good.Parts)
		env.Parts[1+row.which].Data = row.data
		_, err := v.Appraise(t.Context(), env, bound, pkiNow)
		if reason, _ := refusal.ReasonOf(err); reason != row.want {
			t.Errorf("%s: got %v, want %q", row.name, err, row.want)
		}
	}
}

// The pinned key in a certificate that someone else signed, to give it other dates.
func TestPinnedKeyInAForgedCertificateIsRefused(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	v := p.trusting(t, Options{})
	v.certificates = nil // only what comes with the evidence
	_, err := v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, "")
	stranger := authority{key: signingKeys()[2]}
	stranger.cert = issueCertificate(t, template("ARK-Genoa", 1, true, nil), stranger, stranger.key.Public())
	env.Parts[1].Data = issueCertificate(t, template("ARK-Genoa", 1, true, nil), stranger, p.ark.key.Public()).Raw
	_, err = v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonChain)
}

func TestPitfall10UnpinnedRootIsRefusedEvenIfConfigured(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	v, err := New(Options{Certificates: [][]byte{p.ark.cert.Raw, p.ask.cert.Raw}, WithoutRevocation: true})
	if err != nil {
		t.Fatal(err)
	}
	_, err = v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonRoot)
}

func TestSoftwareTEEIsAlwaysNamed(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	c, err := p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	if err != nil || !c.SoftwareTEE {
		t.Errorf("%v, software TEE %v", err, c.SoftwareTEE)
	}
}

func TestAllowSoftwareTEERefusesWhatIsNoRoot(t *testing.T) {
	p := genoaPlatform()
	p.evidence(t, bound)
	for name, data := range map[string][]byte{"nothing": nil, "no root": pemOf(p.ask.cert), "text": []byte("hello"),
		"a block of another type": bytes.ReplaceAll(pemOf(p.ark.cert), []byte("CERTIFICATE"), []byte("X509 CRL")),
		"a key":                   []byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")} {
		if err := lenient(t).AllowSoftwareTEE(data); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestPitfall13RevokedIssuersAreRefused(t *testing.T) {
	from, to := pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour)
	for _, start := range []func() *platform{genoaPlatform, vlekPlatform} { // ASK and ASVK
		p := start()
		env := p.evidence(t, bound)
		clean, revoked := p.crl(t, 5, from, to, nil, 77), p.crl(t, 6, from, to, nil, 77, 2)
		old, stale := p.crl(t, 4, from, to, nil, 2), p.crl(t, 7, from.AddDate(0, -1, 0), from, nil)
		early := p.crl(t, 8, to, to.AddDate(0, 1, 0), nil)
		for _, row := range []struct {
			name  string
			lists [][]byte
			want  refusal.Reason
		}{
			{"clean", [][]byte{clean}, ""},
			{"revoked", [][]byte{revoked}, ReasonRevoked},
			{"older list cannot bring it back", [][]byte{revoked, clean}, ReasonRevoked},
			{"newer list is asked", [][]byte{old, clean}, ""},
			{"newest is over", [][]byte{clean, stale}, ReasonRevocationUnknown},
			{"newest is of the future", [][]byte{clean, early}, ReasonRevocationUnknown},
		} {
			_, err := p.trusting(t, Options{RevocationLists: row.lists}).Appraise(t.Context(), env, bound, pkiNow)
			if reason, _ := refusal.ReasonOf(err); reason != row.want {
				t.Errorf("%s: got %v, want %q", row.name, err, row.want)
			}
		}
	}
}

func TestRevocationListsThatCannotBeJudgedAreRefused(t *testing.T) {
	p := genoaPlatform()
	p.evidence(t, bound)
	from, to := pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour)
	for name, change := range map[string]func(*x509.RevocationList){
		"PKCS #1 v1.5": func(l *x509.RevocationList) { l.SignatureAlgorithm = x509.SHA384WithRSA },
		"critical extension": func(l *x509.RevocationList) {
			l.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
		},
	} {
		if _, err := New(Options{RevocationLists: [][]byte{p.crl(t, 1, from, to, change)}}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	numbered := p.crl(t, 1, from, to, nil)
	numberOID, otherOID := []byte{0x55, 0x1d, 0x14}, []byte{0x55, 0x1d, 0x7f}
	if _, err := New(Options{RevocationLists: [][]byte{bytes.Replace(numbered, numberOID, otherOID, 1)}}); err == nil {
		t.Error("a list without a number was accepted")
	}
}

// Which of two statements would hold? x509 refuses such a certificate; the day
// it does not, this fails.
func TestStatementMadeTwiceIsRefused(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	tmpl := template("SEV-VCEK", 0, false, nil)
	tmpl.ExtraExtensions = append(p.chipExtensions(t), pkix.Extension{Id: kdsOID(3, 8), Value: []byte{2, 1, 99}})
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.ask.cert, mustKey(t, elliptic.P384()).Public(), p.ask.key)
	if err != nil {
		t.Fatal(err)
	}
	env.Parts[3].Data = der
	_, err = p.trusting(t, Options{}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, ReasonCertificate)
}

// A list that someone else signed in the root's name says nothing.
func TestForgedRevocationListIsIgnored(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	forger := *p
	forger.ark.key = signingKeys()[2]
	forger.ark.cert = issueCertificate(t, template("ARK-Genoa", 1, true, nil), authority{key: forger.ark.key}, forger.ark.key.Public())
	forged := forger.crl(t, 99, pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour), nil, 2)
	_, err := p.trusting(t, Options{RevocationLists: [][]byte{forged}}).Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, "")
}

// Time is checked at every use of a cached chain.
func TestCachedChainStillExpires(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	v := p.trusting(t, Options{})
	_, err := v.Appraise(t.Context(), env, bound, pkiNow)
	wantReason(t, err, "")
	_, err = v.Appraise(t.Context(), env, bound, pkiEnd.Add(time.Second))
	wantReason(t, err, ReasonExpired)
	_, err = v.Appraise(t.Context(), env, bound, pkiStart.Add(-time.Second))
	wantReason(t, err, ReasonExpired)
}

func TestCacheIsBoundedAndKeyedByEverything(t *testing.T) {
	c := chainCache{}
	for i := range maxChains + 10 {
		c.put([32]byte{byte(i), byte(i >> 8)}, &chain{})
	}
	if len(c.chains) > maxChains {
		t.Errorf("%d chains", len(c.chains))
	}
	a, b := []byte("a\x00b"), []byte("c")
	if chainID(0, a, b) == chainID(0, []byte("a"), []byte("b\x00c")) || chainID(0, a, b) == chainID(1, a, b) || chainID(0, a, nil) == chainID(0, nil, a) {
		t.Error("two chains share a key")
	}
}

func TestCancelledContextIsNoVerdict(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.trusting(t, Options{}).Appraise(ctx, env, bound, pkiNow); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
