package quantize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anchorhold/anchorhold/runtime/layers"
)

// npy writes a file as NumPy does.
func npy(version byte, header string, data []byte) []byte {
	b := append([]byte(npyMagic), version, 0)
	header += "\n"
	if version == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	}
	return append(append(b, header...), data...)
}

func head(descr, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }   ", descr, shape)
}

func singles(v ...float32) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func doubles(v ...float64) (b []byte) {
	for _, x := range v {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x))
	}
	return b
}

func TestRowsInEveryForm(t *testing.T) {
	want := []float64{1, -2.5, 3, 4, 5, 6}
	six := []float32{1, -2.5, 3, 4, 5, 6}
	for name, b := range map[string][]byte{
		"float32":            npy(1, head("<f4", "2, 3"), singles(six...)),
		"float64":            npy(2, head("<f8", "2, 3"), doubles(want...)),
		"images":             npy(3, head("<f4", "2, 1, 3, 1"), singles(six...)),
		"text":               []byte("1,-2.5,3\n4,5,6\n"),
		"text with names":    []byte("a,b,c\r\n1, -2.5 ,3\r\n\r\n4,5,6"),
		"text with a mark":   []byte("\ufeff1,-2.5,3\n4,5,6\n"),
		"text with exponent": []byte("1e0,-25e-1,3\n4,5,6"),
	} {
		path := filepath.Join(t.TempDir(), "rows")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := ReadRows(path)
		if err != nil || r.Width != 3 || r.Len() != 2 || !slices.Equal(r.Values, want) || !slices.Equal(r.Row(1), want[3:]) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestRowsAreRefused(t *testing.T) {
	one := npy(1, head("<f4", "1, 1"), singles(1))
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"empty lines":        []byte("\n\n"),
		"names alone":        []byte("a,b\n"),
		"names later":        []byte("1,2\na,b\n"),
		"half names":         []byte("a,2\n1,2\n"),
		"ragged":             []byte("1,2\n3\n"),
		"missing":            []byte("1,,2\n"),
		"not a number":       []byte("1,NaN\n"),
		"infinite":           []byte("1,Inf\n"),
		"hexadecimal text":   []byte("0x1p-2000x,1\n"),
		"long line":          append(bytes.Repeat([]byte("1,"), maxLineBytes), '1'),
		"magic alone":        []byte(npyMagic),
		"version 4":          append([]byte(npyMagic+"\x04\x00"), one[8:]...),
		"minor version":      append([]byte(npyMagic+"\x01\x01"), one[8:]...),
		"header too long":    append([]byte(npyMagic+"\x01\x00\xff\xff"), one[10:]...),
		"no dictionary":      npy(1, "hello", singles(1)),
		"column order":       npy(1, strings.Replace(head("<f4", "1, 1"), "False", "True", 1), singles(1)),
		"other type":         npy(1, head("<f2", "2, 1"), singles(1)),
		"other byte order":   npy(1, head(">f4", "1, 1"), singles(1)),
		"no shape":           npy(1, head("<f4", ""), nil),
		"no rows":            npy(1, head("<f4", "0, 3"), nil),
		"huge":               npy(1, head("<f4", "1000000000, 1000000000"), nil),
		"many dimensions":    npy(1, head("<f4", "1, 1, 1, 1, 1, 1, 1, 1, 1"), singles(1)),
		"data missing":       npy(1, head("<f4", "2, 3"), singles(1, 2, 3, 4, 5)),
		"data left":          npy(1, head("<f4", "1, 1"), singles(1, 2)),
		"not a number, raw":  npy(1, head("<f4", "1, 1"), singles(float32(math.NaN()))),
		"infinite, raw":      npy(1, head("<f8", "1, 1"), doubles(math.Inf(1))),
		"length that wraps":  append([]byte(npyMagic+"\x02\x00\xff\xff\xff\xff"), one[10:]...),
		"shape with letters": npy(1, head("<f4", "1, ,1"), singles(1)),
	} {
		if r, err := parseRows(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	// What a table of pandas is saved as, and what to do.
	if _, err := parseRows(npy(1, strings.Replace(head("<f4", "1, 1"), "False", "True", 1), singles(1))); err == nil || !strings.Contains(err.Error(), "numpy.ascontiguousarray") {
		t.Error(err)
	}
	if _, err := ReadRows(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that is not there")
	}
}

func TestAnswers(t *testing.T) {
	n := func(integers bool, labels ...string) *layers.Network {
		return &layers.Network{Labels: labels, IntegerLabels: integers, Layers: []layers.Layer{{Kind: layers.Dense, Out: 3}}}
	}
	longs := func(v ...int64) (b []byte) {
		for _, x := range v {
			b = binary.LittleEndian.AppendUint64(b, uint64(x))
		}
		return npy(1, head("<i8", fmt.Sprintf("%d,", len(v))), b)
	}
	cases := map[string]struct {
		n    *layers.Network
		b    []byte
		want []int
	}{
		"text labels":           {n(false, "a", "b", "c"), []byte("c\na\r\n"), []int{2, 0}},
		"numbers without label": {n(false), []byte("2\n0"), []int{2, 0}},
		"array without label":   {n(false), longs(2, 0), []int{2, 0}},
		"array of labels":       {n(true, "5", "6", "7"), longs(7, 5), []int{2, 0}},
		"array, text labels":    {n(false, "a", "b", "c"), longs(2, 0), []int{2, 0}},
		"unknown label":         {n(false, "a", "b", "c"), []byte("d"), nil},
		"number out of range":   {n(false), []byte("3"), nil},
		"floats":                {n(false), npy(1, head("<f8", "1,"), doubles(1)), nil},
		"two dimensions":        {n(false), npy(1, head("<i8", "1, 1"), make([]byte, 8)), nil},
		"cut":                   {n(false), longs(1, 2)[:100], nil},
	}
	for name, c := range cases {
		path := filepath.Join(t.TempDir(), "answers")
		if err := os.WriteFile(path, c.b, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadAnswers(path, c.n)
		if (err == nil) != (c.want != nil) || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ReadAnswers(filepath.Join(t.TempDir(), "none"), n(false)); err == nil {
		t.Error("a file that is not there")
	}
}

func FuzzRows(f *testing.F) {
	f.Add([]byte("a,b\n1,2\n"))
	f.Add(npy(1, head("<f4", "1, 2"), singles(1, 2)))
	f.Add(npy(2, head("<f8", "2,"), doubles(1, 2)))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRows(b)
		if err != nil {
			return
		}
		if r.Width < 1 || r.Len() < 1 || r.Len()*r.Width != len(r.Values) {
			t.Fatalf("%d rows of %d in %d values", r.Len(), r.Width, len(r.Values))
		}
		for _, v := range r.Values {
			if v-v != 0 {
				t.Fatal("a value is not finite")
			}
		}
	})
}
