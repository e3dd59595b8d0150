package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"testing"
)

// TestSearchFindsEveryForm hides a part of a vector in noise, in each form and at odd
// places: what the search of the Flower demo misses would count as protected.
func TestSearchFindsEveryForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 1))
	values := make([]float32, 40)
	wide := make([]float64, len(values))
	for i := range values {
		values[i] = float32(rng.NormFloat64())
		wide[i] = float64(values[i])
	}
	encode := func(order binary.ByteOrder, v any) []byte {
		b, err := binary.Append(nil, order, v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := encode(binary.LittleEndian, values)
	forms := map[string][]byte{
		"float32":                raw,
		"big-endian float32":     encode(binary.BigEndian, values),
		"float64":                encode(binary.LittleEndian, wide),
		"big-endian float64":     encode(binary.BigEndian, wide),
		"hexadecimal":            []byte(hex.EncodeToString(raw)),
		"base64":                 []byte(base64.StdEncoding.EncodeToString(raw)),
		"base64, one byte in":    []byte(base64.StdEncoding.EncodeToString(append([]byte{7}, raw...))),
		"base64, two bytes in":   []byte(base64.StdEncoding.EncodeToString(append([]byte{7, 7}, raw...))),
		"the last four, float32": raw[len(raw)-16:],
	}
	vectors := []secretVector{{kind: "one", values: values}, {kind: "zeros", values: make([]float32, 40)}}
	for name, form := range forms {
		record := bytes.Join([][]byte{noise(1, 1001), form, noise(2, 77)}, nil)
		if found := find(vectors, [][]byte{noise(3, 100), record}); found["one"] == 0 || found["zeros"] != 0 {
			t.Errorf("%s: found %v", name, found)
		}
	}
	if found := find(vectors, [][]byte{noise(4, 1<<20), make([]byte, 1<<12)}); len(found) != 0 {
		t.Errorf("found %v in noise", found)
	}
}

// noise returns n bytes drawn from a seed.
func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(12, seed))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// TestRecorderKeepsWhatGoesUp has a line keep what each connection carries, once.
func TestRecorderKeepsWhatGoesUp(t *testing.T) {
	echo, err := newCutter("127.0.0.1:1") // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	defer echo.close()
	if echo.keep() != nil || len(echo.carried()) != 0 {
		t.Error("a line that is not asked to keeps a copy")
	}
	line, err := newRecorder("127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	defer line.close()
	line.keep().WriteString("first")
	line.keep().WriteString("second")
	line.keep()
	if got := line.carried(); len(got) != 2 || string(got[0]) != "first" || string(got[1]) != "second" {
		t.Errorf("carried %q", got)
	}
	if got := line.carried(); len(got) != 0 {
		t.Errorf("carried again: %q", got)
	}
}
