package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const prefix = "github.com/anchorhold/anchorhold/"

// stream writes events as go test does.
func stream(t *testing.T, events ...event) string {
	t.Helper()
	var b strings.Builder
	enc := json.NewEncoder(&b)
	for _, e := range events {
		if e.Package != "" {
			e.Package = prefix + e.Package
		}
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// test is what go test says of one test.
func test(pkg, name, action, says string) []event {
	return []event{{Action: "run", Package: pkg, Test: name}, {Action: "output", Package: pkg, Test: name, Output: "=== RUN   " + name + "\n"},
		{Action: "output", Package: pkg, Test: name, Output: says}, {Action: action, Package: pkg, Test: name}}
}

// whole is a package with its tests.
func whole(pkg, action string, tests ...[]event) []event {
	all := []event{{Action: "start", Package: pkg}}
	for _, t := range tests {
		all = append(all, t...)
	}
	line := map[string]string{"pass": "ok  \t" + prefix + pkg + "\t0.1s\n", "fail": "FAIL\t" + prefix + pkg + "\t0.1s\n"}[action]
	return append(all, event{Action: "output", Package: pkg, Output: line}, event{Action: action, Package: pkg})
}

func expecting(t *testing.T, text string) *expectations {
	t.Helper()
	name := filepath.Join(t.TempDir(), "expected")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := readExpectations(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestReport(t *testing.T) {
	good := test("a", "TestGood", "pass", "chatter\n")
	skipped := test("a", "TestPeer", "skip", "    peer_test.go:12: no peer: install one\n--- SKIP: TestPeer (0.00s)\n")
	part := test("a", "TestPeer/deep/er", "skip", "    peer_test.go:12: no part\n")
	bad := test("a", "TestBad", "fail", "    bad_test.go:3: got 1, want 2\n")
	for what, c := range map[string]struct {
		events []event
		expect string // of a list; "-": without one
		fails  string // "": it passes
		prints []string
		hides  []string
	}{
		"all pass":            {whole("a", "pass", good), "-", "", []string{"ok  \t" + prefix + "a\t0.1s", "1 packages, 1 tests passed, 0 failed, 0 skipped"}, []string{"chatter", "=== RUN"}},
		"a failure":           {whole("a", "fail", good, bad), "-", "FAIL a TestBad", []string{"got 1, want 2", "FAIL\t" + prefix + "a", "1 failed"}, []string{"chatter"}},
		"no list":             {whole("a", "pass", good, skipped), "-", "", []string{"skipped: a TestPeer: no peer: install one", "1 skipped"}, nil},
		"an expected skip":    {whole("a", "pass", good, skipped), "a TestPeer peers are not everywhere", "", []string{"skipped as expected: a TestPeer: no peer: install one"}, []string{"not skipped"}},
		"an unexpected skip":  {whole("a", "pass", good, skipped), "a TestGood why not", "UNEXPECTED SKIP a TestPeer: no peer: install one", []string{"ok  \t"}, nil},
		"an empty list":       {whole("a", "pass", good, skipped), "# nothing\n\n", "UNEXPECTED SKIP a TestPeer", nil, nil},
		"another package's":   {whole("a", "pass", good, skipped), "b TestPeer peers", "UNEXPECTED SKIP a TestPeer", nil, nil},
		"parts":               {whole("a", "pass", test("a", "TestPeer", "pass", ""), part), "a TestPeer/* parts", "", []string{"skipped as expected: a TestPeer/deep/er: no part"}, nil},
		"a part is no whole":  {whole("a", "pass", skipped), "a TestPeer/* parts", "UNEXPECTED SKIP a TestPeer:", nil, nil},
		"a whole is no part":  {whole("a", "pass", test("a", "TestPeer", "pass", ""), part), "a TestPeer whole", "UNEXPECTED SKIP a TestPeer/deep/er", nil, nil},
		"it did not happen":   {whole("a", "pass", test("a", "TestPeer", "pass", "")), "a TestPeer peers are not everywhere", "", []string{"not skipped this time: a TestPeer (peers are not everywhere)"}, nil},
		"no such test":        {whole("a", "pass", good), "a TestGone peers", "names a TestGone, but there is no such test", nil, nil},
		"a part of a run":     {whole("a", "pass", good), "b TestGone peers", "", nil, []string{"not skipped"}},
		"it breaks off":       {whole("a", "pass", good)[:4], "-", "a did not finish", nil, nil},
		"it breaks off later": {append(whole("a", "pass", good), event{Action: "start", Package: "b"}, event{Action: "output", Package: "b", Test: "TestLong", Output: "hanging\n"}), "-", "b did not finish", []string{"hanging"}, nil},
		"nothing":             {nil, "-", "no packages were tested", nil, nil},
		"no tests":            {[]event{{Action: "start", Package: "a"}, {Action: "output", Package: "a", Output: "?   \ta\t[no test files]\n"}, {Action: "skip", Package: "a"}}, "", "", []string{"[no test files]", "0 skipped"}, nil},
		"it does not build": {[]event{{Action: "build-output", ImportPath: "a", Output: "a.go:1: syntax error\n"}, {Action: "build-fail", ImportPath: "a"},
			{Action: "start", Package: "a"}, {Action: "output", Package: "a", Output: "FAIL\ta [build failed]\n"}, {Action: "fail", Package: "a", FailedBuild: "a"}}, "-", "FAIL a", []string{"syntax error", "[build failed]"}, nil},
		"a panic outside tests": {append(whole("a", "fail"), event{}), "-", "FAIL a", nil, nil},
	} {
		var list *expectations
		if c.expect != "-" {
			list = expecting(t, c.expect)
		}
		var out strings.Builder
		err := report(strings.NewReader(stream(t, c.events...)), &out, list)
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: got %v, want %q", what, err, c.fails)
		}
		for _, want := range c.prints {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: %q is missing from\n%s", what, want, out.String())
			}
		}
		for _, no := range c.hides {
			if strings.Contains(out.String(), no) {
				t.Errorf("%s: %q stands in\n%s", what, no, out.String())
			}
		}
	}
}

func TestOtherLinesAreShown(t *testing.T) {
	var out strings.Builder
	if err := report(strings.NewReader("go: no such module\n"), &out, nil); err == nil || !strings.Contains(out.String(), "go: no such module") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestListsAreReadStrictly(t *testing.T) {
	for text, says := range map[string]string{"a TestX\n": ":1: got \"a TestX\"", "a TestX why\n# c\na TestX again\n": ":3: a TestX appears twice"} {
		name := filepath.Join(t.TempDir(), "expected")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readExpectations(name); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if _, err := readExpectations(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestOfARealRun has go test itself write the stream.
func TestOfARealRun(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module github.com/anchorhold/anchorhold/tiny\n\ngo 1.26\n",
		"x_test.go": "package x\n\nimport \"testing\"\n\nfunc TestSkips(t *testing.T) { t.Skipf(\"no %s here\", \"peer\") }\n\nfunc TestPasses(t *testing.T) { t.Log(\"chatter\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-json", "./...")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	in, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, in)
	}
	var out strings.Builder
	if err := report(strings.NewReader(string(in)), &out, expecting(t, "tiny TestSkips peers")); err != nil || !strings.Contains(out.String(), "skipped as expected: tiny TestSkips: no peer here\n") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := report(strings.NewReader(string(in)), &out, expecting(t, "")); err == nil || !strings.Contains(err.Error(), "UNEXPECTED SKIP tiny TestSkips: no peer here") {
		t.Errorf("got %v", err)
	}
}
