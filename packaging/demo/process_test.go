package main

import (
	"strings"
	"testing"
)

// TestDaemonsWriteFiles has a daemon say what its output is: a file of its own, so that one that is
// left running (-keep) can go on logging when the demo has ended.
func TestDaemonsWriteFiles(t *testing.T) {
	const script = `for fd in 1 2; do test -f /proc/$$/fd/$fd && echo "output $fd is a file"; done; test -p /proc/$$/fd/1 && echo "a pipe" >&2`
	d, err := start(t.TempDir(), "guest 1", nil, "/bin/sh", "-c", script)
	if err != nil {
		t.Fatal(err)
	}
	<-d.done
	for _, want := range []string{"output 1 is a file", "output 2 is a file"} {
		if d.log.line(strings.Fields(want)...) != want {
			t.Errorf("no %q in the log: %q", want, d.log)
		}
	}
	if got := d.log.line("no", "such", "words"); got != "" {
		t.Errorf("line = %q, want none", got)
	}
}

// TestLogsAreReadFromTheEnd has a daemon write more than is looked at.
func TestLogsAreReadFromTheEnd(t *testing.T) {
	d, err := start(t.TempDir(), "broker", nil, "/bin/sh", "-c", "echo first; head -c 300000 /dev/zero | tr '\\0' x; echo; echo last")
	if err != nil {
		t.Fatal(err)
	}
	<-d.done
	if got := len(d.log.String()); got > tailBytes {
		t.Errorf("%d bytes of the log were read, want at most %d", got, tailBytes)
	}
	if d.log.line("last") != "last" || d.log.line("first") != "" {
		t.Error("the log was not read from its end")
	}
}
