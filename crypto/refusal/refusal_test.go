package refusal_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

func ExampleNew() {
	const ReasonTooLong refusal.Reason = "name-too-long"
	err := fmt.Errorf("register: %w", refusal.New(ReasonTooLong, "got %d bytes, want at most %d", 80, 64))

	reason, ok := refusal.ReasonOf(err)
	fmt.Println(err)
	fmt.Println(reason, ok)
	// Output:
	// register: name-too-long: got 80 bytes, want at most 64
	// name-too-long true
}

func TestRefusalCarriesCodeDetailAndCause(t *testing.T) {
	err := refusal.New("some-reason", "while reading %d: %w", 7, io.EOF)
	if err.Error() != "some-reason: while reading 7: EOF" || !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	several := refusal.New("some-reason", "%w, and %w after %d", io.EOF, io.ErrClosedPipe, 7)
	if several.Error() != "some-reason: EOF, and io: read/write on closed pipe after 7" || !errors.Is(several, io.EOF) || !errors.Is(several, io.ErrClosedPipe) {
		t.Error(several)
	}
	if none := refusal.New("some-reason", "no cause"); errors.Unwrap(none) != nil {
		t.Errorf("%v has a cause", none)
	}
	if got, ok := refusal.ReasonOf(errors.Join(errors.New("above"), err)); !ok || got != "some-reason" {
		t.Errorf("%q, %v", got, ok)
	}
	if _, ok := refusal.ReasonOf(io.EOF); ok {
		t.Error("an ordinary error has a reason")
	}
	if _, ok := refusal.ReasonOf(nil); ok {
		t.Error("success has a reason")
	}
	if bare := (&refusal.Error{Reason: "bare"}).Error(); bare != "bare" {
		t.Errorf("%q", bare)
	}
}
