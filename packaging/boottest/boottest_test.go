package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A run is good if every check that was asked for said that it held, once; whatever gets lost
// between guest and host is no success.
func TestVerdict(t *testing.T) {
	const a, b, end = `{"check":"a","seconds":1}`, `{"check":"b","detail":"x","seconds":1}`, `{"check":"done","seconds":0}`
	for name, tc := range map[string]struct {
		lines []string
		want  string // nothing: it is good
	}{
		"all held":            {[]string{"systemd[1]: a line between", a, b, end}, ""},
		"one failed":          {[]string{a, `{"check":"b","error":"why","seconds":1}`, end}, "1 checks failed: b"},
		"a line was lost":     {[]string{a, end}, "1 checks did not report: b"},
		"a line was damaged":  {[]string{a, `{"check":"b","err`, `or":"why"}`, end}, "1 checks did not report: b"},
		"the guest died":      {[]string{a}, "the guest ended before its checks finished"},
		"it died at the end":  {[]string{a, b}, "the guest ended before its checks finished"},
		"nothing was said":    {nil, "no check passed"},
		"one was said twice":  {[]string{a, a, b, end}, "a (unexpected, or reported twice)"},
		"a check of another":  {[]string{a, b, `{"check":"c","seconds":1}`, end}, "c (unexpected, or reported twice)"},
		"an odd failure":      {[]string{`{"check":"expression of checks","error":"x","seconds":0}`}, "expression of checks (unexpected"},
		"the end has a break": {[]string{a, b, end[:10]}, "the guest ended before its checks finished"},
	} {
		path := filepath.Join(t.TempDir(), "checks.log")
		if err := os.WriteFile(path, []byte(strings.Join(append(tc.lines, ""), "\r\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		h := &transcript{say: t.Logf, left: []string{"a", "b"}}
		if err := h.read(path); err != nil {
			t.Fatal(err)
		}
		err := h.verdict()
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestAnExpressionThatMeansNoCheckIsRefused(t *testing.T) {
	if all, err := matching(""); err != nil || len(all) != len(checks) {
		t.Errorf("%q, %v", all, err)
	}
	if two, err := matching("^reload with"); err != nil || len(two) != 2 {
		t.Errorf("%q, %v", two, err)
	}
	for _, only := range []string{"no check of this name", "("} {
		if names, err := matching(only); err == nil {
			t.Errorf("%q: %q", only, names)
		}
	}
	if got := unitWord(`a 100% "sure"\.$`); got != `"a 100%% \"sure\"\\.$$"` {
		t.Errorf("in a unit: %s", got)
	}
}

// A text across two blocks is found as well, and one that is not there is not.
func TestSearch(t *testing.T) {
	for _, at := range []int{0, 1<<20 - 3, 4<<20 + 100, 9<<20 - 6} {
		disk := make([]byte, 9<<20)
		copy(disk[at:], "secret")
		if found, err := search(bytes.NewReader(disk), []byte("secret"), []byte("public")); err != nil || found != [2]bool{true, false} {
			t.Errorf("at %d: %v, %v", at, found, err)
		}
	}
}
