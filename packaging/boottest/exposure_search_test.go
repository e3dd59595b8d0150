package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// plantVariable has the test's program be a process that holds canaries.
const plantVariable = "EXPOSURE_TEST_PLANT"

func TestMain(m *testing.M) {
	if path := os.Getenv(plantVariable); path != "" {
		held, err := os.ReadFile(path)
		if err == nil {
			fmt.Println("held")
			_, err = io.Copy(io.Discard, os.Stdin)
		}
		if err != nil || len(held) == 0 {
			os.Exit(1)
		}
		os.Exit(int(held[0]) &^ 0xff) // held until here
	}
	os.Exit(m.Run())
}

// newTracer looks for canaries by name.
func newTracer(t *testing.T, secrets map[string]string) *tracer {
	t.Helper()
	var list []canary.Canary
	for name, text := range secrets {
		list = append(list, canary.Text(name, text))
	}
	x, err := canary.New(list...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := canary.NewSearcher(x)
	if err != nil {
		t.Fatal(err)
	}
	return &tracer{Searcher: s}
}

// seen are the places of the canaries found, in order, and fails the test on an error.
func (t *tracer) seen(tt *testing.T) (all []string) {
	tt.Helper()
	if err := errors.Join(t.errs...); err != nil {
		tt.Error(err)
	}
	for _, f := range t.traces {
		all = append(all, f.Place+": "+f.Canary)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	t.traces = nil
	return all
}

// TestAProcessIsSearchedWhole: its memory, environment and arguments, and not those of another.
func TestAProcessIsSearchedWhole(t *testing.T) {
	secrets := map[string]string{"memory": words(40), "environment": words(40), "argument": words(40)}
	file := filepath.Join(t.TempDir(), "held")
	if err := os.WriteFile(file, []byte(secrets["memory"]), 0o600); err != nil {
		t.Fatal(err)
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), own, secrets["argument"])
	cmd.Env = []string{plantVariable + "=" + file, "OTHER=" + secrets["environment"]}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "held\n" {
		t.Fatalf("%q, %v", line, err)
	}
	tr := newTracer(t, secrets)
	tr.process("its memory", "its start", cmd.Process.Pid, "child")
	// The stack has arguments and environment, too.
	want := []string{"its memory: argument", "its memory: environment", "its memory: memory", "its start: argument", "its start: environment"}
	if got := tr.seen(t); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Error(err)
	}
	tr.process("its memory", "its start", cmd.Process.Pid, "child")
	if got := tr.seen(t); len(got) != 0 {
		t.Errorf("found %q in a process that ended", got)
	}
}

// TestPagesThatAreNotThereAreNotMade: to read them would fill the guest's memory, and take most of the search's time.
func TestPagesThatAreNotThereAreNotMade(t *testing.T) {
	page := os.Getpagesize()
	region, err := unix.Mmap(-1, 0, 6*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(region)
	for _, i := range []int{1, 2, 5} {
		region[i*page] = byte(i)
	}
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Close()
	from := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(region))))
	for _, tc := range []struct {
		at, n, bytes int
		there        bool
	}{{0, 6, page, false}, {1, 6, 2 * page, true}, {3, 3, 2 * page, false}, {5, 1, page, true}} {
		if bytes, there := stretch(pages, from+uint64(tc.at*page), tc.n*page); bytes != tc.bytes || there != tc.there {
			t.Errorf("from page %d: %d bytes, %v; want %d, %v", tc.at, bytes, there, tc.bytes, tc.there)
		}
	}
	if bytes, there := stretch(pages, from+uint64(page)+10, 20); bytes != 20 || !there {
		t.Errorf("within a page: %d bytes, %v", bytes, there)
	}
	got := make([]byte, 6*page)
	for at := 0; at < len(got); {
		n, err := readMemory(os.Getpid(), pages, from+uint64(at), from+uint64(len(got)), got[at:])
		if err != nil || n == 0 {
			t.Fatal(n, err)
		}
		at += n
	}
	if !bytes.Equal(got, region) {
		t.Error("it reads other bytes")
	}
	if n, there := stretch(bytes.NewReader(nil), from, len(region)); n != len(region) || !there {
		t.Errorf("of what the kernel does not say: %d bytes, %v", n, there)
	}
}

func TestWhichMappingsAreSearched(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-00401000 rw-p 00000000 00:00 0 [heap]":               true,
		"00400000-00401000 rw-p 00000000 fe:00 12 /usr/bin/x":          true,
		"00400000-00401000 r--p 00000000 00:00 0":                      true,
		"00400000-00401000 rw-s 00000000 00:01 7 /secretmem (deleted)": true,
		"00400000-00401000 r-xp 00000000 fe:00 12 /usr/bin/x":          false,
		"00400000-00401000 ---p 00000000 00:00 0":                      false,
		"00400000-00401000 r--p 00000000 00:00 0 [vvar]":               false,
		"00400000-00401000 rw-s 00000000 00:06 12 /dev/mem":            false,
		"not a mapping": false,
		"":              false,
	} {
		from, to, ok := private(line)
		if ok != want || ok && (from != 0x400000 || to != 0x401000) {
			t.Errorf("%q: %#x to %#x, %v", line, from, to, ok)
		}
	}
}

// TestFilesAreSearchedAsAsked: those that changed since, but for some.
func TestFilesAreSearchedAsAsked(t *testing.T) {
	secrets := map[string]string{"new": words(40), "old": words(40), "left out": words(40), "deep": words(40)}
	dir := t.TempDir()
	for name, path := range map[string]string{"new": "a", "old": "b", "left out": "c/d", "deep": "e/f/g"} {
		path = filepath.Join(dir, path)
		if err := writeFile(path, secrets[name]); err != nil {
			t.Fatal(err)
		}
		if name == "old" {
			if err := os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Symlink(filepath.Join(dir, "b"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	tr := newTracer(t, secrets)
	tr.files("x", dir, time.Unix(2, 0), filepath.Join(dir, "c"))
	if got, want := tr.seen(t), []string{"x: deep", "x: new"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	tr.files("x", filepath.Join(dir, "none"), time.Time{})
	tr.file("x", filepath.Join(dir, "none"))
	if got := tr.seen(t); len(got) != 0 {
		t.Errorf("found %q where nothing is", got)
	}
}

// TestALargeFileIsSearchedWhereItChanged: what was found is found each time, and what comes to be found anywhere,
// across blocks as well.
func TestALargeFileIsSearchedWhereItChanged(t *testing.T) {
	secret := words(40)
	tr := newTracer(t, map[string]string{"a": secret})
	l := &large{seed: maphash.MakeSeed(), clean: map[string][]uint64{}}
	path := filepath.Join(t.TempDir(), "image")
	data := make([]byte, 5*largeBlock+100)
	look := func(what string, offsets ...int64) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l.search(tr, "x", path)
		var got []int64
		for _, f := range tr.traces {
			if f.Form == "raw" {
				got = append(got, f.Offset)
			}
		}
		tr.seen(t)
		if !slices.Equal(got, offsets) {
			t.Errorf("%s: found at %v, want %v", what, got, offsets)
		}
	}
	look("nothing")
	copy(data[3*largeBlock+7:], secret)
	look("one", 3*largeBlock+7)
	look("the same again", 3*largeBlock+7)
	copy(data[largeBlock-20:], secret[:16+4+3])
	look("across blocks as well", largeBlock-20, 3*largeBlock+7)
	clear(data)
	copy(data[2*largeBlock-15:], secret[:16])
	look("a window across blocks", 2*largeBlock-15)
	clear(data)
	look("gone")
	copy(data[5*largeBlock+84:], secret[:16])
	look("at the end", 5*largeBlock+84)
	data = bytes.Repeat([]byte{0}, 10)
	look("cut")
}

// TestAGuestsMemoryIsSearched where its emulator has it, which here is this process.
func TestAGuestsMemoryIsSearched(t *testing.T) {
	const size = 3 * largeBlock
	if path, err := memoryOf(os.Getpid(), size); err == nil {
		t.Errorf("found %s, and there is none", path)
	}
	fd, err := unix.MemfdCreate("memory-backend-memfd", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	memory := os.NewFile(uintptr(fd), "memory")
	defer memory.Close()
	if err := memory.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if path, err := memoryOf(os.Getpid(), size+1); err == nil {
		t.Errorf("found %s, which is of another size", path)
	}
	path, err := memoryOf(os.Getpid(), size)
	if err != nil {
		t.Fatal(err)
	}
	secret := words(40)
	if _, err := memory.WriteAt([]byte(secret), largeBlock+5); err != nil {
		t.Fatal(err)
	}
	tr := newTracer(t, map[string]string{"a": secret})
	l := &large{seed: maphash.MakeSeed(), clean: map[string][]uint64{}}
	for range 2 {
		l.search(tr, "its memory", path)
		if got, want := tr.seen(t), []string{"its memory: a"}; !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

func TestHalvesSayNothingAlone(t *testing.T) {
	secret, dir := words(40), t.TempDir()
	if err := halve(dir, "prompt", []byte(secret), random(len(secret))); err != nil {
		t.Fatal(err)
	}
	tr := newTracer(t, map[string]string{"prompt": secret})
	tr.files("halves", dir, time.Time{})
	if got := tr.seen(t); len(got) != 0 {
		t.Errorf("found %q", got)
	}
	whole, err := join(dir, "prompt")
	if err != nil || string(whole) != secret {
		t.Errorf("joined %q, %v", whole, err)
	}
	if err := os.Truncate(filepath.Join(dir, "prompt.a"), 3); err != nil {
		t.Fatal(err)
	}
	if _, err := join(dir, "prompt"); err == nil {
		t.Error("halves of different lengths were joined")
	}
}

func TestPagesAreNamedByTheirFlags(t *testing.T) {
	for want, flags := range map[string]uint64{"free": 1 << 10, "kernel object": 1 << 7, "anonymous": 1<<12 | 1<<5 | 1<<3, "mapped file": 1<<11 | 1<<5, "file": 1 << 5, "kernel or free (flags 0x0)": 0} {
		if got := kindOfPage(flags); got != want {
			t.Errorf("%#x: %q, want %q", flags, got, want)
		}
	}
}
