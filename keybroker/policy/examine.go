package policy

import (
	"strings"
)

// Outcome is what became of a check in a decision.
type Outcome string

// Outcomes.
const (
	Passed Outcome = "passed"
	Failed Outcome = "failed"
	Waived Outcome = "waived" // in writing
	// OtherKind: the check is about evidence of other kinds.
	OtherKind Outcome = "other-kind"
)

// Step is one check of a decision.
type Step struct {
	// Check is the check's name; Rule is the pattern of the rule that asks for it, or empty
	// if the policy asks every guest.
	Check string `json:"check"`
	Rule  string `json:"rule,omitempty"`
	// Outcome is its result.
	Outcome Outcome `json:"outcome"`
	// Has is what the evidence has, Wants what the policy wants.
	Has   string `json:"has,omitempty"`
	Wants string `json:"wants,omitempty"`
	// Reason and Detail are those of the failure, or Detail is why the check is waived.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Candidate is a rule that was considered for a resource.
type Candidate struct {
	// Pattern is the name or subtree that the rule opens.
	Pattern string `json:"pattern"`
	// Decides: the most specific one decides alone.
	Decides bool `json:"decides"`
}

// Examination is a decision with everything that led to it.
type Examination struct {
	Decision
	// Rules are the rules that name the resource, the most specific first.
	Rules []Candidate `json:"rules"`
	// Steps are all checks, in their order: first what the policy asks of every guest, then what
	// the rule asks besides.
	Steps []Step `json:"steps"`
	// Remedy is the smallest change that would allow it; nil if it is allowed.
	Remedy *Remedy `json:"remedy,omitempty"`
}

// Examine decides as Decide does, and says how.
func Examine(p *Policy, in Input) Examination {
	out := Examination{Decision: Decide(p, in), Rules: []Candidate{}, Steps: []Step{}}
	if p == nil || !p.compiled {
		return out
	}
	for i, pattern := range patternsFor(in.Resource) {
		if p.rules[pattern] != nil {
			out.Rules = append(out.Rules, Candidate{pattern, len(out.Rules) == 0})
		}
		if i == 0 && checkID(in.Resource) != nil {
			break
		}
	}
	for id, c := range checks() {
		out.Steps = append(out.Steps, p.step(id, c, &p.require, in, ""))
	}
	if rule := p.ruleFor(in.Resource); rule != nil {
		for id, c := range checks() {
			if c.of.covers(in.Claims.Kind) && c.configured != nil && c.configured(p, rule.require) {
				out.Steps = append(out.Steps, p.step(id, c, rule.require, in, out.Rules[0].Pattern))
			}
		}
	}
	if !out.Allowed {
		out.Remedy = p.remedy(in, out)
	}
	return out
}

// patternsFor are the name and the subtrees that could be a rule's for a resource, the most specific first.
func patternsFor(resource string) []string {
	list := []string{resource}
	for {
		i := strings.LastIndexByte(resource, '/')
		if i < 0 {
			return list
		}
		resource = resource[:i]
		list = append(list, resource+"/*")
	}
}

// step runs one check at one level.
func (p *Policy) step(id int, c check, r *requirements, in Input, rule string) Step {
	s := Step{Check: c.name, Rule: rule}
	switch {
	case !c.of.covers(in.Claims.Kind):
		s.Outcome = OtherKind
		return s
	case rule == "" && p.waived[id] != "":
		s.Outcome, s.Detail = Waived, p.waived[id]
	default:
		s.Outcome = Passed
		if c.configured == nil || c.always || c.configured(p, r) {
			if s.Wants = describe(id, p, r); id == checkMilan {
				s.Wants = "Milan " + s.Wants
			}
		}
		if f := c.judge(p, r, in); f != nil {
			s.Outcome, s.Reason, s.Detail = Failed, string(f.Reason), f.Detail
		}
	}
	if c.of.in(in.Claims) {
		s.Has = evidenceHas(id, in)
	}
	return s
}
