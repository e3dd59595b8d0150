package gpu

import (
	"os"
	"path/filepath"
	"testing"
)

// sharedDir finds the directory of real evidence that lies beside a checkout.
func sharedDir(tb testing.TB) string {
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
	tb.Skip("no directory of real evidence beside the checkout; set ANCHORHOLD_SHARED to have this test run")
	return ""
}

func readShared(tb testing.TB, elem ...string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{sharedDir(tb)}, elem...)...))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
