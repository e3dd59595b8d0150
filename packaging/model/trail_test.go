package model

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// defined lists the names in a model that a pattern finds, as trails are named.
func defined(source, pattern string) []string {
	var names []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(source, -1) {
		names = append(names, strings.ReplaceAll(strings.ToLower(m[1]), "_", "-"))
	}
	slices.Sort(names)
	return names
}

func read(t *testing.T, name string) Trail {
	t.Helper()
	trail, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	return trail
}

func TestEveryMutantAndStoryHasItsTrail(t *testing.T) {
	everyTrail(t, Source, Names, read)
	everyTrail(t, RestartSource, RestartNames, func(t *testing.T, name string) Trail {
		t.Helper()
		trail, err := ReadRestart(name)
		if err != nil {
			t.Fatal(err)
		}
		return trail
	})
}

func everyTrail(t *testing.T, source string, all func() ([]string, error), readOne func(*testing.T, string) Trail) {
	t.Helper()
	mutants := defined(source, `(?m)^#ifndef MUTANT_(\w+) /\*`)
	stories := defined(source, `(?m)^#ifdef (STORY_\w+) /\*`)
	names, err := all()
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat(mutants, stories)
	slices.Sort(want)
	if !slices.Equal(names, want) || len(mutants) == 0 {
		t.Fatalf("trails %q, the model has %q", names, want)
	}
	for _, name := range names {
		trail := readOne(t, name)
		last := len(trail.Steps) - 1
		for i, s := range trail.Steps {
			ends := i == last && !trail.Reached
			if ends && len(s.RefusedBy) == 0 || trail.Reached && len(s.RefusedBy) > 0 || (len(s.Violates) > 0) != ends {
				t.Errorf("%s: step %d, %s: refused by %q, violates %q", name, i+1, s.Verb, s.RefusedBy, s.Violates)
			}
		}
		if trail.Reached != slices.Contains(stories, name) || trail.What == "" || last < 0 {
			t.Errorf("%s is no trail of a mutant or story: %+v", name, trail)
		}
	}
}

func TestTrailsThatAreMalformedAreRefused(t *testing.T) {
	for _, text := range []string{"", "tick now=1\n", "# what\n  refused-by rule\n", "# what\ntick now\n", "# what\ntick now=1 now=2\n",
		"# what\ntick now=1\n  because rule\n", "# what\n\ntick now=1\n", "# what\n tick now=1\n"} {
		if trail, err := parse(text); err == nil {
			t.Errorf("%q: %+v", text, trail)
		}
	}
	trail, err := parse("# what\ntick now=1\nopen round=1 tenant=2\n  refused-by rule\n  violates claim\n")
	if err != nil || len(trail.Steps) != 2 || trail.Steps[1].Arg("tenant") != "2" || trail.Steps[1].RefusedBy[0] != "rule" || trail.Steps[1].Violates[0] != "claim" {
		t.Fatalf("%+v, %v", trail, err)
	}
	if n, err := trail.Steps[1].Number("round"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
