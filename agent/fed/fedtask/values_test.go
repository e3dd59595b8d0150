package fedtask

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/anchorhold/anchorhold/crypto/refusal"
)

// Half-precision values are the same vector.
func TestHalfPrecision(t *testing.T) {
	for h, want := range map[uint16]float32{0x3C00: 1, 0xC000: -2, 0x0001: 1.0 / (1 << 24), 0x8001: -1.0 / (1 << 24), 0x7BFF: 65504, 0x3555: 0.333251953125, 0: 0} {
		if got := fromHalf(h); got != want {
			t.Errorf("%#04x is %g, want %g", h, got, want)
		}
	}
	if v := fromHalf(0x7C00); !math.IsInf(float64(v), 1) {
		t.Errorf("infinity is %g", v)
	}
	if v := fromHalf(0x7E00); v == v {
		t.Errorf("not a number is %g", v)
	}
}

// all reads a whole vector, some values at a time, and what its bytes were.
func all(v *Values, some int) (list []float32, raw []byte, err error) {
	dst := make([]float32, some)
	for v.Left() > 0 {
		n, b, err := v.Read(dst)
		if err != nil {
			return list, raw, err
		}
		list, raw = append(list, dst[:n]...), append(raw, b...)
	}
	return list, raw, v.End()
}

func float32s(values ...float32) (b []byte) {
	for _, x := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

// TestValuesAreExactlyTheRounds: a vector that is shorter, longer, or not finite somewhere is
// refused, wherever the calls cut it.
func TestValuesAreExactlyTheRounds(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(-1))
	for name, c := range map[string]struct {
		raw    []byte
		format Format
		length uint64
		want   string // of the error; empty if the vector is taken
	}{
		"float32":           {float32s(1, -2, 0.5), Float32, 3, ""},
		"float16":           {[]byte{0x00, 0x3C, 0x00, 0xC0, 0x00, 0x38}, Float16, 3, ""},
		"nothing":           {nil, Float32, 3, "the vector ends after 0 of 3 values"},
		"short":             {float32s(1, -2), Float32, 3, "the vector ends after 2 of 3 values"},
		"half a value":      {float32s(1, -2, 0.5)[:11], Float32, 3, "the vector ends after 2 of 3 values"},
		"long":              {float32s(1, -2, 0.5, 0), Float32, 3, "the vector has more than 3 values"},
		"one byte more":     {append(float32s(1, -2, 0.5), 0), Float32, 3, "the vector has more than 3 values"},
		"not a number":      {float32s(1, -2, nan), Float32, 3, "value 2 is infinite or not a number"},
		"infinite":          {float32s(inf, -2, 1), Float32, 3, "value 0 is infinite or not a number"},
		"half infinite":     {[]byte{0x00, 0x3C, 0x00, 0x7C, 0x00, 0x38}, Float16, 3, "value 1 is infinite or not a number"},
		"half not a number": {[]byte{0x00, 0x3C, 0x00, 0xC0, 0x01, 0xFC}, Float16, 3, "value 2 is infinite or not a number"},
	} {
		for _, some := range []int{1, 2, 3, 7} {
			for how, r := range map[string]io.Reader{"whole": bytes.NewReader(c.raw), "by bytes": iotest.OneByteReader(bytes.NewReader(c.raw))} {
				list, raw, err := all(NewValues(r, c.format, c.length), some)
				reason, _ := refusal.ReasonOf(err)
				switch {
				case c.want == "" && (err != nil || !slices.Equal(list, []float32{1, -2, 0.5}) || !bytes.Equal(raw, c.raw)):
					t.Errorf("%s, %d at a time, %s: %v, %v", name, some, how, list, err)
				case c.want != "" && (reason != ReasonVector || !strings.Contains(err.Error(), c.want)):
					t.Errorf("%s, %d at a time, %s: got %v, want %q", name, some, how, err, c.want)
				}
			}
		}
	}
}

// TestAReaderThatFailsIsNoBadVector: its error reaches the caller as it is.
func TestAReaderThatFailsIsNoBadVector(t *testing.T) {
	for _, whole := range []int{0, 1, 3} {
		r := io.MultiReader(bytes.NewReader(float32s(1, 2, 3)[:4*whole]), iotest.ErrReader(errLine))
		if _, _, err := all(NewValues(r, Float32, 3), 2); !errors.Is(err, errLine) {
			t.Errorf("after %d values: %v", whole, err)
		}
	}
}

var errLine = errors.New("the line is cut")

// FuzzValues takes a vector if, and only if, its bytes are those of as many finite values.
func FuzzValues(f *testing.F) {
	f.Add(float32s(1, 2), uint8(2), false, uint8(1))
	f.Add(float32s(1, 2), uint8(4), true, uint8(3))
	f.Add([]byte{0, 0, 0x80, 0x7F}, uint8(1), false, uint8(1))
	f.Fuzz(func(t *testing.T, raw []byte, length uint8, half bool, some uint8) {
		format := Float32
		if half {
			format = Float16
		}
		valid := len(raw) == format.Bytes()*int(length)
		for b := raw; valid && len(b) > 0; b = b[format.Bytes():] {
			if half {
				valid = binary.LittleEndian.Uint16(b)&0x7C00 != 0x7C00
			} else {
				valid = binary.LittleEndian.Uint32(b)&0x7F800000 != 0x7F800000
			}
		}
		list, came, err := all(NewValues(bytes.NewReader(raw), format, uint64(length)), max(int(some), 1))
		if reason, _ := refusal.ReasonOf(err); valid != (err == nil) || err != nil && reason != ReasonVector {
			t.Fatalf("valid %t: %v", valid, err)
		}
		if valid && (len(list) != int(length) || !bytes.Equal(came, raw)) {
			t.Errorf("%d values and %d bytes of %d and %d", len(list), len(came), length, len(raw))
		}
		if valid && !half && !bytes.Equal(float32s(list...), raw) {
			t.Error("other values than were written")
		}
	})
}
