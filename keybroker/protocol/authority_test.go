package protocol

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestAuthorityEachCheckAlone asks one genuine chain for authority that it does not give,
// one thing at a time.
func TestAuthorityEachCheckAlone(t *testing.T) {
	p := newParties(t)
	lease := sampleLease(p)
	chain := must[[]byte](t)(MarshalLeaseChain(signEpoch(t, p, func(*EpochStatement) {}), must[[]byte](t)(SignLease(p.epoch, lease))))
	st := sampleEpoch(p)
	live := Live(AtLeast(7), st.NotBefore+1)
	model, other := lease.Grants[1].Subject, [32]byte{1}
	named := Audience{Tenants: []string{"tenant-1"}, Images: []evidence.ImageDigest{lease.Image}, Policies: []PolicyDigest{lease.PolicyDigest}}
	with := func(change func(*Audience)) Audience {
		a := named
		change(&a)
		return a
	}
	for _, tc := range []struct {
		name     string
		floor    Floor
		role     Role
		resource Resource
		audience Audience
		want     refusal.Reason
	}{
		{"granted by name", live, RoleServe, Named("models/demo"), named, ""},
		{"granted for its model", live, RoleServe, About(model), named, ""},
		{"another role of the set", live, RoleDecrypt, Named("fed/0011"), Everyone(), ""},
		{"no resource needed", Recorded(AtLeast(7)), RoleServe, NoResource(), Everyone(), ""},

		{"no floor", Floor{}, RoleServe, NoResource(), named, ReasonEpochRetired},
		{"floor of nothing", Recorded(AtLeast(0)), RoleServe, NoResource(), named, ReasonEpochRetired},
		{"floor without time", Live(AtLeast(7), 0), RoleServe, NoResource(), named, ReasonEpochRetired},
		{"retired epoch", Recorded(AtLeast(8)), RoleServe, NoResource(), named, ReasonEpochRetired},
		{"ended epoch", Live(AtLeast(7), st.NotAfter), RoleServe, NoResource(), named, ReasonEpochNotValid},
		{"epoch to come", Live(AtLeast(7), st.NotBefore-1), RoleServe, NoResource(), named, ReasonEpochNotValid},
		{"a role of another key", live, RoleServe, Named("fed/0011"), named, ReasonRole},
		{"a role of another model's key", live, RoleDecrypt, About(model), named, ReasonRole},
		{"no role", live, 0, NoResource(), named, ReasonRole},
		{"two roles at once", live, RoleServe | RoleDecrypt, NoResource(), named, ReasonRole},
		{"role not given", live, RoleContribute, NoResource(), named, ReasonRole},
		{"role unknown", live, 1 << 15, NoResource(), named, ReasonRole},
		{"resource not stated", live, RoleServe, Resource{}, named, ReasonNotGranted},
		{"resource not granted", live, RoleServe, Named("models/other"), named, ReasonNotGranted},
		{"a name's beginning", live, RoleServe, Named("models"), named, ReasonNotGranted},
		{"another model", live, RoleServe, About(other), named, ReasonNotGranted},
		{"a key for nothing", live, RoleServe, About([32]byte{}), named, ReasonNotGranted},
		{"nobody", live, RoleServe, NoResource(), Audience{}, ReasonAudience},
		{"another tenant", live, RoleServe, NoResource(), with(func(a *Audience) { a.Tenants = []string{"tenant-2"} }), ReasonAudience},
		{"another image", live, RoleServe, NoResource(), with(func(a *Audience) { a.Images = []evidence.ImageDigest{{Algorithm: 1}} }), ReasonAudience},
		{"another policy", live, RoleServe, NoResource(), with(func(a *Audience) { a.Policies = []PolicyDigest{{9}} }), ReasonAudience},
		{"everyone and somebody", live, RoleServe, NoResource(), with(func(a *Audience) { a.Everyone = true }), ReasonAudience},
		{"tenants unsorted", live, RoleServe, NoResource(), with(func(a *Audience) { a.Tenants = []string{"tenant-1", "a"} }), ReasonAudience},
	} {
		_, err := VerifyAuthority(chain, []identity.Public{p.root.Public()}, AnyBroker(), tc.floor, tc.role, tc.resource, tc.audience)
		if tc.want == "" {
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: passed", tc.name)
			continue
		}
		wantReason(t, err, tc.want)
	}
}

// TestAuthorityIsOfOneBroker: a chain of another configured root's broker is refused, and
// one of nobody's choice is too.
func TestAuthorityIsOfOneBroker(t *testing.T) {
	p, other := newParties(t), newParties(t)
	epoch := signEpoch(t, p, func(*EpochStatement) {})
	chain := must[[]byte](t)(MarshalLeaseChain(epoch, must[[]byte](t)(SignLease(p.epoch, sampleLease(p)))))
	roots, floor := []identity.Public{other.root.Public(), p.root.Public()}, Recorded(AtLeast(1))
	for name, tc := range map[string]struct {
		broker Broker
		want   refusal.Reason
	}{
		"its own": {Of(p.root.Public().ID()), ""},
		"any":     {AnyBroker(), ""},
		"another": {Of(other.root.Public().ID()), ReasonAnotherBroker},
		"nobody":  {Broker{}, ReasonAnotherBroker},
		"no root": {Of([32]byte{}), ReasonAnotherBroker},
	} {
		_, lease := VerifyAuthority(chain, roots, tc.broker, floor, RoleServe, NoResource(), Everyone())
		_, statement := VerifyStatementEpoch(epoch, roots, tc.broker, floor)
		for _, err := range []error{lease, statement} {
			if got, _ := refusal.ReasonOf(err); got != tc.want {
				t.Errorf("%s: reason %q, want %q: %v", name, got, tc.want, err)
			}
		}
	}
}

// TestLowestIsANumberForEachRoot: what one root says moves no other's, nothing lowers it,
// and a value that was handed out does not change.
func TestLowestIsANumberForEachRoot(t *testing.T) {
	a, b := [32]byte{1}, [32]byte{2}
	first := AtLeast(3)
	second := first.Raised(a, 7)
	third := second.Raised(b, 1<<40).Raised(a, 5).Raised(b, 2)
	for i, tc := range []struct {
		l        Lowest
		ofA, ofB uint64
	}{{Lowest{}, 0, 0}, {first, 3, 3}, {second, 7, 3}, {third, 7, 1 << 40}} {
		if tc.l.Of(a) != tc.ofA || tc.l.Of(b) != tc.ofB {
			t.Errorf("%d: %d and %d, want %d and %d", i, tc.l.Of(a), tc.l.Of(b), tc.ofA, tc.ofB)
		}
	}
	p := newParties(t)
	epoch, root := signEpoch(t, p, func(*EpochStatement) {}), p.root.Public()
	for root2, want := range map[[32]byte]refusal.Reason{root.ID(): ReasonEpochRetired, {9}: ""} {
		_, err := VerifyStatementEpoch(epoch, []identity.Public{root}, AnyBroker(), Recorded(AtLeast(1).Raised(root2, 8)))
		if got, _ := refusal.ReasonOf(err); got != want {
			t.Errorf("after root %x named 8: %q, want %q", root2[:2], got, want)
		}
	}
}

// TestTenantNeedsThePolicysWord: a guest whose tenant no policy checked is in no list of
// tenants, whatever it calls itself.
func TestTenantNeedsThePolicysWord(t *testing.T) {
	p := newParties(t)
	lease := sampleLease(p)
	lease.Tenant = ""
	chain := must[[]byte](t)(MarshalLeaseChain(signEpoch(t, p, func(*EpochStatement) {}), must[[]byte](t)(SignLease(p.epoch, lease))))
	_, err := VerifyAuthority(chain, []identity.Public{p.root.Public()}, AnyBroker(), Recorded(AtLeast(1)), RoleServe, NoResource(), Audience{Tenants: []string{""}})
	wantReason(t, err, ReasonAudience)
	_, err = VerifyAuthority(chain, []identity.Public{p.root.Public()}, AnyBroker(), Recorded(AtLeast(1)), RoleServe, NoResource(), Audience{Tenants: []string{"tenant-1"}})
	wantReason(t, err, ReasonAudience)
	if !strings.Contains(err.Error(), "did not check") {
		t.Errorf("the refusal does not say why: %v", err)
	}
}

func TestRolesHaveNames(t *testing.T) {
	r, err := ParseRoles([]string{"decrypt", "serve"})
	if err != nil || r != RoleServe|RoleDecrypt || r.String() != "serve,decrypt" || Role(0).String() != "none" {
		t.Errorf("%v %v", r, err)
	}
	for _, bad := range [][]string{{"root"}, {"serve", "serve"}, {""}} {
		if r, err := ParseRoles(bad); err == nil {
			t.Errorf("%q became %s", bad, r)
		}
	}
	if len(Roles()) != 4 {
		t.Error(Roles())
	}
}
