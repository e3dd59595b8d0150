package keyfile

import (
	"context"
	"errors"
	"testing"
)

func TestAPassphraseIsNotWaitedForLonger(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	asked, end := make(chan bool), make(chan bool)
	defer close(end)
	gone := errors.New("interrupted")
	go func() { <-asked; cancel(gone) }()
	if _, err := unlessCancelled(ctx, func() ([]byte, error) { asked <- true; <-end; return nil, nil }); !errors.Is(err, gone) {
		t.Error(err)
	}
	if got, err := unlessCancelled(t.Context(), func() ([]byte, error) { return []byte("typed"), nil }); string(got) != "typed" || err != nil {
		t.Error(string(got), err)
	}
}
