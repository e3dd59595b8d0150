package tenure

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/tenure/tenuretest"
	"github.com/anchorhold/anchorhold/keybroker/client"
)

// TestWhatIsForOtherServicesIsTakenFirst: from each lease, whatever becomes of the model; what
// cannot be kept fails the attempt.
func TestWhatIsForOtherServicesIsTakenFirst(t *testing.T) {
	g := tenuretest.New(t)
	s := &script{t: t}
	s.steps = []func(context.Context) (*client.Lease, error){s.grant(time.Hour, tenuretest.ModelKey, 1), s.grant(time.Hour, tenuretest.NewKey, 2)}
	k := s.keeper(g)
	var got []string
	k.taken = func(lease *client.Lease) error {
		got = append(got, string(lease.Keys["models/test"].Key.Bytes()))
		return nil
	}
	if _, err := k.attest(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(g.Sealed); err != nil { // the next key opens nothing
		t.Fatal(err)
	}
	if _, err := k.attest(t.Context()); err == nil {
		t.Error("the model opened")
	}
	if want := []string{tenuretest.ModelKey, tenuretest.NewKey}; !slices.Equal(got, want) {
		t.Errorf("took %q, want %q", got, want)
	}
	failing, other := errors.New("no memory"), s.keeper(tenuretest.New(t))
	s.restart(s.grant(time.Hour, tenuretest.ModelKey, 1))
	other.taken = func(*client.Lease) error { return failing }
	if _, err := other.attest(t.Context()); !errors.Is(err, failing) {
		t.Error(err)
	}
	if err := k.tenure.refuse(ReasonDraining, "the test is over"); err != nil {
		t.Error(err)
	}
}

// TestWhatIsTakenAfterTheLeaseIsWiped: whoever takes it may have been held up until then.
func TestWhatIsTakenAfterTheLeaseIsWiped(t *testing.T) {
	g := tenuretest.New(t)
	s := &script{t: t}
	s.steps = []func(context.Context) (*client.Lease, error){s.grant(time.Hour, tenuretest.ModelKey, 1)}
	k := s.keeper(g)
	wiped := 0
	k.tenure.AtEnd(func() { wiped++ })
	k.taken = func(lease *client.Lease) error {
		err := k.tenure.finish(lease, errors.New("it is over"))
		if wiped != 1 {
			t.Errorf("wiped %d times at the lease's end", wiped)
		}
		return err
	}
	if _, err := k.attest(t.Context()); err == nil || wiped != 2 {
		t.Errorf("wiped %d times, %v", wiped, err)
	}
}
