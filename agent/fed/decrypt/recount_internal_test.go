package decrypt

import (
	"testing"

	"github.com/anchorhold/anchorhold/agent/fed/rounds"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// TestARecountIsBoundedBeforeItsListsAreFetched: there is no aggregator here to fetch from.
func TestARecountIsBoundedBeforeItsListsAreFetched(t *testing.T) {
	_, err := (&Service{}).recount(t.Context(), rounds.Round{}, federation.Ticket{Count: maxRecountHashes/2 + 1}, make([]digest.Digest, 2))
	if got := reasonOf(err); got != ReasonSum {
		t.Errorf("%q, want %q: %v", got, ReasonSum, err)
	}
}
