package fedtask

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// ReasonVector means that bytes are not a vector of the round.
const ReasonVector refusal.Reason = "vector-invalid"

// Format is how a vector's values are written.
type Format string

// The formats, both little-endian.
const (
	Float32 Format = "float32"
	Float16 Format = "float16"
)

// Bytes is the size of one value.
func (f Format) Bytes() int {
	switch f {
	case Float32:
		return 4
	case Float16:
		return 2
	}
	return 0
}

// readAhead is how much of a vector is read at a time, at least.
const readAhead = 64 << 10

// Values decodes a vector from its bytes. It yields exactly as many values as the vector of a
// round has, all of them finite, and refuses everything else with [ReasonVector]. Its memory is
// that of one call, whatever the length. It belongs to one goroutine.
type Values struct {
	r      *bufio.Reader
	format Format
	length uint64
	left   uint64 // values that have not been read yet
	raw    []byte // the bytes of the last call
}

// NewValues decodes a vector of length values from r. The format must be a known one.
func NewValues(r io.Reader, f Format, length uint64) *Values {
	return &Values{r: bufio.NewReaderSize(r, readAhead), format: f, length: length, left: length}
}

// Left is how many values have not been read yet.
func (v *Values) Left() uint64 { return v.left }

// Read fills dst, or as much of it as there are values left. It returns how many values it read,
// and their bytes as they came, which are valid until the next call. An error of the reader is
// returned as it is.
func (v *Values) Read(dst []float32) (n int, raw []byte, err error) {
	n = int(min(uint64(len(dst)), v.left))
	size := v.format.Bytes()
	if len(v.raw) < n*size {
		v.raw = make([]byte, n*size)
	}
	raw = v.raw[:n*size]
	if came, err := io.ReadFull(v.r, raw); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, nil, refusal.New(ReasonVector, "the vector ends after %d of %d values", v.length-v.left+uint64(came/size), v.length)
	} else if err != nil {
		return 0, nil, err
	}
	v.format.decode(dst[:n], raw)
	for i, x := range dst[:n] {
		if x-x != 0 {
			return 0, nil, refusal.New(ReasonVector, "value %d is infinite or not a number", v.length-v.left+uint64(i))
		}
	}
	v.left -= uint64(n)
	return n, raw, nil
}

// End refuses a vector that goes on after its last value.
func (v *Values) End() error {
	if _, err := v.r.ReadByte(); err == nil {
		return refusal.New(ReasonVector, "the vector has more than %d values", v.length)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// decode converts the bytes of len(dst) values.
func (f Format) decode(dst []float32, raw []byte) {
	if f == Float16 {
		for i := range dst {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(raw[2*i:]))
		}
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
}

// fromHalf converts an IEEE 754 binary16.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&0x1F), uint32(h&0x3FF)
	switch {
	case exponent == 0x1F:
		return math.Float32frombits(sign | 0x7F800000 | fraction<<13)
	case exponent != 0:
		return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
	}
	v := float32(fraction) / (1 << 24) // subnormal: an exact product
	if sign != 0 {
		return -v
	}
	return v
}
