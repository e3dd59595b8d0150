package circuits

import (
	"bytes"
	"io"
)

// Encode returns the bytes of a key or proof in the library's canonical form.
func Encode(v io.WriterTo) ([]byte, error) { return marshal(v) }

// marshal is the bytes of what writes itself.
func marshal(v io.WriterTo) ([]byte, error) {
	var b bytes.Buffer
	_, err := v.WriteTo(&b)
	return b.Bytes(), err
}
