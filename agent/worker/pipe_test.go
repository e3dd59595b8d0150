package worker

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// errPanic is any error: a panic has none of its own.
var errPanic = errors.New("a panic")

func TestFeed(t *testing.T) {
	broken := errors.New("the disk is gone")
	cases := map[string]struct {
		source func(io.Writer) error
		read   bool
		want   error
	}{
		"read whole":           {func(w io.Writer) error { _, err := io.WriteString(w, "abc"); return err }, true, nil},
		"a broken source":      {func(io.Writer) error { return broken }, true, broken},
		"a source that panics": {func(io.Writer) error { panic(broken) }, true, errPanic},
		"a worker that left": {func(w io.Writer) error {
			_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20)))
			return err
		}, false, nil},
	}
	for name, c := range cases {
		f, err := NewFeed(c.source)
		if err != nil {
			t.Fatal(err)
		}
		if c.read {
			got, err := io.ReadAll(f.Reader)
			if err != nil || c.want == nil && string(got) != "abc" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
		}
		if err := f.End(); c.want != errPanic && !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestDrain(t *testing.T) {
	d, err := NewDrain(4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(d.Writer, "abcdef"); err != nil {
		t.Fatal(err)
	}
	if got := d.End(); string(got) != "abcd" {
		t.Errorf("%q", got)
	}
	if d, err = NewDrain(4); err != nil {
		t.Fatal(err)
	}
	if got := d.End(); len(got) != 0 {
		t.Errorf("%q came from nobody", got)
	}
}

// Who ends a task does not wait for a worker that keeps its ends of the pipes open.
func TestStopWaitsForNoWorker(t *testing.T) {
	f, err := NewFeed(func(w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", 1<<20)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDrain(4)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []*os.File{f.Reader, d.Writer} {
		fd, err := syscall.Dup(int(file.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(fd) // the worker's
	}
	if _, err := io.WriteString(d.Writer, "ab"); err != nil {
		t.Fatal(err)
	}
	f.Stop()
	d.Stop()
	if err := f.End(); err != nil {
		t.Error(err)
	}
	if got := d.End(); !strings.HasPrefix("ab", string(got)) {
		t.Errorf("%q", got)
	}
}
