package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// expectations are the skips that are expected, each with its reason.
type expectations struct {
	file    string
	reasons map[testID]string
}

// readExpectations reads a file with a line for each test: package, test, and why it may skip.
// The name of a test that ends in /* stands for all below it.
func readExpectations(name string) (*expectations, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	e := &expectations{file: name, reasons: map[testID]string{}}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case len(f) < 3:
			return nil, fmt.Errorf("%s:%d: got %q, want package, test and reason", name, number, strings.TrimSpace(line))
		case e.reasons[testID{f[0], f[1]}] != "":
			return nil, fmt.Errorf("%s:%d: %s %s appears twice", name, number, f[0], f[1])
		default:
			e.reasons[testID{f[0], f[1]}] = strings.Join(f[2:], " ")
		}
	}
	return e, nil
}

// find returns the line that covers a test.
func (e *expectations) find(id testID) (testID, bool) {
	id.pkg = short(id.pkg)
	if e.reasons[id] != "" {
		return id, true
	}
	for parent := id.test; strings.Contains(parent, "/"); {
		parent = parent[:strings.LastIndex(parent, "/")]
		if all := (testID{id.pkg, parent + "/*"}); e.reasons[all] != "" {
			return all, true
		}
	}
	return testID{}, false
}

// judge prints the skips of a run, and refuses those that nobody expected and lines that are
// about no test. Without a list every skip is shown and none is refused.
func (e *expectations) judge(out io.Writer, r *run) error {
	slices.SortFunc(r.skips, func(a, b skip) int { return strings.Compare(a.String(), b.String()) })
	if e == nil {
		for _, s := range r.skips {
			fmt.Fprintf(out, "skipped: %s: %s\n", s, s.why)
		}
		return nil
	}
	var err error
	happened := map[testID]bool{}
	for _, s := range r.skips {
		by, ok := e.find(s.testID)
		if happened[by] = true; ok {
			fmt.Fprintf(out, "skipped as expected: %s: %s\n", s, s.why)
			continue
		}
		err = errors.Join(err, fmt.Errorf("UNEXPECTED SKIP %s: %s", s, s.why))
	}
	for _, id := range slices.SortedFunc(maps.Keys(e.reasons), func(a, b testID) int { return strings.Compare(a.String(), b.String()) }) {
		switch {
		case happened[id] || !r.tested(id.pkg):
		case !r.has(id):
			err = errors.Join(err, fmt.Errorf("%s names %s, but there is no such test", e.file, id))
		default:
			fmt.Fprintf(out, "not skipped this time: %s (%s)\n", id, e.reasons[id])
		}
	}
	if err != nil {
		err = errors.Join(err, fmt.Errorf("%s lists the expected skips and the reason for each", e.file))
	}
	return err
}

// tested says whether the run had a package: a list serves runs of a part as well.
func (r *run) tested(pkg string) bool {
	for id := range r.ran {
		if short(id.pkg) == pkg {
			return true
		}
	}
	return false
}

// has says whether the run had the test, or the one that it is a part of: which parts there are
// may depend on what is installed.
func (r *run) has(id testID) bool {
	top, _, _ := strings.Cut(id.test, "/")
	for ran := range r.ran {
		if short(ran.pkg) == id.pkg && ran.test == top {
			return true
		}
	}
	return false
}
