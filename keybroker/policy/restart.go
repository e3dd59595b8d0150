package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// LocalRestart permits guests to restart without the broker: keys that a rule opens may be sealed by the
// guest to itself and used again after a restart, if no broker answers. Until the permit ends, nothing
// that the operator ends or changes reaches the guest.
type LocalRestart struct {
	// MaxHours is how long a permit lasts, 1 to 24.
	MaxHours int `yaml:"max_hours" json:"max_hours"`
	// MaxRestarts is how many restarts there are on one permit, 1 to 16, where "tpm" or "sev-snp+tpm"
	// is among Seal: a TPM counts them.
	MaxRestarts int `yaml:"max_restarts" json:"max_restarts,omitempty"`
	// Seal is what guests may seal with: "tpm", "sev-snp", "sev-snp+tpm".
	Seal []string `yaml:"seal" json:"seal"`
	// RestartsNotCounted says why restarts that nobody counts are accepted. It is required where
	// "sev-snp" is among Seal, whose host can restart a guest as often as it likes until the permit ends.
	RestartsNotCounted string `yaml:"restarts_not_counted" json:"restarts_not_counted,omitempty"`
}

// Restarts is what a decision permits of restarts without the broker. The zero value permits none.
type Restarts struct {
	// Lasts is how long a permit may last, never past the end of the policy.
	Lasts time.Duration
	// Most is how many restarts there may be where they are counted.
	Most uint16

	sealings   []protocol.Sealing
	notCounted string
}

// Permits says whether guests may seal so.
func (r Restarts) Permits(s protocol.Sealing) bool {
	return r.Lasts > 0 && slices.Contains(r.sealings, s)
}

// NotCounted is the policy's consent to restarts that nobody counts, as records show it beside
// what the policy waives.
func (r Restarts) NotCounted() string { return "restarts-not-counted: " + r.notCounted }

// compileRestart checks what a rule says of restarts.
func compileRestart(l *LocalRestart, roles protocol.Role) (out Restarts, err error) {
	if l == nil {
		return out, nil
	}
	for i, name := range l.Seal {
		s := protocol.ParseSealing(name)
		if s == 0 || slices.Contains(l.Seal[:i], name) {
			return Restarts{}, fmt.Errorf("local_restart.seal: %q is unknown or named twice (known: %s)", name, strings.Join(protocol.Sealings(), ", "))
		}
		out.sealings = append(out.sealings, s)
	}
	counted := slices.ContainsFunc(out.sealings, protocol.Sealing.Counts)
	uncounted := slices.Contains(out.sealings, protocol.SealingSNP)
	reason := strings.TrimSpace(l.RestartsNotCounted)
	switch {
	case len(out.sealings) == 0:
		return Restarts{}, fmt.Errorf("local_restart.seal: say what guests may seal with (%s)", strings.Join(protocol.Sealings(), ", "))
	case l.MaxHours < 1 || l.MaxHours > int(protocol.MaxPermit/time.Hour):
		return Restarts{}, fmt.Errorf("local_restart.max_hours: got %d, want 1 to %d", l.MaxHours, int(protocol.MaxPermit/time.Hour))
	case counted && (l.MaxRestarts < 1 || l.MaxRestarts > protocol.MaxRestarts):
		return Restarts{}, fmt.Errorf("local_restart.max_restarts: got %d, want 1 to %d", l.MaxRestarts, protocol.MaxRestarts)
	case !counted && l.MaxRestarts != 0:
		return Restarts{}, fmt.Errorf("local_restart.max_restarts: nothing counts the restarts of a guest that seals with sev-snp alone; leave it out, or seal with sev-snp+tpm")
	case uncounted && (reason == "" || len(reason) > maxTextBytes):
		return Restarts{}, fmt.Errorf("local_restart.restarts_not_counted: nothing counts the restarts of a guest that seals with sev-snp alone: say in 1 to %d bytes why that is accepted", maxTextBytes)
	case !uncounted && reason != "":
		return Restarts{}, fmt.Errorf("local_restart.restarts_not_counted: a TPM counts these restarts; leave it out")
	case !roles.Has(protocol.RoleServe):
		return Restarts{}, fmt.Errorf("local_restart: a permit gives the role serve, which the rule does not")
	}
	out.notCounted = reason
	out.Lasts, out.Most = time.Duration(l.MaxHours)*time.Hour, uint16(l.MaxRestarts)
	return out, nil
}

// until bounds a permit by the end of the policy.
func (r Restarts) until(left time.Duration) Restarts {
	r.Lasts = min(r.Lasts, left)
	return r
}

// restartWarnings says in words what each rule permits of restarts.
func (p *Policy) restartWarnings() (out []string) {
	for i, rule := range p.doc.Rules {
		l := rule.LocalRestart
		if l == nil {
			continue
		}
		count := "as often as their host likes, because nothing counts it"
		if l.MaxRestarts > 0 {
			count = fmt.Sprintf("%d times", l.MaxRestarts)
			if l.RestartsNotCounted != "" {
				count += ", or, where they seal with sev-snp alone, as often as their host likes"
			}
		}
		out = append(out, fmt.Sprintf("rule %d: guests may restart without this broker, %s, for %d h after they last had a lease: until then they go on with the keys of %s, "+
			"whatever is ended, retired or changed here", i+1, count, l.MaxHours, short(rule.Resources)))
		if !slices.Contains(l.Seal, protocol.SealingTPM.String()) {
			continue
		}
		kinds := rule.Require.Kinds
		if kinds == nil {
			kinds = p.doc.Require.Kinds
		}
		for _, kind := range []evidence.Kind{evidence.KindSNP, evidence.KindTDX, evidence.KindVTPM} {
			if slices.Contains(kinds, string(kind)) {
				out = append(out, fmt.Sprintf("rule %d: guests of %s may seal their keys with a TPM alone, and whoever emulates that TPM, which the processor does not vouch for, can open them", i+1, kind))
			}
		}
	}
	return out
}

// restartWords describes it for a reviewer.
func restartWords(r Restarts) string {
	if r.Lasts == 0 {
		return ""
	}
	names := make([]string, len(r.sealings))
	for i, s := range r.sealings {
		names[i] = s.String()
	}
	count := "not counted"
	if r.Most > 0 {
		count = fmt.Sprintf("%d restarts", r.Most)
	}
	return fmt.Sprintf("restart without the broker: %s, %s, sealed with %s", r.Lasts, count, strings.Join(names, " or "))
}
