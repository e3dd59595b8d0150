package policy

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Remedy is the smallest change of the policy, or of the reference values, that would allow what was
// refused: one change for each check that failed, and nothing else. It is what was tried, not advice: a
// refusal may be exactly what the policy is for.
type Remedy struct {
	// Allows is true if the changed policy was asked, and allows it.
	Allows bool `json:"allows"`
	// Changes are all of them.
	Changes []Change `json:"changes"`
	// Beyond are the failed checks that no change of a policy makes up for, each with the reason: the guest, or
	// what it runs on, must change.
	Beyond []string `json:"beyond,omitempty"`
}

// Change is one change of the policy's file or of the reference values.
type Change struct {
	// Check is the check that failed; empty if none did but the policy's life or rules.
	Check string `json:"check,omitempty"`
	// Text says where and what, in the words of the file.
	Text string `json:"text"`
}

// draft is a copy of a policy while it is changed.
type draft struct {
	doc    Document
	values []ReferenceValue
	in     Input
	out    Remedy
}

// remedy tries to change the policy so that it allows a request.
func (p *Policy) remedy(in Input, e Examination) *Remedy {
	d := &draft{values: p.ReferenceValues(), in: in, out: Remedy{Changes: []Change{}}}
	if err := copyDocument(&d.doc, p.doc); err != nil {
		return nil
	}
	d.life(p)
	if len(e.Rules) == 0 {
		if checkID(in.Resource) != nil {
			d.beyond("resource", fmt.Sprintf("%q is not a name that a rule can have", in.Resource))
		} else {
			d.doc.Rules = append(d.doc.Rules, Rule{Resources: []string{in.Resource}})
			d.change("", "rules: add {resources: [%s]}", in.Resource)
		}
	}
	for _, s := range e.Steps {
		if s.Outcome == Failed {
			d.mend(s)
		}
	}
	if len(d.out.Beyond) == 0 {
		changed, err := compile(d.doc, d.values)
		d.out.Allows = err == nil && Decide(changed, in).Allowed
	}
	return &d.out
}

func copyDocument(to *Document, from Document) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, to)
}

func (d *draft) change(check, format string, args ...any) {
	c := Change{check, fmt.Sprintf(format, args...)}
	if !slices.Contains(d.out.Changes, c) {
		d.out.Changes = append(d.out.Changes, c)
	}
}

func (d *draft) beyond(check, why string) {
	if text := check + ": " + why; !slices.Contains(d.out.Beyond, text) {
		d.out.Beyond = append(d.out.Beyond, text)
	}
}

// life lets the policy count at the time of the request.
func (d *draft) life(p *Policy) {
	if now := d.in.Now; now.Before(p.notBefore) {
		d.doc.NotBefore = now.UTC().Truncate(time.Second).Format(time.RFC3339)
		d.change("", "not_before: %q, at present %q", d.doc.NotBefore, p.doc.NotBefore)
	} else if !now.Before(p.notAfter) {
		d.doc.NotAfter = now.UTC().Truncate(time.Second).Add(maxLeaseTTL).Format(time.RFC3339)
		d.change("", "not_after: %q or later, at present %q", d.doc.NotAfter, p.doc.NotAfter)
	}
}

// level is the part of the file that a step is about.
func (d *draft) level(rule string) (r *Require, path string) {
	if rule == "" {
		return &d.doc.Require, "require"
	}
	for i := range d.doc.Rules {
		if slices.Contains(d.doc.Rules[i].Resources, rule) {
			return &d.doc.Rules[i].Require, fmt.Sprintf("rules[%d].require", i)
		}
	}
	return &d.doc.Require, "require" // a rule that decided is in the file
}

// mend changes what one failed check wants.
func (d *draft) mend(s Step) {
	r, path := d.level(s.Rule)
	id, _ := checkByName(s.Check)
	if s.Reason == string(ReasonClaimsMissing) {
		d.beyond(s.Check, "the evidence has no such proof")
		return
	}
	switch {
	case id >= checkTPMKey:
		d.mendTPM(id, s, r, path)
	case id >= checkTDXTCB:
		d.mendTDX(id, s, r, path)
	case id >= checkProduct:
		d.mendSNP(id, s, r, path)
	default:
		d.mendGuest(id, s, r, path)
	}
}

func (d *draft) mendGuest(id int, s Step, r *Require, path string) {
	g := d.in.Guest
	switch id {
	case checkKind:
		if !d.in.Claims.Kind.Known() {
			d.beyond(s.Check, "no kind of evidence that this version knows")
			return
		}
		d.add(s, &r.Kinds, path+".kinds", string(d.in.Claims.Kind))
	case checkSoftwareTEE:
		d.doc.AllowSoftwareTEE = true
		d.change(s.Check, "allow_software_tee: true; the software TEE protects nothing")
	case checkMeasurement:
		d.mendMeasurement(s, r, path)
	case checkAgentBuild:
		d.add(s, &r.AgentBuilds, path+".agent_builds", g.AgentBuild)
	case checkImage:
		d.add(s, &r.ImageIDs, path+".image_ids", g.ImageID)
	case checkTenant:
		d.add(s, &r.Tenants, path+".tenants", g.Tenant)
	case checkMemoryLimit:
		d.mendMemory(s, r, path)
	case checkClockSource:
		if g.ClockSource == evidence.ClockUnknown {
			d.beyond(s.Check, "the guest does not know its clock")
			return
		}
		d.add(s, &r.ClockSources, path+".clock_sources", g.ClockSource.String())
	default: // debug, migration
		d.beyond(s.Check, s.Detail)
	}
}

// add lets a list accept one more value.
func (d *draft) add(s Step, list *[]string, path, value string) {
	if value == "" {
		d.beyond(s.Check, "the guest states none, and a list accepts stated values alone")
		return
	}
	if !slices.Contains(*list, value) {
		*list = append(*list, value)
	}
	d.change(s.Check, "%s: add %s", path, value)
}

// addBytes is add of a value that is zeros where there is none.
func (d *draft) addBytes(s Step, list *[]string, path string, value evidence.Hex) {
	if allZero(value) {
		d.drop(s, func() { *list = nil }, path)
		return
	}
	d.add(s, list, path, value.String())
}

func (d *draft) mendMemory(s Step, r *Require, path string) {
	m := *r.MemoryLimit
	if limit := d.in.Guest.MemoryLimit; limit < m.MinMiB<<20 {
		m.MinMiB = limit >> 20
		d.change(s.Check, "%s.memory_limit.min_mib: at most %d, at present %d", path, m.MinMiB, r.MemoryLimit.MinMiB)
	} else {
		m.MaxMiB = (limit + 1<<20 - 1) >> 20
		d.change(s.Check, "%s.memory_limit.max_mib: at least %d, at present %d", path, m.MaxMiB, r.MemoryLimit.MaxMiB)
	}
	r.MemoryLimit = &m
}

// mendMeasurement adds a reference value of the registers that were seen, where the policy looks for it.
func (d *draft) mendMeasurement(s Step, r *Require, path string) {
	sum := d.in.Claims.Digest()
	v := ReferenceValue{Kind: string(d.in.Claims.Kind), Registers: map[string]string{}, Software: d.in.Claims.SoftwareTEE}
	for _, m := range d.in.Claims.Registers {
		if slices.Contains(suggestedRegisters(), m.Name) && !allZero(m.Value) {
			v.Registers[m.Name] = m.Value.String()
		}
	}
	v.ID = fmt.Sprintf("seen/%x", sum[:6])
	named := false
	for _, pattern := range r.ReferenceValues {
		if prefix, subtree := strings.CutSuffix(pattern, "/*"); subtree {
			v.ID, named = fmt.Sprintf("%s/seen-%x", prefix, sum[:6]), true
			break
		}
		if !slices.ContainsFunc(d.values, func(o ReferenceValue) bool { return o.ID == pattern }) {
			v.ID, named = pattern, true // the policy names it, and there is none yet
			break
		}
	}
	if v.check() != nil {
		d.beyond(s.Check, "the evidence has no register that a reference value can be of")
		return
	}
	if !slices.ContainsFunc(d.values, func(o ReferenceValue) bool { return o.ID == v.ID }) {
		d.values = append(d.values, v)
	}
	var registers []string
	for _, name := range sortedKeys(v.Registers) {
		registers = append(registers, fmt.Sprintf("%s: %q", name, v.Registers[name]))
	}
	d.change(s.Check, "reference values: add {id: %s, kind: %s, registers: {%s}}; compare with the values of its build first", v.ID, v.Kind, strings.Join(registers, ", "))
	if !named {
		r.ReferenceValues = append(r.ReferenceValues, v.ID)
		d.change(s.Check, "%s.reference_values: add %s", path, v.ID)
	}
}

// drop takes a requirement away, and waives the check where the policy must say something of it.
func (d *draft) drop(s Step, clear func(), path string) {
	id, ok := checkByName(s.Check)
	if !ok || !checks()[id].waivable {
		d.beyond(s.Check, s.Detail)
		return
	}
	clear()
	if s.Rule != "" {
		d.change(s.Check, "%s: take it away", path)
		return
	}
	d.doc.Waive = append(d.doc.Waive, Waiver{s.Check, "to be written"})
	d.change(s.Check, "waive: add {check: %s, reason: ...}, and take %s away", s.Check, path)
}
