package evidencefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

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
