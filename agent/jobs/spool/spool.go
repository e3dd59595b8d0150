// Package spool keeps large inputs of jobs on disk, encrypted: a sequence of sealed chunks,
// written and read once from front to back.
//
// A file that reads to its end is complete, in order, and was written under the same key and
// name. A file that was changed, truncated, reordered or renamed is refused, as is one under
// another key. Memory is one chunk, whatever the length. [Room] limits what is stored in a
// directory, in all and for each user.
//
// Package fed/store writes its vectors with it.
package spool

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anchorhold/anchorhold/crypto/keybuf"
)

// The format: magic, 32 random bytes from which the file's own key is derived, then
// chunks of chunkBytes plaintext and a 16-byte tag each (AES-256-GCM), the nonce
// being the chunk's number and a mark on the last one, which may be short or empty
// (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
const (
	magic      = "AHSPOOL1"
	saltBytes  = 32
	chunkBytes = 64 << 10
	tagBytes   = 16
	keyLabel   = "anchorhold/spool/1 "
)

// ErrDamaged means that a file was changed, or was written under another key or name.
var ErrDamaged = errors.New("the spool file is damaged, or was written under another key or name")

// Key lends the key of a file for the time of a call, or returns why the key is gone. A
// [keybuf.Buffer] is one.
type Key interface {
	Use(f func(secret []byte) error) error
}

// chunks seals or opens chunk after chunk.
type chunks struct {
	aead cipher.AEAD
	next uint64
}

func newChunks(key Key, name string, salt []byte) (*chunks, error) {
	var derived []byte
	if err := key.Use(func(secret []byte) error {
		derived = keybuf.Derive(secret, salt, keyLabel+name, 32)
		return nil
	}); err != nil {
		return nil, err
	}
	defer keybuf.Wipe(derived)
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &chunks{aead: aead}, err
}

func (c *chunks) nonce(last bool) []byte {
	n := make([]byte, 12)
	binary.BigEndian.PutUint64(n[3:11], c.next)
	if last {
		n[11] = 1
	}
	c.next++
	return n
}

// Size is the length of a file that holds plain bytes of plaintext.
func Size(plain int64) int64 {
	return int64(len(magic)) + saltBytes + plain + tagBytes*(plain/chunkBytes+1)
}

// Writer writes one file.
type Writer struct {
	w      io.Writer
	chunks *chunks
	buf    []byte // plaintext that waits for its chunk
	sealed []byte
}

// NewWriter begins a file. It uses the key before it returns, and no longer.
func NewWriter(w io.Writer, key Key, name string) (*Writer, error) {
	salt := make([]byte, saltBytes)
	if _, err := rand.Read(salt); err != nil {
		return nil, err
	}
	c, err := newChunks(key, name, salt)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(append([]byte(magic), salt...)); err != nil {
		return nil, err
	}
	return &Writer{w: w, chunks: c, buf: make([]byte, 0, chunkBytes)}, nil
}

// Write takes bytes.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if len(w.buf) == chunkBytes {
			if err := w.flush(false); err != nil {
				return n, err
			}
		}
		k := min(chunkBytes-len(w.buf), len(p))
		w.buf = append(w.buf, p[:k]...)
		p, n = p[k:], n+k
	}
	return n, nil
}

// Close writes the last chunk. Without it the file does not read to its end.
func (w *Writer) Close() error { return w.flush(true) }

func (w *Writer) flush(last bool) error {
	w.sealed = w.chunks.aead.Seal(w.sealed[:0], w.chunks.nonce(last), w.buf, nil)
	clear(w.buf)
	w.buf = w.buf[:0]
	_, err := w.w.Write(w.sealed)
	return err
}

// Reader reads one file.
type Reader struct {
	r      io.Reader
	chunks *chunks
	sealed []byte // one chunk and one byte more, to know the last
	held   int    // bytes of sealed that are read ahead
	plain  *bytes.Reader
	buf    []byte
	ended  bool
}

// NewReader begins to read. It uses the key before it returns, and no longer.
func NewReader(r io.Reader, key Key, name string) (*Reader, error) {
	head := make([]byte, len(magic)+saltBytes)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:len(magic)]) != magic {
		return nil, errors.Join(ErrDamaged, err)
	}
	c, err := newChunks(key, name, head[len(magic):])
	return &Reader{r: r, chunks: c, sealed: make([]byte, chunkBytes+tagBytes+1), plain: bytes.NewReader(nil), buf: make([]byte, 0, chunkBytes)}, err
}

// Read returns bytes that are verified; io.EOF only at the true end.
func (r *Reader) Read(p []byte) (int, error) {
	for r.plain.Len() == 0 {
		if r.ended {
			return 0, io.EOF
		}
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	return r.plain.Read(p)
}

func (r *Reader) open() error {
	n, err := io.ReadFull(r.r, r.sealed[r.held:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	n += r.held
	last := n < len(r.sealed)
	chunk := r.sealed[:min(n, chunkBytes+tagBytes)]
	plain, err := r.chunks.aead.Open(r.buf[:0], r.chunks.nonce(last), chunk, nil)
	if err != nil {
		return fmt.Errorf("chunk %d: %w", r.chunks.next-1, ErrDamaged)
	}
	r.ended, r.held = last, n-len(chunk)
	copy(r.sealed, r.sealed[len(chunk):n])
	r.plain.Reset(plain)
	return nil
}

// Wipe clears the plaintext that was read last.
func (r *Reader) Wipe() { clear(r.buf[:cap(r.buf)]) }
