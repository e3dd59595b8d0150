package keybuf

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// holder keeps a buffer where reflection passes by its methods.
type holder struct {
	name  string
	key   *Buffer
	value Buffer
	any   any
}

// TestNoHolderShowsTheSecret prints structs around a buffer. Under a verb that
// does not suit a pointer, fmt follows it and prints what it finds.
func TestNoHolderShowsTheSecret(t *testing.T) {
	b, err := Take([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	var out bytes.Buffer
	h := holder{name: "h", key: b, value: *b, any: b}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%t", "%e", "%U", "%Z"} {
		for _, arg := range []any{h, &h, *b, []*Buffer{b}, []Buffer{*b}, map[string]*Buffer{"k": b}, fmt.Errorf("%v", b)} {
			fmt.Fprintf(&out, verb+"\n", arg)
		}
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "holder", h, "value", *b, slog.Group("g", "key", b))
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "holder", h, "value", *b)
	if data, err := json.Marshal([]any{h, *b}); err == nil {
		out.Write(data)
	}
	for _, form := range []string{"%s", "%x", "%X", "%d", "%v", "%#v", "%q", "%c", "%U"} {
		shown := fmt.Sprintf(form, []byte(canary))
		if shown = strings.Trim(shown, "[]"); strings.Contains(out.String(), shown[:len(shown)/2]) {
			t.Errorf("the secret shows, as %s", form)
		}
	}
}

// TestWipeClearsThePagesThemselves looks at the pages through a second mapping
// that outlives the first. Unmapping alone would leave the secret in them.
func TestWipeClearsThePagesThemselves(t *testing.T) {
	page := os.Getpagesize()
	region, err := unix.Mmap(-1, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	b := &Buffer{mu: new(sync.RWMutex), address: unsafe.Pointer(unsafe.SliceData(region)), pages: page, size: page}
	copy(b.Bytes()[page-len(canary):], canary)
	// An old size of 0 asks mremap(2) for a second mapping of the same pages.
	second, err := unix.MremapPtr(b.address, 0, nil, uintptr(page), unix.MREMAP_MAYMOVE)
	if err != nil {
		t.Fatal(err)
	}
	seen := unsafe.Slice((*byte)(second), page)
	if !bytes.HasSuffix(seen, []byte(canary)) {
		t.Fatal("the second mapping is of something else")
	}
	b.Wipe()
	if !bytes.Equal(seen, make([]byte, page)) {
		t.Error("the pages hold the secret after Wipe")
	}
	if err := unix.MunmapPtr(second, uintptr(page)); err != nil {
		t.Error(err)
	}
}

// TestSecretMemoryWhereTheKernelHasIt asks the kernel directly, so that a wrong
// call by this package does not pass for a kernel without it.
func TestSecretMemoryWhereTheKernelHasIt(t *testing.T) {
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		t.Skipf("the kernel gives no secret memory: %v", err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	b, err := New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	if b.Protection() != Secret {
		t.Errorf("the kernel has secret memory, and the buffer is %s", b.Protection())
	}
	if flags := smaps(t, b.address); !strings.Contains(flags, " dc") {
		t.Errorf("a forked child would share it: %s", flags)
	}
}

// found counts a secret in everything that this process can read of itself.
// It is told the secret's complement, so as not to hold it.
func found(t *testing.T, complement []byte) int {
	t.Helper()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	const step = 1 << 20
	const maxScan = 256 << 20 // larger ones are the race detector's, without our data
	chunk, n := make([]byte, step), 0
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if got, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); got != 3 || err != nil || mode[:2] != "rw" || to-from > maxScan {
			continue
		}
		for at := from; at < to; at += step - int64(len(complement)) {
			got, _ := memory.ReadAt(chunk[:min(step, to-at)], at)
			for i := 0; i+len(complement) <= got; i++ {
				next := bytes.IndexByte(chunk[i:got-len(complement)+1], ^complement[0])
				if next < 0 {
					break
				}
				i += next
				same := 1
				for same < len(complement) && chunk[i+same] == ^complement[same] {
					same++
				}
				if same == len(complement) {
					n++
				}
			}
			clear(chunk)
		}
	}
	return n
}

func TestNothingIsLeftAfterWipe(t *testing.T) {
	for name, allocator := range map[string]func(int) ([]byte, Protection, error){"best": allocate, "fallback": anonymousMemory} {
		region, protection, err := allocator(os.Getpagesize())
		if err != nil {
			t.Fatal(err)
		}
		b := &Buffer{mu: new(sync.RWMutex), address: unsafe.Pointer(unsafe.SliceData(region)), pages: len(region), size: 32, protection: protection}
		rand.Read(b.Bytes())
		complement := make([]byte, 32)
		for i, x := range b.Bytes() {
			complement[i] = ^x
		}
		want := 1
		if protection == Secret {
			want = 0 // not even the kernel reads it, on anyone's behalf
		}
		if n := found(t, complement); n != want {
			t.Errorf("%s: the secret is readable at %d places, not %d", name, n, want)
		}
		b.Wipe()
		if n := found(t, complement); n != 0 {
			t.Errorf("%s: after Wipe the secret is readable at %d places", name, n)
		}
	}
}

// TestFallbackIsKeptOutOfDumpsAndChildren looks at the memory that serves where
// the kernel has no memfd_secret.
func TestFallbackIsKeptOutOfDumpsAndChildren(t *testing.T) {
	region, protection, err := anonymousMemory(os.Getpagesize())
	if err != nil {
		t.Fatal(err)
	}
	defer release(region)
	described := smaps(t, unsafe.Pointer(unsafe.SliceData(region)))
	_, flags, _ := strings.Cut(described, "VmFlags:")
	for _, flag := range []string{"dd", "wf"} { // do not dump, wipe on fork
		if !strings.Contains(flags, " "+flag) {
			t.Errorf("flag %s is absent: %s", flag, flags)
		}
	}
	if (protection == Locked) != strings.Contains(flags, " lo") {
		t.Errorf("%s, and the kernel says %s", protection, flags)
	}
	if _, _, err := anonymousMemory(-1); err == nil {
		t.Error("memory of a negative size")
	}
	if secretMemory(-1) != nil {
		t.Error("secret memory of a negative size")
	}
	for _, p := range []Protection{Unlocked, Locked, Secret} {
		if p.String() == "" || ((*Buffer)(nil)).Protection() != Unlocked {
			t.Error("a protection without a name")
		}
	}
}

func TestUseAllocatesNothing(t *testing.T) {
	a, err := Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Wipe()
	b, err := Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	if n := testing.AllocsPerRun(100, func() { _ = a.Bytes()[0]; _ = a.Equal(b); _ = a.Len() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkNewAndWipe(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		k, err := New(32)
		if err != nil {
			b.Fatal(err)
		}
		k.Wipe()
	}
}

// TestBriefBuffersShareClearedPages: a page holds nothing when the next buffer gets it, no
// more than maxSpare are kept, and none that could be swapped.
func TestBriefBuffersShareClearedPages(t *testing.T) {
	first, err := TakeBriefly([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	if first.Protection() == Unlocked {
		t.Skip("no memory can be locked here")
	}
	page := first.address
	first.Wipe()
	second, err := TakeBriefly([]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Wipe()
	if second.address != page {
		t.Error("the page was not used again")
	}
	if got := unsafe.Slice((*byte)(second.address), second.pages); !bytes.Equal(got[1:], make([]byte, len(got)-1)) || got[0] != 1 {
		t.Error("the page holds more than the new secret")
	}
	if first.Bytes() != nil || first.Len() != 0 {
		t.Error("the wiped buffer still has its page")
	}
	first.Wipe() // again: it must not give the second one's page away
	third, err := TakeBriefly([]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	defer third.Wipe()
	if third.address == second.address {
		t.Error("two buffers have one page")
	}

	var many []*Buffer
	for range maxSpare + 8 {
		b, err := TakeBriefly([]byte{3})
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, b)
	}
	for _, b := range many {
		b.Wipe()
	}
	if got := len(spare.pages); got > maxSpare {
		t.Errorf("%d pages are kept, the limit is %d", got, maxSpare)
	}
	if keep(make([]byte, os.Getpagesize()), Unlocked) {
		t.Error("a page that could be swapped is kept")
	}
	for _, n := range []int{0, maxBytes + 1} {
		if _, err := TakeBriefly(make([]byte, n)); !errors.Is(err, ErrSize) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
