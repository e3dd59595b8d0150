//go:build !release

package appraise

import (
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestRevocationListsAreReplacedWhileRunning: a key that a new list revokes is refused
// from then on, also under chains that were verified before; neither an older list nor a
// forged one nor a damaged one brings it back.
func TestRevocationListsAreReplacedWhileRunning(t *testing.T) {
	from, to := pkiNow.Add(-time.Hour), pkiNow.Add(time.Hour)
	p := genoaPlatform()
	env := p.evidence(t, bound)
	forger := *p
	forger.ark.key = signingKeys()[2]
	forger.ark.cert = issueCertificate(t, template("ARK-Genoa", 1, true, nil), authority{key: forger.ark.key}, forger.ark.key.Public())
	v := p.trusting(t, Options{RevocationLists: [][]byte{p.crl(t, 5, from, to, nil)}})
	for _, step := range []struct {
		name  string
		lists [][]byte
		bad   bool
		want  refusal.Reason
	}{
		{"clean", nil, false, ""},
		{"revoked", [][]byte{p.crl(t, 6, from, to, nil, 2)}, false, ReasonRevoked},
		{"an older list", [][]byte{p.crl(t, 5, from, to, nil)}, false, ReasonRevoked},
		{"a forged newer one", [][]byte{forger.crl(t, 99, from, to, nil)}, false, ReasonRevoked},
		{"no list", nil, false, ReasonRevoked},
		{"a damaged file", [][]byte{[]byte("x")}, true, ReasonRevoked},
		{"a newer list", [][]byte{p.crl(t, 7, from, to, nil)}, false, ""},
	} {
		if err := v.SetRevocationLists(step.lists); (err != nil) != step.bad {
			t.Errorf("%s: %v", step.name, err)
		}
		_, err := v.Appraise(t.Context(), env, bound, pkiNow)
		if reason, _ := refusal.ReasonOf(err); reason != step.want {
			t.Errorf("%s: got %v, want %q", step.name, err, step.want)
		}
	}
	for i := range int64(2 * maxLists) {
		if err := v.SetRevocationLists([][]byte{p.crl(t, 100+i, from, to, nil)}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(v.revocation.Load().lists); n != maxLists {
		t.Errorf("%d lists are held", n)
	}
}

// TestEndsAreAllThatEvidenceWouldBeRefusedFor: lists, what is configured, and what guests
// brought.
func TestEndsAreAllThatEvidenceWouldBeRefusedFor(t *testing.T) {
	p := genoaPlatform()
	env := p.evidence(t, bound)
	to := pkiNow.Add(time.Hour)
	v := p.trusting(t, Options{RevocationGrace: time.Minute, Certificates: [][]byte{p.ask.cert.Raw},
		RevocationLists: [][]byte{p.crl(t, 6, pkiNow, to, nil), p.crl(t, 5, pkiNow, to.Add(time.Hour), nil)}})
	find := func(kind, name string) time.Time {
		var at time.Time
		for _, e := range v.Ends() {
			if e.Kind == kind && e.Name == name {
				if !at.IsZero() {
					t.Errorf("%s %s twice", kind, name)
				}
				at = e.At
			}
		}
		return at
	}
	if got := find("revocation_list", p.ark.cert.Subject.CommonName); !got.Equal(to.Add(time.Minute).Truncate(time.Second)) {
		t.Errorf("the newest list ends %s, with its grace", got)
	}
	if got := find("certificate", p.ask.cert.Subject.CommonName); !got.Equal(p.ask.cert.NotAfter) {
		t.Errorf("a configured certificate ends %s", got)
	}
	if len(v.Ends()) != 3 { // the root is configured, too
		t.Errorf("%+v before any guest", v.Ends())
	}
	if _, err := v.Appraise(t.Context(), env, bound, pkiNow.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if len(v.Ends()) != 4 {
		t.Errorf("%+v after a guest", v.Ends())
	}
}
