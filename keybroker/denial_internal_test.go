package keybroker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/audit"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// TestACauseIsSaidOnce in a reason: whether it stands in the detail, beside it, or is the detail.
func TestACauseIsSaidOnce(t *testing.T) {
	cause := errors.New("the disk is full")
	for name, c := range map[string]struct {
		err  error
		want audit.Reason
	}{
		"in the detail":  {refusal.New("a-code", "write it: %w", cause), audit.Reason{Code: "a-code", Detail: "write it: the disk is full"}},
		"several":        {refusal.New("a-code", "%w and %w", cause, cause), audit.Reason{Code: "a-code", Detail: "the disk is full and the disk is full"}},
		"beside it":      {&refusal.Error{Reason: "a-code", Detail: "write it", Err: cause}, audit.Reason{Code: "a-code", Detail: "write it: the disk is full"}},
		"wrapped":        {fmt.Errorf("around: %w", refusal.New("a-code", "%w", cause)), audit.Reason{Code: "a-code", Detail: "the disk is full"}},
		"no cause":       {refusal.New("a-code", "bare"), audit.Reason{Code: "a-code", Detail: "bare"}},
		"of nobody":      {cause, audit.Reason{Code: string(protocol.ReasonInternal), Detail: "the disk is full"}},
		"named again":    {because("a-code", refusal.New("a-code", "bare")), audit.Reason{Code: "a-code", Detail: "bare"}},
		"of another one": {because("a-code", refusal.New("b-code", "bare")), audit.Reason{Code: "a-code", Detail: "b-code: bare"}},
	} {
		if got := denied(c.err).reasons; len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}
