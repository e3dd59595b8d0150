package keybuf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const canary = "canary-7c1f9e"

func TestNoFormShowsTheSecret(t *testing.T) {
	b, err := Take([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		fmt.Fprintf(&out, verb+" ", b)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("key", "key", b)
	slog.New(slog.NewTextHandler(&out, nil)).Info("key", "key", b)
	data, err := json.Marshal(map[string]any{"key": b})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(data)
	if s := out.String(); strings.Contains(s, canary) || strings.Contains(s, fmt.Sprintf("%x", canary)) || strings.Contains(s, fmt.Sprintf("%X", canary)) {
		t.Errorf("the secret shows: %s", s)
	}
}

func TestTakeWipesTheOriginalAndWipeTheCopy(t *testing.T) {
	original := []byte(canary)
	b, err := Take(original)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(original, make([]byte, len(canary))) || string(b.Bytes()) != canary || b.Len() != len(canary) {
		t.Errorf("original %q, copy %q", original, b.Bytes())
	}
	b.Wipe()
	b.Wipe()
	if b.Bytes() != nil || b.Len() != 0 {
		t.Error("bytes after Wipe")
	}
	var none *Buffer
	none.Wipe()
	if none.Len() != 0 || none.Equal(none) || b.Equal(b) {
		t.Error("no buffer is equal to nothing")
	}
	tooLarge := bytes.Repeat([]byte{1}, maxBytes+1)
	if _, err := Take(tooLarge); err == nil || !bytes.Equal(tooLarge, make([]byte, maxBytes+1)) {
		t.Errorf("a secret that does not fit is wiped all the same: %v", err)
	}
}

func TestSizesAndEquality(t *testing.T) {
	for _, n := range []int{-1, 0, maxBytes + 1} {
		if _, err := New(n); err == nil {
			t.Errorf("a buffer of %d bytes", n)
		}
		if _, err := Random(n); err == nil {
			t.Errorf("a random buffer of %d bytes", n)
		}
	}
	a, err := Random(32)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Wipe()
	b, err := New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	if !bytes.Equal(b.Bytes(), make([]byte, 32)) || a.Equal(b) {
		t.Error("a new buffer is not zero, or a random one is")
	}
	copy(b.Bytes(), a.Bytes())
	if !a.Equal(b) {
		t.Error("equal buffers differ")
	}
}

// smaps returns the kernel's description of the mapping that holds a pointer.
func smaps(t *testing.T, p unsafe.Pointer) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	entry, inside := "", false
	for line := range strings.Lines(string(data)) {
		var from, to uintptr
		if n, err := fmt.Sscanf(line, "%x-%x ", &from, &to); n == 2 && err == nil {
			if inside {
				return entry
			}
			inside = from <= uintptr(p) && uintptr(p) < to
			entry = ""
		}
		entry += line
	}
	return entry
}

func TestKernelKeepsTheMemoryOutOfDumps(t *testing.T) {
	b, err := New(32)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	at := unsafe.Pointer(unsafe.SliceData(b.Bytes()))
	described := smaps(t, at)
	switch b.Protection() {
	case Secret:
		if !strings.Contains(described, "secretmem") {
			t.Errorf("not secret memory: %s", described)
		}
	default:
		if !strings.Contains(described, " dd") {
			t.Errorf("it would be dumped: %s", described)
		}
		if b.Protection() == Locked && !strings.Contains(described, " lo") {
			t.Errorf("it is not locked: %s", described)
		}
	}
	if b.Protection().String() == "" || Secret.String() == Unlocked.String() {
		t.Error("protections have no names")
	}
}

// TestWorksWhenTheLockLimitIsTooLow runs this test again without any lockable
// memory and without the privilege to lock all the same.
func TestWorksWhenTheLockLimitIsTooLow(t *testing.T) {
	if os.Getenv("KEYBUF_NO_LOCK") != "" {
		if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{}); err != nil {
			t.Fatal(err)
		}
		if os.Geteuid() == 0 {
			if err := unix.Setresuid(65534, 65534, 65534); err != nil {
				t.Fatal(err)
			}
		}
		b, err := Take([]byte(canary))
		if err != nil {
			t.Fatal(err)
		}
		if string(b.Bytes()) != canary || b.Protection() == Locked {
			t.Errorf("%q, %s", b.Bytes(), b.Protection())
		}
		b.Wipe()
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run", "^TestWorksWhenTheLockLimitIsTooLow$", "-test.v")
	cmd.Env = append(os.Environ(), "KEYBUF_NO_LOCK=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestWipeWaitsForUseAndNothingIsUsedAfterIt: at a lease's end another goroutine
// wipes a key that is perhaps in use.
func TestWipeWaitsForUseAndNothingIsUsedAfterIt(t *testing.T) {
	b, err := Take([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	wiped := make(chan struct{})
	err = b.Use(func(secret []byte) error {
		go func() { b.Wipe(); close(wiped) }()
		for range 1000 {
			runtime.Gosched()
		}
		select {
		case <-wiped:
			t.Error("wiped during its use")
		default:
		}
		if string(secret) != canary {
			t.Error("the secret is gone during its use")
		}
		return nil
	})
	<-wiped
	if err != nil || b.Len() != 0 {
		t.Errorf("%v, %d bytes", err, b.Len())
	}
	for _, gone := range []*Buffer{b, nil, {}} {
		if err := gone.Use(func([]byte) error { t.Error("used"); return nil }); !errors.Is(err, ErrWiped) {
			t.Error(err)
		}
		if c, err := gone.Clone(); c != nil || !errors.Is(err, ErrWiped) {
			t.Error(err)
		}
	}
	b, err = Take([]byte(canary))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Wipe()
	c, err := b.Clone()
	if err != nil || !c.Equal(b) || !b.Equal(b) {
		t.Error(err)
	}
	c.Wipe()
	if c.Equal(b) || b.Equal(c) || c.Equal(c) {
		t.Error("a wiped buffer equals something")
	}
}
