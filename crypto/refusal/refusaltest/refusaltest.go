// Package refusaltest compares errors with the reasons for which tests expect something to be refused.
package refusaltest

import (
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Want fails the test unless err is a refusal for the reason, or nil where the reason is empty. An error
// that is no refusal never passes. what names the case.
func Want(tb testing.TB, what string, err error, want refusal.Reason) {
	tb.Helper()
	if got, _ := refusal.ReasonOf(err); got != want || (err == nil) != (want == "") {
		tb.Errorf("%s: got %v, want %q", what, err, want)
	}
}
