// Package keybuf keeps keys in memory that is locked, left out of core dumps, wiped when its
// owner is done, and impossible to print by accident.
//
// The bytes of a [Buffer] are outside the Go heap, Wipe clears them, and no formatting, logging or
// encoding of a Buffer shows them. The package trusts the kernel. It refuses empty buffers. Where
// limits forbid locked memory it works without, and Protection says so. Every package that holds
// a secret calls it.
package keybuf

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"unsafe"
)

// maxBytes bounds one buffer: keys and small secrets, never bulk data.
const maxBytes = 1 << 20

// ErrWiped is returned for the use of a wiped or absent buffer.
var ErrWiped = errors.New("keybuf: the secret was wiped")

// ErrSize is the refusal of a buffer that would be empty or too large.
var ErrSize = errors.New("keybuf: a buffer must hold 1 byte to 1 MiB")

// Buffer holds one secret. It has one owner, who calls Wipe. If another goroutine may wipe it at
// any time, for example at the end of a lease, use its bytes through Use: the result of Bytes
// must not be touched during or after a Wipe.
//
// The address is deliberately not a slice. A struct that holds a Buffer in an unexported field
// is printed by reflection, past Buffer's own methods, and for an unsuitable verb fmt follows
// pointers and slices.
type Buffer struct {
	mu         *sync.RWMutex  // Wipe waits for Use; a pointer, so that copies share it
	address    unsafe.Pointer // of whole pages outside the Go heap; nil after Wipe
	pages      int            // bytes mapped
	size       int
	protection Protection
	brief      bool // the pages are kept for later ones
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
	return newBuffer(region, protection, n), nil
}

func newBuffer(region []byte, protection Protection, n int) *Buffer {
	b := &Buffer{mu: new(sync.RWMutex), address: unsafe.Pointer(unsafe.SliceData(region)), pages: len(region), size: n, protection: protection}
	// A buffer that its owner forgot is wiped all the same, later.
	runtime.SetFinalizer(b, (*Buffer).Wipe)
	return b
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

// Take copies secret into a new buffer and wipes the original, even if it fails.
func Take(secret []byte) (*Buffer, error) {
	defer Wipe(secret)
	b, err := New(len(secret))
	if err != nil {
		return nil, err
	}
	copy(b.Bytes(), secret)
	return b, nil
}

// TakeBriefly is Take for a secret that its caller wipes before it returns, where that happens
// often: to map, lock and unmap a page costs fifty times as much as the copy. Wipe clears the
// page and keeps it for the next such buffer, so the processor does not catch a use of the bytes
// after Wipe, as it does for other buffers.
func TakeBriefly(secret []byte) (*Buffer, error) {
	if len(secret) < 1 || len(secret) > maxBytes {
		return Take(secret)
	}
	defer Wipe(secret)
	var b *Buffer
	if p, ok := reuse(len(secret)); ok {
		b = newBuffer(p.region, p.protection, len(secret))
	} else {
		var err error
		if b, err = New(len(secret)); err != nil {
			return nil, err
		}
	}
	b.brief = true
	copy(b.Bytes(), secret)
	return b, nil
}

// Bytes returns the secret itself, not a copy; nil after Wipe. The Buffer must
// stay reachable while the bytes are in use, as it does under a deferred Wipe:
// the bytes alone do not keep it, and an unreachable Buffer is wiped.
func (b *Buffer) Bytes() []byte {
	if b == nil || b.mu == nil {
		return nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.bytes()
}

// bytes is Bytes; mu is held.
func (b *Buffer) bytes() []byte {
	if b.address == nil {
		return nil
	}
	return unsafe.Slice((*byte)(b.address), b.size)
}

// Use calls f with the secret and keeps a Wipe waiting until f returns. f must be
// short, must not keep the bytes and must not wipe the buffer. On a wiped or nil
// buffer f is not called and the error is ErrWiped.
func (b *Buffer) Use(f func(secret []byte) error) error {
	if b == nil || b.mu == nil {
		return ErrWiped
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	secret := b.bytes()
	if secret == nil {
		return ErrWiped
	}
	defer runtime.KeepAlive(b)
	return f(secret)
}

// Clone returns another buffer with the same secret, which its caller owns.
func (b *Buffer) Clone() (out *Buffer, err error) {
	err = b.Use(func(secret []byte) error {
		if out, err = New(len(secret)); err == nil {
			copy(out.Bytes(), secret)
		}
		return err
	})
	return out, err
}

// Len returns the number of bytes; 0 after Wipe.
func (b *Buffer) Len() int { return len(b.Bytes()) }

// Equal compares two buffers in constant time for equal lengths. Wiped or nil
// buffers equal nothing.
func (b *Buffer) Equal(other *Buffer) bool {
	if b == other {
		return b.Len() > 0
	}
	same := false
	err := b.Use(func(x []byte) error {
		return other.Use(func(y []byte) error {
			same = subtle.ConstantTimeCompare(x, y) == 1
			return nil
		})
	})
	return err == nil && same
}

// Wipe clears the secret and gives the memory back. It may be called on nil,
// more than once and by any goroutine; it waits for Use.
func (b *Buffer) Wipe() {
	if b == nil || b.mu == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.address == nil {
		return
	}
	region := unsafe.Slice((*byte)(b.address), b.pages)
	Wipe(region)
	if !b.brief || !keep(region, b.protection) {
		release(region)
	}
	b.address = nil
	runtime.SetFinalizer(b, nil)
}

// Protection says how the memory is protected. It is Unlocked for nil.
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

// LogValue tells slog that there is a key, and nothing about it.
func (b *Buffer) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format prints the same words for every verb of fmt.
func (b *Buffer) Format(s fmt.State, _ rune) {
	_, _ = s.Write([]byte(redacted)) // fmt offers no way to report it
}

// MarshalText keeps the bytes from encoders: they get the same words.
func (b *Buffer) MarshalText() ([]byte, error) { return []byte(redacted), nil }
