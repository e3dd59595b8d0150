//go:build !release

package azure

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// TestNoTPMIsNotATPMWithoutAReport: what is missing is the device, and the message sends nobody to
// look for an index.
func TestNoTPMIsNotATPMWithoutAReport(t *testing.T) {
	for says, err := range map[string]error{
		"and there is none":    refusal.New("tpm-absent", "/dev/tpmrm0: %w", fs.ErrNotExist),
		"the TPM has no index": fmt.Errorf("handle: %w", fs.ErrNotExist),
	} {
		_, got := New(t.Context(), Options{TPM: index{err: err}})
		if reason, _ := refusal.ReasonOf(got); reason != ReasonNotAzure || !strings.Contains(got.Error(), says) {
			t.Errorf("got %v, want %q", got, says)
		}
	}
}
