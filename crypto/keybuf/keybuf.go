// Package keybuf keeps keys in memory that is locked, left out of core dumps,
// wiped when its owner is done, and impossible to print by accident.
//
// It guarantees that a Buffer's bytes lie outside the Go heap, that Wipe
// clears them, and that no formatting, logging or encoding of a Buffer shows
// them. It trusts the kernel. It refuses empty buffers, and works without
// locked memory (with Protection telling so) where limits forbid it. Every
// package that holds a secret calls it.
package keybuf

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"unsafe"
)

// maxBytes bounds one buffer: keys and small secrets, never bulk data.
const maxBytes = 1 << 20

// ErrSize is the refusal of a buffer that would be empty or too large.
var ErrSize = errors.New("keybuf: a buffer holds 1 byte to 1 MiB")

// Buffer holds one secret. It has one owner, who calls Wipe; it is not safe to
// use its bytes while another goroutine wipes it.
//
// The address is no slice on purpose. A struct that holds a Buffer in a field
// that is not exported is printed by reflection, past Buffer's own methods, and
// fmt follows pointers and slices under a verb that does not suit them.
type Buffer struct {
	address    unsafe.Pointer // of whole pages outside the Go heap; nil after Wipe
	pages      int            // bytes mapped
	size       int
	protection Protection
}

// New returns a zeroed buffer of n bytes.
func New(n int) (*Buffer, error) {
	if n < 1 || n > maxBytes {
		return nil, ErrSize
	}
	region, protection, err := allocate(n)
	if err != nil {
		return nil, fmt.Errorf("keybuf: %w", err)
	}
	b := &Buffer{address: unsafe.Pointer(unsafe.SliceData(region)), pages: len(region), size: n, protection: protection}
	// A buffer that its owner forgot is wiped all the same, later.
	runtime.SetFinalizer(b, (*Buffer).Wipe)
	return b, nil
}

// Random returns a buffer of n bytes from the system's random source.
func Random(n int) (*Buffer, error) {
	b, err := New(n)
	if err != nil {
		return nil, err
	}
	rand.Read(b.Bytes()) // never returns an error (crypto/rand)
	runtime.KeepAlive(b)
	return b, nil
}

// Take copies secret into a new buffer and wipes the original, also when it fails.
func Take(secret []byte) (*Buffer, error) {
	defer Wipe(secret)
	b, err := New(len(secret))
	if err != nil {
		return nil, err
	}
	copy(b.Bytes(), secret)
	return b, nil
}

// Bytes returns the secret itself, not a copy; nil after Wipe. The Buffer must
// stay reachable while the bytes are in use, as it does under a deferred Wipe:
// the bytes alone do not keep it, and an unreachable Buffer is wiped.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.address == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.address), b.size)
}

// Len returns the number of bytes; 0 after Wipe.
func (b *Buffer) Len() int { return len(b.Bytes()) }

// Equal compares two buffers in constant time for equal lengths. Wiped or nil
// buffers equal nothing.
func (b *Buffer) Equal(other *Buffer) bool {
	defer runtime.KeepAlive(b)
	defer runtime.KeepAlive(other)
	x, y := b.Bytes(), other.Bytes()
	return len(x) > 0 && subtle.ConstantTimeCompare(x, y) == 1
}

// Wipe clears the secret and gives the memory back. It may be called on nil
// and more than once.
func (b *Buffer) Wipe() {
	if b == nil || b.address == nil {
		return
	}
	region := unsafe.Slice((*byte)(b.address), b.pages)
	Wipe(region)
	release(region)
	b.address = nil
	runtime.SetFinalizer(b, nil)
}

// Protection tells how the memory is protected.
// Unlocked for nil.
func (b *Buffer) Protection() Protection {
	if b == nil {
		return Unlocked
	}
	return b.protection
}

// Wipe clears ordinary memory that held a secret for a moment.
func Wipe(b []byte) {
	clear(b)
	runtime.KeepAlive(b)
}

const redacted = "[redacted key]"

// LogValue shows slog that there is a key, and nothing of it.
func (b *Buffer) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format serves every verb of fmt with the same words.
func (b *Buffer) Format(s fmt.State, _ rune) {
	_, _ = s.Write([]byte(redacted)) // fmt offers no way to report it
}

// MarshalText keeps encoders from the bytes: they get the same words.
func (b *Buffer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
