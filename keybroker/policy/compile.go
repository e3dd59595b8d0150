package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// requirements is a checked Require. A nil set requires nothing here.
type requirements struct {
	kinds        map[string]bool
	measurements *references
	agentBuilds  map[string]bool
	images       map[string]bool
	tenants      map[string]bool
	memory       *MemoryRange
	clocks       map[string]bool
	snp          snpRequirements
	tdx          tdxRequirements
	akTrust      map[string]bool
	pcrs         []int
	binding      map[string]bool
	instances    []RequireInstance
	azure        *RequireAzure
	log          *logRequirements
	gpu          *gpuRequirements
}

// snpRequirements is a checked RequireSNP.
type snpRequirements struct {
	products      map[string]bool
	vmpl          *uint32
	tcb           map[string]MinimumTCB
	firmware      []uint64 // major, minor, build
	reportVersion uint32
	mitigations   uint64
	guestSVN      uint32
	chips         map[string]bool
	platform      *bitRule
	guestPolicy   *bitRule
	idKeys        map[string]bool
	authorKeys    map[string]bool
	families      map[string]bool
	blockImages   map[string]bool
	hostData      map[string]bool
	vlek          map[string]bool
}

// openRule is what a checked rule requires and gives.
type openRule struct {
	require *requirements
	roles   protocol.Role
	tenant  string // whose guests it is for, as far as a measurement shows; or empty
	restart Restarts
}

// compile checks a document and its reference values.
func compile(doc Document, values []ReferenceValue) (*Policy, error) {
	p := &Policy{doc: doc, rules: map[string]*openRule{}}
	if err := p.compileHead(); err != nil {
		return nil, err
	}
	used, err := usedValues(doc, values)
	if err != nil {
		return nil, err
	}
	p.values = used
	catalogue := catalogue{values: used}
	own, err := compileRequire(doc.Require, &catalogue)
	if err != nil {
		return nil, err
	}
	p.require = *own
	if own.kinds == nil {
		return nil, invalid("require.kinds: name the kinds of evidence that are accepted (known: %s)", kindList())
	}
	if err := p.compileWaivers(); err != nil {
		return nil, err
	}
	if err := p.checkComplete(); err != nil {
		return nil, err
	}
	if err := p.compileRules(&catalogue); err != nil {
		return nil, err
	}
	return p, p.seal()
}

// wantTime names a time that is none.
const wantTime = "%s: got %q, want a time such as \"2026-11-01T00:00:00Z\""

func (p *Policy) compileHead() error {
	d := &p.doc
	switch {
	case d.Format == 1:
		return errFormer()
	case d.Format != 2:
		return invalid("format: got %d, want 2", d.Format)
	case checkID(d.ID) != nil:
		return invalid("id: %v", checkID(d.ID))
	case d.Version == 0:
		return invalid("version: got 0, want 1 or more")
	case len(d.Description) > maxTextBytes:
		return invalid("description: got %d bytes, want at most %d", len(d.Description), maxTextBytes)
	}
	ttl := time.Duration(d.AttestationTTLSeconds) * time.Second
	if ttl < minLeaseTTL || ttl > maxLeaseTTL {
		return invalid("attestation_ttl_seconds: got %d, want 300 to 900", d.AttestationTTLSeconds)
	}
	var err error
	if p.notBefore, err = time.Parse(time.RFC3339, d.NotBefore); err != nil {
		return invalid(wantTime, "not_before", d.NotBefore)
	}
	if p.notAfter, err = time.Parse(time.RFC3339, d.NotAfter); err != nil {
		return invalid(wantTime, "not_after", d.NotAfter)
	}
	if !p.notBefore.Before(p.notAfter) {
		return invalid("not_after is not after not_before")
	}
	return nil
}

// compileWaivers accepts a waiver only of a check that may be waived, that is
// not configured as well, and with a reason.
func (p *Policy) compileWaivers() error {
	for _, w := range p.doc.Waive {
		id, ok := checkByName(w.Check)
		switch {
		case !ok:
			return invalid("waive: there is no check %q; anchorhold policy checks lists them", w.Check)
		case !checks()[id].waivable:
			return invalid("waive: the check %q cannot be waived", w.Check)
		case strings.TrimSpace(w.Reason) == "" || len(w.Reason) > maxTextBytes:
			return invalid("waive: %s needs a reason of 1 to %d bytes", w.Check, maxTextBytes)
		case !slices.ContainsFunc(evidence.Kinds(), func(k evidence.Kind) bool { return p.require.kinds[string(k)] && checks()[id].of.covers(k) }):
			return invalid("waive: %s is about evidence of kinds that the policy does not accept", w.Check)
		case p.waived[id] != "":
			return invalid("waive: %s is waived twice", w.Check)
		case checks()[id].configured != nil && checks()[id].configured(p, &p.require):
			return invalid("the check %s is configured and waived", withSetting(id))
		}
		p.waived[id] = w.Reason
	}
	return nil
}

// asked reports whether a check is about a kind of evidence that the policy accepts.
func (p *Policy) asked(c check) bool {
	for kind := range p.require.kinds {
		if c.of.covers(evidence.Kind(kind)) {
			return true
		}
	}
	return c.of == ofGuest
}

// checkComplete finds the checks that are neither configured nor waived, and requirements about
// evidence that is not accepted.
func (p *Policy) checkComplete() error {
	var missing []string
	for id, c := range checks() {
		if p.asked(c) && p.waived[id] == "" && c.configured != nil && !c.always && !c.configured(p, &p.require) {
			missing = append(missing, withSetting(id))
		}
	}
	if len(missing) > 0 {
		return invalid("neither required nor waived: %s; write the setting in brackets under require, or waive the check with a reason", strings.Join(missing, ", "))
	}
	for i, r := range append([]Require{p.doc.Require}, ruleRequires(p.doc)...) {
		for _, g := range []struct {
			name    string
			of      group
			present bool
		}{{"sev_snp", ofSNP, r.SNP != nil}, {"tdx", ofTDX, r.TDX != nil}, {"tpm", ofTPM, r.TPM != nil && (r.TPM.Binding == nil || r.TPM.AKTrust != nil)}, {"tpm.binding", ofBeside, r.TPM != nil && r.TPM.Binding != nil}, {"azure", ofAzure, r.Azure != nil}} {
			if g.present && !p.asked(check{of: g.of}) {
				where := "require"
				if i > 0 {
					where = fmt.Sprintf("rule %d", i)
				}
				return invalid("%s: %s is about evidence of kinds that the policy does not accept", where, g.name)
			}
		}
	}
	if err := checkLog(p.require.log, p.require.kinds, p.boundIn(p.doc.Require)); err != nil {
		return err
	}
	return p.checkMinimums()
}

func ruleRequires(d Document) []Require {
	var out []Require
	for _, r := range d.Rules {
		out = append(out, r.Require)
	}
	return out
}

// checkMinimums wants each minimum of each product that is accepted.
func (p *Policy) checkMinimums() error {
	for _, product := range sortedKeys(p.require.snp.products) {
		m := p.require.snp.tcb[product]
		for id, minimum := range map[int]*TCB{checkTCBReported: m.Reported, checkTCBCommitted: m.Committed, checkTCBLaunch: m.Launch, checkTCBCurrent: m.Current} {
			if minimum == nil && p.waived[id] == "" {
				return invalid("sev_snp.minimum_tcb: no %s minimum for %s", checks()[id].name, product)
			}
		}
	}
	return nil
}

func (p *Policy) compileRules(values *catalogue) error {
	if len(p.doc.Rules) > maxRules {
		return invalid("rules: got %d, want at most %d", len(p.doc.Rules), maxRules)
	}
	var rules []*openRule
	for i, rule := range p.doc.Rules {
		narrow, err := compileRequire(rule.Require, values)
		if err != nil {
			return inRule(i, err)
		}
		roles, err := rolesOf(rule)
		if err != nil {
			return invalid("rule %d: %v", i+1, err)
		}
		for kind := range narrow.kinds {
			if !p.require.kinds[kind] {
				return invalid("rule %d: kinds: the policy does not accept %q", i+1, kind)
			}
		}
		if err := checkLog(narrow.log, kindsOf(&p.require, narrow), p.boundIn(rule.Require)); err != nil {
			return inRule(i, err)
		}
		if narrow.tdx.grace != nil && narrow.tdx.statuses == nil { // it would be no part of any check
			return invalid("rule %d: tdx.tcb_grace: name tcb_statuses beside it", i+1)
		}
		restart, err := compileRestart(rule.LocalRestart, roles)
		if err != nil {
			return invalid("rule %d: %v", i+1, err)
		}
		open := &openRule{narrow, roles, tenantOf(&p.require, narrow), restart}
		rules = append(rules, open)
		if len(rule.Resources) == 0 || len(rule.Resources) > maxItems {
			return invalid("rule %d: got %d resources, want 1 to %d", i+1, len(rule.Resources), maxItems)
		}
		for _, pattern := range rule.Resources {
			if err := checkPattern(pattern); err != nil {
				return invalid("rule %d: %v", i+1, err)
			}
			if p.rules[pattern] != nil {
				return invalid("rule %d: %q is named by two rules", i+1, pattern)
			}
			p.rules[pattern] = open
		}
	}
	dropSharedTenants(&p.require, rules)
	return nil
}

// inRule says in which rule something is invalid.
func inRule(i int, err error) error {
	return invalid("rule %d: %s", i+1, strings.TrimPrefix(err.Error(), ErrInvalid.Error()+": "))
}

// rolesOf are a rule's roles; silence is the least of them. What the agent hands on to other
// services gives none: a rule that opens a web server's key must not let the guest sign answers.
func rolesOf(rule Rule) (protocol.Role, error) {
	var handed, others []string
	for _, r := range rule.Resources {
		if protocol.ForServices(r) {
			handed = append(handed, r)
		} else {
			others = append(others, r)
		}
	}
	switch {
	case len(handed) > 0 && len(rule.Roles) > 0:
		return 0, fmt.Errorf("%s is for other services of the guest and gives no role: name it in a rule of its own, without roles", handed[0])
	case len(handed) > 0 && len(others) > 0 && rule.Roles == nil:
		return 0, fmt.Errorf("%s is for other services of the guest and gives no role, and %s gives %s: name them in rules of their own", handed[0], others[0], protocol.RoleServe)
	case len(handed) == 0 && rule.Roles == nil:
		return protocol.RoleServe, nil
	}
	return protocol.ParseRoles(rule.Roles)
}

// ruleFor finds the most specific rule: the exact name, then ever shorter
// subtrees. The number of steps is the depth of the name.
func (p *Policy) ruleFor(resource string) *openRule {
	if checkID(resource) != nil {
		return nil
	}
	if r := p.rules[resource]; r != nil {
		return r
	}
	for {
		i := strings.LastIndexByte(resource, '/')
		if i < 0 {
			return nil
		}
		resource = resource[:i]
		if r := p.rules[resource+"/*"]; r != nil {
			return r
		}
	}
}

func compileRequire(r Require, values *catalogue) (*requirements, error) {
	out := &requirements{memory: r.MemoryLimit}
	if r.MemoryLimit != nil && (r.MemoryLimit.MaxMiB == 0 || r.MemoryLimit.MinMiB > r.MemoryLimit.MaxMiB || r.MemoryLimit.MaxMiB > 1<<40) {
		return nil, invalid("memory_limit: no limit lies between %d and %d MiB", r.MemoryLimit.MinMiB, r.MemoryLimit.MaxMiB)
	}
	if r.ReferenceValues != nil {
		out.measurements = values.of(r.ReferenceValues)
	}
	err := sets([]listed{
		{&out.kinds, r.Kinds, 0, "kinds"},
		{&out.agentBuilds, r.AgentBuilds, 0, "agent_builds"},
		{&out.images, r.ImageIDs, 0, "image_ids"},
		{&out.tenants, r.Tenants, 0, "tenants"},
		{&out.clocks, r.ClockSources, 0, "clock_sources"},
	})
	if err != nil {
		return nil, err
	}
	for kind := range out.kinds {
		if !evidence.Kind(kind).Known() {
			return nil, invalid("kinds: %q is unknown (known: %s)", kind, kindList())
		}
	}
	for name := range out.clocks {
		var c evidence.ClockSource
		if c.UnmarshalText([]byte(name)) != nil || c == evidence.ClockUnknown {
			return nil, invalid("clock_sources: %q names no clock source", name)
		}
	}
	if out.snp, err = compileSNP(r.SNP); err != nil {
		return nil, err
	}
	if out.tdx, err = compileTDX(r.TDX); err != nil {
		return nil, err
	}
	return out, compileTPM(r, out)
}

func kindList() string {
	var names []string
	for _, k := range evidence.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func compileSNP(r *RequireSNP) (out snpRequirements, err error) {
	if r == nil {
		return out, nil
	}
	out.vmpl, out.guestSVN, out.reportVersion = r.VMPL, r.MinimumGuestSVN, r.MinimumReportVersion
	if r.VMPL != nil && *r.VMPL > 3 {
		return out, invalid("sev_snp.vmpl: got %d, want 0 to 3", *r.VMPL)
	}
	if v := r.MinimumReportVersion; v != 0 && (v < 2 || v > 5) {
		return out, invalid("sev_snp.minimum_report_version: got %d, want 2 to 5", v)
	}
	if r.MinimumFirmware != "" {
		if out.firmware, err = parseFirmware(r.MinimumFirmware); err != nil {
			return out, invalid("sev_snp.minimum_firmware: %v", err)
		}
	}
	if r.Mitigations != nil && len(r.Mitigations) == 0 {
		return out, invalid("sev_snp.mitigations: got an empty list")
	}
	for _, bit := range r.Mitigations {
		if bit > 63 {
			return out, invalid("sev_snp.mitigations: got bit %d, want 0 to 63", bit)
		}
		out.mitigations |= 1 << bit
	}
	err = sets([]listed{
		{&out.products, r.Products, 0, "sev_snp.products"},
		{&out.chips, r.ChipIDs, -1, "sev_snp.chip_ids"},
		{&out.idKeys, r.IDKeyDigests, 48, "sev_snp.id_key_digests"},
		{&out.authorKeys, r.AuthorKeyDigests, 48, "sev_snp.author_key_digests"},
		{&out.families, r.FamilyIDs, 16, "sev_snp.family_ids"},
		{&out.blockImages, r.BlockImageIDs, 16, "sev_snp.id_block_image_ids"},
		{&out.hostData, r.HostData, 32, "sev_snp.host_data"},
		{&out.vlek, r.VLEKProviders, 0, "sev_snp.vlek_providers"},
	})
	if err != nil {
		return out, err
	}
	for product := range out.products {
		if !isKnownProduct(product) {
			return out, invalid("sev_snp.products: %q is unknown (known: %s)", product, strings.Join(knownProducts(), ", "))
		}
	}
	if out.platform, err = compileBits(r.PlatformInfo, platformBits(), "sev_snp.platform_info"); err != nil {
		return out, err
	}
	if out.guestPolicy, err = compileBits(r.GuestPolicy, guestPolicyBits(), "sev_snp.guest_policy"); err != nil {
		return out, err
	}
	out.tcb, err = compileTCB(r.MinimumTCB)
	return out, err
}

// listed is a list of a file and the set that it becomes.
type listed struct {
	to    *map[string]bool
	from  []string
	bytes int // of a hexadecimal item; 0 for text; -1 for a chip's id
	name  string
}

func sets(lists []listed) (err error) {
	for _, l := range lists {
		if *l.to, err = set(l.from, l.bytes, l.name); err != nil {
			return err
		}
	}
	return nil
}

// set turns a list into a set. A list that is present but empty accepts
// nothing, which is never what was meant: it is an error.
func set(items []string, bytes int, name string) (map[string]bool, error) {
	if items == nil {
		return nil, nil
	}
	if len(items) == 0 || len(items) > maxItems {
		return nil, invalid("%s: got %d items, want 1 to %d", name, len(items), maxItems)
	}
	out := make(map[string]bool, len(items))
	for _, item := range items {
		key := item
		if bytes != 0 {
			b, err := hex.DecodeString(item)
			if err != nil || bytes > 0 && len(b) != bytes || bytes < 0 && len(b) != 8 && len(b) != 64 {
				return nil, invalid("%s: %q is not the hexadecimal form of such a value", name, item)
			}
			if allZero(b) {
				return nil, invalid("%s: a value of zeros names nothing", name)
			}
			key = string(b)
		}
		if key == "" || len(item) > maxTextBytes || out[key] {
			return nil, invalid("%s: %q is empty, too long or named twice", name, item)
		}
		out[key] = true
	}
	return out, nil
}

func allZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 })
}

func compileTCB(list []MinimumTCB) (map[string]MinimumTCB, error) {
	if list == nil {
		return nil, nil
	}
	out := map[string]MinimumTCB{}
	for _, m := range list {
		if !isKnownProduct(m.Product) {
			return nil, invalid("sev_snp.minimum_tcb: product %q is unknown (known: %s)", m.Product, strings.Join(knownProducts(), ", "))
		}
		if _, twice := out[m.Product]; twice {
			return nil, invalid("sev_snp.minimum_tcb: %s is named twice", m.Product)
		}
		for _, one := range []**TCB{&m.Reported, &m.Committed, &m.Launch, &m.Current} {
			if *one == nil {
				*one = m.All
			}
			if *one != nil && (*one).FMC != 0 && m.Product != "Turin" {
				return nil, invalid("sev_snp.minimum_tcb: %s has no fmc", m.Product)
			}
		}
		out[m.Product] = m
	}
	return out, nil
}

// patternsOf are the names and subtrees of reference values that the document refers to.
func patternsOf(doc Document) []string {
	patterns := slices.Clone(doc.Require.ReferenceValues)
	for _, r := range doc.Rules {
		patterns = append(patterns, r.Require.ReferenceValues...)
	}
	return patterns
}

// usedValues returns the values that the document refers to, sorted by id.
func usedValues(doc Document, values []ReferenceValue) ([]ReferenceValue, error) {
	patterns := patternsOf(doc)
	for _, p := range patterns {
		if err := checkPattern(p); err != nil {
			return nil, invalid("reference_values: %v", err)
		}
	}
	var used []ReferenceValue
	seen := map[string]bool{}
	for _, v := range values {
		if err := v.check(); err != nil {
			return nil, err
		}
		if seen[v.ID] {
			return nil, invalid("reference value %q is named twice", v.ID)
		}
		seen[v.ID] = true
		if matchesAny(patterns, v.ID) {
			used = append(used, v)
		}
	}
	sort.Slice(used, func(i, j int) bool { return used[i].ID < used[j].ID })
	return used, nil
}
