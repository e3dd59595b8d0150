// Package gguf reads and writes the header of GGUF model files, versions 2 and 3.
//
// A [File] returned by [Parse] is consistent: every count, string, array and dimension is within
// the named limits, no key and no tensor appears twice, and each tensor is aligned, inside the
// file, and overlaps no other. Memory is taken only for bytes that are really there, never for a
// count that a file merely claims. A string array costs four bytes per string in addition to the
// header itself.
//
// The package trusts nothing in the file. It refuses other versions, big-endian files, arrays of
// arrays, and unknown value and tensor types, each by name.
//
// The sealer, the weights loader, the model and the tokenizer call it.
package gguf

import "math"

// Limits on what a header may hold. The largest published vocabularies and
// expert models stay under half of each.
const (
	MaxHeaderBytes = 64 << 20 // magic, key-values and tensor directory
	MaxKeys        = 4096     // key-value pairs
	MaxTensors     = 32768    // directory entries
	MaxNameBytes   = 256      // a key or a tensor name
	MaxStringBytes = 1 << 20  // one string value; chat templates are the long ones
	MaxArrayItems  = 1 << 21  // one array
	MaxDims        = 4        // dimensions of a tensor
	MaxTensorBytes = 1 << 42  // one tensor
	MaxAlignment   = 1 << 16  // general.alignment
)

const defaultAlignment = 32

// File is the parsed header of a GGUF file. It is read-only after Parse and
// safe for concurrent use.
type File struct {
	Version    uint32   // 2 or 3
	Tensors    []Tensor // in directory order
	DataOffset int64    // where tensor data begins: the end of the header, aligned

	// HeaderBytes is the header exactly as in the file, from the magic to the last directory
	// entry, without the padding before DataOffset. ParseHeader accepts it again. Callers must
	// not change it.
	HeaderBytes []byte

	alignment int64
	keys      []string
	values    map[string]value
	byName    map[string]int
}

// Tensor is one entry of the tensor directory.
type Tensor struct {
	Name   string
	Type   Type
	Dims   []uint64 // innermost (columns) first, one to four, none zero
	Offset int64    // from DataOffset
	Size   int64    // bytes
}

// Elements returns the product of the dimensions.
func (t Tensor) Elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		n *= d
	}
	return n
}

// Columns returns the innermost dimension.
func (t Tensor) Columns() int {
	if len(t.Dims) == 0 {
		return 0
	}
	return int(t.Dims[0])
}

// Rows returns the product of all dimensions but the innermost: 1 for a vector.
func (t Tensor) Rows() int {
	n := 1
	for _, d := range t.Dims[min(1, len(t.Dims)):] {
		n *= int(d)
	}
	return n
}

// Alignment returns the alignment of tensor data in bytes, a power of two.
func (f *File) Alignment() int64 { return f.alignment }

// Keys returns the keys in file order. The caller must not change the slice.
func (f *File) Keys() []string { return f.keys }

// Has reports whether the key is present, with any type.
func (f *File) Has(key string) bool {
	_, ok := f.values[key]
	return ok
}

// Tensor finds a tensor by name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensors[i], true
}

// String returns a string value, or false if the key is absent or not a string.
func (f *File) String(key string) (string, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindString {
		return "", false
	}
	return string(f.HeaderBytes[v.start : v.start+v.size]), true
}

// Uint returns a non-negative integer value of any width.
func (f *File) Uint(key string) (uint64, bool) {
	n, ok := f.Int(key)
	if v := f.values[key]; ok && v.kind == kindUint64 {
		return uint64(n), true
	}
	return uint64(n), ok && n >= 0
}

// Int returns an integer value of any width. A uint64 above the range of int64 is returned as
// its two's complement; use Uint for it.
func (f *File) Int(key string) (int64, bool) {
	v, ok := f.values[key]
	if !ok || !v.kind.integer() {
		return 0, false
	}
	return decodeInt(v.kind, f.HeaderBytes[v.start:]), true
}

// Float returns a float32 or float64 value.
func (f *File) Float(key string) (float64, bool) {
	v, ok := f.values[key]
	if !ok || (v.kind != kindFloat32 && v.kind != kindFloat64) {
		return 0, false
	}
	return decodeFloat(v.kind, f.HeaderBytes[v.start:]), true
}

// Bool returns a boolean value; ok is false if the key is absent or not a boolean.
func (f *File) Bool(key string) (value, ok bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindBool {
		return false, false
	}
	return f.HeaderBytes[v.start] == 1, true
}

// Strings returns an array of strings.
func (f *File) Strings(key string) (StringArray, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindArray || v.elem != kindString {
		return StringArray{}, false
	}
	return StringArray{header: f.HeaderBytes, at: v.strings}, true
}

// Ints returns an array of integers of any width, decoded into new memory.
func (f *File) Ints(key string) ([]int64, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindArray || !v.elem.integer() {
		return nil, false
	}
	width := v.elem.width()
	out := make([]int64, v.count)
	for i := range out {
		out[i] = decodeInt(v.elem, f.HeaderBytes[int(v.start)+i*width:])
	}
	return out, true
}

// Floats returns an array of float32 or float64, decoded into new memory.
func (f *File) Floats(key string) ([]float32, bool) {
	v, ok := f.values[key]
	if !ok || v.kind != kindArray || (v.elem != kindFloat32 && v.elem != kindFloat64) {
		return nil, false
	}
	width := v.elem.width()
	out := make([]float32, v.count)
	for i := range out {
		out[i] = float32(decodeFloat(v.elem, f.HeaderBytes[int(v.start)+i*width:]))
	}
	return out, true
}

// StringArray is an array of strings inside the header; reading one allocates nothing.
type StringArray struct {
	header []byte
	at     []uint32 // where each string's 8-byte length stands
}

// Len returns the number of strings.
func (a StringArray) Len() int { return len(a.at) }

// At returns the bytes of string i, which must lie in [0, Len). The slice lies
// in the header and must not be changed.
func (a StringArray) At(i int) []byte {
	p := a.at[i]
	n := uint32(le64(a.header[p:])) // a length passed the limit when it was parsed
	return a.header[p+8 : p+8+n : p+8+n]
}

func decodeFloat(k kind, b []byte) float64 {
	if k == kindFloat32 {
		return float64(math.Float32frombits(le32(b)))
	}
	return math.Float64frombits(le64(b))
}
