package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// cell is an asset in a place at a moment.
type cell struct{ asset, place, moment string }

// verdict is what the audit found beside what is claimed.
type verdict struct {
	claims  []claim
	found   map[cell][]trace
	leaks   []cell // found, and not claimed
	unseen  []cell // not found where it is known to be
	blind   []string
	missing []string // moments at which nothing was searched
}

// inGuest says whether a place is gone when the guest is off.
func inGuest(place string) bool { return place == placeMemory || strings.HasPrefix(place, "guest: ") }

// weigh holds what was found against claims. Nothing that was not searched counts as clean.
func weigh(claims []claim, controls []control, traces map[string][]trace) *verdict {
	v := &verdict{claims: claims, found: map[cell][]trace{}}
	for when, all := range traces {
		for _, t := range all {
			c := cell{t.Canary, t.Place, when}
			v.found[c] = append(v.found[c], t)
		}
	}
	for _, m := range moments {
		if _, ok := traces[m]; !ok {
			v.missing = append(v.missing, m)
			continue
		}
		for _, c := range controls {
			for _, p := range c.places {
				if m == afterShutdown && inGuest(p) {
					continue
				}
				if len(v.found[cell{c.name, p, m}]) == 0 {
					v.blind = append(v.blind, fmt.Sprintf("%s, %s: %s", p, m, c.name))
				}
			}
		}
		for _, a := range assets {
			for _, p := range places {
				c := cell{a, p, m}
				_, k := v.claim(c)
				switch found := len(v.found[c]) > 0; {
				case found && k == nil:
					v.leaks = append(v.leaks, c)
				case !found && k != nil && k.found:
					v.unseen = append(v.unseen, c)
				}
			}
		}
	}
	return v
}

// claim is the first that allows a cell, and its number.
func (v *verdict) claim(c cell) (int, *claim) {
	for i := range v.claims {
		k := &v.claims[i]
		if slices.Contains(k.assets, c.asset) && slices.Contains(k.places, c.place) && slices.Contains(k.moments, c.moment) {
			return i + 1, k
		}
	}
	return 0, nil
}

// err is nil if every secret was only where it is claimed to be, and the search saw what it had to see.
func (v *verdict) err() error {
	var errs []error
	for _, c := range v.leaks {
		where := map[string]int{}
		for _, t := range v.found[c] {
			where[t.Form+" in "+t.In]++
		}
		var detail []string
		for _, w := range slices.Sorted(maps.Keys(where)) {
			detail = append(detail, fmt.Sprintf("%d times as %s", where[w], w))
		}
		if len(detail) > 6 {
			detail = append(detail[:6], fmt.Sprintf("and %d more", len(detail)-6))
		}
		errs = append(errs, fmt.Errorf("FAIL  %s, %s, %s: %s", c.asset, c.place, c.moment, strings.Join(detail, "; ")))
	}
	for _, c := range v.unseen {
		errs = append(errs, fmt.Errorf("BLIND %s, %s, %s: not found, and it is there", c.asset, c.place, c.moment))
	}
	for _, b := range v.blind {
		errs = append(errs, fmt.Errorf("BLIND %s was planted and not found", b))
	}
	if len(v.missing) > 0 {
		errs = append(errs, fmt.Errorf("not searched: %s", strings.Join(v.missing, ", ")))
	}
	return errors.Join(errs...)
}

// rows writes a row for each asset and place in which some cell is not "-".
func rows(of func(cell) string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| asset | place | %s |\n|---|---%s|\n", strings.Join(moments, " | "), strings.Repeat("|---", len(moments)))
	for _, a := range assets {
		for _, p := range places {
			var cells []string
			any := false
			for _, m := range moments {
				text := of(cell{a, p, m})
				any = any || text != "-"
				cells = append(cells, text)
			}
			if any {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", a, p, strings.Join(cells, " | "))
			}
		}
	}
	return b.String()
}

// claimed is the table of claims, as docs/threat-model.md has it.
func claimed(claims []claim) string {
	v := &verdict{claims: claims}
	var b strings.Builder
	b.WriteString(rows(func(c cell) string {
		if n, k := v.claim(c); k != nil {
			return fmt.Sprintf("plaintext (%d)", n)
		}
		return "-"
	}))
	b.WriteByte('\n')
	for i, k := range claims {
		fmt.Fprintf(&b, "%d. %s\n", i+1, k.why)
	}
	return b.String()
}

// table is what was found. A claim that was not made use of shows as "-".
func (v *verdict) table() string {
	return rows(func(c cell) string {
		if len(v.found[c]) == 0 {
			return "-"
		}
		if n, k := v.claim(c); k != nil {
			return fmt.Sprintf("plaintext (%d)", n)
		}
		return "FAIL"
	})
}

// keepTraces writes all that was found, for scripts.
func (x *auditor) keepTraces() error {
	if x.jsonFile == "" {
		return nil
	}
	text, err := json.MarshalIndent(x.traces, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(x.jsonFile, append(text, '\n'), 0o600)
}

// judge prints what was found, and fails where a secret is outside its claims.
func (x *auditor) judge() error {
	v := weigh(claims, controls, x.traces)
	fmt.Println(v.table())
	if err := v.err(); err != nil {
		return err
	}
	x.say("%d assets in %d places at %d moments: every secret is only where the threat model claims", len(assets), len(places), len(moments))
	return nil
}
