package oip

import (
	"net/http"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prove"
	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// The reasons of proofs are those of the package that makes them, and each has its status.
func TestReasonsOfProofsAreTheProvers(t *testing.T) {
	for reason, want := range map[refusal.Reason]int{prove.ReasonPending: http.StatusConflict, prove.ReasonNotConfigured: http.StatusNotFound, prove.ReasonUnknown: http.StatusNotFound, prove.ReasonNoKey: http.StatusNotFound} {
		if got := status(reason); got != want {
			t.Errorf("%s: got %d, want %d", reason, got, want)
		}
	}
}
