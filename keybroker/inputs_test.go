//go:build !release

package keybroker_test

import (
	"context"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/brokertest"
	"github.com/anchorhold/anchorhold/keybroker/policy"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// asked reads what the decision of a record was made on.
func asked(t *testing.T, f *brokertest.Fixture, r audit.Record) policy.Request {
	t.Helper()
	inputs, err := audit.OpenInputs(f.AuditDir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := inputs.Get(r.InputDigest)
	if err != nil {
		t.Fatalf("%s record: %v", r.Kind, err)
	}
	request, err := policy.ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	if request.Claims.Digest() != r.ClaimsDigest {
		t.Error("the input is of other claims than the record's")
	}
	return request
}

// TestADecisionIsTheSameAgain: the policy that decided decides alike on what was kept, to the last
// reason, for a grant and for a refusal.
func TestADecisionIsTheSameAgain(t *testing.T) {
	f := brokertest.New(t, brokertest.WithPolicy(strings.Replace(brokertest.DefaultPolicy(), "rules:", "rules:\n  - {resources: [models/zz], require: {tenants: [other]}}", 1)))
	dial(t, f).whole()
	g := dial(t, f)
	g.begin()
	m3 := g.attestation()
	m3.Resources = []string{brokertest.Resource, "models/zz"}
	wantReason(t, g.attest(m3), policy.ReasonTenant)
	f.Stop()
	grants, refusals := 0, 0
	for _, r := range f.Records() {
		switch r.Kind {
		case audit.KindGrant:
			grants++
			request := asked(t, f, r)
			if d := request.Decide(f.Policy()); !d.Allowed || !request.Now.Equal(r.Time) {
				t.Errorf("%+v at %s", d, request.Now)
			}
		case audit.KindRefusal:
			refusals++
			d := asked(t, f, r).Decide(f.Policy())
			if d.Allowed || len(d.Reasons) != len(r.Reasons) || string(d.Reasons[0].Reason) != r.Reasons[0].Code || d.Refused+": "+d.Reasons[0].Detail != r.Reasons[0].Detail {
				t.Errorf("%+v, recorded %+v", d, r.Reasons)
			}
		default:
			if !r.InputDigest.IsZero() {
				t.Errorf("a record of a %s names an input", r.Kind)
			}
		}
	}
	if grants != 1 || refusals != 1 {
		t.Errorf("%d grants, %d refusals", grants, refusals)
	}
}

// TestARefusalBehindAGrantIsNoDecision of the policy: the grant's record alone names the input.
func TestARefusalBehindAGrantIsNoDecision(t *testing.T) {
	f := brokertest.New(t, brokertest.WithConfig(func(c *keybroker.Config) {
		c.Gate = func(context.Context, string, *protocol.LeaseCertificate) error {
			return refusal.New("not-now", "the gate is shut")
		}
	}))
	g := dial(t, f)
	g.begin()
	wantReason(t, g.attest(g.attestation()), "not-now")
	f.Stop()
	named := map[audit.Kind]int{}
	for _, r := range f.Records() {
		if !r.InputDigest.IsZero() {
			named[r.Kind]++
			asked(t, f, r)
		}
	}
	if named[audit.KindGrant] != 1 || named[audit.KindRefusal] != 0 {
		t.Errorf("%v", named)
	}
}
