package round

import (
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// A round is not closed, and nothing charged, over a sum that no agent would decrypt.
func TestARoundIsClosedOverAWholeSumAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		a    aggregated
		want refusal.Reason
	}{
		"whole":                 {aggregated{Blocks: 2, Count: 2, members: []federation.Digest{{1}, {2}}}, ""},
		"a block too many":      {aggregated{Blocks: 3, Count: 2, members: []federation.Digest{{1}, {2}}}, reasonSum},
		"a block too few":       {aggregated{Blocks: 1, Count: 2, members: []federation.Digest{{1}, {2}}}, reasonSum},
		"a contribution, twice": {aggregated{Blocks: 2, Count: 2, members: []federation.Digest{{1}, {1}}}, reasonSum},
	} {
		err := wholeSum(tc.a, 2)
		if got, _ := refusal.ReasonOf(err); got != tc.want || (err != nil) != errors.Is(err, cli.ErrRefused) {
			t.Errorf("%s: %q, want %q: %v", name, got, tc.want, err)
		}
	}
}
