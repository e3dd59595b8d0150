package openmodel

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestThePagesOfTheProgramLeave: fewer pages of files are in memory afterwards, and the program goes on.
func TestThePagesOfTheProgramLeave(t *testing.T) {
	before := filePages(t)
	if err := releaseProgram(); err != nil {
		t.Fatal(err)
	}
	if after := filePages(t); after >= before*3/4 {
		t.Errorf("%d KiB of files were in memory, and %d are", before, after)
	}
}

// filePages is how much of files this process has mapped and present, in KiB.
func filePages(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nRssFile:")
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
