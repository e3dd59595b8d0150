package policy

import (
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// TestTenantOfALeaseIsTiedToSomethingMeasured: where the images of two tenants pass a rule,
// a guest of either could state the other's name, so the lease names none.
func TestTenantOfALeaseIsTiedToSomethingMeasured(t *testing.T) {
	for name, tc := range map[string]struct{ policy, rule, want string }{
		"the policy's one tenant":         {"tenants: [tenant-1]", "", "tenant-1"},
		"several in the policy":           {"tenants: [tenant-1, tenant-2]", "", ""},
		"the rule's, with its images":     {"tenants: [tenant-1, tenant-2]", "require: {tenants: [tenant-1], reference_values: [images/one]}", "tenant-1"},
		"the rule's, with its hosts":      {"tenants: [tenant-1, tenant-2]", "require: {tenants: [tenant-1], sev_snp: {host_data: [" + hexOf(4, 32) + "]}}", "tenant-1"},
		"the rule's, with nothing":        {"tenants: [tenant-1, tenant-2]", "require: {tenants: [tenant-1]}", ""},
		"several in the rule":             {"tenants: [tenant-1, tenant-2]", "require: {tenants: [tenant-1, tenant-2], reference_values: [images/one]}", ""},
		"images alone, in the rule":       {"tenants: [tenant-1, tenant-2]", "require: {reference_values: [images/one]}", ""},
		"the policy's, narrowed by rules": {"tenants: [tenant-1]", "require: {reference_values: [images/one]}", "tenant-1"},
	} {
		source := strings.Replace(full(), "tenants: [tenant-1]", tc.policy, 1)
		p := mustParse(t, strings.Replace(source, "- resources: [models/*]\n", "- resources: [models/*]\n    "+tc.rule+"\n", 1))
		if d := Decide(p, good()); d.Tenant != tc.want {
			t.Errorf("%s: tenant %q, want %q (%v)", name, d.Tenant, tc.want, d.Reasons)
		}
	}
}

// TestTenantsThatShareAnImageHaveNone: a guest that passes rules of two tenants would choose
// its tenant by what it calls itself.
func TestTenantsThatShareAnImageHaveNone(t *testing.T) {
	for name, tc := range map[string]struct {
		first, second string // what the rules of two tenants narrow by
		apart         bool
	}{
		"images of their own":       {"reference_values: [images/one]", "reference_values: [images/turin]", true},
		"the same image":            {"reference_values: [images/one]", "reference_values: [images/one]", false},
		"one image, by product":     {"reference_values: [images/one]", "reference_values: [images/genoa]", false},
		"one image of both":         {"reference_values: [images/one]", "reference_values: [images/*]", false},
		"an image, a host":          {"reference_values: [images/one]", "sev_snp: {host_data: [" + hexOf(4, 32) + "]}", false},
		"the same image, two hosts": {"reference_values: [images/one], sev_snp: {host_data: [" + hexOf(4, 32) + "]}", "reference_values: [images/one], sev_snp: {host_data: [" + hexOf(9, 32) + "]}", true},
	} {
		source := strings.Replace(full(), "tenants: [tenant-1]", "tenants: [tenant-1, tenant-2]", 1)
		source = strings.Replace(source, "host_data: ["+hexOf(4, 32)+"]", "host_data: ["+hexOf(4, 32)+", "+hexOf(9, 32)+"]", 1)
		source = strings.Replace(source, "- resources: [models/*]\n", "- {resources: [models/*], require: {tenants: [tenant-1], "+tc.first+"}}\n  - {resources: [a/*], require: {tenants: [tenant-2], "+tc.second+"}}\n", 1)
		p, err := mustParse(t, source).WithReferenceValues(append(values(), ReferenceValue{ID: "images/genoa", Measurement: hexOf(5, 48), Product: "Genoa"}))
		if err != nil {
			t.Fatal(name, err)
		}
		d := Decide(p, good())
		if !d.Allowed || (d.Tenant == "tenant-1") != tc.apart {
			t.Errorf("%s: tenant %q: %v", name, d.Tenant, d.Reasons)
		}
	}
}

// TestTenantIsNotTiedToWhatOtherKindsEscape: the host's data is asked of reports of SEV-SNP alone, so a
// trust domain that passes the rules of two tenants would choose between them by what it calls itself.
func TestTenantIsNotTiedToWhatOtherKindsEscape(t *testing.T) {
	for name, tc := range map[string]struct{ narrow, want string }{
		"rules of SEV-SNP alone":               {"kinds: [sev-snp], ", "tenant-1"},
		"rules of SEV-SNP alone with an image": {"kinds: [sev-snp], reference_values: [images/one], ", "tenant-1"},
		"rules of both kinds":                  {"", ""},
		"rules of both kinds with an image":    {"reference_values: [images/one], ", ""},
	} {
		source := strings.Replace(full(), "tenants: [tenant-1]", "tenants: [tenant-1, tenant-2]", 1)
		source = strings.Replace(source, "kinds: [sev-snp]", "kinds: [sev-snp, tdx]", 1)
		source = strings.Replace(source, "host_data: ["+hexOf(4, 32)+"]", "host_data: ["+hexOf(4, 32)+", "+hexOf(9, 32)+"]", 1)
		source = strings.Replace(source, "require:\n", "require:\n  tdx: {tcb_statuses: [UpToDate]}\n", 1)
		rule := func(pattern, tenant string, data byte) string {
			return "  - {resources: [" + pattern + "], require: {" + tc.narrow + "tenants: [" + tenant + "], sev_snp: {host_data: [" + hexOf(data, 32) + "]}}}\n"
		}
		source = strings.Replace(source, "  - resources: [models/*]\n", rule("models/*", "tenant-1", 4)+rule("a/*", "tenant-2", 9), 1)
		var waive strings.Builder
		for _, c := range ChecksOf(evidence.KindTDX) {
			if c.Waivable && (strings.HasPrefix(c.Name, "tdx-") || c.Name == "event-log") {
				waive.WriteString("  - {check: " + c.Name + ", reason: not what is tested}\n")
			}
		}
		p := mustParse(t, source+"waive:\n"+waive.String())
		if d := Decide(p, good()); !d.Allowed || d.Tenant != tc.want {
			t.Errorf("%s: tenant %q, want %q (%v)", name, d.Tenant, tc.want, d.Reasons)
		}
	}
}
