package evidencefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
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

func write(tb testing.TB, path string, data []byte) string {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func readTest(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// wantReason checks the reason of a refusal; "" wants success.
func wantReason(tb testing.TB, err error, reason refusal.Reason) {
	tb.Helper()
	if reason == "" {
		if err != nil {
			tb.Errorf("got %v, want success", err)
		}
		return
	}
	var r *refusal.Error
	if !errors.As(err, &r) || r.Reason != reason {
		tb.Errorf("got %v, want a refusal %q", err, reason)
	}
}
