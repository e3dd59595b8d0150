package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/packaging/emulator"
)

// transcript is what the guest says, a JSON object a line.
type transcript struct {
	say    func(format string, args ...any)
	left   []string // checks that have said nothing yet
	lines  emulator.Lines
	held   int
	failed []string
	done   bool
}

func (t *transcript) read(path string) error {
	lines, err := t.lines.Read(path)
	for _, line := range lines {
		t.take(line)
	}
	return err
}

func (t *transcript) take(line string) {
	var f finding
	if json.Unmarshal([]byte(line), &f) != nil || f.Check == "" {
		if line != "" {
			t.say("guest: %s", line)
		}
		return
	}
	if f.Check == lastCheck {
		t.done = true
		return
	}
	i := slices.Index(t.left, f.Check)
	switch {
	case i < 0:
		t.failed = append(t.failed, f.Check+" (unexpected, or reported twice)")
		t.say("FAILED  %s: unexpected, or reported twice", f.Check)
		return
	case f.Error != "":
		t.failed = append(t.failed, f.Check)
		t.say("FAILED  %s (%.0f s)\n%s", f.Check, f.Seconds, indent(f.Error))
	default:
		t.held++
		t.say("ok      %s (%.0f s)", f.Check, f.Seconds)
		if f.Detail != "" {
			fmt.Println(indent(f.Detail))
		}
	}
	t.left = slices.Delete(t.left, i, i+1)
}

// verdict is nil if every check was made and held. A line that was lost on the way is a
// check that was not.
func (t *transcript) verdict() error {
	var errs []error
	if len(t.failed) > 0 {
		errs = append(errs, fmt.Errorf("%d checks failed: %s", len(t.failed), strings.Join(t.failed, "; ")))
	}
	if !t.done {
		errs = append(errs, errors.New("the guest ended before its checks finished"))
	}
	if len(t.left) > 0 {
		errs = append(errs, fmt.Errorf("%d checks did not report: %s", len(t.left), strings.Join(t.left, "; ")))
	}
	if t.held == 0 {
		errs = append(errs, errors.New("no check passed"))
	}
	return errors.Join(errs...)
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(s)) {
		b.WriteString("            " + line)
	}
	return b.String()
}

func lastLines(s string, n int) string {
	var lines []string
	for sc := bufio.NewScanner(strings.NewReader(s)); sc.Scan(); {
		lines = append(lines, sc.Text())
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
