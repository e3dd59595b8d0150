package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAMachineWithoutAControllerIsTold: plain directories are no control groups, of which nothing stays, and the demo says
// that nobody enforced its limit.
func TestAMachineWithoutAControllerIsTold(t *testing.T) {
	root := t.TempDir()
	g, err := groupBelow(root, "demo", 64<<20)
	if err != nil || !g.none() {
		t.Fatalf("%+v, %v", g, err)
	}
	if said, err := g.told(); err != nil || !strings.Contains(said, "NOT ENFORCED") || !strings.Contains(said, "memory.max") {
		t.Errorf("it says %q, %v", said, err)
	}
	if _, err := os.Stat(filepath.Join(root, "demo")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
	if program := g.within([]string{"agent", "run"}); len(program) != 2 || g.removal() != "" || g.remove() != nil {
		t.Errorf("the program is %q", program)
	}
}

// TestAGroupThatCannotBeMadeIsAnError: it would have been none, and the demo would have passed without a limit.
func TestAGroupThatCannotBeMadeIsAnError(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "demo"), 0o755); err != nil {
		t.Fatal(err)
	}
	if g, err := groupBelow(root, "demo", 64<<20); g != nil || !errors.Is(err, fs.ErrExist) {
		t.Errorf("a name that is taken: %+v, %v", g, err)
	}
}

// TestTheLimitIsEnforced where the machine has a controller that may be used.
func TestTheLimitIsEnforced(t *testing.T) {
	const limit = 64 << 20
	g, err := newGroup(fmt.Sprintf("anchorhold-demo-test-%d", os.Getpid()), limit)
	if err != nil {
		t.Fatal(err)
	}
	if g.none() {
		t.Skip("NO CONTROL GROUP: " + g.absent)
	}
	program := g.within([]string{"/bin/sh", "-c", "head -c 200m /dev/zero | tail -c 199m | wc -c"})
	d, err := start(t.TempDir(), "limited", nil, program[0], program[1:]...)
	if err != nil {
		t.Fatal(errors.Join(err, g.remove()))
	}
	<-d.done
	if said, err := g.told(); err == nil || !strings.Contains(err.Error(), "ended the agent") {
		t.Errorf("a program that takes three times the limit: %q, %v", said, err)
	}
	if err := g.remove(); err != nil {
		t.Error(err)
	}
}
