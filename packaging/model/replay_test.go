package model

import (
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/packaging/longtest"
)

// reasons are the codes with which the code refuses what a rule refuses.
var reasons = map[string][]refusal.Reason{
	"contributor_named":   {"audience-not-named", "role-not-granted"},
	"decryptor_named":     {"audience-not-named", "role-not-granted"},
	"key_granted":         {"lease-resource-not-granted"},
	"release_recorded":    {"round-key-not-released"},
	"lease_recorded":      {"lease-not-granted-here"},
	"result_written_once": {"result-already-published"},
	"model_granted":       {"lease-resource-not-granted"},
	"epoch_runs":          {"epoch-not-valid-now"},
	"epoch_floor":         {"epoch-retired", "no-active-epoch"},
	"log_asked":           {"round-already-closed"},
	"checkpoint_asked":    {"audit-log-rolled-back", "audit-log-forked"},
	"account_asked":       {"privacy-budget-exhausted"},
	"active_remains":      {"last-active-epoch"},
	"round_closed":        {"round-not-closed"},
}

// everyRun are the trails that run with the stories in an ordinary run: one for each thing that
// is stolen, forgotten or not asked for.
var everyRun = []string{"account-by-name", "any-lease-closes", "any-lease-contributes", "any-lease-publishes", "backdated-round", "key-for-any-role", "round-below-floor"}

func TestTrails(t *testing.T) {
	names, err := Names()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if trail := read(t, name); !slices.ContainsFunc(trail.Steps, inAgent) {
			t.Run(name, func(t *testing.T) {
				if !strings.HasPrefix(name, "story-") && !slices.Contains(everyRun, name) {
					longtest.Run(t, "it replays one trail more")
				}
				t.Parallel()
				replay(t, trail)
			})
		}
	}
}

// inAgent says whether a step happens inside an agent.
func inAgent(s Step) bool { return s.Verb == "answer" || s.Verb == "renew" && len(s.RefusedBy) > 0 }

// replay takes a trail's steps: each must succeed until the one that only the mutant takes,
// which must be refused by one of the rules that it breaks.
func replay(t *testing.T, trail Trail) {
	w := newWorld(t)
	for i, s := range trail.Steps {
		if i > 0 && len(trail.Steps[i-1].RefusedBy) > 0 {
			return // what follows would need what was refused
		}
		err := w.do(s)
		switch reason := reasonOf(err); {
		case slices.Contains(s.RefusedBy, "ticket_recorded") && err == nil:
			// No second ticket: close has found the first one's bytes.
		case len(s.RefusedBy) == 0 && err != nil:
			t.Fatalf("step %d, %s, of honest parties: %v", i+1, s, err)
		case len(s.RefusedBy) > 0 && err == nil:
			t.Fatalf("step %d, %s: nothing refused it; %s", i+1, s, strings.Join(s.RefusedBy, " and ")+" should have")
		case len(s.RefusedBy) > 0 && !slices.ContainsFunc(s.RefusedBy, func(rule string) bool { return slices.Contains(reasons[rule], reason) }):
			t.Fatalf("step %d, %s: refused with %q, %q was to refuse it: %v", i+1, s, reason, s.RefusedBy, err)
		}
	}
}
