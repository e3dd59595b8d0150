package dryrun

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// ReasonTable means that a table of cases is not well formed.
const ReasonTable refusal.Reason = "policy-table-invalid"

const (
	tableFormat = 1
	maxCases    = 4096
	expectAllow = "allow"
	expectDeny  = "refuse"
)

// table is a file of cases. Its paths are relative to it. This struct is its manual.
type table struct {
	// Format is the version of this file format: 1.
	Format int `yaml:"format"`
	// Policy and Values are the policy to ask and its reference values, unless the command line
	// names others.
	Policy string   `yaml:"policy"`
	Values []string `yaml:"values"`
	// Defaults are what every case has that does not say otherwise.
	Defaults tableDefaults `yaml:"defaults"`
	// Cases are what is expected of the policy, at least one.
	Cases []tableCase `yaml:"cases"`
}

// tableDefaults are for cases that leave the field out.
type tableDefaults struct {
	At         string `yaml:"at"`
	Collateral string `yaml:"collateral"`
	Guest      guest  `yaml:"guest"`
	// SoftwareTEERoot is the root of a software TEE (PEM). A release refuses it.
	SoftwareTEERoot string `yaml:"software_tee_root"`
}

// tableCase is evidence, what is asked for with it, and the decision that is expected.
type tableCase struct {
	// Name is unique in the table.
	Name string `yaml:"name"`
	// Evidence are the files with the evidence and what helps to verify it.
	Evidence []string `yaml:"evidence"`
	// At is the time of the decision (RFC 3339). A table that must hold tomorrow as well names one.
	At string `yaml:"at"`
	// Collateral is a directory of certificates, revocation lists and Intel's documents.
	Collateral string `yaml:"collateral"`
	// WithoutRevocation, EnrolledAKs and MinimumEvaluationNumber are as for 'evidence verify'.
	WithoutRevocation       bool     `yaml:"without_revocation"`
	EnrolledAKs             []string `yaml:"enrolled_aks"`
	MinimumEvaluationNumber uint32   `yaml:"minimum_evaluation_number"`
	// Resource is what the guest asks for.
	Resource string `yaml:"resource"`
	// Guest is what it states of itself.
	Guest *guest `yaml:"guest"`
	// Expect is "allow" or "refuse".
	Expect string `yaml:"expect"`
	// Reasons are the codes of the refusal, all of them and no other, in any order.
	Reasons []string `yaml:"reasons"`
}

func invalidTable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", cli.ErrRefused, refusal.New(ReasonTable, format, args...))
}

// parseTable reads a table. A key that is unknown, a case that expects nothing, and a table without cases
// are errors: a test that tests nothing must not pass.
func parseTable(data []byte) (t table, err error) {
	if err := config.Decode(data, &t); err != nil {
		return t, invalidTable("%w", err)
	}
	switch {
	case t.Format != tableFormat:
		return t, invalidTable("format: got %d, want %d", t.Format, tableFormat)
	case len(t.Cases) == 0 || len(t.Cases) > maxCases:
		return t, invalidTable("cases: got %d, want 1 to %d", len(t.Cases), maxCases)
	}
	seen := map[string]bool{}
	for i, c := range t.Cases {
		switch {
		case c.Name == "" || seen[c.Name]:
			return t, invalidTable("cases[%d].name: %q is empty or the name of another case", i, c.Name)
		case len(c.Evidence) == 0:
			return t, invalidTable("case %q: evidence: name at least one file", c.Name)
		case c.Resource == "":
			return t, invalidTable("case %q: resource: name one", c.Name)
		case c.Expect != expectAllow && c.Expect != expectDeny:
			return t, invalidTable("case %q: expect: got %q, want %q or %q", c.Name, c.Expect, expectAllow, expectDeny)
		case (c.Expect == expectDeny) != (len(c.Reasons) > 0):
			return t, invalidTable("case %q: reasons: a refusal has at least one, and nothing else has any", c.Name)
		}
		if i := slices.IndexFunc(c.Reasons, func(code string) bool { return !knownReason(code) }); i >= 0 {
			return t, invalidTable("case %q: reasons: no policy and no verifier refuses for %q; docs/protocol.md, section 9, lists the codes", c.Name, c.Reasons[i])
		}
		seen[c.Name] = true
	}
	return t, nil
}

// path is a path of the table, from where the command runs.
func path(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

func paths(dir string, names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = path(dir, name)
	}
	return out
}

// subject is what a case asks with.
func (t table) subject(dir string, c tableCase, roots []byte) (subject, error) {
	s := subject{files: paths(dir, c.Evidence), collateral: path(dir, or(c.Collateral, t.Defaults.Collateral)), at: time.Now(),
		withoutRevocation: c.WithoutRevocation, evaluation: max(c.MinimumEvaluationNumber, 1), enrolled: c.EnrolledAKs,
		softwareRoots: roots, resource: c.Resource, guest: t.Defaults.Guest}
	if c.Guest != nil {
		s.guest = *c.Guest
	}
	at, err := cli.ParseTime("at", or(c.At, t.Defaults.At), time.Time{})
	if err != nil {
		return s, errors.New(strings.TrimSpace(err.Error())) // of the case, not of the command line
	}
	if !at.IsZero() {
		s.at = at
	}
	return s, nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// differs says how a decision is not what the case expects; empty if it is.
func (c tableCase) differs(allowed bool, got []string, detail string) string {
	if c.Expect == expectAllow {
		if allowed {
			return ""
		}
		return fmt.Sprintf("got a refusal for %s, want it allowed: %s", strings.Join(got, ", "), detail)
	}
	if allowed {
		return fmt.Sprintf("got it allowed, want a refusal for %s", strings.Join(c.Reasons, ", "))
	}
	want := slices.Clone(c.Reasons)
	have := slices.Clone(got)
	slices.Sort(want)
	slices.Sort(have)
	if slices.Equal(slices.Compact(want), slices.Compact(have)) {
		return ""
	}
	return fmt.Sprintf("got a refusal for %s, want one for %s: %s", strings.Join(got, ", "), strings.Join(c.Reasons, ", "), detail)
}
