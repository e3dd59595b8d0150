//go:build !release

package appraise

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// likeAMDs gives the platform's certificates what go-sev-guest wants of AMD's: the address in every
// name, the ASVK's own name, a VLEK's product without a stepping, every component's version, and a place for
// revocation lists.
func likeAMDs(p *platform) *platform {
	address := func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: c.Subject.CommonName, Country: []string{"US"}, Province: []string{"CA"}, Locality: []string{"Santa Clara"},
			Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"}}
		c.CRLDistributionPoints = []string{"https://kdsintf.amd.com/vcek/v1/" + string(p.product) + "/crl"}
	}
	p.root, p.issuer = address, address
	p.leaf = func(c *x509.Certificate) { address(c); c.CRLDistributionPoints = nil }
	if p.signer == signerVLEK {
		p.issuer = func(c *x509.Certificate) { c.Subject.CommonName = "SEV-VLEK-" + string(p.product); address(c) }
	}
	p.extensions = func(list []pkix.Extension) []pkix.Extension {
		for n := 4; n <= 7; n++ { // components that no product has
			list = append(list, pkix.Extension{Id: kdsOID(3, n), Value: []byte{2, 1, 0}})
		}
		if p.signer == signerVLEK {
			list[1].Value = slices.Concat([]byte{0x16, byte(len(p.product))}, []byte(p.product))
		}
		return list
	}
	return p
}

func milanPlatform() *platform {
	p := genoaPlatform()
	p.product, p.model = milan, 0x01
	return p
}

// ofVersion is the platform with reports of another version.
func ofVersion(p *platform, version uint32) *platform {
	p.version = version
	return p
}

// compared is an emulated report, and what go-sev-guest and we say of it. D9 to D16 are numbers of a
// list of its faults at this version (docs/known-failures.md).
type compared struct {
	p      *platform
	list   func(*platform) []byte            // a revocation list, if revocation is to be checked
	change func(*oracletest.SNPRequest)      // how go-sev-guest is asked
	google string                            // "": it accepts; else a part of its error
	ours   refusal.Reason                    // "": accepted
	claim  func(c evidence.Claims) (ok bool) // what shows that it is unwanted
	why    string                            // they disagree
}

// over is a list that ended years ago.
func over(tb testing.TB, years int) func(*platform) []byte {
	return func(p *platform) []byte {
		from := pkiNow.AddDate(-years, 0, -1)
		return p.crl(tb, 1, from, from.AddDate(0, 0, 2), nil)
	}
}

// changed is the platform with another report.
func changed(p *platform, change func([]byte)) *platform {
	p.report = change
	return p
}

// long has certificates that hold whenever this test runs: go-sev-guest is asked without a time.
func long(p *platform) *platform {
	for _, f := range []*func(*x509.Certificate){&p.root, &p.issuer, &p.leaf} {
		change := *f
		*f = func(c *x509.Certificate) { change(c); c.NotBefore, c.NotAfter = day(2020, 1, 1), day(2120, 1, 1) }
	}
	return p
}

// noASK is evidence and roots without the authority below the root.
func noASK(r *oracletest.SNPRequest) { r.ASK = nil }

func comparisons(tb testing.TB) map[string]compared {
	cases := map[string]compared{
		"D9: Turin": {p: likeAMDs(turinPlatform()), google: "not an AMD KDS OID", why: "it knows no FMC"},
		"D10: Bergamo": {p: likeAMDs(changed(genoaPlatform(), func(r []byte) { r[0x189] = 0xa0 })), google: "any trusted roots",
			why: "it knows no models A0h to AFh"},
		"D11: VLEK under the library's own roots": {p: likeAMDs(vlekPlatform()), change: func(r *oracletest.SNPRequest) { r.Roots = false }, google: "missing intermediate",
			why: "its bundles have no ASVK (and no root of ours: see the error)"},
		"ASK revoked": {p: likeAMDs(genoaPlatform()), list: func(p *platform) []byte {
			return p.crl(tb, 1, pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour), nil, 2)
		}, google: "ASK was revoked", ours: ReasonRevoked},
		"D12: ASVK revoked": {p: likeAMDs(vlekPlatform()), list: func(p *platform) []byte {
			return p.crl(tb, 1, pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour), nil, 2)
		}, change: otherASK, ours: ReasonRevoked, why: "it compares the ASK's serial number alone"},
		"D13: list over for a year": {p: likeAMDs(genoaPlatform()), list: over(tb, 1), ours: ReasonRevocationUnknown, why: "it does not look at a fetched list's nextUpdate"},
		"D14: list over for five years, cached, without a time": {p: long(likeAMDs(genoaPlatform())), list: over(tb, 5),
			change: func(r *oracletest.SNPRequest) { r.Unix, r.CachedCRL = 0, true }, ours: ReasonRevocationUnknown, why: "year 1 is before every nextUpdate"},
		"D15: no ASK":  {p: likeAMDs(vlekPlatform()), list: over(tb, 0), change: noASK, google: "panic", ours: "", why: "it takes the places of lists from an ASK that is not there; we need none"},
		"D16: level 3": {p: likeAMDs(changed(genoaPlatform(), func(r []byte) { r[0x30] = 3 })), claim: func(c evidence.Claims) bool { return c.SNP.VMPL == 3 }},
		"D16: debug": {p: likeAMDs(changed(genoaPlatform(), func(r []byte) { binary.LittleEndian.PutUint64(r[8:], 1<<17|1<<19) })),
			claim: func(c evidence.Claims) bool { return c.Debug }},
		"D16: another chip":     {p: likeAMDs(changed(genoaPlatform(), func(r []byte) { r[0x1a0] ^= 1 })), ours: ReasonChipMismatch, why: "its verification does not compare it, its validation does"},
		"D16: another firmware": {p: likeAMDs(changed(genoaPlatform(), put64(0x180, 1))), ours: ReasonTCBMismatch, why: "its verification does not compare it, its validation does"},
		"version 6":             {p: likeAMDs(ofVersion(genoaPlatform(), 6)), google: "Expected between 2 and 5", ours: ReasonReportVersion},
	}
	for version := uint32(2); version <= 5; version++ {
		name := string(rune('0' + version))
		cases["Milan, version "+name] = compared{p: likeAMDs(ofVersion(milanPlatform(), version))}
		cases["VLEK, version "+name] = compared{p: likeAMDs(ofVersion(vlekPlatform(), version))}
		cases["Genoa, version "+name] = compared{p: likeAMDs(ofVersion(genoaPlatform(), version))}
	}
	return cases
}

// otherASK is the root's other authority, of another serial number, for go-sev-guest's CRL check.
func otherASK(r *oracletest.SNPRequest) { r.ASK = r.ARK }

// ours is what our verifier says; revocation is waived where no list is there.
func (c compared) judge(t *testing.T, env evidence.Envelope, list []byte) (evidence.Claims, error) {
	o := Options{WithoutRevocation: list == nil}
	if list != nil {
		o.RevocationLists = [][]byte{list}
	}
	return c.p.trusting(t, o).Appraise(t.Context(), env, bound, pkiNow)
}

// TestEmulatedReportsBesideGoSEVGuest: what each says, and why they disagree.
func TestEmulatedReportsBesideGoSEVGuest(t *testing.T) {
	o := oracletest.Start(t)
	for name, tc := range comparisons(t) {
		env := tc.p.evidence(t, bound)
		var list []byte
		if tc.list != nil {
			list = tc.list(tc.p)
		}
		r := asked(env, pkiNow)
		r.Product, r.Roots, r.RootCRL = string(tc.p.product), true, list
		if tc.change != nil {
			tc.change(&r)
		}
		theirs := o.SNP(t, r)
		if (theirs.Verify == "") != (tc.google == "") || !strings.Contains(theirs.Verify, tc.google) {
			t.Errorf("%s: go-sev-guest says %q, want %q", name, theirs.Verify, tc.google)
		}
		c, err := tc.judge(t, env, list)
		wantReason(t, err, tc.ours)
		if err == nil && tc.claim != nil && !tc.claim(c) {
			t.Errorf("%s: %+v", name, c)
		}
		if agreed := (tc.google == "") == (tc.ours == ""); agreed != (tc.why == "") {
			t.Errorf("%s: agreed is %t, and the table says %q", name, agreed, tc.why)
		}
		t.Logf("%s: theirs %q and %q, ours %v (%s)", name, theirs.Verify, theirs.Validate, err, tc.why)
	}
}
