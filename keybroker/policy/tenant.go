package policy

import "github.com/anchorhold/anchorhold/guest/evidence"

// tenantOf is the one tenant whose guests pass a rule. What a guest calls itself counts only
// beside something measured: where two tenants' images pass, each could state the
// other's name. So it is the rule's tenant, if the rule also says which images, hosts or
// ID keys; or the whole policy's.
func tenantOf(policy, rule *requirements) string {
	from := rule
	if rule.tenants == nil {
		from = policy
	}
	measured := from.measurements != nil
	if snpAlone(policy, rule) {
		measured = measured || from.snp.hostData != nil || from.snp.idKeys != nil || from.snp.authorKeys != nil
	}
	if len(from.tenants) != 1 || !measured {
		return ""
	}
	return sortedKeys(from.tenants)[0]
}

// snpAlone reports whether all evidence that passes a rule has a report of SEV-SNP. Others are not asked
// for what such reports say, so it tells no tenant apart.
func snpAlone(policy, rule *requirements) bool {
	for kind := range kindsOf(policy, rule) {
		if !ofSNP.covers(evidence.Kind(kind)) {
			return false
		}
	}
	return true
}

// kindsOf are the kinds of evidence that may pass a rule.
func kindsOf(policy, rule *requirements) map[string]bool {
	if rule.kinds == nil {
		return policy.kinds
	}
	return rule.kinds
}

// measured is a set of measured values that a rule names; nil if it names none. Rules may share one.
type measured *map[string]bool

// dropSharedTenants takes the tenant from rules that are not told apart from another
// tenant's by what they measure: a guest that passes both would choose its tenant by what
// it calls itself. Told apart means that for one kind of measured value every rule that
// gives another tenant names values too, and none of this rule's.
func dropSharedTenants(policy *requirements, rules []*openRule) {
	apart := map[*openRule]bool{}
	reported := func(of func(*snpRequirements) measured) func(*requirements) measured {
		return func(q *requirements) measured {
			if set := of(&q.snp); *set != nil && snpAlone(policy, q) {
				return set
			}
			return nil
		}
	}
	for _, values := range []func(*requirements) measured{
		measurementsOf(rules),
		reported(func(s *snpRequirements) measured { return &s.hostData }),
		reported(func(s *snpRequirements) measured { return &s.idKeys }),
		reported(func(s *snpRequirements) measured { return &s.authorKeys }),
	} {
		tellApart(rules, values, apart)
	}
	for _, r := range rules {
		if r.require.tenants != nil && !apart[r] {
			r.tenant = ""
		}
	}
}

// claimed is a set of values that rules give to a tenant's guests.
type claimed struct {
	tenant string
	values measured
}

// tellApart marks the rules that one kind of measured value tells apart from those of other tenants.
func tellApart(rules []*openRule, values func(*requirements) measured, apart map[*openRule]bool) {
	silent := map[string]int{} // rules of a tenant that name no value of this kind
	owner := map[string]string{}
	all := 0
	own := map[claimed]bool{} // whether all of the values are the tenant's alone
	for _, r := range rules {
		if r.tenant == "" {
			continue
		}
		c := claimed{r.tenant, values(r.require)}
		if c.values == nil {
			silent[r.tenant]++
			all++
			continue
		}
		if _, known := own[c]; known {
			continue
		}
		own[c] = true
		for v := range *c.values {
			tenant, taken := owner[v]
			switch {
			case !taken:
				owner[v] = r.tenant
			case tenant != r.tenant:
				owner[v] = "" // of several
			}
		}
	}
	for c := range own {
		for v := range *c.values {
			own[c] = own[c] && owner[v] == c.tenant
		}
	}
	for _, r := range rules {
		if r.tenant != "" && silent[r.tenant] == all && own[claimed{r.tenant, values(r.require)}] {
			apart[r] = true
		}
	}
}

// measurementsOf are the measurements that rules name, nil where a rule asks for none. If two values of
// these rules have different registers, both may be those of one guest, and so
// measurements tell no rule apart from another.
func measurementsOf(rules []*openRule) func(*requirements) measured {
	shapes := map[string]string{} // of each kind and sort of TEE
	for _, r := range rules {
		if r.require.measurements == nil {
			continue
		}
		for _, s := range r.require.measurements.shapes {
			if other, has := shapes[s.tee()]; has && other != s.text {
				return func(*requirements) measured { return nil }
			}
			shapes[s.tee()] = s.text
		}
	}
	return func(q *requirements) measured {
		if q.measurements == nil {
			return nil
		}
		return &q.measurements.identities
	}
}
