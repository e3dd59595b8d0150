package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestFilesAreWholeAndWrittenOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if Exists(path) {
		t.Error("there before it was written")
	}
	if err := errors.Join(Once(path, []byte("one")), Once(path, []byte("one"))); err != nil {
		t.Fatal(err)
	}
	if err := Once(path, []byte("two")); !errors.Is(err, ErrOther) {
		t.Errorf("other bytes: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "one" || !Exists(path) {
		t.Errorf("%q, %v", data, err)
	}
	if err := Write(path, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "three" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestFailuresLeaveNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Write(filepath.Join(dir, "none", "a"), nil); err == nil {
		t.Error("written into a directory that is not there")
	}
	target := filepath.Join(dir, "d")
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(target, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(target, []byte("one")); err == nil {
		t.Error("written over a directory")
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".new-*")); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if err := Once(target, nil); err == nil {
		t.Error("read a directory")
	}
	if err := SyncDir(filepath.Join(dir, "none")); err == nil {
		t.Error("synced what is not there")
	}
}

func TestStreamsAreWholeOrNothingAndSwept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d", "a")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	half := errors.New("half")
	if err := Stream(path, func(w io.Writer) error {
		_, err := w.Write([]byte("on"))
		return errors.Join(err, half)
	}); !errors.Is(err, half) || Exists(path) {
		t.Errorf("half a file: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "d", "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	crashed := filepath.Join(dir, "d", ".new-1")
	if err := errors.Join(os.WriteFile(crashed, nil, 0o600), Write(path, []byte("one")), Sweep(filepath.Join(dir, "*"))); err != nil || Exists(crashed) || !Exists(path) {
		t.Errorf("swept: %v", err)
	}
}

func TestAnUnfinishedFileIsKeptOrGone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if _, err := Create(filepath.Join(dir, "none")); err == nil {
		t.Error("created in a directory that is not there")
	}
	for _, c := range []struct {
		end   func(*File) error
		there bool
		fails bool
	}{
		{(*File).Discard, false, false},
		{func(f *File) error { return f.Keep(filepath.Join(dir, "none", "a")) }, false, true},
		{func(f *File) error { return f.Keep(path) }, true, false},
	} {
		f, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !Unfinished(f.Name()) || Unfinished(path) {
			t.Errorf("%s is not known as unfinished, or %s is", f.Name(), path)
		}
		if err := c.end(f); (err != nil) != c.fails || Exists(f.Name()) || Exists(path) != c.there {
			t.Errorf("%+v: %v", c.there, err)
		}
	}
}

func TestWhatIsLeftOfOneFileIsSwept(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "checkpoint")
	kept := []string{path, filepath.Join(dir, ".new-checkpoint-b-7"), filepath.Join(dir, ".new-other-7"), filepath.Join(dir, ".new-checkpoint-")}
	left := filepath.Join(dir, ".new-checkpoint-7")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range kept {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var half string
	err := Stream(path, func(w io.Writer) error {
		half = w.(interface{ Name() string }).Name()
		return os.Link(half, half+"1") // a crash leaves a name like this one's
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := SweepFile(path); err != nil {
		t.Fatal(err)
	}
	if Exists(left) || Exists(half+"1") {
		t.Error("the file's own leftovers are there still")
	}
	for _, path := range kept {
		if !Exists(path) {
			t.Errorf("%s is gone", path)
		}
	}
	if err := SweepFile(filepath.Join(dir, "none", "a")); err == nil {
		t.Error("swept a directory that is not there")
	}
}
