package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Time        time.Time
	Action      string
	Package     string
	ImportPath  string // of build output
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// maxLine is the longest line that is read: a test may print a lot in one.
const maxLine = 64 << 20

// testID is a test of a package; the package itself has no name.
type testID struct{ pkg, test string }

// skip is a test that was skipped, and its last words.
type skip struct {
	testID
	why string
}

// run is what is known of a run so far.
type run struct {
	out    io.Writer
	output map[testID]*strings.Builder // of what has not ended
	build  map[string]*strings.Builder
	open   map[string]bool // packages that have begun and not ended
	ran    map[testID]bool
	failed []testID
	skips  []skip
	passed int // tests
	ended  int // packages
}

// report prints a run and says whether it is good.
func report(in io.Reader, out io.Writer, expected *expectations) error {
	r := &run{out: out, output: map[testID]*strings.Builder{}, build: map[string]*strings.Builder{}, open: map[string]bool{}, ran: map[testID]bool{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	var first, last time.Time
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil || e.Action == "" {
			fmt.Fprintln(out, lines.Text()) // go test itself complains without JSON
			continue
		}
		if first.IsZero() {
			first = e.Time
		}
		if !e.Time.IsZero() {
			last = e.Time
		}
		r.take(e)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	err := errors.Join(r.judge(), expected.judge(out, r))
	fmt.Fprintf(out, "%d packages, %d tests passed, %d failed, %d skipped, %.0f s\n", r.ended, r.passed, r.failedTests(), len(r.skips), last.Sub(first).Seconds())
	return err
}

// take notes one event, and prints what can be said of a package once it has ended.
func (r *run) take(e event) {
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "start":
		r.open[e.Package] = true
	case "run":
		r.ran[id] = true
	case "output":
		builder(r.output, id).WriteString(e.Output)
	case "build-output":
		builder(r.build, e.ImportPath).WriteString(e.Output)
	case "pass", "fail", "skip":
		r.end(e, id)
	}
}

func builder[K comparable](all map[K]*strings.Builder, key K) *strings.Builder {
	if all[key] == nil {
		all[key] = &strings.Builder{}
	}
	return all[key]
}

// end notes the end of a test or, if it has no name, of a package.
func (r *run) end(e event, id testID) {
	said := builder(r.output, id).String()
	switch {
	case e.Action == "fail":
		r.failed = append(r.failed, id)
		if b := r.build[e.FailedBuild]; b != nil {
			fmt.Fprint(r.out, b.String())
			delete(r.build, e.FailedBuild)
		}
		fmt.Fprint(r.out, said)
	case id.test == "":
		fmt.Fprint(r.out, verdict(said))
	case e.Action == "skip":
		r.skips = append(r.skips, skip{id, lastWords(said)})
	default:
		r.passed++
	}
	delete(r.output, id)
	if id.test == "" {
		r.ended++
		delete(r.open, id.pkg)
	}
}

// verdict is the line that go test prints for a package.
func verdict(said string) string {
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "ok ") || strings.HasPrefix(line, "? ") {
			return line
		}
	}
	return ""
}

// lastWords is why a test says that it skips: what it printed last, without the place.
func lastWords(said string) string {
	var words string
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			words = line
		}
	}
	if place, text, ok := strings.Cut(words, ": "); ok && strings.Contains(place, "_test.go:") {
		return text
	}
	return words
}

func (r *run) failedTests() (n int) {
	for _, id := range r.failed {
		if id.test != "" {
			n++
		}
	}
	return n
}

// judge says what is wrong with the run apart from skips. A stream that breaks off is a
// failure: what has not been seen to pass has not passed.
func (r *run) judge() error {
	var err error
	for id := range r.output {
		if r.open[id.pkg] && id.test != "" {
			fmt.Fprint(r.out, r.output[id].String()) // what it printed before it was cut off
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(r.open)) {
		err = errors.Join(err, fmt.Errorf("%s did not finish", short(pkg)))
	}
	for _, id := range r.failed {
		if id.test != "" || !slices.ContainsFunc(r.failed, func(f testID) bool { return f.pkg == id.pkg && f.test != "" }) {
			err = errors.Join(err, fmt.Errorf("FAIL %s", id))
		}
	}
	if r.ended == 0 {
		err = errors.Join(err, errors.New("no packages were tested"))
	}
	return err
}

// String is the name that people use.
func (id testID) String() string { return strings.TrimSpace(short(id.pkg) + " " + id.test) }

// short is a package's path below our module.
func short(pkg string) string {
	return strings.TrimPrefix(pkg, "github.com/anchorhold/anchorhold/")
}
