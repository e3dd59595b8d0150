package gguf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Magic is the first four bytes of every GGUF file.
const Magic = "GGUF"

var errTruncated = errors.New("the file ends inside its header: it is truncated or damaged, so download or convert it again")

// Parse reads the header and the tensor directory of a GGUF file of size bytes.
// Tensor data is not read, but each tensor is checked to lie in the file.
func Parse(r io.ReaderAt, size int64) (*File, error) {
	c := &cursor{r: r, limit: min(size, MaxHeaderBytes)}
	f, err := c.file()
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	if err := f.checkInside(size); err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	return f, nil
}

// ParseHeader reads the same from a header that was stored apart from its tensor data:
// File.HeaderBytes, with or without the zero padding up to DataOffset. The File keeps b; the
// caller must not change it afterwards.
func ParseHeader(b []byte) (*File, error) {
	c := &cursor{buf: b, limit: int64(len(b))}
	if len(b) > MaxHeaderBytes+MaxAlignment {
		return nil, fmt.Errorf("gguf: the header has %d bytes, the limit is %d", len(b), MaxHeaderBytes)
	}
	f, err := c.file()
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	rest := b[len(f.HeaderBytes):]
	if int64(len(b)) > f.DataOffset || len(bytes.Trim(rest, "\x00")) != 0 {
		return nil, errors.New("gguf: bytes follow the header")
	}
	return f, nil
}

// cursor reads a header front to back, fetching bytes as they are needed, so
// that no buffer is larger than twice what the file really holds.
type cursor struct {
	r     io.ReaderAt // nil if buf holds everything
	limit int64       // end of what may be read
	buf   []byte
	pos   int
}

// ensure makes n more bytes available at pos, or fails.
func (c *cursor) ensure(n int) error {
	end := int64(c.pos) + int64(n)
	if end > c.limit {
		if c.limit == MaxHeaderBytes {
			return fmt.Errorf("header exceeds %d bytes or is truncated", MaxHeaderBytes)
		}
		return errTruncated
	}
	for int64(len(c.buf)) < end {
		if c.r == nil {
			return errTruncated
		}
		have := len(c.buf)
		want := min(c.limit-int64(have), int64(max(have, 1<<16)))
		c.buf = slices.Grow(c.buf, int(want))[:have+int(want)]
		got, err := c.r.ReadAt(c.buf[have:], int64(have))
		if got < int(want) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errTruncated
			}
			return err
		}
	}
	return nil
}

func (c *cursor) uint32() (uint32, error) {
	if err := c.ensure(4); err != nil {
		return 0, err
	}
	v := le32(c.buf[c.pos:])
	c.pos += 4
	return v, nil
}

func (c *cursor) uint64() (uint64, error) {
	if err := c.ensure(8); err != nil {
		return 0, err
	}
	v := le64(c.buf[c.pos:])
	c.pos += 8
	return v, nil
}

// span reads a length-prefixed string and returns where it lies.
func (c *cursor) span(limit uint64) (start, size uint32, err error) {
	n, err := c.uint64()
	if err != nil {
		return 0, 0, err
	}
	if n > limit {
		return 0, 0, fmt.Errorf("a string has %d bytes, the limit is %d", n, limit)
	}
	if err := c.ensure(int(n)); err != nil {
		return 0, 0, err
	}
	start = uint32(c.pos)
	c.pos += int(n)
	return start, uint32(n), nil
}

// name reads a key or tensor name: printable ASCII, so that it can stand in
// messages and file formats unescaped.
func (c *cursor) name() (string, error) {
	start, size, err := c.span(MaxNameBytes)
	if err != nil {
		return "", err
	}
	b := c.buf[start : start+size]
	if len(b) == 0 {
		return "", errors.New("empty name")
	}
	for _, ch := range b {
		if ch <= ' ' || ch > '~' {
			return "", fmt.Errorf("name %q contains characters other than printable ASCII", b)
		}
	}
	return string(b), nil
}

func (c *cursor) file() (*File, error) {
	f := &File{values: map[string]value{}, byName: map[string]int{}, alignment: defaultAlignment}
	tensors, keys, err := c.preamble(f)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if err := c.keyValue(f); err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
	}
	f.HeaderBytes = c.buf // Uint below reads from it
	if err := f.readAlignment(); err != nil {
		return nil, err
	}
	for i := range tensors {
		if err := c.tensor(f); err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
	}
	f.HeaderBytes = c.buf[:c.pos:c.pos]
	if cap(c.buf)-c.pos > c.pos/8 && c.r != nil {
		f.HeaderBytes = bytes.Clone(f.HeaderBytes) // do not hold read-ahead for the model's life
	}
	f.DataOffset = alignUp(int64(c.pos), f.alignment)
	return f, f.checkOverlap()
}

// preamble reads magic, version and the two counts.
func (c *cursor) preamble(f *File) (tensors, keys uint64, err error) {
	if err := c.ensure(4); err != nil {
		return 0, 0, err
	}
	if string(c.buf[:4]) != Magic {
		return 0, 0, fmt.Errorf("not a GGUF file: it starts with %q, want %q", c.buf[:4], Magic)
	}
	c.pos = 4
	if f.Version, err = c.uint32(); err != nil {
		return 0, 0, err
	}
	if f.Version&0xffff == 0 && f.Version != 0 {
		return 0, 0, errors.New("big-endian files are not supported")
	}
	if f.Version != 2 && f.Version != 3 {
		return 0, 0, fmt.Errorf("version %d is not supported; want 2 or 3", f.Version)
	}
	if tensors, err = c.uint64(); err != nil {
		return 0, 0, err
	}
	if keys, err = c.uint64(); err != nil {
		return 0, 0, err
	}
	if tensors > MaxTensors {
		return 0, 0, fmt.Errorf("got %d tensors, the limit is %d", tensors, MaxTensors)
	}
	if keys > MaxKeys {
		return 0, 0, fmt.Errorf("got %d keys, the limit is %d", keys, MaxKeys)
	}
	return tensors, keys, nil
}

func (c *cursor) keyValue(f *File) error {
	key, err := c.name()
	if err != nil {
		return err
	}
	if f.Has(key) {
		return fmt.Errorf("%s appears twice", key)
	}
	k, err := c.uint32()
	if err != nil {
		return err
	}
	v, err := c.value(kind(k))
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	f.values[key] = v
	f.keys = append(f.keys, key)
	return nil
}

func (c *cursor) value(k kind) (value, error) {
	switch {
	case !k.known():
		return value{}, errors.New(k.String())
	case k == kindString:
		start, size, err := c.span(MaxStringBytes)
		return value{kind: k, start: start, size: size}, err
	case k == kindArray:
		return c.array()
	}
	width := k.width()
	if err := c.ensure(width); err != nil {
		return value{}, err
	}
	v := value{kind: k, start: uint32(c.pos), size: uint32(width)}
	if k == kindBool && c.buf[c.pos] > 1 {
		return value{}, fmt.Errorf("the boolean is %d, want 0 or 1", c.buf[c.pos])
	}
	c.pos += width
	return v, nil
}

func (c *cursor) array() (value, error) {
	e, err := c.uint32()
	if err != nil {
		return value{}, err
	}
	elem := kind(e)
	if !elem.known() {
		return value{}, errors.New(elem.String())
	}
	if elem == kindArray {
		return value{}, errors.New("arrays of arrays are not supported")
	}
	n, err := c.uint64()
	if err != nil {
		return value{}, err
	}
	if n > MaxArrayItems {
		return value{}, fmt.Errorf("an array has %d items, the limit is %d", n, MaxArrayItems)
	}
	v := value{kind: kindArray, elem: elem, start: uint32(c.pos), count: int(n)}
	if elem == kindString {
		v.strings, err = c.strings(int(n))
		return v, err
	}
	if err := c.ensure(int(n) * elem.width()); err != nil {
		return value{}, err
	}
	if elem == kindBool {
		for i, b := range c.buf[c.pos : c.pos+int(n)] {
			if b > 1 {
				return value{}, fmt.Errorf("boolean %d is %d, want 0 or 1", i, b)
			}
		}
	}
	c.pos += int(n) * elem.width()
	return v, nil
}

// strings reads the items of an array of strings. Each takes at least the eight
// bytes of its length, and those are fetched before the index is allocated.
func (c *cursor) strings(n int) ([]uint32, error) {
	if err := c.ensure(n * 8); err != nil {
		return nil, err
	}
	at := make([]uint32, n)
	for i := range at {
		at[i] = uint32(c.pos)
		if _, _, err := c.span(MaxStringBytes); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return at, nil
}

func (c *cursor) tensor(f *File) error {
	name, err := c.name()
	if err != nil {
		return err
	}
	if _, ok := f.byName[name]; ok {
		return fmt.Errorf("%s appears twice", name)
	}
	t := Tensor{Name: name}
	n, err := c.uint32()
	if err != nil {
		return err
	}
	if n == 0 || n > MaxDims {
		return fmt.Errorf("%s: got %d dimensions, want 1 to %d", name, n, MaxDims)
	}
	t.Dims = make([]uint64, n)
	for i := range t.Dims {
		if t.Dims[i], err = c.uint64(); err != nil {
			return err
		}
	}
	typ, err := c.uint32()
	if err != nil {
		return err
	}
	t.Type = Type(typ)
	offset, err := c.uint64()
	if err != nil {
		return err
	}
	if t.Size, err = t.Type.size(t.Dims); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if offset > 1<<62 || int64(offset)%f.alignment != 0 {
		return fmt.Errorf("%s: offset %d is not aligned to %d", name, offset, f.alignment)
	}
	t.Offset = int64(offset)
	f.byName[name] = len(f.Tensors)
	f.Tensors = append(f.Tensors, t)
	return nil
}
