// Package evidencetest finds the real evidence that tests read. It lies beside a checkout and
// never in it, because others made it.
package evidencetest

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir is the directory "evidence" in $ANCHORHOLD_SHARED, or in a directory "shared" beside the
// checkout. Without either the calling test is skipped.
func Dir(tb testing.TB) string {
	tb.Helper()
	dir := find(tb)
	if dir == "" {
		tb.Skip("no directory of real evidence beside the checkout; set ANCHORHOLD_SHARED to have this test run")
	}
	return dir
}

func find(tb testing.TB) string {
	tb.Helper()
	if dir := os.Getenv("ANCHORHOLD_SHARED"); dir != "" {
		return filepath.Join(dir, "evidence")
	}
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		found := filepath.Join(dir, "shared", "evidence")
		if _, err := os.Stat(found); err == nil {
			return found
		}
	}
	return ""
}

// Read returns a file below Dir.
func Read(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	return read(tb, Dir(tb), elem)
}

// Seed returns a file below Dir for a corpus, or false without such a directory: fuzzing goes on
// without it.
func Seed(tb testing.TB, elem ...string) ([]byte, bool) {
	tb.Helper()
	dir := find(tb)
	if dir == "" {
		return nil, false
	}
	return read(tb, dir, elem), true
}

func read(tb testing.TB, dir string, elem []string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{dir}, elem...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
