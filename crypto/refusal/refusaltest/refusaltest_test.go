package refusaltest_test

import (
	"errors"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/crypto/refusal/refusaltest"
)

// failing notes whether the test that it stands for failed.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.failed = true }

func TestOnlyTheReasonThatIsWantedPasses(t *testing.T) {
	refused := refusal.New("a-reason", "no")
	for _, c := range []struct {
		err    error
		want   refusal.Reason
		passes bool
	}{
		{refused, "a-reason", true}, {nil, "", true},
		{refused, "another", false}, {refused, "", false}, {nil, "a-reason", false},
		{errors.New("no refusal"), "", false}, {errors.New("no refusal"), "a-reason", false},
	} {
		f := &failing{TB: t}
		if refusaltest.Want(f, "a case", c.err, c.want); f.failed == c.passes {
			t.Errorf("%v for %q: failed %t", c.err, c.want, f.failed)
		}
	}
}
