package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/guest/evidence"
)

// namesPCR reports whether a value is of evidence whose processor does not vouch for the TPM beside it, and
// names registers of that TPM all the same.
func (v ReferenceValue) namesPCR() bool {
	return ofBeside.covers(v.kind()) && slices.ContainsFunc(sortedKeys(v.Registers), func(name string) bool { return strings.HasPrefix(name, "pcr") })
}

// imageByProcessor reports whether what the processor itself measured identifies an image.
func imageByProcessor(v ReferenceValue) bool {
	if v.namesPCR() {
		return false // its "covers: image" may be the registers' of the TPM
	}
	return v.Covers == string(evidence.CoversImage) || v.Registers["rtmr1"] != "" && v.Registers["rtmr2"] != ""
}

// ruleRequirements are those of the rule that opens a resource; nil without one.
func (p *Policy) ruleRequirements(resource string) *requirements {
	if rule := p.ruleFor(resource); rule != nil {
		return rule.require
	}
	return nil
}

// tpmBound reports whether the policy or the resource's rule says what ties a TPM to the processor beside it,
// or somebody waived that in writing.
func (p *Policy) tpmBound(resource string) bool {
	narrow := p.ruleRequirements(resource)
	return p.require.binding != nil || narrow != nil && narrow.binding != nil || p.waived[checkTPMBinding] != ""
}

// boundIn is tpmBound for the resources that requirements, the policy's own or those of a rule, are of.
func (p *Policy) boundIn(r Require) bool {
	return p.require.binding != nil || r.TPM != nil && r.TPM.Binding != nil || p.waived[checkTPMBinding] != ""
}

// judgeTPMBinding wants a quote of a TPM beside the processor's report only where a policy asks for it: a
// TPM that nothing is concluded from is no danger.
func judgeTPMBinding(p *Policy, r *requirements, in Input) *Failure {
	if r.binding == nil {
		return nil
	}
	tpm := in.Claims.TPM
	if tpm == nil {
		return failure(ReasonTPMBinding, "the evidence has no quote of a TPM beside the processor's report")
	}
	if tpm.AKTrust == "" || !r.binding[string(tpm.AKTrust)] {
		return failure(ReasonTPMBinding, "the TPM is tied to the guest by %q; accepted: %s", tpm.AKTrust, strings.Join(sortedKeys(r.binding), ", "))
	}
	if tpm.AKTrust == evidence.AKReport && !p.measuredImage(in) {
		return failure(ReasonTPMBinding, "the guest alone says which TPM is its own, and what the processor measured is no image that could be believed")
	}
	for _, asking := range []*requirements{&p.require, p.ruleRequirements(in.Resource)} {
		if asking == nil {
			continue
		}
		if f := judgeTPMPCRs(p, asking, in); f != nil {
			return f
		}
	}
	return nil
}

// measuredImage reports whether the processor measured an image that the policy or the rule names.
func (p *Policy) measuredImage(in Input) bool {
	for _, r := range []*requirements{&p.require, p.ruleRequirements(in.Resource)} {
		if r == nil || r.measurements == nil {
			continue
		}
		if _, ok := r.measurements.match(in.Claims, imageByProcessor); ok {
			return true
		}
	}
	return false
}

// CountedPCRs are the registers of a TPM beside a processor that identify the guest's image: those that the reference value
// names by which the policy itself admits the guest, if the policy itself requires what ties the TPM to it. What a rule asks
// besides names no guest, or one guest would go by a name for each set of keys that it asks for.
func (p *Policy) CountedPCRs(c evidence.Claims) []string {
	if p == nil || !c.Kind.TPMBeside() || p.require.binding == nil || p.require.measurements == nil {
		return nil
	}
	v, ok := p.require.measurements.match(c, func(ReferenceValue) bool { return true })
	if !ok {
		return nil
	}
	return slices.DeleteFunc(sortedKeys(v.Registers), func(name string) bool { return !strings.HasPrefix(name, "pcr") })
}

// judgeTPMInstance is about keys that a certificate vouches for: an authority certifies those of every virtual
// machine of its cloud. Whoever enrols a key, or has a processor's report name it, knows whose it is.
func judgeTPMInstance(_ *Policy, r *requirements, in Input) *Failure {
	if r.instances == nil || in.Claims.TPM == nil || in.Claims.TPM.AKTrust != evidence.AKCertificate {
		return nil
	}
	have := in.Claims.TPM.AKInstance
	if have == nil {
		return failure(ReasonTPMInstance, "the certificate of the quote's key names no virtual machine")
	}
	if !slices.ContainsFunc(r.instances, func(i RequireInstance) bool { return i.matches(have) }) {
		return failure(ReasonTPMInstance, "the certificate is of %s in project %s (%d), zone %s, which is not among %d allowed",
			have.Name, have.Project, have.ProjectNumber, have.Zone, len(r.instances))
	}
	return nil
}

func (i RequireInstance) matches(have *evidence.CloudInstance) bool {
	return (i.Project == "" || i.Project == have.Project) && (i.ProjectNumber == 0 || i.ProjectNumber == have.ProjectNumber) &&
		(i.ID == 0 || i.ID == have.ID) && matchesText(i.Zone, have.Zone) && matchesText(i.Name, have.Name)
}

// matchesText compares with an exact text, a beginning before "*", or nothing.
func matchesText(pattern, have string) bool {
	if prefix, open := strings.CutSuffix(pattern, "*"); open {
		return strings.HasPrefix(have, prefix)
	}
	return pattern == "" || pattern == have
}

// compileBeside checks what ties a TPM to a guest, and whose TPMs are believed.
func compileBeside(r *RequireTPM, out *requirements) (err error) {
	if out.binding, err = set(r.Binding, 0, "tpm.binding"); err != nil {
		return err
	}
	for name := range out.binding {
		if !knownTrust(name) {
			return invalid("tpm.binding: %q is unknown (known: %s, %s, %s)", name, evidence.AKCertificate, evidence.AKReport, evidence.AKEnrolled)
		}
	}
	if r.Instances == nil {
		return nil
	}
	if len(r.Instances) == 0 || len(r.Instances) > maxItems {
		return invalid("tpm.instances: got %d items, want 1 to %d", len(r.Instances), maxItems)
	}
	for n, i := range r.Instances {
		if i.Project == "" && i.ProjectNumber == 0 {
			return invalid("tpm.instances: entry %d names no project, and names and zones are those of anybody's machines", n+1)
		}
		for _, text := range []string{i.Project, i.Zone, i.Name} {
			if len(text) > maxTextBytes || strings.Contains(strings.TrimSuffix(text, "*"), "*") {
				return invalid("tpm.instances: entry %d: %q is too long, or has a * before its end", n+1, text)
			}
		}
		if strings.Contains(i.Project, "*") {
			return invalid("tpm.instances: entry %d: a project is named whole: anybody may make one whose name begins like yours", n+1)
		}
	}
	out.instances = r.Instances
	return nil
}

func knownTrust(name string) bool {
	t := evidence.AKTrust(name)
	return t == evidence.AKCertificate || t == evidence.AKReport || t == evidence.AKEnrolled
}

// besideWarnings are about TPMs that no processor vouches for: values that rely on one which nothing ties to the guest,
// and certificates that any virtual machine of a cloud has.
func (p *Policy) besideWarnings() (out []string) {
	var unbound []string
	for _, v := range p.values {
		if v.namesPCR() && p.require.binding == nil {
			unbound = append(unbound, v.ID)
		}
	}
	switch {
	case len(unbound) == 0:
	case p.waived[checkTPMBinding] != "":
		out = append(out, fmt.Sprintf("%s: they name registers of a TPM beside a processor's report, and tpm-binding is waived: a guest may have another machine's TPM answer", short(unbound)))
	default:
		out = append(out, fmt.Sprintf("%s: they name registers of a TPM that nothing ties to the processor beside it, so guests are refused by them; "+
			"require tpm.binding, in rules that are meant, or waive tpm-binding", short(unbound)))
	}
	if p.asksForGPUs() && p.require.binding == nil && slices.ContainsFunc(p.values, func(v ReferenceValue) bool { return ofBeside.covers(v.kind()) && !imageByProcessor(v) }) {
		out = append(out, "it asks for GPUs of guests whose image the processor did not measure: such a guest may have another machine's device answer")
	}
	if p.believesGuestsAlone() && !slices.ContainsFunc(p.values, func(v ReferenceValue) bool { return ofBeside.covers(v.kind()) && imageByProcessor(v) }) {
		out = append(out, "tpm.binding accepts the guest's own word (report) alone, which counts only where a reference value says that the processor measured an image: none does, so no guest with a TPM beside its processor passes")
	}
	return append(append(append(out, p.bindingsApart()...), p.machinesUnchecked()...), p.anybodysTPM()...)
}

// asksForGPUs reports whether the policy or one of its rules does.
func (p *Policy) asksForGPUs() bool {
	return p.require.gpu != nil || slices.ContainsFunc(p.doc.Rules, func(r Rule) bool { return r.Require.GPU != nil })
}

// believesGuestsAlone reports whether the policy wants a TPM that the report alone ties to the guest.
func (p *Policy) believesGuestsAlone() bool {
	return len(p.require.binding) == 1 && p.require.binding[string(evidence.AKReport)] && len(p.values) > 0
}

// bindingsApart finds rules under which a guest's TPM would have to be tied to it in two ways at once: a TPM has
// one, so the rule opens nothing to guests that must show one.
func (p *Policy) bindingsApart() (out []string) {
	for i, rule := range p.doc.Rules {
		open := p.rules[rule.Resources[0]]
		if open == nil || p.require.binding == nil || open.require.binding == nil ||
			slices.ContainsFunc(sortedKeys(open.require.binding), func(of string) bool { return p.require.binding[of] }) {
			continue
		}
		kinds := slices.DeleteFunc(sortedKeys(kindsOf(&p.require, open.require)), func(k string) bool { return !ofBeside.covers(evidence.Kind(k)) })
		if len(kinds) > 0 {
			out = append(out, fmt.Sprintf("rule %d: tpm.binding accepts %s, and the policy's own %s: nothing is in both, so every guest of %s is refused; a rule narrows, it adds nothing",
				i+1, short(sortedKeys(open.require.binding)), short(sortedKeys(p.require.binding)), short(kinds)))
		}
	}
	return out
}

// machinesUnchecked finds rules whose guests may leave their TPM out, and with it the machine that the policy names.
func (p *Policy) machinesUnchecked() (out []string) {
	if p.require.instances == nil || p.require.binding != nil {
		return nil
	}
	for i, rule := range p.doc.Rules {
		open := p.rules[rule.Resources[0]]
		if open == nil || open.require.binding != nil {
			continue
		}
		kinds := slices.DeleteFunc(sortedKeys(kindsOf(&p.require, open.require)), func(k string) bool { return !ofBeside.covers(evidence.Kind(k)) })
		if len(kinds) > 0 {
			out = append(out, fmt.Sprintf("rule %d: tpm.instances asks nothing of guests of %s, which need not show a TPM; require tpm.binding of them, or narrow the rule's kinds", i+1, short(kinds)))
		}
	}
	return out
}

// anybodysTPM finds rules under which a certificate is enough that every virtual machine of a cloud has.
func (p *Policy) anybodysTPM() (out []string) {
	if p.require.instances != nil {
		return nil
	}
	for i, rule := range p.doc.Rules {
		open := p.rules[rule.Resources[0]]
		if open == nil || open.require.instances != nil {
			continue
		}
		narrow := open.require
		kinds := kindsOf(&p.require, narrow)
		alone := kinds[string(evidence.KindVTPM)] && accepts(p.require.akTrust, narrow.akTrust, evidence.AKCertificate)
		beside := (kinds[string(evidence.KindSNP)] || kinds[string(evidence.KindTDX)]) && (p.require.binding != nil || narrow.binding != nil) &&
			accepts(p.require.binding, narrow.binding, evidence.AKCertificate)
		if alone || beside {
			out = append(out, fmt.Sprintf("rule %d: a certificate is enough to believe a TPM, and every virtual machine of its cloud has one; name your projects under tpm.instances", i+1))
		}
	}
	return out
}

// accepts reports whether neither of two sets leaves a reason out; nil leaves none out.
func accepts(own, narrow map[string]bool, t evidence.AKTrust) bool {
	return (own == nil || own[string(t)]) && (narrow == nil || narrow[string(t)])
}
