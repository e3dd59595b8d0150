package classify

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify/classifytest"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/zk/intnet"
	"github.com/anchorhold/anchorhold/runtime/classifier"
)

// A runner that is in use while its classifier is dropped is closed, and not kept where
// nobody would look for it.
func TestARunnerDoesNotOutliveItsClassifier(t *testing.T) {
	s := New(Config{Memory: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	m := classifytest.Seal(t, "tiny", 1)
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
		if err := r.Infer(make([]int8, classifytest.Inputs), make([]int32, classifytest.Outputs)); !errors.Is(err, classifier.ErrClosed) {
			t.Error(err)
		}
	}
}

// TestWipeDoesNotWaitForAUserThatHangs: at the lease's end somebody reads the weights, as
// a worker's pipe that nobody empties. Key and weights are wiped under the reader, and
// nothing else waits for it.
func TestWipeDoesNotWaitForAUserThatHangs(t *testing.T) {
	s := New(Config{Memory: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	s.grace = 10 * time.Millisecond
	m := classifytest.Seal(t, "tiny", 1)
	adopt := func() { s.Adopt([]settings.Classifier{m.Classifier}, map[string]Key{m.Resource: {Secret: m.Key(t)}}) }
	adopt()
	o, err := s.find("tiny")
	if err != nil {
		t.Fatal(err)
	}
	reading, hang, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- o.model.WithParameters(func(p intnet.Parameters) error {
			close(reading)
			<-hang
			for _, w := range p.Layers[0].Weights {
				if w != 0 {
					return errors.New("a weight is left")
				}
			}
			return nil
		})
	}()
	<-reading
	s.Wipe()
	if o.key.Secret.Len() != 0 {
		t.Error("the key is left")
	}
	if _, err := s.find("tiny"); err == nil {
		t.Error("it is still served")
	}
	adopt() // under the next lease, though the old one hangs yet
	if _, err := s.find("tiny"); err != nil {
		t.Error(err)
	}
	close(hang)
	if err := <-done; !errors.Is(err, classifier.ErrClosed) {
		t.Errorf("the user was told %v, want that the weights are gone", err)
	}
	s.Wipe()
}

// TestDroppedClassifiersDoNotWaitForOneAnother: a reload drops two, and somebody hangs in
// one. The keys of both are gone before anybody is waited for, no weight outlives the grace,
// and what comes in their place is served.
func TestDroppedClassifiersDoNotWaitForOneAnother(t *testing.T) {
	s := New(Config{Memory: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	s.grace = 10 * time.Millisecond
	a, b, next := classifytest.Seal(t, "a", 1), classifytest.Seal(t, "b", 2), classifytest.Seal(t, "next", 3)
	s.Adopt([]settings.Classifier{a.Classifier, b.Classifier}, map[string]Key{a.Resource: {Secret: a.Key(t)}, b.Resource: {Secret: b.Key(t)}})
	var open []*served
	for _, name := range []string{"a", "b"} {
		o, err := s.find(name)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, o)
	}
	reading, hang, done := make(chan struct{}, 1), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- open[0].model.WithParameters(func(p intnet.Parameters) error {
			reading <- struct{}{}
			<-hang
			for _, w := range p.Layers[0].Weights {
				if w != 0 {
					return errors.New("a weight is left")
				}
			}
			return nil
		})
	}()
	<-reading
	s.Adopt([]settings.Classifier{next.Classifier}, map[string]Key{next.Resource: {Secret: next.Key(t)}})
	for _, o := range open {
		if o.key.Secret.Len() != 0 {
			t.Errorf("the key of %s is left", o.Name)
		}
	}
	if err := open[1].model.WithParameters(func(intnet.Parameters) error { return nil }); !errors.Is(err, classifier.ErrClosed) {
		t.Errorf("b waits for the user of a: %v", err)
	}
	if _, err := s.find("next"); err != nil {
		t.Error(err)
	}
	close(hang)
	if err := <-done; !errors.Is(err, classifier.ErrClosed) {
		t.Errorf("the user was told %v, want that the weights are gone", err)
	}
	s.Wipe()
}

// TestWipeDoesNotWaitForADiskThatHangs: a classifier is being opened when the lease ends.
func TestWipeDoesNotWaitForADiskThatHangs(t *testing.T) {
	s := New(Config{Memory: 1 << 20, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	m := classifytest.Seal(t, "tiny", 1)
	wipes, budget := s.wipes, s.budget
	key := m.Key(t)
	o, err := s.openOne(m.Classifier, Key{Secret: key}, budget, wipes)
	if err != nil {
		t.Fatal(err)
	}
	s.Wipe() // before the opener comes back
	if o.key.Secret.Len() != 0 || !budget.Wiped() {
		t.Errorf("a key of %d bytes, memory wiped: %t", o.key.Secret.Len(), budget.Wiped())
	}
	if current, _ := s.settle(m.Classifier, o, nil, wipes); current {
		t.Error("a classifier that was opened too late is served")
	}
	if _, err := s.find("tiny"); err == nil || budget.Used() != 0 {
		t.Errorf("%v, %d bytes in use", err, budget.Used())
	}
	if _, err := s.openOne(m.Classifier, Key{Secret: m.Key(t)}, budget, s.wipes); err == nil {
		t.Error("opened into a wiped budget")
	}
	// A Wipe that came before there was a copy does not find one that is made later.
	if own, err := s.copyKey(key, wipes); err == nil || own.Len() != 0 {
		t.Errorf("a key of %d bytes was copied after the lease's end: %v", own.Len(), err)
	}
	if own, err := s.copyKey(key, s.wipes); err != nil || s.opening != own {
		t.Errorf("a copy of the key that no Wipe finds: %v", err)
	}
}

// TestAFileThatDoesNotOpenClosesNothingWithoutRoom for two: it is checked as a whole before
// the one that is served is closed for it.
func TestAFileThatDoesNotOpenClosesNothingWithoutRoom(t *testing.T) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	m := classifytest.Seal(t, "tiny", 1)
	adopt := func(s *Service, m *classifytest.Sealed) []Unopened {
		return s.Adopt([]settings.Classifier{m.Classifier}, map[string]Key{m.Resource: {Secret: m.Key(t), Version: m.Version, Subject: m.Model.ID(), Next: true}})
	}
	roomy := New(Config{Memory: 1 << 20, Logger: quiet})
	if list := adopt(roomy, m); len(list) != 0 {
		t.Fatal(list)
	}
	alone := roomy.budget.Peak()
	roomy.Wipe()
	s := New(Config{Memory: alone, Logger: quiet})
	defer s.Wipe()
	if list := adopt(s, m); len(list) != 0 {
		t.Fatal(list)
	}
	next := m.Next(t, 2)
	good, err := os.ReadFile(next.Path)
	if err != nil {
		t.Fatal(err)
	}
	public, err := chunkseal.Inspect(bytes.NewReader(good), int64(len(good)))
	if err != nil {
		t.Fatal(err)
	}
	at, _ := public.Slot(public.Chunks - 1)
	damaged := bytes.Clone(good)
	damaged[at] ^= 1
	write := func(data []byte) {
		if err := os.WriteFile(next.Path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(damaged)
	list := adopt(s, next)
	if len(list) != 1 || !list[0].Kept {
		t.Errorf("a damaged file: %+v", list)
	}
	if o, err := s.find("tiny"); err != nil || o.id.ID() != m.Model.ID() {
		t.Errorf("the version before is not served: %v", err)
	}
	write(good)
	if list := adopt(s, next); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if o, err := s.find("tiny"); err != nil || o.id.ID() != next.Model.ID() {
		t.Errorf("the next version is not served: %v", err)
	}
}
