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
)

// maxBytes bounds one buffer: keys and small secrets, never bulk data.
const maxBytes = 1 << 20

// ErrSize is the refusal of a buffer that would be empty or too large.
var ErrSize = errors.New("keybuf: a buffer holds 1 byte to 1 MiB")

// Buffer holds one secret. It has one owner, who calls Wipe; it is not safe to
// use its bytes while another goroutine wipes it.
type Buffer struct {
	region     []byte // whole pages
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
	b := &Buffer{region: region, size: n, protection: protection}
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

// Bytes returns the secret itself, not a copy; nil after Wipe.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.region == nil {
		return nil
	}
	return b.region[:b.size:b.size]
}

// Len returns the number of bytes; 0 after Wipe.
func (b *Buffer) Len() int { return len(b.Bytes()) }

// Equal compares two buffers in constant time for equal lengths. Wiped or nil
// buffers equal nothing.
func (b *Buffer) Equal(other *Buffer) bool {
	x, y := b.Bytes(), other.Bytes()
	return len(x) > 0 && subtle.ConstantTimeCompare(x, y) == 1
}

// Wipe clears the secret and gives the memory back. It may be called on nil
// and more than once.
func (b *Buffer) Wipe() {
	if b == nil || b.region == nil {
		return
	}
	Wipe(b.region)
	release(b.region)
	b.region = nil
	runtime.SetFinalizer(b, nil)
}

// Protection tells how the memory is protected.
func (b *Buffer) Protection() Protection { return b.protection }

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

// MarshalText refuses: a key has no text form.
func (b *Buffer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
