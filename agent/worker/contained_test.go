package worker_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/agent/worker"
)

func cut(b []byte, n int) []byte { return b[n:] }

// A panic is the work's error: with the place, and without what was worked on.
func TestAPanicIsAnError(t *testing.T) {
	for name, tc := range map[string]struct {
		work func() error
		want []string
	}{
		"an index": {func() error { return errors.New(string(cut([]byte("secret"), 32))) }, []string{"out of range [32:6]", "worker_test.cut (contained_test.go:"}},
		"a value":  {func() error { panic("secret") }, []string{"of type string", "worker_test.TestAPanicIsAnError"}},
		"an error": {func() error { panic(errors.New("secret")) }, []string{"of type *errors.errorString"}},
	} {
		err := worker.Contain(tc.work)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range tc.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is not in %q", name, want, err)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q tells what was worked on", name, err)
		}
	}
}

func TestWhatDoesNotPanicIsAsItWas(t *testing.T) {
	want := errors.New("failed")
	if err := worker.Contain(func() error { return want }); err != want {
		t.Errorf("got %v", err)
	}
	if err := worker.Contain(func() error { return nil }); err != nil {
		t.Errorf("got %v", err)
	}
	if n, err := worker.ContainResult(func() (int, error) { return 7, want }); n != 7 || err != want {
		t.Errorf("got %d, %v", n, err)
	}
	if n, err := worker.ContainResult(func() (int, error) { panic(1) }); n != 0 || err == nil {
		t.Errorf("got %d, %v", n, err)
	}
}
