package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// What a killed run left goes; what runs, and what -keep left, stays.
func TestSweep(t *testing.T) {
	base := t.TempDir()
	dir := func(name string) string {
		path := filepath.Join(base, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	running, killed, kept := dir("boot-1"), dir("boot-2"), dir("boot-3")
	mark, err := markOwned(running)
	if err != nil {
		t.Fatal(err)
	}
	defer mark.Close()
	other, err := markOwned(killed)
	if err := errors.Join(err, other.Close()); err != nil { // the kernel does so at the end of a process
		t.Fatal(err)
	}
	if err := sweep(base); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{running: nil, killed: syscall.ENOENT, kept: nil} {
		if _, err := os.Stat(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
