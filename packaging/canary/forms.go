// Package canary searches memory, disks and traffic for secrets that a test planted: in every form
// in which a program may have left them, and in parts of 16 bytes and more.
//
// Whoever searches needs no copy of the secrets. [New] turns them into an [Index], digests of all their
// windows of 16 bytes under a key of the run, and only that goes to the machine that is searched: a
// searcher with copies of what it looks for would find them in itself, and in the pages that it freed.
//
// A form that is not listed is not found: what a program compressed, encrypted, rounded at random or
// spread over more than one value per 16 bytes passes unseen.
package canary

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf16"
)

// Form is one way in which a secret may be written.
type Form struct {
	Name string // such as "base64"
	Text []byte
}

// Canary is a secret to look for.
type Canary struct {
	Name  string
	Forms []Form
}

// Bytes is a secret of bytes, such as a key: raw, hexadecimal, in base64 from each of three offsets, and as lists
// of decimals, which is how fmt, log/slog and encoding/json print arrays.
func Bytes(name string, secret []byte) Canary {
	c := Canary{Name: name}
	c.add("raw", secret)
	c.encode("", secret)
	var decimals []string
	for _, b := range secret {
		decimals = append(decimals, fmt.Sprint(b))
	}
	for _, separator := range []string{" ", ",", ", "} {
		c.add("decimals", []byte(strings.Join(decimals, separator)))
	}
	return c
}

// encode adds the encodings of binary data.
func (c *Canary) encode(of string, data []byte) {
	lower := hex.EncodeToString(data)
	c.add(of+"hex", []byte(lower))
	c.add(of+"hex", []byte(strings.ToUpper(lower)))
	// A triple of bytes that begins elsewhere in the text around the secret is written with other letters.
	for offset := range min(3, len(data)) {
		part := data[offset:]
		part = part[:len(part)/3*3]
		c.add(of+"base64", []byte(base64.StdEncoding.EncodeToString(part)))
		c.add(of+"base64", []byte(base64.URLEncoding.EncodeToString(part)))
	}
}

// Text is a secret of words, such as a prompt: all that [Bytes] has, and JSON with and without escapes, each
// character escaped by its number, percent signs as in an address, and UTF-16 of both orders.
func Text(name, secret string) Canary {
	c := Bytes(name, []byte(secret))
	if quoted, err := json.Marshal(secret); err == nil { // any string has a form in JSON
		c.add("JSON", quoted[1:len(quoted)-1])
	}
	units := utf16.Encode([]rune(secret))
	var numbers, percent strings.Builder
	var little, big []byte
	for _, u := range units {
		fmt.Fprintf(&numbers, `\u%04x`, u)
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	for _, b := range []byte(secret) {
		fmt.Fprintf(&percent, "%%%02X", b)
	}
	c.add("JSON", []byte(numbers.String()))
	c.add("percent", []byte(percent.String()))
	c.add("UTF-16", little)
	c.add("UTF-16", big)
	return c
}

// Floats is a secret of numbers, such as a gradient or weights: float32 and float64 of both orders, the encodings
// of float32, decimals as JSON has them, and int8 under one scale for all values and under one for each block of 32,
// as GGUF's Q8_0.
func Floats(name string, values []float32) Canary {
	c := Canary{Name: name}
	var le4, be4, le8, be8 []byte
	for _, v := range values {
		le4 = binary.LittleEndian.AppendUint32(le4, math.Float32bits(v))
		be4 = binary.BigEndian.AppendUint32(be4, math.Float32bits(v))
		le8 = binary.LittleEndian.AppendUint64(le8, math.Float64bits(float64(v)))
		be8 = binary.BigEndian.AppendUint64(be8, math.Float64bits(float64(v)))
	}
	c.add("float32", le4)
	c.add("float32", be4)
	c.add("float64", le8)
	c.add("float64", be8)
	c.encode("float32 ", le4)
	if decimals, err := json.Marshal(values); err == nil { // all are finite, or there is no such form
		c.add("JSON", decimals)
	}
	c.add("int8", quantized(values))
	var blocks []byte
	const block = 32
	for from := 0; from+block <= len(values); from += block {
		blocks = append(blocks, quantized(values[from:from+block])...)
	}
	for from := 0; from+block <= len(blocks); from += block {
		c.add("int8", blocks[from:from+block]) // its scale stands between it and the next
	}
	return c
}

func quantized(values []float32) (out []byte) {
	var most float64
	for _, v := range values {
		most = max(most, math.Abs(float64(v)))
	}
	if most == 0 {
		return nil
	}
	for _, v := range values {
		out = append(out, byte(int8(math.Round(float64(v)/most*127))))
	}
	return out
}

func (c *Canary) add(form string, text []byte) {
	c.Forms = append(c.Forms, Form{Name: form, Text: text})
}
