package classify

import (
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/anchorhold/anchorhold/agent/prooftest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// A runner that is in use while its classifier is dropped is closed, and not kept where
// nobody would look for it.
func TestARunnerDoesNotOutliveItsClassifier(t *testing.T) {
	s := New(Config{Memory: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	m := prooftest.Seal(t, "tiny", 1)
	s.Adopt([]settings.Classifier{m.Classifier}, map[string]Key{m.Resource: {Secret: m.Key(t)}})
	o, err := s.find("tiny")
	if err != nil {
		t.Fatal(err)
	}
	var list []*classifier.Runner
	for range maxRunners + 2 {
		r, err := o.model.NewRunner()
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	for _, r := range list[1:] {
		if err := s.park(o, r); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.runners) != maxRunners {
		t.Errorf("%d runners are kept", len(o.runners))
	}
	s.Wipe()
	if err := s.park(o, list[0]); err != nil {
		t.Fatal(err)
	}
	if len(o.runners) != 0 || o.key.Secret.Len() != 0 {
		t.Errorf("%d runners and a key of %d bytes outlive the lease", len(o.runners), o.key.Secret.Len())
	}
	if used := s.budget.Used(); used != 0 {
		t.Errorf("%d bytes are still mapped", used)
	}
	for _, r := range list {
		if err := r.Infer(make([]int8, prooftest.Inputs), make([]int32, prooftest.Outputs)); !errors.Is(err, classifier.ErrClosed) {
			t.Error(err)
		}
	}
}
