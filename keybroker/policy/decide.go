package policy

import (
	"fmt"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Input is everything that a decision depends on.
type Input struct {
	// Claims are what appraisal found true of the hardware's report.
	Claims evidence.Claims
	// Guest is what the guest states of itself, bound by the report.
	Guest evidence.GuestClaims
	// Resource is the name that is asked for.
	Resource string
	// Now is the broker's time.
	Now time.Time
}

// Failure is one check that did not pass.
type Failure struct {
	// Reason is the stable code.
	Reason refusal.Reason `json:"reason"`
	// Detail says what was found and what was expected, for the operator.
	Detail string `json:"detail"`
}

// Error makes a failure usable as an error.
func (f Failure) Error() string { return string(f.Reason) + ": " + f.Detail }

// Decision is the outcome for one resource. The zero value refuses.
type Decision struct {
	// Allowed is true only if a rule opens the resource and every check passed.
	Allowed bool `json:"allowed"`
	// Reasons lists every check that failed; it is empty if Allowed.
	Reasons []Failure `json:"reasons,omitempty"`
	// LeaseTTL is how long the lease may last; 0 unless Allowed. It never
	// reaches past the end of the policy.
	LeaseTTL time.Duration `json:"-"`
	// Roles are what the rule lets the guest sign for; none unless Allowed.
	Roles protocol.Role `json:"-"`
	// Tenant is the one tenant whose guests pass the rule, tied to something measured;
	// empty where several do, or where it is only what the guest says.
	Tenant string `json:"tenant,omitempty"`
	// Restart is what the rule permits of restarts without the broker; none unless Allowed.
	Restart Restarts `json:"-"`
	// Waived lists the checks that the policy waives, as "check: reason".
	Waived []string `json:"waived,omitempty"`
}

// Decide says whether the guest may have the resource under p. It never
// allows under a nil or zero policy.
func Decide(p *Policy, in Input) Decision {
	if p == nil || !p.compiled {
		return Decision{Reasons: []Failure{{ReasonNoPolicy, "there is no policy"}}}
	}
	d := Decision{Waived: p.waivedFor(in.Claims.Kind)}
	d.useGrace(&p.require, in)
	d.Reasons = append(d.Reasons, p.checkValidity(in.Now)...)
	rule := p.ruleFor(in.Resource)
	var narrow *requirements
	if rule != nil {
		narrow = rule.require
		d.useGrace(narrow, in)
	} else {
		d.Reasons = append(d.Reasons, Failure{ReasonResource, fmt.Sprintf("no rule names %q", in.Resource)})
	}
	for id, c := range checks() {
		if !c.of.covers(in.Claims.Kind) {
			continue
		}
		if p.waived[id] == "" {
			d.add(c.judge(p, &p.require, in))
		}
		if narrow != nil && c.configured != nil && c.configured(p, narrow) {
			d.add(c.judge(p, narrow, in))
		}
	}
	if len(d.Reasons) == 0 {
		d.Allowed = true
		d.Roles, d.Tenant = rule.roles, rule.tenant
		d.Restart = rule.restart.until(p.notAfter.Sub(in.Now))
		d.LeaseTTL = min(p.LeaseTTL(), p.notAfter.Sub(in.Now))
	}
	return d
}

// useGrace says that a status is accepted by a grace alone.
func (d *Decision) useGrace(r *requirements, in Input) {
	if g := r.tdx.grace; g != nil && g.used(r.tdx.statuses, in) && !slices.Contains(d.Waived, g.String()) {
		d.Waived = append(d.Waived, g.String())
	}
}

// add keeps a failure unless the same one is there already.
func (d *Decision) add(f *Failure) {
	if f == nil {
		return
	}
	for _, have := range d.Reasons {
		if have == *f {
			return
		}
	}
	d.Reasons = append(d.Reasons, *f)
}

func (p *Policy) checkValidity(now time.Time) []Failure {
	switch {
	case now.Before(p.notBefore):
		return []Failure{{ReasonPolicyNotYetValid, "it begins at " + p.notBefore.UTC().Format(time.RFC3339)}}
	case !now.Before(p.notAfter):
		return []Failure{{ReasonPolicyExpired, "it ended at " + p.notAfter.UTC().Format(time.RFC3339)}}
	}
	return nil
}

// Waived lists the waived checks as "check: reason", in the order of the checks.
func (p *Policy) Waived() []string { return p.waivedFor("") }

// waivedFor are those that concern a kind of evidence; of every kind for "".
func (p *Policy) waivedFor(kind evidence.Kind) []string {
	var out []string
	for id, c := range checks() {
		if p.waived[id] != "" && (kind == "" || c.of.covers(kind)) {
			out = append(out, c.name+": "+p.waived[id])
		}
	}
	return out
}
